// The timeline: a row for each flow, in the order in which they began.
import { Component, type ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import type { Outline } from "../model";
import { filterText, flows, following, loadError, loading, marked, open, run, selected, show } from "../state/app";
import type { SortKey } from "../state/flows";
import { VirtualList, type ListHandle } from "../base/vlist";
import { Line, title } from "../base/text";
import { bytes, clock, duration, short, statusClass, count } from "../base/format";
import { Empty } from "../base/ui";
import { Bar, SpanText, inView, wholeScale } from "./waterfall";

export const rowHeight = 25;
const sort = signal<{ key: SortKey; down: boolean }>({ key: "", down: false });

// The scale follows the rows in view, but not each step of a scroll.
let rangeTimer = 0;
let rangeNext: [number, number] = [0, 40];
function ranged(a: number, b: number): void {
  rangeNext = [a, b];
  rangeTimer ||= window.setTimeout(() => {
    rangeTimer = 0;
    inView.value = rangeNext;
  }, 60);
}

/** The list, for the keys that move in it. */
export const list: { current: ListHandle | null } = { current: null };

const columns: { key: SortKey | "id" | "start" | "bar"; name: string; class: string; title?: string }[] = [
  { key: "id", name: "#", class: "c-id" },
  { key: "start", name: "Start", class: "c-start" },
  { key: "process", name: "Process", class: "c-process" },
  { key: "method", name: "Method", class: "c-method" },
  { key: "host", name: "Host", class: "c-host" },
  { key: "path", name: "Path", class: "c-path" },
  { key: "status", name: "Status", class: "c-status" },
  { key: "kind", name: "Kind", class: "c-kind" },
  { key: "size", name: "Size", class: "c-size" },
  { key: "time", name: "Time", class: "c-time" },
  { key: "model", name: "Model", class: "c-model" },
  { key: "tokens", name: "Tokens", class: "c-tokens" },
  { key: "bar", name: "Waterfall", class: "c-bar" },
];

export function Timeline() {
  flows.version.value;
  const n = flows.seen.length;
  const sel = selected.value;
  const last = useRef("");
  useEffect(() => {
    if (!sel || sel === last.current) return;
    last.current = sel;
    const at = flows.place(sel);
    if (at >= 0) list.current?.show(at);
  });
  if (loadError.value && !flows.rows.length) {
    const e = loadError.value;
    return <Empty title={e.gone ? "trace does not answer" : "The session cannot be read"} bad>
      <p>{e.message}</p><p>{e.hint}</p>{e.gone && <p>Trying again…</p>}
    </Empty>;
  }
  if (!flows.rows.length) {
    return loading.value ? <Empty title="Reading the session…" /> : <Empty title={run.value?.state === "running" ? "Nothing has passed yet" : "Nothing was recorded"}>
      {run.value?.state === "running" ? <p>The first request of the child appears here the moment it is sent.</p> : <p>The command made no connection. Was it the right session? The list at the top left has the others.</p>}
    </Empty>;
  }
  const row = (i: number) => {
    const r = flows.shown(i);
    return r ? <Row key={r.id} r={r} index={i} selected={r.id === sel} marked={r.id === marked.value} /> : null;
  };
  return (
    <>
      <VirtualList class="timeline" count={n} row={rowHeight} render={row} handle={list} follow={following.value && !sort.value.key}
        onLeave={() => (following.value = false)} onReach={() => !sort.value.key && run.value?.live !== false && (following.value = true)} onRange={ranged}
        head={<Columns />}
        attrs={{ role: "grid", "aria-label": "Flows", "aria-rowcount": n + 1, "aria-colcount": columns.length, "aria-activedescendant": sel ? "flow-" + sel : undefined, id: "timeline" }} />
      {!n && <div class="over"><Empty title="No flow passes the filter"><p><button type="button" class="button" onClick={() => ((filterText.value = ""), flows.unclear())}>Show all {count(flows.rows.length)}</button></p></Empty></div>}
    </>
  );
}

function Columns() {
  const press = (key: SortKey) => {
    const s = sort.value;
    sort.value = s.key !== key ? { key, down: key === "size" || key === "time" || key === "tokens" } : s.down === (key === "size" || key === "time" || key === "tokens") ? { key, down: !s.down } : { key: "", down: false };
    flows.setSort(sort.value.key, sort.value.down);
    list.current?.show(0, "start");
  };
  return (
    <div class="row columns" role="row" aria-rowindex={1}>
      {columns.map((c) => {
        if (c.key === "id" || c.key === "start") return <span role="columnheader" key={c.key} class={c.class}>{c.name}</span>;
        if (c.key === "bar") return (
          <span role="columnheader" key={c.key} class={c.class}>
            <button type="button" tabIndex={-1} onClick={() => (wholeScale.value = !wholeScale.value)} title={wholeScale.value ? "The scale spans all flows; press for those in view" : "The scale spans the flows in view; press for all"}>
              {wholeScale.value ? "all" : "in view"}: <SpanText />
            </button>
          </span>
        );
        const key = c.key, on = sort.value.key === key;
        return (
          <span role="columnheader" key={key} class={c.class} aria-sort={on ? (sort.value.down ? "descending" : "ascending") : "none"}>
            <button type="button" tabIndex={-1} onClick={() => press(key)} title={"Sort by " + c.name.toLowerCase()}>{c.name}{on && <i aria-hidden="true" class={sort.value.down ? "down" : "up"} />}</button>
          </span>
        );
      })}
    </div>
  );
}

interface RowProps { r: Outline; index: number; selected: boolean; marked: boolean }

/** A row is made anew only when it changes: scrolling moves those that are there. */
class Row extends Component<RowProps> {
  override shouldComponentUpdate(n: RowProps): boolean {
    const p = this.props;
    return n.r !== p.r || n.index !== p.index || n.selected !== p.selected || n.marked !== p.marked;
  }
  override render(): ComponentChildren {
    return rowCells(this.props);
  }
}

function rowCells(p: RowProps) {
  const r = p.r;
  const t = r.tokens;
  const prompt = t ? t.input + t.cache_read + t.cache_write : 0;
  const size = (r.resp_size ?? 0) > 0 ? r.resp_size : undefined;
  return (
    <div id={"flow-" + r.id} role="row" aria-rowindex={p.index + 2} aria-selected={p.selected} data-id={r.id}
      class={"row flow " + r.state + (p.selected ? " selected" : "") + (p.marked ? " marked" : "") + (r.opaque ? " opaque" : "") + (p.index % 2 ? " odd-row" : "")}
      onClick={() => {
        following.value = false;
        if (selected.value === r.id && open.value) return;
        show(r.id);
      }}>
      <span role="gridcell" class="c-id">{r.id}{p.marked && <b title="Marked for comparing">●</b>}</span>
      <span role="gridcell" class="c-start">{clock(r.started)}</span>
      <span role="gridcell" class="c-process" title={title(r.process?.name) + (r.process?.pid ? ` (${r.process.pid})` : "")}><Line s={r.process?.name} max={60} /></span>
      <span role="gridcell" class={"c-method m-" + (/^[A-Z]{1,8}$/.test(r.method ?? "") ? r.method : "other")}><Line s={r.method} max={12} /></span>
      <span role="gridcell" class="c-host" title={title(r.host) + (r.port ? ":" + r.port : "")}><Line s={r.host} max={120} /></span>
      <span role="gridcell" class="c-path" title={title(r.path)}>
        {r.opaque && !r.path ? <em class="dim">not decrypted: <Line s={r.opaque} max={60} /></em> : <Line s={r.path} max={200} />}
      </span>
      <span role="gridcell" class={"c-status s-" + statusClass(r.status, r.state)} title={title(r.error?.message)}>
        {r.status || ""}{r.error ? <b title={title(r.error.message ?? r.error.code)}>{r.status ? " !" : <Line s={r.error.code} max={24} />}</b> : r.state === "open" ? <i class="pulse" role="img" aria-label="open" /> : ""}
      </span>
      <span role="gridcell" class="c-kind"><Line s={r.source === "replay" ? "replay" : r.llm ? "llm" : kind(r)} max={20} />{(r.events ?? 0) > 0 && <small title={count(r.events) + " events"}> {short(r.events)}</small>}</span>
      <span role="gridcell" class="c-size" title={size === undefined ? "" : count(size) + " bytes"}>{bytes(size)}</span>
      <span role="gridcell" class="c-time">{duration(r.duration_ms)}</span>
      <span role="gridcell" class="c-model" title={title(r.model)}><Line s={r.model} max={60} /></span>
      <span role="gridcell" class="c-tokens" title={t ? `${count(prompt)} in, ${count(t.cache_read)} of them from the cache; ${count(t.output)} out` : ""}>{t ? <>{short(prompt)}<span class="dim">→</span>{short(t.output)}</> : ""}</span>
      <span role="gridcell" class="c-bar"><Bar r={r} /></span>
    </div>
  );
}

function kind(r: Outline): string {
  if (r.kind !== "http") return r.protocol && r.kind === "tcp" ? r.protocol : r.kind;
  const t = r.content_type ?? "";
  if (t.includes("event-stream")) return "sse";
  if (t.includes("grpc")) return "grpc";
  if (t.includes("json")) return "json";
  if (t.includes("html")) return "html";
  if (t.startsWith("image/")) return "image";
  if (t.includes("javascript")) return "js";
  if (t.includes("css")) return "css";
  if (t.startsWith("font/") || t.includes("font-")) return "font";
  if (t.startsWith("text/")) return "text";
  return "http";
}
