// JSON as a tree, opened by those who look. Arrow keys move and open, as in a file
// manager.
import { useEffect, useMemo, useReducer, useRef } from "preact/hooks";
import type { Doc } from "./protocol";
import type { Members, Value } from "./json";
import { VirtualList, type ListHandle } from "../base/vlist";
import { Line } from "../base/text";
import { Button, copy, say } from "../base/ui";
import { bytes, count } from "../base/format";

const rowHeight = 20, page = 200, maxOpened = 4000, maxRead = 100 << 20, maxIndent = 24;

interface Node { v: Value; depth: number; parent: Node | null; open: boolean; kids: Node[] | null; next: number; nextIndex: number; bad?: string; full?: string }
type Row = { node: Node; more?: boolean; end?: boolean; bad?: string };

class Tree {
  roots: Node[] = [];
  next = -1;
  nextIndex = 0;
  rows: Row[] = [];
  at = 0;
  constructor(readonly doc: Doc, readonly sequence: boolean, readonly drawn: () => void) {}

  async begin(small: boolean): Promise<void> {
    const m = await this.doc.ask<Members>({ op: "root", sequence: this.sequence, from: 0, index: 0, max: page });
    this.roots = m.values.map((v) => node(v, null));
    this.next = m.next;
    this.nextIndex = m.nextIndex;
    if (!this.sequence && this.roots[0]) {
      if (small) await this.openAll(300);
      else await this.open(this.roots[0]);
      // What holds one thing only is opened further.
      let more = 12;
      for (let n = this.roots[0]; more-- > 0 && n.kids?.length === 1 && n.kids[0] && container(n.kids[0]) && !n.kids[0].open; n = n.kids[0]) await this.open(n.kids[0]);
    }
    this.flatten();
  }

  async open(n: Node): Promise<void> {
    n.open = true;
    if (!n.kids) await this.more(n);
  }

  async more(n: Node | null): Promise<void> {
    const m = n ? await this.doc.members(n.v.start, n.kids ? n.next : -1, n.kids ? n.nextIndex : 0, page)
      : await this.doc.ask<Members>({ op: "root", sequence: true, from: this.next, index: this.nextIndex, max: page });
    const kids = m.values.map((v) => node(v, n));
    if (!n) {
      this.roots.push(...kids);
      this.next = m.next;
      this.nextIndex = m.nextIndex;
    } else {
      n.kids = [...(n.kids ?? []), ...kids];
      n.next = m.next;
      n.nextIndex = m.nextIndex;
      n.bad = m.bad;
    }
  }

  /** Opens what is there, breadth first, until so many are open. */
  async openAll(max = maxOpened): Promise<boolean> {
    const queue = [...this.roots];
    let opened = 0, read = 0;
    for (let n = queue.shift(); n; n = queue.shift()) {
      if (!container(n) || !n.v.count) continue;
      if (opened >= max || read > maxRead) return false;
      if (!n.kids) read += n.v.end - n.v.start; // of which a part may be read again further in
      await this.open(n);
      opened += Math.max(1, n.kids?.length ?? 0);
      queue.push(...(n.kids ?? []));
    }
    return true;
  }

  closeAll(): void {
    const stack = [...this.roots];
    for (let n = stack.pop(); n; n = stack.pop()) {
      n.open = false;
      for (const k of n.kids ?? []) stack.push(k);
    }
  }

  /** Makes the rows; without recursion, for nesting may be deep. */
  flatten(): void {
    const rows: Row[] = [];
    const stack: Row[] = [];
    if (this.next >= 0 && this.roots[0]) stack.push({ node: this.roots[0], more: true, end: true });
    for (let i = this.roots.length - 1; i >= 0; i--) stack.push({ node: this.roots[i]! });
    for (let r = stack.pop(); r; r = stack.pop()) {
      rows.push(r);
      const n = r.node;
      if (r.more || r.end || r.bad || !n.open || !n.kids) continue;
      stack.push({ node: n, end: true });
      if (n.bad) stack.push({ node: n, bad: n.bad });
      if (n.next >= 0) stack.push({ node: n, more: true });
      for (let i = n.kids.length - 1; i >= 0; i--) stack.push({ node: n.kids[i]! });
    }
    this.rows = rows;
    this.at = Math.min(this.at, rows.length - 1);
    this.drawn();
  }
}

const node = (v: Value, parent: Node | null): Node => ({ v, depth: parent ? parent.depth + 1 : 0, parent, open: false, kids: null, next: -1, nextIndex: 0 });
const container = (n: Node): boolean => n.v.kind === "object" || n.v.kind === "array";

/** The path as jq writes it. */
function path(n: Node): string {
  const parts: string[] = [];
  for (let x: Node | null = n; x?.parent; x = x.parent) {
    const k = x.v.key;
    parts.push(k === undefined ? `[${x.v.index}]` : /^[A-Za-z_]\w*$/.test(k) ? "." + k : `[${JSON.stringify(k)}]`);
  }
  const s = parts.reverse().join("");
  return s.startsWith(".") ? s : "." + s;
}

