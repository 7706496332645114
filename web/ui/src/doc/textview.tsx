// A body as text or as bytes, of which only the rows in view are fetched from the
// worker.
import { useEffect, useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import type { Doc, TextRow } from "./protocol";
import { VirtualList, type ListHandle } from "../base/vlist";
import { Marked } from "../base/text";
import { Button } from "../base/ui";

const rowHeight = 19, block = 100;

/** How many characters of the fixed-width font fit into an element. */
function useColumns(): [{ current: HTMLDivElement | null }, number] {
  const box = useRef<HTMLDivElement>(null);
  const [cols, setCols] = useState(0);
  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    const probe = document.createElement("span");
    probe.className = "probe";
    probe.textContent = "0".repeat(50);
    el.append(probe);
    const width = probe.getBoundingClientRect().width / 50;
    probe.remove();
    const measure = () => setCols(Math.max(20, Math.floor((el.clientWidth - 40) / (width || 8))));
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(el);
    return () => watch.disconnect();
  }, []);
  return [box, cols];
}

/** Blocks of rows, fetched when they come into view, kept while there are few. */
function useBlocks<T>(fetch: (from: number, to: number) => Promise<T[]>, key: unknown): (i: number) => T | undefined {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const have = useRef({ key, blocks: new Map<number, T[] | null>() });
  if (have.current.key !== key) have.current = { key, blocks: new Map() };
  const mine = have.current;
  return (i) => {
    const n = Math.floor(i / block);
    const got = mine.blocks.get(n);
    if (got) return got[i - n * block];
    if (got === undefined) {
      if (mine.blocks.size > 40) mine.blocks.clear();
      mine.blocks.set(n, null);
      fetch(n * block, (n + 1) * block).then((rows) => {
        mine.blocks.set(n, rows);
        if (have.current === mine) redraw(undefined);
      }, () => mine.blocks.delete(n));
    }
    return undefined;
  };
}

export function TextView(p: { doc: Doc }) {
  const [box, cols] = useColumns();
  const [count, setCount] = useState(0);
  const [wanted, setWanted] = useState("");
  const [found, setFound] = useState<{ at: number; row: number } | null>(null);
  const handle = useRef<ListHandle | null>(null);
  useEffect(() => {
    if (cols) void p.doc.ask<number>({ op: "wrap", cols }).then(setCount, () => undefined);
  }, [p.doc, cols]);
  const row = useBlocks<TextRow>((from, to) => p.doc.ask({ op: "rows", from, to }), cols + ":" + count);
  const search = async (next: boolean) => {
    if (!wanted) return setFound(null);
    const f = await p.doc.ask<{ at: number; row: number }>({ op: "find", text: wanted, from: next && found && found.at >= 0 ? found.at + 1 : 0 });
    setFound(f);
    if (f.row >= 0) handle.current?.show(Math.max(0, f.row - 3), "start");
  };
  return (
    <div class="doc-view">
      <div class="bar-line">
        <input type="search" class="find" placeholder="Find in the body" aria-label="Find in the body" value={wanted} onInput={(e) => setWanted(e.currentTarget.value)}
          onKeyDown={(e) => e.key === "Enter" && (e.preventDefault(), void search(true))} />
        <Button on={() => void search(true)} disabled={!wanted}>Find next</Button>
        <span class="dim" role="status">{found && (found.at < 0 ? "not found" : "row " + (found.row + 1))}</span>
      </div>
      <div class="grow-box" ref={box}>
        <VirtualList class="text" count={count} row={rowHeight} handle={handle} attrs={{ role: "document", "aria-label": "Body as text" }}
          render={(i) => {
            const r = row(i);
            return <div key={i} class={"text-row" + (found?.row === i ? " found" : "")}><span class="gutter" aria-hidden="true">{r && !r.begins ? "↪" : ""}</span>{r ? <Marked s={r.text} /> : ""}</div>;
          }} />
      </div>
    </div>
  );
}

export function HexView(p: { doc: Doc; size: number }) {
  const [box, cols] = useColumns();
  const width = cols >= 76 ? 16 : cols >= 42 ? 8 : 4;
  const row = useBlocks<Uint8Array>(async (from, to) => {
    const b = await p.doc.ask<Uint8Array>({ op: "bytes", start: from * width, end: to * width });
    const out = [];
    for (let i = 0; i < b.length; i += width) out.push(b.subarray(i, i + width));
    return out;
  }, width);
  return (
    <div class="doc-view">
      <div class="grow-box" ref={box}>
        <VirtualList class="hex" count={Math.ceil(p.size / width)} row={rowHeight} attrs={{ role: "document", "aria-label": "Body as bytes" }}
          render={(i) => {
            const b = row(i);
            return (
              <div key={i} class="text-row">
                <span class="offset">{(i * width).toString(16).padStart(8, "0")}</span>
                <span class="hexes">{b ? [...b].map((c) => c.toString(16).padStart(2, "0")).join(" ").padEnd(width * 3 - 1, " ") : ""}</span>
                <span class="ascii">{b ? [...b].map((c) => (c >= 0x20 && c < 0x7f ? String.fromCharCode(c) : "·")).join("") : ""}</span>
              </div>
            );
          }} />
      </div>
    </div>
  );
}
