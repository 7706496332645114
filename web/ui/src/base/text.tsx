// Captured text. It reaches the document as text nodes only; characters that hide
// or turn others are escaped, visibly.
import { pieces, plain, oneLine } from "./format";

/** Text of one line, in the flow of the page. */
export function Line(p: { s: string | undefined | null; max?: number }) {
  const s = p.s ?? "";
  return <Marked s={s.length > (p.max ?? 400) || s.includes("\n") || s.includes("\t") ? flat(s, p.max ?? 400) : s} />;
}

function flat(s: string, max: number): string {
  return (s.length > max ? s.slice(0, max) + "…" : s).replace(/\s*\n\s*/g, " ⏎ ").replaceAll("\t", " ");
}

/** Text of any shape. */
export function Marked(p: { s: string }) {
  if (plain(p.s)) return <>{p.s}</>;
  return <>{pieces(p.s).map((x, i) => (x.odd ? <span class="odd" key={i} title="a character that would not show, or would turn the text">{x.text}</span> : x.text))}</>;
}

/** A one-line title for an attribute. */
export const title = (s: string | undefined | null): string => oneLine(s ?? "", 1000);
