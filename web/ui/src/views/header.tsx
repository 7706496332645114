// The head of the page: which run, whether it is live, the views.
import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { choose, conversation, flows, following, help, heldCount, link, pause, paused, refreshSessions, run, selected, view, type View } from "../state/app";
import { download, locked, session } from "../api/client";
import { Button, say, Tabs } from "../base/ui";
import { clock, count, day } from "../base/format";
import { Line, title } from "../base/text";

export function Header() {
  const r = run.value;
  return (
    <header class="top">
      <span class="mark" aria-hidden="true"><i /><i /><i /></span>
      <SessionPicker />
      <LinkState />
      <Tabs label="Views" panel="view" now={view.value} on={(id) => (view.value = id as View)}
        items={[{ id: "flows", name: "Flows" }, { id: "events", name: "Events" }, { id: "chat", name: "Conversations" }, { id: "compare", name: "Compare" }]} />
      <span class="space" />
      {view.value !== "compare" && view.value !== "chat" && (
        <span class="group">
          <Button on={() => pause(!paused.value)} pressed={paused.value} title="Stop the list from moving; nothing is lost (p)" keys="p">
            {paused.value ? `Resume${heldCount.value ? ` (${count(heldCount.value)} new)` : ""}` : "Pause"}
          </Button>
          <Button on={() => (following.value = !following.value)} pressed={following.value} title="Keep the newest in view (f)" keys="f">Follow</Button>
          <ClearButton />
        </span>
      )}
      <Menu label="Save what is shown as a file" name="Export">
        {(close) => <ExportItems close={close} />}
      </Menu>
      <Button on={() => (help.value = true)} title="Keys and filters (?)" label="Help" keys="?">?</Button>
      <h1 class="away">{r ? `trace: session ${title(r.name)}, ${r.state}` : "trace"}</h1>
    </header>
  );
}

function ClearButton() {
  flows.version.value;
  return flows.hidden > 0 ? (
    <Button on={() => flows.unclear()} title="Show the hidden flows again (x)" keys="x">Show {count(flows.hidden)} hidden</Button>
  ) : (
    <Button on={() => flows.clear()} title="Hide what is there now; the record keeps it (x)" keys="x">Clear</Button>
  );
}

function LinkState() {
  const l = link.value, r = run.value;
  const ended = r && r.state !== "running";
  const text = l.state === "lost" ? "disconnected" : l.state === "wait" ? "reading" : ended ? (r.state === "crashed" ? "crashed" : "ended" + (r.exit !== null && r.exit !== undefined ? `, exit ${r.exit}` : "")) : "live";
  const kind = l.state === "lost" || (ended && r.state === "crashed") ? "bad" : text === "live" ? "live" : "idle";
  return <span class={"link " + kind} title={l.why}><i aria-hidden="true" />{text}</span>;
}

function SessionPicker() {
  const r = run.value;
  if (!r) return <span class="session"><b>trace</b></span>;
  const list = r.sessions ?? [];
  return (
    <Menu name={<><b class="session-name"><Line s={r.name || r.id} max={60} /></b> <span class="dim">{clock(r.started, false)}</span></>} label={"Session " + title(r.name) + ": choose another"} wide onOpen={() => void refreshSessions()}>
      {(close) => (
        <>
          {r.argv && <div class="menu-note" title={title(r.argv.join(" "))}><code><Line s={r.argv.join(" ")} max={160} /></code></div>}
          {list.map((s) => (
            <button type="button" role="menuitem" key={s.id} class={"menu-item" + (s.id === r.id ? " now" : "")} onClick={() => (close(), choose(s.id))}>
              <span class={"dot " + s.state} aria-hidden="true" />
              <span class="grow"><Line s={s.name || s.id} max={60} /></span>
              <span class="dim">{s.flows === undefined ? "" : count(s.flows) + " flows"}</span>
              <span class="dim">{day(s.started)} {clock(s.started, false)}</span>
            </button>
          ))}
          {!list.length && <div class="menu-note">No other session.</div>}
        </>
      )}
    </Menu>
  );
}

