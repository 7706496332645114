// The blocks of messages: text, thinking, tool calls with their results.
import { useState } from "preact/hooks";
import type { Block, Message } from "../model";
import { bytes, count } from "../base/format";
import { Clip, Fold } from "../base/ui";
import { Line, Marked } from "../base/text";
import { Markdown } from "./markdown";

/** The results of tool calls, by the calls' ids. */
export type Results = Map<string, Block>;

export function resultsOf(messages: Message[]): Results {
  const m: Results = new Map();
  for (const x of messages) for (const b of x.blocks) if (b.kind === "tool_result" && b.id) m.set(b.id, b);
  return m;
}

export interface Context {
  results: Results; calls: Set<string>; live: boolean;
  /** The conversation that a tool call began, if any. */
  started(tool: string): { name: string; open: () => void } | null;
}

/** The parts that a client puts into what the user says. */
const inserted = /^\s*<(system-reminder|command-message|command-name|command-args|local-command-stdout|local-command-caveat|environment_context|user_instructions|ide_\w+|context)\b[^>]*>/;

export function Blocks(p: { blocks: Block[]; role: string; x: Context; streaming?: boolean }) {
  return <>{p.blocks.map((b, i) => <BlockView key={i} b={b} role={p.role} x={p.x} last={!!p.streaming && i === p.blocks.length - 1} />)}</>;
}

function BlockView(p: { b: Block; role: string; x: Context; last: boolean }) {
  const { b } = p;
  switch (b.kind) {
    case "text": return <Text s={b.text ?? ""} role={p.role} last={p.last} />;
    case "thinking":
      if (!b.text) return <div class="thinking dim">Thinking{p.last ? "…" : " (its text is not in the answer)"}</div>;
      return <Fold class="thinking" open={p.last || b.text.length < 600} head={<span>Thinking <span class="dim">{bytes(b.text.length)}</span></span>}>{() => <><Clip s={b.text!} />{p.last && <Caret />}</>}</Fold>;
    case "tool_call": return <ToolCall b={b} x={p.x} last={p.last} />;
    case "tool_result":
      if (b.id && p.x.calls.has(b.id)) return null; // stands with its call
      return <Fold class="tool" head={<span>Result of an earlier tool call <code><Line s={b.id} max={40} /></code></span>}>{() => <ResultContent b={b} />}</Fold>;
    case "image": case "audio": case "document":
      return <div class="media">[<Line s={b.media_type || b.kind} max={60} />{b.size ? " " + bytes(b.size) : ""}{b.url ? <> <Line s={b.url} max={200} /></> : ""}]</div>;
    case "refusal": return <div class="box bad"><b>Refusal</b> <Marked s={b.text ?? ""} /></div>;
    default:
      return <Fold head={<span class="dim"><Line s={b.type || b.kind} max={60} /></span>}>{() => <Clip s={b.text ?? JSON.stringify(b.raw ?? b, null, 2)} class="mono" />}</Fold>;
  }
}

const Caret = () => <span class="caret-live" aria-hidden="true" />;

function Text(p: { s: string; role: string; last: boolean }) {
  const tag = inserted.exec(p.s);
  if (tag && p.role !== "assistant") return <Fold class="inserted" head={<span>{tag[1]} <span class="dim">{bytes(p.s.length)}</span></span>}>{() => <Clip s={p.s} />}</Fold>;
  if (p.role === "assistant" || p.role === "model") return <div class={p.last ? "live-text" : ""}><Markdown s={p.s} /></div>;
  return <Clip s={p.s} />;
}

const telling = ["command", "cmd", "file_path", "path", "filename", "query", "pattern", "url", "prompt", "description", "question", "name"];

/** What a tool was asked, in a line. */
function gist(input: unknown): string {
  if (typeof input === "string") return input;
  if (typeof input !== "object" || input === null) return input === undefined ? "" : JSON.stringify(input);
  const o = input as Record<string, unknown>;
  const key = telling.find((k) => typeof o[k] === "string" && o[k]) ?? Object.keys(o).find((k) => typeof o[k] === "string" && o[k]);
  if (key) return String(o[key]);
  const s = JSON.stringify(o);
  return s === "{}" ? "" : s;
}

function ToolCall(p: { b: Block; x: Context; last: boolean }) {
  const { b, x } = p;
  const result = b.id ? x.results.get(b.id) : undefined;
  const sub = b.id ? x.started(b.id) : null;
  const state = result ? (result.is_error ? "failed" : "") : p.last ? "writing" : x.live ? "running" : "no result";
  return (
    <Fold class={"tool" + (result?.is_error ? " bad" : "")} open={p.last} head={
      <>
        <b class="tool-name"><Line s={b.name} max={80} /></b>{b.server && <small class="dim"> by the provider</small>}
        <span class="tool-gist"><Line s={gist(b.input)} max={220} /></span>
        {state && <span class={"pill " + (state === "failed" ? "bad" : state === "no result" ? "" : "live")}>{state}</span>}
        {result && <span class="dim nowrap">{bytes(resultSize(result))}</span>}
      </>
    }>
      {() => (
        <>
          {sub && <p><button type="button" class="link-button" onClick={sub.open}>Open the sub-agent: <Line s={sub.name} max={80} /></button></p>}
          <Input v={b.input} />
          {p.last && <Caret />}
          {result && <><div class="tool-label">Result{result.is_error ? ", an error" : ""}</div><ResultContent b={result} /></>}
        </>
      )}
    </Fold>
  );
}

function resultSize(b: Block): number {
  return (b.text?.length ?? 0) + (b.content ?? []).reduce((n, c) => n + (c.text?.length ?? c.size ?? 0), 0);
}

function ResultContent(p: { b: Block }) {
  const { b } = p;
  if (b.content?.length) return <>{b.content.map((c, i) => c.text !== undefined ? <Clip key={i} s={c.text} class="mono" lines={16} /> : <div key={i} class="media">[{c.media_type || c.kind}{c.size ? " " + bytes(c.size) : ""}]</div>)}</>;
  return b.text ? <Clip s={b.text} class="mono" lines={16} /> : <p class="dim">empty</p>;
}

/** What a tool was asked: each member by itself, text as text. */
function Input(p: { v: unknown }) {
  const [raw, setRaw] = useState(false);
  if (p.v === undefined || p.v === null) return null;
  const o = p.v as Record<string, unknown>;
  if (typeof p.v !== "object" || Array.isArray(p.v) || raw) return <Clip s={typeof p.v === "string" ? p.v : JSON.stringify(p.v, null, 2)} class="mono" />;
  const keys = Object.keys(o);
  const isEdit = typeof o.old_string === "string" && typeof o.new_string === "string";
  return (
    <div class="input">
      {keys.slice(0, 60).map((k) => (
        <div key={k} class="input-row">
          <span class="j-key"><Line s={k} max={60} /></span>
          {typeof o[k] === "string" ? <Clip s={o[k] as string} class={"mono" + (isEdit && k === "old_string" ? " removed" : isEdit && k === "new_string" ? " added" : "")} lines={16} /> : <Clip s={JSON.stringify(o[k], null, 1)} class="mono" lines={8} />}
        </div>
      ))}
      {keys.length > 60 && <p class="dim">and {count(keys.length - 60)} more</p>}
      {keys.length > 0 && <button type="button" class="link-button" onClick={() => setRaw(true)}>as JSON</button>}
    </div>
  );
}
