// JSON as it stands in bytes. Nothing is parsed before somebody looks at it: a
// value is where it begins and ends, a container's members are found when it is
// opened. So the order of members, members of one name, and numbers of any length
// are shown as they were sent, and the depth of nesting costs no stack.

export type Kind = "object" | "array" | "string" | "number" | "true" | "false" | "null" | "bad";

export interface Value {
  kind: Kind; start: number; end: number;
  /** Members of a container. */
  count: number;
  /** The name in an object, the index in an array. */
  key?: string; index?: number;
  /** What is shown of it; of a string its beginning, unescaped. */
  text: string;
  /** Whether text is not all of it. */
  cut?: boolean;
}

export interface Members { values: Value[]; /** Where to go on, -1 at the end. */ next: number; nextIndex: number; bad?: string }

const maxText = 400, maxGlimpsed = 64 << 10, glimpsed = 4;
const quote = 0x22, backslash = 0x5c, comma = 0x2c, colon = 0x3a;
const decoder = new TextDecoder();

function space(b: Uint8Array, i: number): number {
  while (i < b.length && (b[i] === 0x20 || b[i] === 0x0a || b[i] === 0x0d || b[i] === 0x09)) i++;
  return i;
}

/** The index behind a string that begins at i, -1 if it does not end. */
function skipString(b: Uint8Array, i: number): number {
  for (i++; i < b.length; i++) {
    const c = b[i];
    if (c === quote) return i + 1;
    if (c === backslash) i++;
  }
  return -1;
}

/** The index behind the value that begins at i, and how many members it has. */
export function skip(b: Uint8Array, i: number): { end: number; count: number } {
  const c = b[i];
  if (c === quote) return { end: skipString(b, i), count: 0 };
  if (c !== 0x7b && c !== 0x5b) {
    const from = i;
    while (i < b.length && !ends(b[i] as number)) i++;
    return { end: i > from ? i : -1, count: 0 };
  }
  let depth = 0, commas = 0;
  const inside = space(b, i + 1);
  const empty = b[inside] === 0x7d || b[inside] === 0x5d;
  for (; i < b.length; i++) {
    const d = b[i];
    if (d === quote) {
      i = skipString(b, i) - 1;
      if (i < 0) return { end: -1, count: 0 };
    } else if (d === 0x7b || d === 0x5b) depth++;
    else if (d === 0x7d || d === 0x5d) {
      if (--depth === 0) return { end: i + 1, count: empty ? 0 : commas + 1 };
    } else if (d === comma && depth === 1) commas++;
  }
  return { end: -1, count: 0 };
}

const ends = (c: number): boolean => c === comma || c === 0x7d || c === 0x5d || c === colon || c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09 || c === quote || c === 0x7b || c === 0x5b;

/** The value at i, white space before it aside. */
export function valueAt(b: Uint8Array, i: number): Value {
  i = space(b, i);
  const { end, count } = skip(b, i);
  if (end < 0) return { kind: "bad", start: i, end: b.length, count: 0, text: decoder.decode(b.subarray(i, i + 60)), cut: true };
  const c = b[i];
  if (c === 0x7b) return { kind: "object", start: i, end, count, text: "" };
  if (c === 0x5b) return { kind: "array", start: i, end, count, text: "" };
  if (c === quote) return { kind: "string", start: i, end, count: 0, ...stringAt(b, i, end, maxText) };
  const text = decoder.decode(b.subarray(i, Math.min(end, i + maxText)));
  const kind: Kind = text === "true" || text === "false" || text === "null" ? text : /^-?\d/.test(text) ? "number" : "bad";
  return { kind, start: i, end, count: 0, text, cut: end - i > maxText };
}

