// A list of any length of which only what is seen is in the document. Rows have
// one height. Where all of them together would be higher than browsers can lay
// out, the scroll bar is scaled: a pixel of it is then more than one of the list.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren, HTMLAttributes } from "preact";

/** No browser lays out much more: Firefox ends at 17.8, Chromium at 33.5 million. */
const maxHeight = 8_000_000;
const spare = 8;

export interface ListHandle {
  /** Scrolls as little as needed to show a row. */
  show(index: number, where?: "near" | "start" | "end"): void;
  readonly element: HTMLElement | null;
}

export interface ListProps {
  count: number; row: number; render: (index: number) => ComponentChildren;
  class?: string; handle?: { current: ListHandle | null }; onRange?: (from: number, to: number) => void;
  /** Keeps the end in view as the list grows; told when the reader leaves it. */
  follow?: boolean; onLeave?: () => void; onReach?: () => void;
  attrs?: HTMLAttributes<HTMLDivElement>;
  /** A row that stays above the others; it scrolls sideways with them. */
  head?: ComponentChildren;
}

export function VirtualList(p: ListProps) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const following = useRef(!!p.follow);
  const ours = useRef(-1); // the position that we scrolled to ourselves
  following.current = !!p.follow;

  const full = p.count * p.row;
  const tall = Math.min(full, maxHeight);
  const factor = tall > view.height && full > tall ? (full - view.height) / (tall - view.height) : 1;
  const offset = view.top * factor; // within the full list
  const first = Math.max(0, Math.min(Math.floor(offset / p.row), p.count - 1) - spare);
  const last = Math.min(p.count, Math.ceil((offset + view.height) / p.row) + spare);
  const shift = factor === 1 ? first * p.row : view.top - (offset - first * p.row);

  const scrollTo = (y: number) => {
    const el = box.current;
    if (!el) return;
    el.scrollTop = y / factor;
    ours.current = el.scrollTop;
    setView({ top: el.scrollTop, height: el.clientHeight });
  };

  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    const measure = () => setView((v) => (v.height === el.clientHeight && v.top === el.scrollTop ? v : { top: el.scrollTop, height: el.clientHeight }));
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(el);
    return () => watch.disconnect();
  }, []);

  useEffect(() => {
    if (p.follow) scrollTo(Math.max(0, full));
  }, [p.count, p.follow, view.height]);

  useEffect(() => {
    p.onRange?.(Math.max(0, Math.floor(offset / p.row)), Math.min(p.count, Math.ceil((offset + view.height) / p.row)));
  }, [view.top, view.height, p.count]);

  if (p.handle) {
    p.handle.current = {
      element: box.current,
      show(index, where = "near") {
        const el = box.current;
        if (!el) return;
        const y = index * p.row, h = el.clientHeight - (p.head ? p.row : 0);
        const now = el.scrollTop * factor;
        if (where === "start") scrollTo(y);
        else if (where === "end" || y + p.row > now + h) scrollTo(y + p.row - h);
        else if (y < now) scrollTo(y);
      },
    };
  }

  const onScroll = () => {
    const el = box.current;
    if (!el) return;
    const atEnd = el.scrollTop + el.clientHeight >= el.scrollHeight - 4;
    if (following.current && !atEnd && Math.abs(el.scrollTop - ours.current) > 4) p.onLeave?.();
    else if (!following.current && atEnd) p.onReach?.();
    setView({ top: el.scrollTop, height: el.clientHeight });
  };

  const rows: ComponentChildren[] = [];
  for (let i = first; i < last; i++) rows.push(p.render(i));
  return (
    <div ref={box} class={"vlist " + (p.class ?? "")} onScroll={onScroll} tabIndex={0} {...p.attrs}>
      {p.head}
      <div class="vlist-all" style={{ height: tall + "px" }} role="presentation">
        <div class="vlist-seen" style={{ transform: `translateY(${shift}px)` }} role="presentation">{rows}</div>
      </div>
    </div>
  );
}
