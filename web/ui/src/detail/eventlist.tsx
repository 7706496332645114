// A list of events or messages of any length: a row each, and the lines of those
// that are opened. Every row has one height, so the list stays virtual.
import { useMemo, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { indent } from "../base/exact";
import { VirtualList, type ListHandle } from "../base/vlist";
import { Line } from "../base/text";
import { Button, Empty, copy } from "../base/ui";
import { bytes, count, duration } from "../base/format";

export interface Item { at: number; type: string; text: string; note?: string; dir?: string; size?: number; flow?: string; kind?: string }

const rowHeight = 22, maxLines = 20_000, wrap = 400;

/** What is shown of an opened event: indented if it is JSON. */
export function lines(text: string): string[] {
  const out: string[] = [];
  for (const l of (text.length < 2_000_000 ? indent(text) : text).split("\n")) {
    if (l.length <= wrap) out.push(l);
    else for (let i = 0; i < l.length && out.length < maxLines; i += wrap) out.push(l.slice(i, i + wrap));
    if (out.length >= maxLines) break;
  }
  return out;
}

export function EventList(p: {
  items: Item[]; version: unknown; label: string; head?: ComponentChildren; follow?: boolean; onFlow?: (id: string) => void; clock?: (at: number) => string;
  more?: { name: string; on: () => void }; empty: ComponentChildren;
}) {
  const [hidden, setHidden] = useState<Set<string>>(new Set());
  const [find, setFind] = useState("");
  const [opened, setOpened] = useState<Set<Item>>(new Set());
  const [following, setFollowing] = useState(!!p.follow);
  const [at, setAt] = useState(-1);
  const handle = useRef<ListHandle | null>(null);
  const types = useMemo(() => {
    const m = new Map<string, number>();
    for (const i of p.items) m.set(i.type, (m.get(i.type) ?? 0) + 1);
    return [...m].sort((a, b) => b[1] - a[1]).slice(0, 24);
  }, [p.version]);
  const rows = useMemo(() => {
    const want = find.toLowerCase();
    const out: { item: Item; line?: string }[] = [];
    for (const item of p.items) {
      if (hidden.has(item.type)) continue;
      if (want && !item.text.toLowerCase().includes(want) && !item.type.toLowerCase().includes(want) && !(item.note ?? "").toLowerCase().includes(want)) continue;
      out.push({ item });
      if (opened.has(item)) for (const line of lines(item.text)) out.push({ item, line });
    }
    return out;
  }, [p.version, hidden, find, opened]);
  const toggle = (item: Item) => {
    const o = new Set(opened);
    if (!o.delete(item)) o.add(item);
    setOpened(o);
  };
  const pick = (type: string, only: boolean) => {
    if (only) return setHidden(hidden.size ? new Set() : new Set(types.map(([t]) => t).filter((t) => t !== type)));
    const h = new Set(hidden);
    if (!h.delete(type)) h.add(type);
    setHidden(h);
  };
  const keys = (e: KeyboardEvent) => {
    let to = at;
    if (e.key === "ArrowDown" || e.key === "j") to++;
    else if (e.key === "ArrowUp" || e.key === "k") to--;
    else if (e.key === "Enter" || e.key === " ") rows[at] && toggle(rows[at]!.item);
    else return;
    e.preventDefault();
    e.stopPropagation();
    to = Math.max(0, Math.min(rows.length - 1, to));
    setAt(to);
    setFollowing(false);
    handle.current?.show(to);
  };
  return (
    <div class="fill">
      <div class="bar-line">
        {p.head}
        <input type="search" class="find" placeholder="Find" aria-label="Find in the events" value={find} onInput={(e) => setFind(e.currentTarget.value)} />
        <Button on={() => setOpened(new Set(p.items.slice(0, 5000)))}>Expand all</Button>
        <Button on={() => setOpened(new Set())}>Collapse all</Button>
        <span class="dim">{count(p.items.length)}</span>
        {p.more && <Button on={p.more.on}>{p.more.name}</Button>}
      </div>
      {types.length > 1 && (
        <div class="chips types" role="group" aria-label="Types of events">
          {types.map(([t, n]) => <button type="button" key={t} class="chip" aria-pressed={!hidden.has(t)} onClick={(e) => pick(t, e.altKey)} onDblClick={() => pick(t, true)} title="Press to hide or show, twice for this one only"><Line s={t} max={40} /> <small>{count(n)}</small></button>)}
        </div>
      )}
      {!rows.length ? (p.items.length ? <Empty title="No event passes"><p>Another type, or another word.</p></Empty> : p.empty) : (
        <VirtualList class="events" count={rows.length} row={rowHeight} handle={handle} follow={following} onLeave={() => setFollowing(false)} onReach={() => p.follow && setFollowing(true)}
          attrs={{ role: "list", "aria-label": p.label, onKeyDown: keys }}
          render={(i) => {
            const r = rows[i];
            if (!r) return null;
            if (r.line !== undefined) return <div key={i} class={"event-line" + (i === at ? " now" : "")}><Line s={r.line} max={500} /></div>;
            return <EventRow key={i} item={r.item} now={i === at} opened={opened.has(r.item)} on={() => (setAt(i), toggle(r.item))} onFlow={p.onFlow} clock={p.clock ?? ((ms) => "+" + duration(ms))} />;
          }} />
      )}
    </div>
  );
}

function EventRow(p: { item: Item; now: boolean; opened: boolean; on: () => void; onFlow?: (id: string) => void; clock: (at: number) => string }) {
  const { item } = p;
  return (
    <div class={"event-row" + (p.now ? " now" : "") + (p.opened ? " open" : "") + " k-" + (item.kind ?? "event")} role="listitem" onClick={p.on}>
      <span class={"fold-mark" + (p.opened ? " open" : "")} aria-hidden="true" />
      <span class="e-at">{p.clock(item.at)}</span>
      {item.flow !== undefined && <button type="button" class="e-flow link-button" tabIndex={-1} onClick={(e) => (e.stopPropagation(), p.onFlow?.(item.flow!))} title="Open this flow">{item.flow}</button>}
      {item.dir && <span class={"e-dir " + item.dir} title={item.dir}>{item.dir === "sent" ? "↑" : "↓"}</span>}
      <span class="e-type"><Line s={item.type} max={40} /></span>
      <span class="e-text">{item.note && <span class="dim"><Line s={item.note} max={160} /> </span>}<Line s={item.text} max={300} /></span>
      {item.size !== undefined && <span class="e-size">{bytes(item.size)}</span>}
      <button type="button" class="copy" tabIndex={-1} aria-label="Copy the event" onClick={(e) => (e.stopPropagation(), void copy(item.text))} />
    </div>
  );
}