/** The server reads addresses of 32 KB. */
const maxNamed = 1500;

function ExportItems(p: { close: () => void }) {
  const ids = selected.value;
  const shownIds = () => (flows.seen.length < flows.rows.length && flows.seen.length <= maxNamed ? flows.seen.map((i) => flows.rows[i]!.id).join(",") : undefined);
  const item = (name: string, format: string, what: Record<string, string | undefined>, file: string) => (
    <button type="button" role="menuitem" class="menu-item" onClick={() => {
      p.close();
      void download("/api/export", { format, ...what }, file).then(() => say("Saved"), (e: Error) => say("Export: " + e.message));
    }}>{name}</button>
  );
  const thread = view.value === "chat" ? conversation.value : "";
  return (
    <>
      {item("All flows as HAR", "har", {}, "trace.har")}
      {item("All flows as JSON lines", "jsonl", {}, "trace.jsonl")}
      {shownIds() && item(`The ${count(flows.seen.length)} shown as HAR`, "har", { flows: shownIds() }, "trace.har")}
      {ids && item(`Flow ${ids} as HAR`, "har", { flows: ids }, `flow-${ids}.har`)}
      {ids && item(`Flow ${ids} as Python`, "python", { flows: ids }, `flow-${ids}.py`)}
      {ids && item(`Flow ${ids} as JavaScript`, "node", { flows: ids }, `flow-${ids}.mjs`)}
      {thread && item("This conversation as HTML", "html", { thread }, "conversation.html")}
      <div class="menu-note">Secrets are left out as in the record.</div>
    </>
  );
}

/** A button with a menu below it. */
export function Menu(p: { name: ComponentChildren; label: string; children: (close: () => void) => ComponentChildren; wide?: boolean; onOpen?: () => void }) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (!open) return;
    box.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
    const away = (e: Event) => !box.current?.contains(e.target as Node) && setOpen(false);
    addEventListener("pointerdown", away);
    return () => removeEventListener("pointerdown", away);
  }, [open]);
  const close = () => {
    setOpen(false);
    box.current?.querySelector<HTMLElement>("button")?.focus();
  };
  const keys = (e: KeyboardEvent) => {
    if (!open) return;
    const items = [...(box.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    if (e.key === "Escape") close();
    else if (e.key === "ArrowDown") items[(at + 1) % items.length]?.focus();
    else if (e.key === "ArrowUp") items[(at - 1 + items.length) % items.length]?.focus();
    else return;
    e.preventDefault();
    e.stopPropagation();
  };
  return (
    <span class="menu-box" ref={box} onKeyDown={keys}>
      <button type="button" class="button menu-button" aria-haspopup="menu" aria-expanded={open} title={p.label} onClick={() => (open || p.onOpen?.(), setOpen(!open))}>{p.name} <span aria-hidden="true" class="caret" /></button>
      {open && <div class={"menu" + (p.wide ? " wide" : "")} role="menu">{p.children(close)}</div>}
    </span>
  );
}

/** Tells of the connection, when it is lost. */
export function Banner() {
  const l = link.value;
  const show = <code>trace web{session.value || run.value ? " " + (session.value || run.value?.id) : ""}</code>;
  if (l.state === "gone") return <div class="banner calm" role="status"><b>The run has ended</b>, and with it the server of this page. What was read stays here; {run.value?.file === "" ? "nothing else was kept (--no-save)." : <>{show} shows all of the record.</>}</div>;
  if (locked.value) return <div class="banner" role="alert"><b>Another trace answers at this address</b>, and it does not know the token of this page. What was read stays here; {show} shows the record.</div>;
  if (l.state !== "lost") return null;
  return (
    <div class="banner" role="alert">
      <b>trace does not answer</b> ({l.why}). {run.value?.state === "running" || l.again ? "If its run has ended, this page goes with it: " : ""}
      what was read stays here; {show} shows the record again, if it was kept.
      {l.again ? " Trying again…" : ""}
    </div>
  );
}

