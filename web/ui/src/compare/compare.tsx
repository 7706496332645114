// Compares two flows, or two runs turn by turn.
import { useEffect, useState } from "preact/hooks";
import type { Change, Diff, Message } from "../model";
import { get, session } from "../api/client";
import { compareA, compareB, flows, run, show, view } from "../state/app";
import { Button, Clip, Empty } from "../base/ui";
import { Line, Marked, title } from "../base/text";
import { CacheBreak } from "../chat/call";
import { DiffValues, SideBySide } from "./values";
import { clock, count } from "../base/format";

/** Whether an id names a run: those of flows are small numbers. */
const isSession = (id: string): boolean => id.length > 10 && !id.includes("/");

export function Compare() {
  const [mode, setMode] = useState<"flows" | "sessions">(isSession(compareA.value) ? "sessions" : "flows");
  return (
    <div class="compare scroll" tabIndex={0}>
      <div class="bar-line">
        <Button on={() => setMode("flows")} pressed={mode === "flows"}>Two flows</Button>
        <Button on={() => setMode("sessions")} pressed={mode === "sessions"}>Two runs</Button>
      </div>
      {mode === "flows" ? <TwoFlows /> : <TwoRuns />}
    </div>
  );
}

function useDiff<T>(path: string, a: string, b: string): { value: T | null; error: string } {
  const [state, set] = useState<{ value: T | null; error: string }>({ value: null, error: "" });
  useEffect(() => {
    set({ value: null, error: "" });
    if (!a || !b) return;
    let alive = true;
    get<T>(path, { a, b }).then((value) => alive && set({ value, error: "" }), (e: Error) => alive && set({ value: null, error: e.message }));
    return () => void (alive = false);
  }, [path, a, b, session.value]);
  return state;
}

function FlowPick(p: { label: string; value: string; on: (v: string) => void }) {
  const r = flows.get(p.value);
  return (
    <label class="pick">{p.label}
      <input value={p.value} inputMode="numeric" placeholder="flow" list="flow-ids" onChange={(e) => p.on(e.currentTarget.value.trim())} />
      <span class="dim ellipsis">{r ? <><Line s={r.method} max={10} /> <Line s={(r.host ?? "") + (r.path ?? "")} max={100} /> {r.status} <Line s={r.model} max={40} /></> : p.value ? "" : "an id from the list"}</span>
    </label>
  );
}

function TwoFlows() {
  flows.version.value;
  const a = compareA.value, b = compareB.value;
  const { value: d, error } = useDiff<Diff>("/api/diff", a, b);
  const [side, setSide] = useState<"request" | "response">("request");
  const recent = flows.rows.slice(-200).reverse();
  return (
    <>
      <div class="picks">
        <FlowPick label="A" value={a} on={(v) => (compareA.value = v)} />
        <Button on={() => ([compareA.value, compareB.value] = [b, a])} label="Swap A and B" title="Swap">⇄</Button>
        <FlowPick label="B" value={b} on={(v) => (compareB.value = v)} />
        <datalist id="flow-ids">{recent.map((r) => <option key={r.id} value={r.id}>{title(`${r.method ?? ""} ${r.host ?? ""} ${(r.path ?? "").slice(0, 60)}`)}</option>)}</datalist>
      </div>
      {(!a || !b) && <Empty title="Choose two flows"><p>Enter their numbers here, or press <kbd>m</kbd> on one and then on another in the list. A call and the one before it show what its turn added, and why a cache was lost.</p></Empty>}
      {error && <Empty title="They cannot be compared" bad><p><Line s={error} max={600} /></p></Empty>}
      {a && b && !d && !error && <Empty title="Comparing…" />}
      {d && <DiffView d={d} />}
      {d && (
        <>
          <h3>Bodies</h3>
          <div class="bar-line">
            <Button on={() => setSide("request")} pressed={side === "request"}>Requests</Button>
            <Button on={() => setSide("response")} pressed={side === "response"}>Responses</Button>
          </div>
          <SideBySide key={side} a={{ id: a, name: "Flow " + a }} b={{ id: b, name: "Flow " + b }} side={side} />
        </>
      )}
    </>
  );
}

function DiffView(p: { d: Diff }) {
  const { d } = p;
  const changes = d.changes ?? [];
  return (
    <section class="diff" aria-label="What differs">
      {d.same && !changes.length && <p class="box ok">The requests are the same.</p>}
      <CacheBreak c={d.cache} />
      {d.cache?.why && d.cache.result === "hit" && <p class="dim"><Line s={d.cache.why} max={600} /></p>}
      {changes.length > 0 && <h3>What the second says differently <span class="dim">{count(changes.length)}</span></h3>}
      {changes.map((c, i) => <ChangeView key={i} c={c} broke={i === (d.first_change ?? -1)} />)}
      {(d.shared_messages ?? 0) > 0 && <p class="dim">= {count(d.shared_messages)} messages as before</p>}
      {(d.appended ?? []).map((m, i) => <Appended key={i} m={m} answer={i < (d.appended_answer ?? 0)} />)}
      <DiffValues name="Head" rows={d.head ?? []} />
      <DiffValues name="Body" rows={d.body ?? []} />
      {(d.skipped?.length ?? 0) > 0 && <p class="dim">Not compared, for it differs each time: <Line s={d.skipped!.join(", ")} max={400} /></p>}
    </section>
  );
}

