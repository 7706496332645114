// One call to a language model, read as a chat: what was said before, what is new
// in this turn, and the answer while it comes.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Cache, Call, Conversation, Diff, Message, Tool, Turn } from "../model";
import { flowPath, get, session } from "../api/client";
import { onEvent, touched } from "../state/app";
import { bytes, clock, count, duration, money, percent, short } from "../base/format";
import { Clip, Empty, Fold } from "../base/ui";
import { Line, title } from "../base/text";
import { Blocks, resultsOf, type Context } from "./blocks";
import { CacheBar, parts, prompt } from "./bars";

/** Reads a call, and while it is answered its answer again and again. */
export function useCall(id: string): { call: Call | null; error: string } {
  const [state, set] = useState<{ key: string; call: Call | null; error: string }>({ key: "", call: null, error: "" });
  const key = session.value + "/" + id;
  useEffect(() => {
    if (!id) return;
    let alive = true, timer = 0, running = false, wanted: "" | "answer" | "all" = "";
    const read = async (what: "answer" | "all") => {
      if (running) {
        if (wanted !== "all") wanted = what;
        return;
      }
      running = true;
      try {
        const c = await get<Call>(flowPath(id, "/call"), what === "answer" ? { part: "answer" } : {});
        if (!alive) return;
        // The answer alone leaves out what was asked.
        set((s) => ({ key, call: what === "answer" && s.key === key && s.call ? { ...s.call, ...c, messages: c.messages?.length ? c.messages : s.call.messages, system: c.system?.length ? c.system : s.call.system, tools: c.tools?.length ? c.tools : s.call.tools, params: c.params ?? s.call.params } : c, error: "" }));
      } catch (e) {
        if (alive) set((s) => ({ key, call: s.key === key ? s.call : null, error: (e as Error).message }));
      }
      running = false;
      if (wanted && alive) {
        const w = wanted;
        wanted = "";
        later(w, 80);
      }
    };
    let next: "answer" | "all" = "answer";
    const later = (what: "answer" | "all", ms: number) => {
      if (what === "all") next = "all";
      if (timer) return;
      timer = window.setTimeout(() => {
        timer = 0;
        const w = next;
        next = "answer";
        void read(w);
      }, ms);
    };
    void read("all");
    const base = id.split("#")[0];
    const off = onEvent((e) => (e.flow === base || !e.flow) && later("answer", 250));
    const off2 = touched.subscribe((t) => t.id === base && t.n > 0 && later("all", 300));
    return () => {
      alive = false;
      clearTimeout(timer);
      off();
      off2();
    };
  }, [key]);
  return state.key === key ? state : { call: null, error: "" };
}

/** Where the turns before this one begin in its messages: index to turn. */
export function boundaries(turns: Turn[], id: string): Map<number, Turn> {
  const out = new Map<number, Turn>();
  let at = turns.findIndex((t) => t.id === id);
  let limit = Infinity;
  for (; at >= 0; at--) {
    const t = turns[at]!;
    const shared = at === 0 ? 0 : (t.shared_messages ?? -1);
    if (shared < 0 || shared >= limit) break;
    if (!t.retry_of) out.set(shared, t);
    limit = shared;
    if (t.compacted || t.edited) break; // what was before is not in this request
  }
  return out;
}

interface CallProps {
  id: string; conversation?: Conversation | null; onTurn: (id: string) => void; started: Context["started"];
  /** It stands above a later call that is the one looked at. */
  past?: boolean;
}

/** The turns that are not in the request: kept by the provider, or summarised. */
function Before(p: CallProps & { first: Turn | undefined }) {
  const [open, setOpen] = useState(false);
  const id = p.first?.previous;
  if (!id || !p.conversation?.calls.includes(id)) return null;
  if (open) return <CallView id={id} conversation={p.conversation} onTurn={p.onTurn} started={p.started} past />;
  const why = p.first?.compacted ? "The conversation was summarised here." : p.first?.edited ? "What was said before was changed here." : "What was said before is not in this request.";
  return <p class="older dim">{why} <button type="button" class="button" onClick={() => setOpen(true)}>Show the turn before (flow {id})</button></p>;
}