export function JsonTree(p: { doc: Doc; sequence: boolean; small: boolean }) {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const handle = useRef<ListHandle | null>(null);
  const tree = useMemo(() => new Tree(p.doc, p.sequence, () => redraw(undefined)), [p.doc, p.sequence]);
  useEffect(() => void tree.begin(p.small).catch(() => undefined), [tree]);

  const toggle = async (n: Node) => {
    if (n.open) n.open = false;
    else await tree.open(n);
    tree.flatten();
  };
  const press = async (r: Row) => {
    if (r.more) await tree.more(r.end ? null : r.node);
    else if (container(r.node) && !r.end) return toggle(r.node);
    else if (r.node.v.cut && !r.node.full) r.node.full = (await p.doc.ask<{ text: string }>({ op: "string", start: r.node.v.start, end: r.node.v.end, max: 200_000 })).text;
    else delete r.node.full;
    tree.flatten();
  };
  const keys = (e: KeyboardEvent) => {
    const r = tree.rows[tree.at];
    if (!r) return;
    let to = tree.at;
    if (e.key === "ArrowDown" || e.key === "j") to++;
    else if (e.key === "ArrowUp" || e.key === "k") to--;
    else if (e.key === "Home") to = 0;
    else if (e.key === "End") to = tree.rows.length - 1;
    else if (e.key === "PageDown") to += 20;
    else if (e.key === "PageUp") to -= 20;
    else if (e.key === "Enter" || e.key === " ") void press(r);
    else if (e.key === "ArrowRight" && container(r.node) && !r.node.open && !r.end) void toggle(r.node);
    else if (e.key === "ArrowLeft") {
      if (r.node.open && !r.end) void toggle(r.node);
      else if (r.node.parent) to = tree.rows.findIndex((x) => x.node === r.node.parent);
    } else return;
    e.preventDefault();
    e.stopPropagation();
    tree.at = Math.max(0, Math.min(tree.rows.length - 1, to));
    handle.current?.show(tree.at);
    redraw(undefined);
  };
  const now = tree.rows[tree.at];
  return (
    <div class="doc-view">
      <div class="bar-line">
        <Button on={() => void tree.openAll().then((all) => (tree.flatten(), all || say("The first thousands are open; open the rest where you need it")))} title="Open everything, as far as it is reasonable">Expand all</Button>
        <Button on={() => (tree.closeAll(), tree.flatten())}>Collapse all</Button>
        {now && <code class="path" title="The path of the chosen value, for jq"><Line s={path(now.node)} max={120} /></code>}
        {now && <Button on={() => void copy(path(now.node), "Path copied")}>Copy path</Button>}
        {now && <Button on={() => void p.doc.ask<string>({ op: "slice", start: now.node.v.start, end: now.node.v.end, max: 20 << 20 }).then((s) => copy(s, "Value copied"))}>Copy value</Button>}
      </div>
      <VirtualList class="tree" count={tree.rows.length} row={rowHeight} handle={handle}
        attrs={{ role: "tree", "aria-label": "JSON", onKeyDown: keys, "aria-activedescendant": now ? "json-" + tree.at : undefined }}
        render={(i) => {
          const r = tree.rows[i];
          return r ? <TreeRow key={i} r={r} i={i} now={i === tree.at} on={() => ((tree.at = i), void press(r))} /> : null;
        }} />
    </div>
  );
}


function TreeRow(p: { r: Row; i: number; now: boolean; on: () => void }) {
  const { node: n, more, end, bad } = p.r;
  const depth = more && !end ? n.depth + 1 : more ? 0 : bad ? n.depth + 1 : n.depth;
  const indent = { paddingLeft: 8 + Math.min(depth, maxIndent) * 14 + "px" };
  const base = { id: "json-" + p.i, role: "treeitem" as const, "aria-level": depth + 1, class: "tree-row" + (p.now ? " now" : ""), style: indent, onClick: p.on };
  if (bad) return <div {...base}><span class="bad">malformed: {bad}</span></div>;
  if (more) return <div {...base}><span class="more">… {end ? "more" : count(n.v.count - (n.kids?.length ?? 0)) + " more"}</span></div>;
  if (end) return <div {...base} role="none" id={undefined} aria-level={undefined}><span class="j-mark">{n.v.kind === "object" ? "}" : "]"}</span></div>;
  const isBox = container(n);
  return (
    <div {...base} aria-expanded={isBox ? n.open : undefined} aria-selected={p.now}>
      <span class={"fold-mark" + (isBox && n.v.count ? (n.open ? " open" : "") : " none")} aria-hidden="true" />
      {depth > maxIndent && <small class="dim">{depth}· </small>}
      {n.v.key !== undefined ? <><span class="j-key"><Line s={n.v.key} max={160} /></span>: </> : n.parent || n.v.index !== undefined && n.depth === 0 && n.v.index > 0 ? <><span class="j-index">{n.v.index}</span>: </> : null}
      <Shown n={n} />
    </div>
  );
}

function Shown(p: { n: Node }) {
  const { v } = p.n;
  switch (v.kind) {
    case "object": case "array": {
      const [a, z] = v.kind === "object" ? ["{", "}"] : ["[", "]"];
      if (p.n.open && v.count) return <span class="j-mark">{a}</span>;
      return <><span class="j-mark">{a}{v.text ? <Line s={v.text} max={160} /> : v.count ? "…" : ""}{z}</span>{v.count > 0 && <span class="j-note"> {count(v.count)} {v.kind === "object" ? (v.count === 1 ? "member" : "members") : v.count === 1 ? "element" : "elements"}, {bytes(v.end - v.start)}</span>}</>;
    }
    case "string":
      return <><span class="j-string">"<Line s={p.n.full ?? v.text} max={p.n.full ? 200_000 : 400} />{v.cut && !p.n.full ? "…" : '"'}</span>{v.cut && <span class="j-note"> {bytes(v.end - v.start - 2)}</span>}</>;
    default:
      return <span class={"j-" + v.kind}><Line s={v.text} /></span>;
  }
}
