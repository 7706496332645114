// What the page knows and shows: signals that views read, and the few actions
// that change them.
import { computed, effect, signal } from "@preact/signals";
import type { FlowEvent, Outline, Session } from "../model";
import { ApiError, get, pinned, session } from "../api/client";
import { follow } from "../api/stream";
import { Flows } from "./flows";
import { parseFilter } from "./filter";
import { say } from "../base/ui";

export type View = "flows" | "events" | "chat" | "compare";

export const flows = new Flows();
export const run = signal<Session | null>(null);
export const view = signal<View>("flows");
export const filterText = signal("");
export const filterError = signal("");
export const asking = signal(false);
export const selected = signal(""); // flow id
export const open = signal(false); // the detail pane
export const tab = signal("overview");
export const paused = signal(false);
export const following = signal(true);
export const loading = signal(true);
export const loadError = signal<ApiError | null>(null);
export const marked = signal(""); // the flow that others are compared with
export const help = signal(false);
export const compareA = signal("");
export const compareB = signal("");
export const conversation = signal(""); // thread id
/** Whether trace is heard: "live", "ended" (all was read), or why not. */
export const link = signal<{ state: "live" | "ended" | "lost" | "wait" | "gone"; why?: string; again?: number }>({ state: "wait" });

/** Events of flows as they come, for those who follow one. */
export interface LiveEvent extends FlowEvent { flow: string; name?: string }
type Listener = (e: LiveEvent) => void;
const listeners = new Set<Listener>();
export function onEvent(f: Listener): () => void {
  listeners.add(f);
  return () => listeners.delete(f);
}

/** Grows with each change of a flow, so that views of it read it again. */
export const touched = signal<{ id: string; n: number }>({ id: "", n: 0 });

export const current = computed<Outline | undefined>(() => {
  flows.version.value;
  return flows.get(selected.value);
});

const pageSize = 5000;
let stopFollowing: (() => void) | null = null;
let generation = 0;
let held: Outline[] = []; // what came while the list was paused
export const heldCount = signal(0);

/** Shows another session, "" the newest. */
export function choose(id: string): void {
  session.value = id;
  selected.value = "";
  open.value = false;
  conversation.value = "";
  void load();
}

/** Reads again which sessions there are. */
export async function refreshSessions(): Promise<void> {
  try {
    const s = await get<Session>("/api/session");
    if (run.value && s.id === run.value.id) run.value = { ...run.value, sessions: s.sessions };
  } catch {
    // those that are known stay listed
  }
}

/** Reads the session from its beginning, then follows it. */
export async function load(): Promise<void> {
  const mine = ++generation;
  stopFollowing?.();
  flows.reset();
  held = [];
  heldCount.value = 0;
  loading.value = true;
  loadError.value = null;
  link.value = { state: "wait" };
  pinned.value = "";
  try {
    run.value = await get<Session>("/api/session");
    // Another session may become the newest; the page stays with this one.
    pinned.value = run.value.id;
    let first = true;
    for (let more = true; more; first = false) {
      const p = await get<{ flows: Outline[] | null; next?: number; more?: boolean }>("/api/flows", { after: flows.seq, limit: first ? 500 : pageSize });
      if (mine !== generation) return;
      const before = flows.seq;
      flows.put(p.flows ?? []);
      if (p.next !== undefined && p.next > flows.seq) flows.seq = p.next;
      more = !!p.more && flows.seq > before;
      loading.value = false;
    }
  } catch (e) {
    if (mine !== generation) return;
    loadError.value = e instanceof ApiError ? e : new ApiError(0, String(e));
    if (loadError.value.gone) setTimeout(() => mine === generation && void load(), 3000);
    return;
  } finally {
    if (mine === generation) loading.value = false;
  }
  listen(mine);
}

