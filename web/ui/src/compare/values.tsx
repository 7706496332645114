// Differences of values, and two bodies side by side.
import { useEffect, useMemo, useState } from "preact/hooks";
import type { FieldChange } from "../model";
import { address, flowPath, request } from "../api/client";
import { indent } from "../base/exact";
import { VirtualList } from "../base/vlist";
import { Line } from "../base/text";
import { Button, Empty } from "../base/ui";
import { bytes, count } from "../base/format";
import { diffLines, type LinePair } from "./lines";

const valueText = (v: unknown): string => (v === null || v === undefined ? "" : typeof v === "string" ? v : JSON.stringify(v));

export function DiffValues(p: { name: string; rows: FieldChange[] }) {
  const [shown, setShown] = useState(200);
  if (!p.rows.length) return null;
  return (
    <section class="values">
      <h3>{p.name} <span class="dim">{count(p.rows.length)}</span></h3>
      <table class="diff-table">
        <thead><tr><th scope="col">Where</th><th scope="col">A</th><th scope="col">B</th></tr></thead>
        <tbody>
          {p.rows.slice(0, shown).map((r, i) => (
            <tr key={i}>
              <th scope="row"><Line s={r.path} max={200} /></th>
              <td class={valueText(r.old) ? "removed" : "none"}><Line s={valueText(r.old)} max={1000} /></td>
              <td class={valueText(r.new) ? "added" : "none"}><Line s={valueText(r.new)} max={1000} /></td>
            </tr>
          ))}
        </tbody>
      </table>
      {p.rows.length > shown && <button type="button" class="more" onClick={() => setShown(shown + 1000)}>{count(p.rows.length - shown)} more</button>}
    </section>
  );
}

/** What of a body is compared in the page. */
const most = 2_000_000, wrapped = 300;

async function linesOf(id: string, side: string): Promise<{ lines: string[]; cut: boolean }> {
  const r = await request(address(flowPath(id, "/body/" + side), { offset: 0, length: most }));
  const text = indent(new TextDecoder().decode(await r.arrayBuffer()));
  const size = Number(r.headers.get("X-Trace-Size") ?? 0);
  const lines: string[] = [];
  for (const l of text.split("\n")) for (let i = 0; i === 0 || i < l.length; i += wrapped) lines.push(l.slice(i, i + wrapped));
  return { lines, cut: size > most };
}

export function SideBySide(p: { a: { id: string; name: string }; b: { id: string; name: string }; side: "request" | "response" }) {
  const [state, set] = useState<{ a: string[]; b: string[]; cut: boolean } | null>(null);
  const [error, setError] = useState("");
  const [only, setOnly] = useState(true);
  useEffect(() => {
    let alive = true;
    set(null);
    setError("");
    Promise.all([linesOf(p.a.id, p.side), linesOf(p.b.id, p.side)]).then(([a, b]) => alive && set({ a: a.lines, b: b.lines, cut: a.cut || b.cut }), (e: Error) => alive && setError(e.message));
    return () => void (alive = false);
  }, [p.a.id, p.b.id, p.side]);
  const pairs = useMemo(() => (state ? diffLines(state.a, state.b) : []), [state]);
  const rows = useMemo(() => (only ? near(pairs) : pairs), [pairs, only]);
  const changed = pairs.filter((x) => !x.same).length;
  if (error) return <Empty title="The bodies cannot be compared" bad><p><Line s={error} /></p></Empty>;
  if (!state) return <Empty title="Comparing…" />;
  return (
    <section class="side-by-side">
      <div class="bar-line">
        <span>{changed ? `${count(changed)} of ${count(pairs.length)} lines differ` : "The bodies are the same"}{state.cut ? `; the first ${bytes(most)} of each` : ""}</span>
        {changed > 0 && <Button on={() => setOnly(!only)} pressed={only}>Only what differs</Button>}
      </div>
      <div class="sides-head"><b>{p.a.name}</b><b>{p.b.name}</b></div>
      {(changed > 0 || !only) && <VirtualList class="sides" count={rows.length} row={19} attrs={{ role: "document", "aria-label": "Bodies side by side" }}
        render={(i) => {
          const r = rows[i];
          if (!r) return null;
          if ("gap" in r) return <div key={i} class="pair gap">⋯ {count(r.gap)} lines alike</div>;
          return (
            <div key={i} class={"pair" + (r.same ? "" : " differs")}>
              <span class="n">{r.an}</span><span class={"l" + (!r.same && r.a !== undefined ? " removed" : "")}><Line s={r.a} max={wrapped} /></span>
              <span class="n">{r.bn}</span><span class={"l" + (!r.same && r.b !== undefined ? " added" : "")}><Line s={r.b} max={wrapped} /></span>
            </div>
          );
        }} />}
    </section>
  );
}

type Shown = LinePair | { gap: number };

/** The changed lines with three around them. */
function near(pairs: LinePair[]): Shown[] {
  const keep = new Uint8Array(pairs.length);
  pairs.forEach((p, i) => {
    if (!p.same) keep.fill(1, Math.max(0, i - 3), i + 4);
  });
  const out: Shown[] = [];
  for (let i = 0; i < pairs.length; ) {
    if (keep[i]) {
      out.push(pairs[i++]!);
      continue;
    }
    const from = i;
    while (i < pairs.length && !keep[i]) i++;
    out.push({ gap: i - from });
  }
  return out;
}
