// A list and, beside or below it, what is chosen in it. The bar between them is
// moved by pointer or arrow keys; on narrow screens the detail covers the list.
import { useEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";

const part = signal(52); // percent for the detail

export function Split(p: { open: boolean; side: ComponentChildren; children: ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  const last = part.value;
  useEffect(() => box.current?.style.setProperty("--side", last + "%"), [last]);
  const move = (e: PointerEvent) => {
    const r = box.current?.getBoundingClientRect();
    if (!r) return;
    const below = getComputedStyle(box.current!).flexDirection === "column";
    set(below ? ((r.bottom - e.clientY) / r.height) * 100 : ((r.right - e.clientX) / r.width) * 100);
  };
  const set = (v: number) => (part.value = Math.round(Math.max(20, Math.min(80, v))));
  return (
    <div class={"split" + (p.open ? " open" : "")} ref={box}>
      <div class="split-list">{p.children}</div>
      {p.open && (
        <>
          <div class="split-bar" role="separator" aria-label="Width of the detail" aria-orientation="vertical" aria-valuenow={last} aria-valuemin={20} aria-valuemax={80} tabIndex={0}
            onPointerDown={(e) => {
              e.currentTarget.setPointerCapture(e.pointerId);
              e.preventDefault();
            }}
            onPointerMove={(e) => e.currentTarget.hasPointerCapture(e.pointerId) && move(e)}
            onKeyDown={(e) => {
              const n = e.key === "ArrowLeft" || e.key === "ArrowUp" ? 2 : e.key === "ArrowRight" || e.key === "ArrowDown" ? -2 : 0;
              if (!n) return;
              e.preventDefault();
              e.stopPropagation();
              set(part.value + n);
            }} />
          <div class="split-side">{p.side}</div>
        </>
      )}
    </div>
  );
}