function listen(mine: number): void {
  stopFollowing = follow({
    after: () => flows.seq,
    opened: () => (link.value = { state: run.value?.live === false ? "ended" : "live" }),
    closed(why, again) {
      if (mine !== generation || link.value.state === "gone") return;
      // A finished session's stream may end: there is nothing more to come.
      if (!why && run.value?.live === false) {
        link.value = { state: "ended" };
        stopFollowing?.();
      } else link.value = { state: "lost", why: why?.message ?? "the stream ended", again };
    },
    message(event, data) {
      if (mine !== generation) return;
      if (event === "flow") took(data as Outline);
      else if (event === "event") heard(data as LiveEvent);
      else if (event === "session") {
        const s = data as Session;
        run.value = { ...s, sessions: s.sessions ?? run.value?.sessions };
        if (s.live === false && link.value.state === "live") link.value = { state: "ended" };
      } else if (event === "removed") flows.remove((data as { ids?: string[] }).ids ?? []);
      else if (event === "resync") for (const f of listeners) f({ flow: "", at_ms: 0 }); // events were left out
      else if (event === "bye") {
        const exit = (data as { exit?: number | null }).exit;
        run.value = { ...run.value!, live: false, exit: exit ?? run.value?.exit, state: run.value?.state === "running" ? "ended" : (run.value?.state ?? "ended") };
        link.value = { state: "gone", why: (data as { hint?: string }).hint };
        stopFollowing?.();
      }
    },
  });
}

let batch: Outline[] = [];
function took(row: Outline): void {
  if (paused.value) {
    held.push(row);
    heldCount.value = held.length;
  } else {
    if (!batch.length) queueMicrotask(flush);
    batch.push(row);
  }
  touched.value = { id: row.id, n: touched.value.n + 1 };
}

function flush(): void {
  const b = batch;
  batch = [];
  flows.put(b);
}

function heard(e: LiveEvent): void {
  for (const f of listeners) f(e);
}

/** Stops the list from moving; what comes is kept for later. */
export function pause(on: boolean): void {
  paused.value = on;
  if (on) return;
  const h = held;
  held = [];
  heldCount.value = 0;
  flows.put(h);
}

/** Chooses the row that stands n places further. */
export function step(n: number): void {
  const at = flows.place(selected.value);
  const to = Math.abs(n) >= 1e9 ? (n < 0 ? 0 : flows.seen.length - 1) : at < 0 ? (n > 0 ? 0 : flows.seen.length - 1) : Math.max(0, Math.min(flows.seen.length - 1, at + n));
  const row = flows.shown(to);
  if (!row) return;
  following.value = false;
  selected.value = row.id;
}

export function show(id: string, to?: string): void {
  selected.value = id;
  open.value = true;
  if (to) tab.value = to;
}

export function compareWith(id: string): void {
  if (!marked.value || marked.value === id) {
    marked.value = marked.value === id ? "" : id;
    say(marked.value ? `Flow ${id} is marked: press m on another one to compare` : "Mark removed");
    return;
  }
  compareA.value = marked.value;
  compareB.value = id;
  marked.value = "";
  view.value = "compare";
}

// The filter: what the page can decide it decides at once; bodies and jq are
// trace's to search, when the reader has stopped typing. Flows that come later
// are asked for by themselves, at most each second.
let filter = parseFilter("");
let allowed: Set<string> | null = null;
let askedTo = 0; // the sequence number up to which trace was asked
let question = 0;
let timer = 0;
const changed = new Set<string>();

effect(() => {
  const f = parseFilter(filterText.value);
  const same = f.server === filter.server;
  filter = f;
  filterError.value = f.error;
  if (!f.server || same) {
    if (!f.server) {
      clearTimeout(timer);
      question++;
      allowed = null;
      asking.value = false;
    }
    flows.setFilter(f, allowed);
    return;
  }
  clearTimeout(timer);
  question++;
  asking.value = true;
  timer = window.setTimeout(() => void ask(new Set(), 0), 350);
});

async function ask(into: Set<string>, after: number): Promise<void> {
  const mine = ++question;
  timer = 0;
  const stale = [...changed];
  changed.clear();
  try {
    const found = new Set<string>();
    for (let more = true; more; ) {
      const p = await get<{ flows: Outline[] | null; next?: number; more?: boolean }>("/api/flows", { after, limit: pageSize, q: filter.server });
      if (mine !== question) return;
      for (const r of p.flows ?? []) found.add(r.id);
      more = !!p.more && (p.next ?? 0) > after;
      after = Math.max(after, p.next ?? 0);
    }
    for (const id of stale) if (!found.has(id)) into.delete(id);
    for (const id of found) into.add(id);
    allowed = into;
    askedTo = after;
    flows.setFilter(filter, allowed);
  } catch (e) {
    if (mine !== question) return;
    filterError.value = (e as Error).message;
  }
  asking.value = false;
}

touched.subscribe((t) => {
  if (!filter.server || !t.id) return;
  changed.add(t.id);
  if (!timer) timer = window.setTimeout(() => void ask(allowed ?? new Set(), askedTo), 1000);
});
