// The conversations of the run: lanes, turns, and the chosen call as a chat.
import { useEffect, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import type { Conversation, Turn } from "../model";
import { download, get, session } from "../api/client";
import { conversation, flows, show, touched, view } from "../state/app";
import { Button, Empty, say } from "../base/ui";
import { Line } from "../base/text";
import { count, money, percent, short } from "../base/format";
import { prompt } from "./bars";
import { CallView } from "./call";
import { Lanes, nameOf } from "./lanes";
import { Turns } from "./turns";

export const conversations = signal<{ session: string; list: Conversation[] | null; error: string }>({ session: "", list: null, error: "" });

/** Keeps the conversations read while calls come. */
export function useConversations(): Conversation[] | null {
  useEffect(() => {
    let alive = true, timer = 0;
    const ours = session.value;
    const read = async () => {
      timer = 0;
      try {
        const p = await get<{ threads: Conversation[] | null }>("/api/conversations");
        if (alive) conversations.value = { session: ours, list: p.threads ?? [], error: "" };
      } catch (e) {
        if (alive) conversations.value = { session: ours, list: conversations.value.session === ours ? conversations.value.list : null, error: (e as Error).message };
      }
    };
    void read();
    const off = touched.subscribe((t) => {
      if (t.n > 0 && !timer && (flows.get(t.id)?.llm || !flows.get(t.id))) timer = window.setTimeout(() => void read(), 400);
    });
    return () => {
      alive = false;
      clearTimeout(timer);
      off();
    };
  }, [session.value]);
  return conversations.value.session === session.value ? conversations.value.list : null;
}

/** The turns of a conversation; what the server left out is filled from the rows. */
export function turnsOf(c: Conversation): Turn[] {
  const told = new Map((c.turns ?? []).map((t) => [t.id, t]));
  return c.calls.map((id, i) => {
    const t = told.get(id), r = flows.get(id.split("#")[0] ?? id);
    return { turn: i + 1, previous: c.calls[i - 1], started: r?.started, duration_ms: r?.duration_ms, model: r?.model, ...t, usage: t?.usage ?? r?.tokens ?? null, id };
  });
}

/** The call that is looked at; "" follows the newest. */
export const turn = signal("");

export function Chat() {
  flows.version.value;
  const list = useConversations();
  const now = list?.find((c) => c.id === conversation.value) ?? main(list);
  if (conversations.value.error && !list) return <Empty title="The conversations cannot be read" bad><p>{conversations.value.error}</p></Empty>;
  if (!list) return <Empty title="Reading the conversations…" />;
  if (!now) return <Empty title="No call to a language model yet"><p>Conversations with Anthropic, OpenAI, Gemini, Ollama and servers that speak like them appear here as they happen.</p></Empty>;
  const pick = (c: Conversation, call?: string) => {
    conversation.value = c.id;
    turn.value = call ?? "";
  };
  return (
    <div class="chat-view">
      {list.length > 1 && <Lanes list={list} now={now.id} turn={turn.value} on={pick} />}
      <Talk c={now} list={list} pick={pick} key={now.id} />
    </div>
  );
}

/** The conversation that most is said in. */
function main(list: Conversation[] | null): Conversation | undefined {
  let best: Conversation | undefined;
  for (const c of list ?? []) if (!best || c.calls.length > best.calls.length) best = c;
  return best;
}

/** Moves between turns; the keys n and b. */
export const moveTurn: { current: ((n: number) => void) | null } = { current: null };

function Talk(p: { c: Conversation; list: Conversation[]; pick: (c: Conversation, call?: string) => void }) {
  const { c } = p;
  const turns = turnsOf(c);
  const last = c.calls[c.calls.length - 1] ?? "";
  const shown = c.calls.includes(turn.value) ? turn.value : last;
  const [loaded, setLoaded] = useState(shown); // the call whose messages are shown
  const scroll = useRef<HTMLDivElement>(null);
  // A turn that stands in the shown call is scrolled to, another is read.
  const go = (id: string) => {
    turn.value = id === last ? "" : id;
    const el = scroll.current?.querySelector<HTMLElement>("#" + CSS.escape("turn-" + id));
    if (el) {
      el.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
      return;
    }
    setLoaded(id);
  };
  useEffect(() => {
    if (!turn.value) setLoaded(last);
    else if (turn.value !== loaded && !scroll.current?.querySelector("#" + CSS.escape("turn-" + turn.value))) setLoaded(turn.value);
  }, [last, turn.value]);
  const freshOpen = useRef("");
  useEffect(() => {
    // A call is opened at what is new in it.
    const t = window.setInterval(() => {
      if (freshOpen.current === loaded) return clearInterval(t);
      const el = scroll.current?.querySelector<HTMLElement>(".turn-line.here, .new-line");
      if (!el && !scroll.current?.querySelector(".answer")) return;
      freshOpen.current = loaded;
      el?.scrollIntoView({ block: "start" });
      clearInterval(t);
    }, 50);
    return () => clearInterval(t);
  }, [loaded]);
  moveTurn.current = (n) => {
    const i = c.calls.indexOf(shown);
    const id = c.calls[Math.max(0, Math.min(c.calls.length - 1, i + n))];
    if (id && id !== shown) go(id);
  };
  const cost = turns.reduce((n, t) => n + (t.cost?.amount ?? 0), 0);
  const read = turns.reduce((n, t) => n + (t.usage?.cache_read ?? 0), 0), all = turns.reduce((n, t) => n + prompt(t.usage), 0);
  const currency = turns.find((t) => t.cost)?.cost?.currency;
  return (
    <>
      <div class="talk-head">
        <h2><Line s={nameOf(c)} max={140} /></h2>
        <span class="dim">{count(c.calls.length)} {c.calls.length === 1 ? "turn" : "turns"}, {short(all)} tokens in ({percent(read, all)} cached), {short(turns.reduce((n, t) => n + (t.usage?.output ?? 0), 0))} out{currency ? ", " + money({ amount: cost, currency }) : ""}</span>
        <span class="space" />
        <Button on={() => moveTurn.current?.(-1)} disabled={c.calls[0] === shown} title="Turn before (b)" keys="b" label="Turn before">←</Button>
        <Button on={() => moveTurn.current?.(1)} disabled={last === shown} title="Next turn (n)" keys="n" label="Next turn">→</Button>
        <Button on={() => ((view.value = "flows"), show(shown.split("#")[0]!, "overview"))} title="The exchange that carries this call">Flow {shown}</Button>
        <Button on={() => void download("/api/export", { format: "html", thread: c.id }, "conversation.html").then(() => say("Saved"), (e: Error) => say("Export: " + e.message))} title="A page of its own with this conversation">Save as HTML</Button>
      </div>
      <Turns turns={turns} now={shown} on={go} />
      <div class="scroll talk" ref={scroll} tabIndex={0} aria-label="Conversation">
        <CallView id={loaded} conversation={{ ...c, turns }} onTurn={(id) => ((turn.value = id === last ? "" : id), setLoaded(id))} key={loaded} started={(tool) => {
          const sub = p.list.find((x) => x.parent?.tool === tool && x.id !== c.id);
          return sub ? { name: nameOf(sub), open: () => p.pick(sub) } : null;
        }} />
      </div>
    </>
  );
}
