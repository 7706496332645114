// The detail pane: one flow, in tabs. It is read again when the flow changes.
import { useEffect, useState } from "preact/hooks";
import type { Flow } from "../model";
import { ApiError, flowPath, get, session, text } from "../api/client";
import { compareWith, current, marked, open, selected, tab, touched } from "../state/app";
import { Button, Empty, Tabs, copy, say, type TabItem } from "../base/ui";
import { Line, title } from "../base/text";
import { duration, short, statusClass } from "../base/format";
import { Overview } from "./overview";
import { Heads } from "./heads";
import { BodyTab } from "./body";
import { Events } from "./events";
import { Tls } from "./tls";
import { Raw } from "./raw";
import { Replay } from "./replay";
import { CallTab } from "../chat/calltab";
import { Messages } from "./messages";

/** Reads a flow, and again while it changes. */
export function useFlow(id: string): { flow: Flow | null; error: ApiError | null } {
  const [state, set] = useState<{ id: string; flow: Flow | null; error: ApiError | null }>({ id: "", flow: null, error: null });
  useEffect(() => {
    if (!id) return;
    let alive = true, timer = 0, running = false, again = false, took = 0;
    const stop = new AbortController();
    const read = async () => {
      if (running) {
        again = true;
        return;
      }
      running = true;
      const from = performance.now();
      try {
        const flow = await get<Flow>(flowPath(id), {}, stop.signal);
        if (alive) set({ id, flow, error: null });
      } catch (e) {
        if (alive && (e as Error).name !== "AbortError") set((s) => ({ id, flow: s.id === id ? s.flow : null, error: e instanceof ApiError ? e : new ApiError(0, String(e)) }));
      }
      running = false;
      took = performance.now() - from;
      if (again && alive) {
        again = false;
        later();
      }
    };
    const later = () => {
      clearTimeout(timer);
      timer = window.setTimeout(() => void read(), Math.max(250, 5 * took)); // a long one less often
    };
    void read();
    const off = touched.subscribe((t) => t.id === id && t.n > 0 && later());
    return () => {
      alive = false;
      clearTimeout(timer);
      stop.abort();
      off();
    };
  }, [id, session.value]);
  return state.id === id ? state : { flow: null, error: null };
}

function tabsOf(f: Flow): TabItem[] {
  const t: TabItem[] = [{ id: "overview", name: "Overview" }];
  if (f.llm) t.push({ id: "call", name: "Call" });
  if (f.request || f.response) t.push({ id: "headers", name: "Headers" });
  if (f.request) t.push({ id: "request", name: "Request" });
  if (f.response) t.push({ id: "response", name: "Response" });
  if ((f.response?.events ?? 0) > 0 || (f.response?.streaming && f.kind !== "websocket")) t.push({ id: "events", name: "Events", badge: short(f.response?.events ?? 0) });
  if (f.kind === "websocket" || f.kind === "udp" || f.kind === "dns" || (f.kind === "tcp" && f.messages?.length)) t.push({ id: "messages", name: "Messages", badge: f.messages ? short(f.messages.length) : "" });
  if (f.conn?.child_tls || f.conn?.upstream_tls) t.push({ id: "tls", name: "TLS" });
  if (f.request || f.response) t.push({ id: "raw", name: "Raw" });
  if (f.request && f.kind === "http") t.push({ id: "replay", name: "Replay" });
  return t;
}

export function Detail() {
  const id = selected.value;
  const { flow: f, error } = useFlow(id);
  if (!id) return null;
  const items = f ? tabsOf(f) : [];
  const now = items.some((t) => t.id === tab.value) ? tab.value : "overview";
  return (
    <section class="detail" aria-label={"Flow " + id}>
      <DetailHead id={id} f={f} />
      {f && <Tabs items={items} now={now} on={(t) => (tab.value = t)} label="Parts of the flow" panel="part" />}
      <div class="detail-body" id="part" role="tabpanel" aria-labelledby={"part-" + now} tabIndex={-1}>
        {error && !f && <Empty title={`Flow ${id} cannot be read`} bad><p>{error.message}</p><p>{error.hint}</p></Empty>}
        {!f && !error && <Empty title="Reading…" />}
        {f && <Part f={f} now={now} key={id + now} />}
      </div>
    </section>
  );
}

function Part(p: { f: Flow; now: string }) {
  const { f } = p;
  switch (p.now) {
    case "call": return <CallTab f={f} />;
    case "headers": return <Heads f={f} />;
    case "request": return <BodyTab f={f} side="request" />;
    case "response": return <BodyTab f={f} side="response" />;
    case "events": return <Events f={f} />;
    case "messages": return <Messages f={f} />;
    case "tls": return <Tls f={f} />;
    case "raw": return <Raw f={f} />;
    case "replay": return <Replay f={f} />;
    default: return <Overview f={f} />;
  }
}

export function copyCurl(id: string): void {
  void text(flowPath(id, "/curl")).then((s) => copy(s, "Copied as curl"), (e: Error) => say("curl: " + e.message));
}

function DetailHead(p: { id: string; f: Flow | null }) {
  const { f, id } = p;
  const row = current.value;
  const status = f?.response?.status ?? row?.status;
  return (
    <div class="detail-head">
      <button type="button" class="button back" onClick={() => (open.value = false)} aria-label="Close the detail (Escape)" title="Close (esc)">×</button>
      <h2 title={f?.request ? title(url(f)) : undefined}>
        <span class="dim">{id}</span>{" "}
        {f?.request?.method && <b><Line s={f.request.method} max={12} /></b>}{" "}
        {status ? <span class={"status s-" + statusClass(status, f?.state ?? "")}>{status}</span> : f?.state === "failed" ? <span class="status s-bad">failed</span> : f?.state === "open" ? <span class="status s-info">open</span> : null}{" "}
        <span class="url"><Line s={f ? url(f) : row ? (row.host ?? "") + (row.path ?? "") : ""} max={220} /></span>
      </h2>
      <span class="actions">
        <span class="dim nowrap">{duration(f?.duration_ms)}</span>
        {f?.request && f.kind === "http" && <Button on={() => copyCurl(id)} title="Copy as a curl command (c)" keys="c">curl</Button>}
        <Button on={() => compareWith(id)} pressed={marked.value === id} title="Mark, then mark another one: both are compared (m)" keys="m">{marked.value && marked.value !== id ? `Compare with ${marked.value}` : "Compare"}</Button>
      </span>
    </div>
  );
}

/** Where a flow went. */
export function url(f: Flow): string {
  const r = f.request;
  if (!r) return f.conn?.host ?? f.conn?.sni ?? f.conn?.dst ?? "";
  const usual = (r.scheme === "https" && r.port === 443) || (r.scheme === "http" && r.port === 80);
  return (r.scheme ? r.scheme + "://" : "") + (r.host ?? "") + (usual || !r.port ? "" : ":" + r.port) + (r.path ?? "");
}