export function CallView(p: CallProps) {
  const { call: c, error } = useCall(p.id);
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const live = c?.state === "open" || (!!c && !c.state && !!c.partial);
  const size = JSON.stringify(c?.answer ?? "").length;
  useEffect(() => {
    const el = box.current?.closest<HTMLElement>(".scroll");
    if (!el) return;
    const on = () => (atEnd.current = el.scrollHeight - el.scrollTop - el.clientHeight < 60);
    el.addEventListener("scroll", on, { passive: true });
    return () => el.removeEventListener("scroll", on);
  }, [!!c]);
  useEffect(() => {
    const el = box.current?.closest<HTMLElement>(".scroll");
    if (el && live && !p.past && atEnd.current) el.scrollTop = el.scrollHeight;
  }, [size, live]);
  if (error && !c) return <Empty title="The call cannot be read" bad><p>{error}</p></Empty>;
  if (!c) return <Empty title="Reading the call…" />;
  const messages = c.messages ?? [];
  const answer = c.answer ?? [];
  const firstNew = messages.findIndex((m) => m.new);
  const newFrom = p.past ? messages.length : c.new_from ?? (firstNew >= 0 ? firstNew : (c.thread?.shared_messages ?? 0));
  const bounds = boundaries(p.conversation?.turns ?? [], p.id);
  const first = bounds.get(Math.min(...bounds.keys()));
  const calls = new Set<string>();
  for (const m of [...messages, ...answer]) for (const b of m.blocks) if (b.kind === "tool_call" && b.id) calls.add(b.id);
  const x: Context = { results: resultsOf([...messages, ...answer]), calls, live, started: p.started };
  return (
    <div class={"chat" + (p.past ? " past" : "")} ref={box}>
      <Before {...p} first={first} />
      <Preface c={c} />
      <History messages={messages} newFrom={newFrom} bounds={bounds} x={x} onTurn={p.onTurn} here={p.past ? "" : p.id} />
      <section class="answer" aria-label="Answer" aria-busy={live}>
        {!bounds.size && <TurnLine t={{ id: p.id, turn: c.thread?.turn, usage: c.usage, model: c.model, cache: c.cache, cost: c.cost, duration_ms: c.duration_ms }} here />}
        {answer.map((m, i) => <MessageView key={"a" + i} m={m} fresh={!p.past} x={x} streaming={live && i === answer.length - 1} answer />)}
        {live && !answer.length && <div class="message assistant"><span class="role">assistant</span><div class="said"><span class="dim">waiting for the first token</span> <span class="caret-live" /></div></div>}
        {c.error && <div class="box bad" role="alert"><b><Line s={c.error.type} max={60} /></b> <Line s={c.error.message} max={1000} /></div>}
        <AnswerFoot c={c} live={live} />
      </section>
    </div>
  );
}

function Preface(p: { c: Call }) {
  const { c } = p;
  const system = (c.system ?? []).map((b) => b.text ?? "");
  const params = Object.entries(c.params ?? {});
  if (!system.length && !c.tools?.length && !params.length) return null;
  return (
    <div class="preface">
      {system.length > 0 && <Fold head={<span>System prompt <span class="dim">{bytes(system.reduce((n, s) => n + s.length, 0))}{system.length > 1 ? ` in ${system.length} blocks` : ""}</span></span>}>
        {() => system.map((s, i) => <div key={i} class="system-block">{c.system?.[i]?.cache_control ? <span class="pill" title="What stands before this mark is kept in the cache">cache mark</span> : null}<Clip s={s} /></div>)}
      </Fold>}
      {(c.tools?.length ?? 0) > 0 && <Fold head={<span>{count(c.tools!.length)} {c.tools!.length === 1 ? "tool" : "tools"} <span class="dim"><Line s={c.tools!.map((t) => t.name).join(", ")} max={160} /></span></span>}>
        {() => c.tools!.map((t, i) => <ToolDefinition key={i} t={t} />)}
      </Fold>}
      {params.length > 0 && <Fold head={<span>Parameters <span class="dim"><Line s={params.map(([k, v]) => k + " " + (typeof v === "object" ? "…" : String(v))).join(", ")} max={160} /></span></span>}>
        {() => <Clip s={JSON.stringify(c.params, null, 2)} class="mono" />}
      </Fold>}
    </div>
  );
}

