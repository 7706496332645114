// The events of a streamed answer, as they come.
import { useEffect, useReducer, useRef } from "preact/hooks";
import type { Flow, FlowEvent } from "../model";
import { flowPath, get, session } from "../api/client";
import { onEvent, touched } from "../state/app";
import { EventList, type Item } from "./eventlist";
import { Empty } from "../base/ui";

const page = 1000, most = 100_000;

/** The text of an event's data, which the record keeps as JSON where it is. */
export const dataText = (d: unknown): string => (typeof d === "string" ? d : d === undefined || d === null ? "" : JSON.stringify(d));

export function toItem(e: FlowEvent): Item {
  const text = dataText(e.data);
  return { at: e.at_ms, type: e.event || e.type || "message", text, dir: e.dir, size: e.size ?? text.length };
}

/** Reads the events of a flow, from where the last reading ended. */
export function useEvents(id: string): { items: Item[]; version: number; failed: string } {
  const [version, redraw] = useReducer((n: number) => n + 1, 0);
  const state = useRef({ id: "", items: [] as Item[], after: 0, failed: "" });
  if (state.current.id !== session.value + "/" + id) state.current = { id: session.value + "/" + id, items: [], after: 0, failed: "" };
  useEffect(() => {
    const s = state.current;
    let alive = true, running = false, again = false, timer = 0;
    const read = async () => {
      if (running) {
        again = true;
        return;
      }
      running = true;
      try {
        for (let more = true; more && alive && s.items.length < most; ) {
          const p = await get<{ events: FlowEvent[] | null; more?: boolean; next?: number }>(flowPath(id, "/events"), { after: s.after, limit: page });
          const list = p.events ?? [];
          for (const e of list) s.items.push(toItem(e));
          s.after = p.next ?? s.after + list.length;
          more = !!p.more && list.length > 0;
          if (alive && list.length) redraw(undefined);
        }
        s.failed = "";
      } catch (e) {
        s.failed = (e as Error).message;
        if (alive) redraw(undefined);
      }
      running = false;
      if (again && alive) {
        again = false;
        later();
      }
    };
    const later = () => {
      clearTimeout(timer);
      timer = window.setTimeout(() => void read(), 60);
    };
    void read();
    const off = onEvent((e) => (e.flow === id || !e.flow) && later());
    const off2 = touched.subscribe((t) => t.id === id && t.n > 0 && later());
    return () => {
      alive = false;
      clearTimeout(timer);
      off();
      off2();
    };
  }, [id, session.value]);
  return { items: state.current.items, version, failed: state.current.failed };
}

export function Events(p: { f: Flow }) {
  const { items, version, failed } = useEvents(p.f.id);
  return (
    <EventList items={items} version={version} label="Events" follow={p.f.state === "open"}
      empty={failed ? <Empty title="The events cannot be read" bad><p>{failed}</p></Empty> : <Empty title={p.f.state === "open" ? "No event yet" : "No events"}>{p.f.state === "open" && <p>They appear here as they come.</p>}</Empty>} />
  );
}
