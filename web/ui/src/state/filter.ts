// The filter's language, on rows of the timeline:
//
//	words "two words"   in method, host, path, type, process, model, error
//	host:*.example.com  kind:http  process:node  model:claude*  method:POST
//	state:failed        status:404  status:4xx  status:>=400  status:200-299
//	has:error  has:llm  has:events  is:opaque  id:12
//	size:>1mb  time:>2s  tokens:>10k
//	-host:x             not
//	body:TEXT  jq:EXPR  asked of trace, which has the bodies; jq takes the rest
//
// A GLOB without a star is found anywhere in the value.
import type { Outline } from "../model";

export interface Filter {
  /** Whether a row passes what the page itself can decide. */
  match(row: Outline): boolean;
  /** What trace is to be asked, "" if nothing. */
  server: string;
  /** What is wrong with the text, "" if nothing. */
  error: string;
  empty: boolean;
}

type Test = (row: Outline) => boolean;

const keys = ["host", "status", "kind", "process", "model", "method", "state", "has", "is", "id", "path", "type", "size", "time", "tokens", "protocol", "source", "body", "jq"];

/** Everything of a row that words are looked for in. */
export function hay(r: Outline): string {
  return (r.hay ??= [r.method, r.host, r.path, r.content_type, r.process?.name, r.model, r.error?.code, r.error?.message, r.opaque, r.kind, r.protocol, r.status || ""].join(" ").toLowerCase());
}

export function parseFilter(text: string): Filter {
  const tests: Test[] = [];
  const server: string[] = [];
  let error = "";
  for (const term of terms(text)) {
    const not = term.text.startsWith("-") && term.text.length > 1 && !term.quoted;
    const body = not ? term.text.slice(1) : term.text;
    const colon = term.quoted ? -1 : body.indexOf(":");
    const key = colon > 0 ? body.slice(0, colon).toLowerCase() : "";
    if (!keys.includes(key)) {
      const word = body.toLowerCase();
      tests.push(not ? (r) => !hay(r).includes(word) : (r) => hay(r).includes(word));
      continue;
    }
    const value = unquote(body.slice(colon + 1));
    if (key === "body" || key === "jq") {
      if (value) server.push((not ? "-" : "") + key + ":" + (key === "body" && /\s/.test(value) ? JSON.stringify(value) : value));
      continue;
    }
    if (!value) continue; // still being typed
    const made = test(key, value);
    if (typeof made === "string") error ||= made;
    else tests.push(not ? (r) => !made(r) : made);
  }
  return { match: (r) => tests.every((t) => t(r)), server: server.join(" "), error, empty: !tests.length && !server.length };
}

interface Term { text: string; quoted: boolean }

function terms(text: string): Term[] {
  const out: Term[] = [];
  let i = 0;
  while (i < text.length) {
    if (/\s/.test(text[i] ?? "")) {
      i++;
      continue;
    }
    if (/^-?jq:/i.test(text.slice(i, i + 4))) {
      out.push({ text: text.slice(i).trim(), quoted: false });
      break;
    }
    let word = "";
    const quoted = text[i] === '"';
    let inside = false;
    for (; i < text.length; i++) {
      const c = text[i] ?? "";
      if (c === '"') inside = !inside;
      else if (!inside && /\s/.test(c)) break;
      if (c !== '"' || !quoted) word += c;
    }
    if (word && word !== "-") out.push({ text: word, quoted });
  }
  return out;
}

const unquote = (s: string): string => s.replace(/^"(.*?)"?$/s, "$1");

function test(key: string, value: string): Test | string {
  const g = glob(value);
  switch (key) {
    case "host": return (r) => g(r.host) || (r.port !== undefined && g(r.host + ":" + r.port));
    case "path": return (r) => g(r.path);
    case "kind": return (r) => (r.kind ?? "").toLowerCase() === value.toLowerCase() || (value.toLowerCase() === "llm" && !!r.llm);
    case "process": return (r) => g(r.process?.name) || String(r.process?.pid ?? "") === value;
    case "model": return (r) => g(r.model);
    case "method": return (r) => g(r.method);
    case "state": return (r) => g(r.state);
    case "type": return (r) => g(r.content_type);
    case "protocol": return (r) => g(r.protocol) || g(r.kind);
    case "source": return (r) => g(r.source);
    case "id": return (r) => value.split(",").includes(r.id);
    case "has": case "is": return has(value);
    case "status": return status(value);
    case "size": return compare(value, { "": 1, b: 1, k: 1e3, kb: 1e3, m: 1e6, mb: 1e6, g: 1e9, gb: 1e9 }, (r) => Math.max(0, r.req_size ?? 0) + Math.max(0, r.resp_size ?? 0), "size:>1mb");
    case "time": return compare(value, { "": 1, ms: 1, s: 1000, m: 60000 }, (r) => r.duration_ms ?? undefined, "time:>2s");
    default: return compare(value, { "": 1, k: 1e3, m: 1e6 }, (r) => (r.tokens ? r.tokens.input + r.tokens.cache_read + r.tokens.cache_write + r.tokens.output : undefined), "tokens:>10k");
  }
}

function has(value: string): Test | string {
  switch (value.toLowerCase()) {
    case "error": return (r) => !!r.error || r.state === "failed" || (r.status ?? 0) >= 400;
    case "llm": case "model": case "tokens": return (r) => !!r.llm;
    case "events": case "stream": case "streaming": return (r) => (r.events ?? 0) > 0 || !!r.streaming;
    case "opaque": case "undecrypted": return (r) => !!r.opaque;
    case "open": return (r) => r.state === "open";
    case "replay": return (r) => r.source === "replay" || !!r.replay_of;
    case "altered": return (r) => !!r.altered;
  }
  return `has:${value}: one of error, llm, events, opaque, open, replay, altered`;
}

function status(value: string): Test | string {
  const family = /^([1-5])xx$/i.exec(value);
  if (family) return (r) => Math.floor((r.status ?? 0) / 100) === Number(family[1]);
  const range = /^(\d{3})-(\d{3})$/.exec(value);
  if (range) return (r) => (r.status ?? 0) >= Number(range[1]) && (r.status ?? 0) <= Number(range[2]);
  return compare(value, { "": 1 }, (r) => r.status || undefined, "status:404, status:4xx, status:>=400");
}

function compare(value: string, units: Record<string, number>, of: (r: Outline) => number | undefined, example: string): Test | string {
  const m = /^(>=|<=|!=|>|<|=)?\s*(\d+(?:\.\d+)?)([a-z]*)$/i.exec(value);
  const unit = m ? units[(m[3] ?? "").toLowerCase()] : undefined;
  if (!m || unit === undefined) return /^[<>=!]*$/.test(value) ? () => true : `${value}: write ${example}`;
  const n = Number(m[2]) * unit;
  const op = m[1] ?? "=";
  return (r) => {
    const v = of(r);
    if (v === undefined) return false;
    return op === ">=" ? v >= n : op === "<=" ? v <= n : op === ">" ? v > n : op === "<" ? v < n : op === "!=" ? v !== n : v === n;
  };
}

function glob(value: string): (s: string | undefined) => boolean {
  const v = value.toLowerCase();
  if (!/[*?]/.test(v)) return (s) => (s ?? "").toLowerCase().includes(v);
  const re = new RegExp("^" + v.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".") + "$", "s");
  return (s) => re.test((s ?? "").toLowerCase());
}