function ToolDefinition(p: { t: Tool }) {
  return <Fold class="tool" head={<><b class="tool-name"><Line s={p.t.name} max={80} /></b><span class="tool-gist"><Line s={p.t.description} max={200} /></span></>}>
    {() => <>{p.t.description && <Clip s={p.t.description} />}{p.t.input_schema !== undefined && <Clip s={JSON.stringify(p.t.input_schema, null, 2)} class="mono" />}</>}
  </Fold>;
}

/** Old messages are in the page only when wanted: conversations have thousands. */
const shownOld = 60;

function History(p: { messages: Message[]; newFrom: number; bounds: Map<number, Turn>; x: Context; onTurn: (id: string) => void; here: string }) {
  const [old, setOld] = useState(shownOld);
  const { messages, newFrom } = p;
  const first = Math.max(0, newFrom - old);
  const out: preact.ComponentChildren[] = [];
  if (first > 0) out.push(<p key="older" class="older"><button type="button" class="button" onClick={() => setOld(old + 200)}>Show {count(Math.min(first, 200))} earlier messages of {count(first)}</button></p>);
  for (let i = first; i < messages.length; i++) {
    const t = p.bounds.get(i);
    if (t) out.push(<TurnLine key={"t" + t.id} t={t} here={t.id === p.here} onTurn={p.onTurn} />);
    else if (i === newFrom && !p.bounds.size && newFrom > 0) out.push(<div key="new" class="new-line"><span>new in this turn</span></div>);
    out.push(<MessageView key={i} m={messages[i]!} fresh={i >= newFrom} x={p.x} />);
  }
  return <>{out}</>;
}

function MessageView(p: { m: Message; fresh: boolean; x: Context; streaming?: boolean; answer?: boolean }) {
  const { m } = p;
  const shown = m.blocks.filter((b) => !(b.kind === "tool_result" && b.id && p.x.calls.has(b.id)));
  if (!shown.length && !p.answer) return null; // its results stand with their calls
  return (
    <article class={"message " + (/^[a-z]+$/.test(m.role) ? m.role : "other") + (p.fresh ? " fresh" : "")} aria-label={title(m.role) + (p.fresh ? ", new in this turn" : "")}>
      <span class="role"><Line s={m.role} max={20} />{p.fresh && !p.answer && <small class="new-mark">new</small>}</span>
      <div class="said"><Blocks blocks={m.blocks} role={m.role} x={p.x} streaming={p.streaming} /></div>
    </article>
  );
}

/** Where a turn begins, and what it cost. */
function TurnLine(p: { t: Turn; here?: boolean; onTurn?: (id: string) => void }) {
  const { t } = p;
  const u = t.usage;
  return (
    <>
      <div class={"turn-line" + (p.here ? " here" : "")} id={"turn-" + t.id}>
        <b>Turn {t.turn ?? "?"}</b>
        {p.onTurn && !p.here ? <button type="button" class="link-button" onClick={() => p.onTurn!(t.id)} title="Show this call by itself">flow {t.id}</button> : <span class="dim">flow {t.id}</span>}
        {t.started && <span class="dim">{clock(t.started, false)}</span>}
        {u && <><CacheBar u={u} /><span class="dim" title={`${count(prompt(u))} tokens in, ${count(u.output)} out`}>{short(prompt(u))} in, {percent(u.cache_read, prompt(u))} cached, {short(u.output)} out</span></>}
        {t.duration_ms ? <span class="dim">{duration(t.duration_ms)}</span> : null}
        {t.cost && <span class="dim">{money(t.cost)}</span>}
        {t.compacted && <span class="pill warn" title="The conversation was summarised here">compacted</span>}
        {t.edited && <span class="pill warn" title="What was said before was changed">edited</span>}
        {t.error && <span class="pill bad"><Line s={t.error.type} max={30} /></span>}
        {p.here && <span class="new-mark">this turn</span>}
      </div>
      <CacheBreak c={t.cache} pair={t.previous ? [t.previous, t.id] : undefined} />
    </>
  );
}