function place(c: Change): string {
  const i = c.new_index !== undefined && c.new_index >= 0 ? c.new_index : (c.old_index ?? -1);
  const block = c.new_block !== undefined && c.new_block >= 0 ? c.new_block : (c.old_block ?? -1);
  const name = c.area === "system" ? "system block" : c.area;
  return name + (c.area === "parameter" || c.area === "tool" ? " " + (c.name ?? "") : i >= 0 ? " " + (i + 1) : "") + (c.name && c.area === "message" ? ` (${c.name})` : "") + (block >= 0 ? `, block ${block + 1}` : "") + (c.kind && c.kind !== "text" ? ", " + c.kind : "");
}

function ChangeView(p: { c: Change; broke: boolean }) {
  const { c } = p;
  return (
    <div class={"change " + (/^[a-z_]+$/.test(c.what) ? c.what : "")}>
      <p><b><Line s={place(c)} max={120} /></b> <span class="pill"><Line s={c.what.replace("_", " ")} max={30} /></span>{p.broke && <span class="pill warn" title="From here on the prompt is another one">the first that changes the prompt</span>}</p>
      {c.spans?.length ? (
        <pre class="prose spans">{c.spans.map((s, i) => s.op === "same" ? <Marked key={i} s={s.text.length > 600 ? s.text.slice(0, 250) + "\n…\n" + s.text.slice(-250) : s.text} /> : s.op === "deleted" ? <del key={i}><Marked s={s.text} /></del> : <ins key={i}><Marked s={s.text} /></ins>)}</pre>
      ) : <>{c.old && <Clip s={c.old} class="removed" lines={12} />}{c.new && <Clip s={c.new} class="added" lines={12} />}</>}
    </div>
  );
}

function Appended(p: { m: Message; answer: boolean }) {
  const text = (p.m.blocks ?? []).map((b) => b.kind === "text" ? (b.text ?? "") : b.kind === "tool_call" ? `→ ${b.name} ${JSON.stringify(b.input ?? {})}` : b.kind === "tool_result" ? `← ${b.text ?? (b.content ?? []).map((x) => x.text ?? `[${x.kind}]`).join("\n")}` : `[${b.kind}] ${b.text ?? ""}`).join("\n");
  return <div class="change added"><p><b>+ <Line s={p.m.role} max={20} /></b>{p.answer && <span class="dim"> the answer of the first</span>}</p><Clip s={text} class="added" lines={10} /></div>;
}

function TwoRuns() {
  const list = run.value?.sessions ?? [];
  const [a, setA] = useState(isSession(compareA.value) ? compareA.value : (run.value?.id ?? ""));
  const [b, setB] = useState(isSession(compareB.value) ? compareB.value : "");
  const { value, error } = useDiff<Diff[] | { pairs?: Diff[] }>("/api/compare", a, b);
  const pairs = Array.isArray(value) ? value : (value?.pairs ?? []);
  const select = (label: string, v: string, on: (v: string) => void) => (
    <label class="pick">{label}
      <select value={v} onChange={(e) => on(e.currentTarget.value)}>
        <option value="">choose a run</option>
        {list.map((s) => <option key={s.id} value={s.id}>{title(`${s.name} ${clock(s.started, false)}`)}</option>)}
      </select>
    </label>
  );
  return (
    <>
      <div class="picks">{select("A", a, setA)}{select("B", b, setB)}</div>
      {(!a || !b) && <Empty title="Choose two runs"><p>Their conversations are compared turn by turn: prompts, tools, parameters.</p></Empty>}
      {error && <Empty title="They cannot be compared" bad><p><Line s={error} max={600} /></p></Empty>}
      {a && b && !value && !error && <Empty title="Comparing…" />}
      {value && (pairs.every((d) => d.same) ? <p class="box ok">The runs asked the same in {count(pairs.length)} turns.</p> : null)}
      {pairs.map((d, i) => (
        <details key={i} class="pair-box" open={!d.same && i < 5}>
          <summary>
            <b>{d.thread?.turn ? `Turn ${d.thread.turn} of conversation ${d.thread.first ?? ""}` : `Pair ${i + 1}`}</b>{" "}
            <span class="dim">A {d.a?.id ?? "none"}, B {d.b?.id ?? "none"}</span> {d.same ? <span class="pill">same</span> : <span class="pill warn">{d.a && d.b ? "differs" : "only in " + (d.a ? "A" : "B")}</span>}
          </summary>
          <DiffView d={d} />
          {d.a?.id && run.value?.id === a && <Button on={() => ((view.value = "flows"), show(d.a!.id!, "call"))}>Open flow {d.a.id}</Button>}
        </details>
      ))}
    </>
  );
}
