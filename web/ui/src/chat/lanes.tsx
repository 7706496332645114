// Conversations as lanes over time: an agent, below it its sub-agents, each call a
// bar where it happened.
import type { Conversation, Outline } from "../model";
import { flows } from "../state/app";
import { duration, short } from "../base/format";
import { Line, title } from "../base/text";
import { prompt } from "./bars";

interface Lane { c: Conversation; depth: number; rows: Outline[]; from: number; to: number; out: number; top: number }

/** The lanes in the order of their beginnings, children behind their parents. */
export function order(list: Conversation[]): { c: Conversation; depth: number }[] {
  const kids = new Map<string, Conversation[]>();
  const byFlow = new Map<string, string>();
  for (const c of list) for (const id of c.calls) byFlow.set(id, c.id);
  const parentOf = (c: Conversation): string => c.parent?.thread ?? (c.parent?.flow ? (byFlow.get(c.parent.flow) ?? "") : "");
  const known = new Set(list.map((c) => c.id));
  const roots: Conversation[] = [];
  for (const c of list) {
    const p = parentOf(c);
    if (p && p !== c.id && known.has(p)) kids.set(p, [...(kids.get(p) ?? []), c]);
    else roots.push(c);
  }
  const out: { c: Conversation; depth: number }[] = [];
  const seen = new Set<string>();
  const stack = roots.reverse().map((c) => ({ c, depth: 0 }));
  for (let x = stack.pop(); x; x = stack.pop()) {
    if (seen.has(x.c.id)) continue;
    seen.add(x.c.id);
    out.push(x);
    for (const k of (kids.get(x.c.id) ?? []).reverse()) stack.push({ c: k, depth: x.depth + 1 });
  }
  return out;
}

export const nameOf = (c: Conversation): string => c.title || c.agent || "conversation " + c.id;

export function Lanes(p: { list: Conversation[]; now: string; turn: string; on: (c: Conversation, call?: string) => void }) {
  flows.version.value;
  const lanes: Lane[] = order(p.list).map(({ c, depth }) => {
    const rows = c.calls.map((id) => flows.get(id.split("#")[0] ?? id)).filter((r): r is Outline => !!r);
    const from = Math.min(...rows.map((r) => r.at ?? Infinity)), to = Math.max(...rows.map(end));
    return { c, depth, rows, from, to, out: rows.reduce((n, r) => n + (r.tokens?.output ?? 0), 0), top: Math.max(0, ...rows.map((r) => prompt(r.tokens))) };
  });
  const from = Math.min(...lanes.map((l) => l.from)), to = Math.max(...lanes.map((l) => l.to), from + 1);
  const whole = to - from;
  return (
    <div class="lanes" role="listbox" aria-label={`Conversations, over ${duration(whole)}`} aria-activedescendant={p.now ? "lane-" + p.now : undefined} tabIndex={0} onKeyDown={(e) => {
      const i = lanes.findIndex((l) => l.c.id === p.now);
      const to = e.key === "ArrowDown" ? i + 1 : e.key === "ArrowUp" ? i - 1 : -1;
      if (!lanes[to]) return;
      e.preventDefault();
      p.on(lanes[to]!.c);
    }}>
      {lanes.map((l) => (
        <div key={l.c.id} id={"lane-" + l.c.id} role="option" aria-selected={l.c.id === p.now} class={"lane" + (l.c.id === p.now ? " now" : "")} onClick={() => p.on(l.c)}>
          <span class="lane-name" style={{ paddingLeft: 8 + Math.min(l.depth, 5) * 14 + "px" }} title={title(nameOf(l.c))}>
            {l.depth > 0 && <span class="dim" aria-label="sub-agent">↳ </span>}<Line s={nameOf(l.c)} max={100} />
          </span>
          <span class="lane-count dim">{l.c.calls.length} {l.c.calls.length === 1 ? "call" : "calls"}{l.top > 0 && <>, {short(l.top)}→{short(l.out)}</>}</span>
          <span class="lane-track">
            {l.rows.slice(-600).map((r) => (
              <i key={r.id} class={(r.state === "open" ? "live" : r.error || (r.status ?? 0) >= 400 ? "bad" : "") + (r.id === p.turn ? " chosen" : "")} title={`flow ${r.id}, ${duration(r.duration_ms)}`}
                style={{ left: (((r.at ?? from) - from) / whole) * 100 + "%", width: `max(3px, ${((end(r) - (r.at ?? from)) / whole) * 100}%)` }} onClick={(e) => (e.stopPropagation(), p.on(l.c, r.id))} />
            ))}
          </span>
        </div>
      ))}
    </div>
  );
}

const end = (r: Outline): number => (r.at ?? 0) + (r.duration_ms ?? (r.state === "open" ? Math.max(0, Date.now() - (r.at ?? 0)) : 0));