/** Whether something that the turn before had stored was not read. */
export function lost(c: Cache): boolean {
  return (c.result === "miss" || c.result === "partial") && (c.stored_tokens ?? 0) > Math.max(0, c.read_tokens ?? 0);
}

/** Why nothing, or less than expected, was read from the cache. */
export function CacheBreak(p: { c: Cache | null | undefined; pair?: [string, string] }) {
  const [told, setTold] = useState<Cache | null>(null);
  const missing = !!p.c && !p.c.why && !!p.pair && lost(p.c);
  useEffect(() => {
    if (!missing || !p.pair) return;
    let alive = true;
    void get<Diff>("/api/diff", { a: p.pair[0], b: p.pair[1] }).then((d) => alive && setTold(d.cache ?? null), () => undefined);
    return () => void (alive = false);
  }, [missing, p.pair?.join()]);
  const c = p.c && told ? { ...p.c, ...told } : p.c;
  if (!c || !lost(c)) return null;
  return (
    <div class="box warn cache-break">
      <b>{c.result === "miss" ? "The cache was lost here" : "Part of the cache was lost here"}</b>
      {c.read_tokens !== undefined && c.stored_tokens !== undefined && c.stored_tokens >= 0 ? <span class="dim"> {count(Math.max(0, c.read_tokens))} of {count(c.stored_tokens)} stored tokens were read</span> : null}
      {c.why && <p><Line s={c.why} max={1000} /></p>}
      {c.told && <p class="dim">The provider says: <Line s={c.told} max={200} /></p>}
    </div>
  );
}

function AnswerFoot(p: { c: Call; live: boolean }) {
  const { c } = p;
  const u = c.usage;
  const cb = c.context_bytes;
  const sum = cb ? parts.reduce((n, x) => n + (cb[x.key] ?? 0), 0) : 0;
  return (
    <footer class="answer-foot">
      {p.live ? <span class="pill live">answering</span> : c.stop_reason ? <span class="pill" title="Why the answer ended"><Line s={c.stop_reason} max={40} /></span> : c.partial ? <span class="pill warn">cut off</span> : null}
      {u && <><CacheBar u={u} /><span>{count(prompt(u))} tokens in, {percent(u.cache_read, prompt(u))} from the cache; {count(u.output)} out{u.reasoning ? `, ${count(u.reasoning)} of them reasoning` : ""}</span></>}
      {c.first_token_ms ? <span class="dim">first token after {duration(c.first_token_ms)}</span> : null}
      {c.cost && <span>{money(c.cost)}</span>}
      {sum > 0 && (
        <div class="composition" role="img" aria-label={"The context: " + parts.filter((x) => cb![x.key]).map((x) => `${x.name} ${percent(cb![x.key]!, sum)}`).join(", ")}>
          <span class="comp-bar">{parts.map((x) => cb![x.key] ? <i key={x.key} class={"p-" + x.key} style={{ width: (cb![x.key]! / sum) * 100 + "%" }} /> : null)}</span>
          <span class="legend">{parts.map((x) => cb![x.key] ? <span key={x.key}><i class={"p-" + x.key} />{x.name} {percent(cb![x.key]!, sum)}</span> : null)}</span>
        </div>
      )}
    </footer>
  );
}
