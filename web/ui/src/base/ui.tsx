// Small parts that all views use.
import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { signal } from "@preact/signals";
import { Marked, title } from "./text";

/** What a screen reader says next, and the short note at the foot of the page. */
export const note = signal("");
let noteTimer = 0;

export function say(text: string): void {
  note.value = text;
  clearTimeout(noteTimer);
  noteTimer = window.setTimeout(() => (note.value = ""), 2200);
}

/** Copies text; where the browser forbids it, by a selected field. */
export async function copy(text: string, what = "Copied"): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "away";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  say(what);
}

export function Button(p: { on: () => void; children: ComponentChildren; title?: string; pressed?: boolean; kind?: string; disabled?: boolean; label?: string; keys?: string }) {
  return (
    <button type="button" class={"button " + (p.kind ?? "")} onClick={p.on} title={p.title} aria-pressed={p.pressed} aria-label={p.label} disabled={p.disabled} aria-keyshortcuts={p.keys}>
      {p.children}
    </button>
  );
}

export interface TabItem { id: string; name: string; badge?: string | number }

/** A row of tabs, operated as ARIA's pattern says: arrows move, the focused one is chosen. */
export function Tabs(p: { items: TabItem[]; now: string; on: (id: string) => void; label: string; panel: string }) {
  const box = useRef<HTMLDivElement>(null);
  const move = (e: KeyboardEvent) => {
    const i = p.items.findIndex((t) => t.id === p.now);
    const to = e.key === "ArrowRight" ? i + 1 : e.key === "ArrowLeft" ? i - 1 : e.key === "Home" ? 0 : e.key === "End" ? p.items.length - 1 : -2;
    const next = p.items[(to + p.items.length) % p.items.length];
    if (to === -2 || !next) return;
    e.preventDefault();
    e.stopPropagation();
    p.on(next.id);
    box.current?.querySelector<HTMLElement>(`[data-tab="${next.id}"]`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label={p.label} ref={box} onKeyDown={move}>
      {p.items.map((t) => (
        <button type="button" key={t.id} role="tab" data-tab={t.id} id={p.panel + "-" + t.id} aria-selected={t.id === p.now} aria-controls={p.panel}
          tabIndex={t.id === p.now ? 0 : -1} class="tab" onClick={() => p.on(t.id)}>
          {t.name}
          {t.badge !== undefined && t.badge !== "" && <span class="badge">{t.badge}</span>}
        </button>
      ))}
    </div>
  );
}

/** A place where nothing is to be seen, and what to do about it. */
export function Empty(p: { title: string; children?: ComponentChildren; bad?: boolean }) {
  return (
    <div class={"empty" + (p.bad ? " bad" : "")} role={p.bad ? "alert" : "status"}>
      <p class="empty-title">{p.title}</p>
      {p.children && <div class="empty-text">{p.children}</div>}
    </div>
  );
}

/** A part of the page that folds. */
export function Fold(p: { head: ComponentChildren; children: () => ComponentChildren; open?: boolean; class?: string }) {
  const [open, setOpen] = useState(!!p.open);
  useEffect(() => {
    if (p.open) setOpen(true);
  }, [p.open]);
  return (
    <div class={"fold " + (open ? "open " : "") + (p.class ?? "")}>
      <button type="button" class="fold-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span class="fold-mark" aria-hidden="true" />
        {p.head}
      </button>
      {open && <div class="fold-body">{p.children()}</div>}
    </div>
  );
}

const clipChars = 3000, clipLines = 36;

/** Long text, of which the beginning is shown until somebody wants all; of very
 * long text a part at a time, so that the page stays quick. */
export function Clip(p: { s: string; class?: string; lines?: number }) {
  const [shown, setShown] = useState(clipChars);
  let end = Math.min(shown, p.s.length);
  if (shown === clipChars) {
    let at = -1;
    for (let i = 0; i < (p.lines ?? clipLines); i++) {
      at = p.s.indexOf("\n", at + 1);
      if (at < 0 || at > end) break;
    }
    if (at >= 0 && at < end) end = at;
  }
  const rest = p.s.length - end;
  return (
    <div class={"clip " + (p.class ?? "")}>
      <pre class="prose"><Marked s={p.s.slice(0, end)} /></pre>
      {rest > 0 && (
        <button type="button" class="more" onClick={() => setShown(Math.max(end, shown) + 60_000)}>
          {rest > 60_000 ? `Show 60,000 more of ${rest.toLocaleString("en-US")} characters` : `Show all (${rest.toLocaleString("en-US")} more characters)`}
        </button>
      )}
      {shown > clipChars && <button type="button" class="more" onClick={() => setShown(clipChars)}>Show less</button>}
    </div>
  );
}

/** Facts: names and values in two columns. What is empty is left out. */
export function Facts(p: { rows: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {p.rows.filter(([, v]) => v !== "" && v !== null && v !== undefined && v !== false).map(([k, v]) => (
        <div key={k}>
          <dt>{k}</dt>
          <dd>{v}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Text to copy: a command, a hash. */
export function Code(p: { s: string; what?: string }) {
  return (
    <span class="code">
      <code title={title(p.s)}><Marked s={p.s} /></code>
      <button type="button" class="copy" onClick={() => void copy(p.s)} aria-label={"Copy " + (p.what ?? "this")} title="Copy" />
    </span>
  );
}