/** A string's characters, at most max bytes of them. */
export function stringAt(b: Uint8Array, start: number, end: number, max: number): { text: string; cut: boolean } {
  let stop = end - 1;
  const cut = stop - start - 1 > max;
  if (cut) {
    stop = start + 1;
    while (stop - start - 1 < max) stop += b[stop] !== backslash ? 1 : b[stop + 1] === 0x75 ? 6 : 2; // whole escapes only
    stop = Math.min(stop, end - 1);
    while (stop > start + 1 && ((b[stop] as number) & 0xc0) === 0x80) stop--; // and whole characters
  }
  const raw = decoder.decode(b.subarray(start + 1, stop));
  if (!raw.includes("\\")) return { text: raw, cut };
  try {
    return { text: JSON.parse('"' + raw.replace(/[\u0000-\u001f]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0")) + '"') as string, cut };
  } catch {
    return { text: raw, cut };
  }
}

/** At most max members of the container that begins at start. from and index say
 * where to go on; -1 begins. */
export function members(b: Uint8Array, start: number, from: number, index: number, max: number): Members {
  const object = b[start] === 0x7b;
  const close = object ? 0x7d : 0x5d;
  const out: Value[] = [];
  let i = space(b, from < 0 ? start + 1 : from);
  const broken = (what: string): Members => ({ values: out, next: -1, nextIndex: index, bad: `${what} at byte ${i}` });
  if (b[i] === close) return { values: out, next: -1, nextIndex: index };
  while (out.length < max) {
    let key: string | undefined;
    if (object) {
      if (b[i] !== quote) return broken("no member name");
      const end = skipString(b, i);
      if (end < 0) return broken("a name without end");
      key = stringAt(b, i, end, 2000).text;
      i = space(b, end);
      if (b[i] !== colon) return broken("no colon");
      i = space(b, i + 1);
    }
    const v = valueAt(b, i);
    if (v.kind === "bad") return broken("no value");
    v.key = key;
    v.index = index++;
    if (v.count > 0 && v.end - v.start < maxGlimpsed) v.text = glimpse(b, v);
    out.push(v);
    i = space(b, v.end);
    if (b[i] === close) return { values: out, next: -1, nextIndex: index };
    if (b[i] !== comma) return broken("neither comma nor end");
    i = space(b, i + 1);
  }
  return { values: out, next: i, nextIndex: index };
}

/** The first members of a closed container, in a few words. */
function glimpse(b: Uint8Array, box: Value): string {
  const object = box.kind === "object";
  const parts: string[] = [];
  let i = space(b, box.start + 1);
  for (let n = 0; n < glimpsed && i < box.end - 1; n++) {
    let name = "";
    if (object) {
      const end = skipString(b, i);
      if (b[i] !== quote || end < 0) return "";
      name = stringAt(b, i, end, 40).text + ": ";
      i = space(b, end);
      if (b[i] !== colon) return "";
      i = space(b, i + 1);
    }
    const v = valueAt(b, i);
    if (v.kind === "bad") return "";
    const text = v.kind === "object" ? "{…}" : v.kind === "array" ? "[…]" : v.kind === "string" ? JSON.stringify(v.text.slice(0, 30)) + (v.cut || v.text.length > 30 ? "…" : "") : v.text.slice(0, 30);
    parts.push(name + text);
    i = space(b, v.end);
    if (b[i] !== comma) break;
    i = space(b, i + 1);
  }
  return parts.join(", ") + (box.count > parts.length ? ", …" : "");
}

/** Whether the bytes are one JSON container, several on lines of their own, or neither. */
export function shape(b: Uint8Array): "json" | "ndjson" | "" {
  const i = space(b, 0);
  const c = b[i];
  if (c !== 0x7b && c !== 0x5b && c !== quote) return "";
  const { end } = skip(b, i);
  if (end < 0) return "";
  const next = space(b, end);
  if (next >= b.length) return "json";
  return (c === 0x7b || c === 0x5b) && b[next] === c ? "ndjson" : "";
}

/** The starts of values that follow one another, as lines of NDJSON do. */
export function sequence(b: Uint8Array, from: number, index: number, max: number): Members {
  const out: Value[] = [];
  let i = space(b, Math.max(0, from));
  while (i < b.length && out.length < max) {
    const v = valueAt(b, i);
    if (v.kind === "bad") return { values: out, next: -1, nextIndex: index, bad: `no value at byte ${i}` };
    v.index = index++;
    out.push(v);
    i = space(b, v.end);
  }
  return { values: out, next: i < b.length ? i : -1, nextIndex: index };
}
