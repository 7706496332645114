// Sends a request again, edited or not, and shows its answer beside the original.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Field, Flow, Replayed } from "../model";
import { ApiError, address, flowPath, post, request } from "../api/client";
import { indent } from "../base/exact";
import { Button, Empty, say } from "../base/ui";
import { useFlow } from "./detail";
import { DiffValues, SideBySide } from "../compare/values";
import { bytes, duration } from "../base/format";
import { Line } from "../base/text";
import { compareA, compareB, show, view } from "../state/app";

/** More is not edited in a field of the page. */
const maxEdit = 2_000_000;

export function Replay(p: { f: Flow }) {
  const { f } = p;
  const r = f.request!;
  const before = (r.headers ?? []).map(([k, v]) => k + ": " + v).join("\n");
  const [heads, setHeads] = useState(before);
  const [body, setBody] = useState<string | null>(null);
  const [original, setOriginal] = useState("");
  const [to, setTo] = useState("");
  const [state, setState] = useState<{ busy?: boolean; error?: ApiError; done?: Replayed }>({});
  useEffect(() => {
    if (!r.body_size) return setBody("");
    if (r.body_size > maxEdit) return;
    void request(address(flowPath(f.id, "/body/request"))).then(async (x) => {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await x.arrayBuffer());
      setBody(text);
      setOriginal(text);
    }).catch(() => setBody(null));
  }, [f.id]);
  const bad = jsonError(body, original);
  const send = async () => {
    const edit: Record<string, unknown> = {};
    if (heads !== before) {
      const h = fields(heads);
      if (typeof h === "string") return setState({ error: new ApiError(400, h, "A line a field, NAME: VALUE.") });
      edit.headers = h;
    }
    if (body !== null && body !== original) edit.body = body;
    if (to.trim()) edit.url = to.trim();
    setState({ busy: true });
    try {
      const done = await post<Replayed>(flowPath(f.id, "/replay"), edit);
      setState({ done });
      say("Sent again as flow " + done.id);
    } catch (e) {
      setState({ error: e instanceof ApiError ? e : new ApiError(0, String(e)) });
    }
  };
  const indented = () => {
    const text = indent(body ?? "");
    if (text === body) say("It is no JSON, or indented already");
    setBody(text);
  };
  return (
    <div class="pad replay">
      <form onSubmit={(e) => (e.preventDefault(), void send())}>
        <label>To another server, if wanted
          <input type="url" value={to} placeholder={`${r.scheme}://${r.host}:${r.port}${(r.path ?? "").slice(0, 120)}`} onInput={(e) => setTo(e.currentTarget.value)} />
        </label>
        <label>Header fields
          <textarea rows={Math.min(14, heads.split("\n").length + 1)} value={heads} spellcheck={false} onInput={(e) => setHeads(e.currentTarget.value)} />
        </label>
        {body !== null ? (
          <label>Body {bad && <span class="warn-text">{bad}</span>}
            <textarea class="replay-body" rows={Math.max(4, Math.min(18, body.split("\n").length + 1))} value={body} spellcheck={false} onInput={(e) => setBody(e.currentTarget.value)} />
          </label>
        ) : <p class="dim">The body ({bytes(r.body_size)}) is sent as it was: {(r.body_size ?? 0) > maxEdit ? "it is too long to edit here" : "it is no text"}.</p>}
        <p class="dim">Secrets are not in the record: each [REDACTED:…] is filled from trace's environment, and nothing is sent where one is missing.</p>
        <p class="bar-line">
          <button type="submit" class="button primary" disabled={state.busy}>{state.busy ? "Sending…" : "Send again"}</button>
          {body && <Button on={indented}>Indent JSON</Button>}
          <Button on={() => (setHeads(before), setBody(original), setTo(""))} disabled={heads === before && body === original && !to}>As recorded</Button>
        </p>
      </form>
      {state.error && <div class="box bad" role="alert"><b>Nothing was sent.</b> <Line s={state.error.message} max={1000} />{state.error.hint && <p class="mend"><Line s={state.error.hint} max={1000} /></p>}</div>}
      {state.done && <Answers f={f} done={state.done} />}
    </div>
  );
}

/** The field lines; a string says what is wrong with one. */
function fields(text: string): Field[] | string {
  const out: Field[] = [];
  for (const line of text.split("\n")) {
    if (!line.trim()) continue;
    const m = /^(:?[^\s:]+):\s?(.*)$/.exec(line);
    if (!m) return `no header field: ${line.slice(0, 80)}`;
    out.push([m[1]!, m[2]!]);
  }
  return out;
}

function jsonError(body: string | null, original: string): string {
  if (!body || body === original || !/^\s*[[{]/.test(original)) return "";
  try {
    JSON.parse(body);
    return "";
  } catch (e) {
    return "not JSON any more: " + (e as Error).message;
  }
}

function Answers(p: { f: Flow; done: Replayed }) {
  const { flow: again } = useFlow(p.done.id);
  const box = useRef<HTMLElement>(null);
  useEffect(() => box.current?.scrollIntoView({ block: "start" }), [p.done.id]);
  return (
    <section class="answers" aria-label="The answers" ref={box}>
      <h3>The answer beside the original</h3>
      <p class="bar-line">
        <Button on={() => show(p.done.id, "overview")}>Open flow {p.done.id}</Button>
        <Button on={() => ((compareA.value = p.f.id), (compareB.value = p.done.id), (view.value = "compare"))}>Compare in full</Button>
      </p>
      {(p.done.notes?.length ?? 0) > 0 && <ul class="box note">{p.done.notes!.map((n, i) => <li key={i}><Line s={n} max={600} /></li>)}</ul>}
      {p.done.changes && (p.done.changes.length ? <DiffValues name="What differs" rows={p.done.changes.map((c) => ({ path: c.what, old: c.old, new: c.new }))} /> : <p>The answers are the same.</p>)}
      {again ? <SideBySide a={{ id: p.f.id, name: `Flow ${p.f.id}: ${p.f.response?.status ?? p.f.state}, ${duration(p.f.duration_ms)}` }} b={{ id: again.id, name: `Flow ${again.id}: ${again.response?.status ?? again.state}, ${duration(again.duration_ms)}` }} side="response" /> : <Empty title="Waiting for the answer…" />}
    </section>
  );
}
