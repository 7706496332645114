// The worker that holds a body: fetches it, and answers questions about it, so
// that the page never waits for fifty megabytes.
import { imageType, isText, find, rowOf, rows } from "./lines";
import { members, sequence, shape, stringAt, valueAt } from "./json";
import type { Body, Question } from "./protocol";

/** More than this of one body is not taken into the browser. */
const maxBody = 96 << 20;

let body = new Uint8Array(0);
let starts: Uint32Array = new Uint32Array([0]);
let cols = 0;
const decoder = new TextDecoder();

const scope = self as unknown as { onmessage: ((e: MessageEvent<Question & { id: number }>) => void) | null; postMessage(v: unknown, move?: Transferable[]): void };

scope.onmessage = (e) => {
  const { id } = e.data;
  Promise.resolve(answer(e.data, (progress) => scope.postMessage({ id, progress }))).then(
    (value) => scope.postMessage({ id, value }),
    (error: Error) => scope.postMessage({ id, error: error.message }),
  );
};

function answer(q: Question, progress: (p: { have: number; size: number }) => void): unknown {
  switch (q.op) {
    case "open": return open(q.url, q.token, progress);
    case "text": return take(new TextEncoder().encode(q.text), "", -1);
    case "root": return q.sequence ? sequence(body, q.from, q.index, q.max) : { values: [valueAt(body, 0)], next: -1, nextIndex: 1 };
    case "members": return members(body, q.start, q.from, q.index, q.max);
    case "string": return stringAt(body, q.start, q.end, q.max);
    case "slice": return decoder.decode(body.subarray(q.start, Math.min(q.end, q.start + q.max)));
    case "bytes": return body.slice(q.start, q.end);
    case "wrap":
      if (cols !== q.cols) {
        cols = q.cols;
        starts = rows(body, cols);
      }
      return starts.length - 1;
    case "rows": return rowsOf(q.from, q.to);
    case "find": {
      const needle = new TextEncoder().encode(q.text);
      let at = find(body, needle, q.from);
      if (at < 0 && q.from > 0) at = find(body, needle, 0);
      return { at, row: at < 0 ? -1 : rowOf(starts, at) };
    }
  }
}

function rowsOf(from: number, to: number): { text: string; begins: boolean }[] {
  const out = [];
  for (let i = from; i < Math.min(to, starts.length - 1); i++) {
    const a = starts[i] as number, b = starts[i + 1] as number;
    const text = decoder.decode(body.subarray(a, b));
    out.push({ text: text.replace(/\r?\n$/, ""), begins: a === 0 || body[a - 1] === 0x0a });
  }
  return out;
}

async function open(url: string, token: string, progress: (p: { have: number; size: number }) => void): Promise<unknown> {
  const r = await fetch(url, { headers: { Authorization: "Bearer " + token }, cache: "no-store", credentials: "omit", redirect: "error" });
  if (!r.ok) {
    let message = r.status + " " + r.statusText;
    try {
      message = ((await r.json()) as { error?: string }).error ?? message;
    } catch {
      // the status must do
    }
    throw new Error(message);
  }
  const size = Number(r.headers.get("X-Trace-Size") ?? r.headers.get("Content-Length") ?? -1);
  const reader = r.body?.getReader();
  let have = 0;
  let all = new Uint8Array(Math.min(maxBody, size > 0 ? size : 1 << 16));
  for (let said = 0; reader; ) {
    const { done, value } = await reader.read();
    if (done) break;
    const room = Math.min(value.length, maxBody - have);
    if (have + room > all.length) {
      const more = new Uint8Array(Math.min(maxBody, Math.max(all.length * 2, have + room)));
      more.set(all.subarray(0, have));
      all = more;
    }
    all.set(value.subarray(0, room), have);
    have += room;
    if (have >= maxBody) {
      await reader.cancel();
      break;
    }
    if (have - said > 2 << 20) {
      said = have;
      progress({ have, size });
    }
  }
  return { ...take(all.subarray(0, have), r.headers.get("X-Trace-Type") ?? "", size), truncated: r.headers.get("X-Trace-Truncated") === "true" };
}

function take(b: Uint8Array, type: string, size: number): Body {
  body = b as Uint8Array<ArrayBuffer>;
  cols = 0;
  return { have: b.length, size: size < 0 ? b.length : size, type, shape: shape(b), text: isText(b), image: imageType(b, type) };
}
