// The event timeline: what happened in all flows, in the order in which it
// happened: requests, answers, events, messages, ends.
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import type { FlowEvent, Outline } from "../model";
import { flowPath, get, session } from "../api/client";
import { flows, following, onEvent, paused, run, show } from "../state/app";
import { dataText } from "../detail/events";
import { EventList, type Item } from "../detail/eventlist";
import { Empty } from "../base/ui";
import { clock, count, duration, statusClass } from "../base/format";

/** Of flows with a stream so many are read at once, for each is a request. */
const atOnce = 40;

/** The flows whose events are listed, and how often the list is made anew. */
const most = 20_000, quiet = 400;

interface Known { items: Item[]; after: number; done: boolean }

/** The items of a flow that its row tells. */
function outline(r: Outline): Item[] {
  const at = r.at ?? 0;
  const where = (r.host ?? "") + (r.path ?? "");
  const out: Item[] = [];
  if (r.kind === "http" || r.kind === "websocket") out.push({ at, flow: r.id, type: "request", kind: "request", note: r.method, text: where, size: r.req_size || undefined });
  else out.push({ at, flow: r.id, type: r.kind, kind: "request", note: r.opaque ? "not decrypted: " + r.opaque : "", text: where || (r.protocol ?? "") });
  const t = r.timings ?? {};
  const head = (t.send ?? 0) + (t.wait ?? 0); // the connection was there before
  if (r.status) out.push({ at: at + Math.min(head, r.duration_ms ?? head), flow: r.id, type: "response", kind: "s-" + statusClass(r.status, r.state), note: String(r.status), text: [r.content_type, where].filter(Boolean).join("  ") });
  if (r.state !== "open") out.push({ at: at + (r.duration_ms ?? 0), flow: r.id, type: r.error ? "failed" : "end", kind: r.error ? "s-bad" : "end", note: r.error?.code ?? duration(r.duration_ms), text: r.error?.message ?? where, size: r.resp_size || undefined });
  return out;
}

export function EventTimeline() {
  flows.version.value;
  const [n, redraw] = useReducer((x: number) => x + 1, 0);
  const known = useRef({ session: "", flows: new Map<string, Known>() });
  if (known.current.session !== session.value) known.current = { session: session.value, flows: new Map() };
  const have = known.current.flows;
  const rows = flows.seen.slice(-most).map((i) => flows.rows[i]!);
  const streams = rows.filter((r) => ((r.events ?? 0) > 0 || r.kind === "websocket") && !have.get(r.id)?.done);

  const read = async (list: Outline[]) => {
    for (const r of list) {
      const k = have.get(r.id) ?? { items: [], after: 0, done: false };
      have.set(r.id, k);
      k.done = true;
      try {
        for (let more = true; more && k.items.length < 20_000; ) {
          const p = await get<{ events: FlowEvent[] | null; more?: boolean; next?: number }>(flowPath(r.id, "/events"), { after: k.after, limit: 1000 });
          for (const e of p.events ?? []) {
            const text = dataText(e.data);
            k.items.push({ at: (r.at ?? 0) + e.at_ms, flow: r.id, type: e.event || e.type || "message", kind: "stream", dir: e.dir, text, size: e.size ?? text.length });
          }
          k.after = p.next ?? k.after + (p.events?.length ?? 0);
          more = !!p.more && (p.events?.length ?? 0) > 0;
        }
      } catch {
        k.done = false;
        break;
      } finally {
        redraw(undefined);
      }
    }
  };
  useEffect(() => void read(streams.slice(-atOnce)), [session.value, run.value?.id]);
  useEffect(() => {
    const due = new Set<string>();
    let timer = 0;
    const off = onEvent((e) => {
      if (paused.value) return;
      const r = flows.get(e.flow);
      if (!r || e.type === "request" || e.type === "response" || e.type === "end") return;
      due.add(e.flow);
      timer ||= window.setTimeout(() => {
        timer = 0;
        const list = [...due].map((id) => flows.get(id)).filter((x): x is Outline => !!x);
        due.clear();
        for (const x of list) have.set(x.id, have.get(x.id) ?? { items: [], after: 0, done: false });
        void read(list);
      }, 80);
    });
    return () => {
      clearTimeout(timer);
      off();
    };
  }, [session.value]);

  const version = useSlowly(flows.version.value + ":" + n, rows.length > 2000 ? quiet : 0);
  const items = useMemo(() => {
    const out: Item[] = [];
    for (const r of rows) {
      out.push(...cached(r));
      const k = have.get(r.id);
      if (k) out.push(...k.items);
    }
    return out.sort((a, b) => a.at - b.at);
  }, [version]);
  if (!flows.rows.length) return <Empty title={run.value?.state === "running" ? "Nothing has happened yet" : "Nothing was recorded"} />;
  return (
    <EventList items={items} version={version} label="Events of all flows" follow={following.value && run.value?.live !== false} onFlow={(id) => show(id)} clock={(at) => clock(at)}
      more={streams.length ? { name: `Read the events of ${count(Math.min(streams.length, atOnce))} more`, on: () => void read(streams.slice(-atOnce)) } : undefined}
      empty={<Empty title="No event" />} />
  );
}

/** A value that changes at most so often. */
function useSlowly<T>(value: T, ms: number): T {
  const [shown, show] = useState(value);
  const last = useRef(0);
  useEffect(() => {
    if (shown === value) return;
    const t = setTimeout(() => {
      last.current = performance.now();
      show(value);
    }, Math.max(0, last.current + ms - performance.now()));
    return () => clearTimeout(t);
  }, [value]);
  return ms ? shown : value;
}

// The items of a row stay the same objects while the row does, so that what was
// opened stays open.
const memo = new WeakMap<Outline, Item[]>();
function cached(r: Outline): Item[] {
  let items = memo.get(r);
  if (!items) memo.set(r, (items = outline(r)));
  return items;
}

