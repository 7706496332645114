// The little of Markdown that makes answers readable: fences, headings, lists,
// quotes, tables as they are typed, bold, code. Links stay text: what is captured
// is nobody's to follow. Everything becomes text nodes.
import type { ComponentChildren } from "preact";
import { Marked } from "../base/text";
import { Clip, copy } from "../base/ui";

const most = 20_000; // longer texts are shown as they are

export function Markdown(p: { s: string }) {
  if (p.s.length > most) return <Clip s={p.s} />;
  return <div class="md">{blocks(p.s)}</div>;
}

function blocks(s: string): ComponentChildren[] {
  const out: ComponentChildren[] = [];
  const lines = s.split("\n");
  let para: string[] = [];
  const flush = () => {
    if (para.length) out.push(<p key={out.length}>{inline(para.join("\n"))}</p>);
    para = [];
  };
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] ?? "";
    const fence = /^\s*(```+|~~~+)\s*([\w+.#-]*)/.exec(line);
    if (fence) {
      flush();
      const code: string[] = [];
      for (i++; i < lines.length && !(lines[i] ?? "").trimStart().startsWith(fence[1]!); i++) code.push(lines[i] ?? "");
      out.push(<Fence key={out.length} lang={fence[2] ?? ""} text={code.join("\n")} />);
      continue;
    }
    const head = /^(#{1,6})\s+(.*)/.exec(line);
    const item = /^(\s*)([-*+•]|\d{1,3}[.)])\s+(.*)/.exec(line);
    if (head) {
      flush();
      out.push(<p key={out.length} class={"md-h h" + head[1]!.length} role="heading" aria-level={Math.min(6, head[1]!.length + 3)}>{inline(head[2]!)}</p>);
    } else if (item) {
      flush();
      out.push(<div key={out.length} class="md-item" style={{ marginLeft: Math.min(6, Math.floor(item[1]!.length / 2)) * 18 + "px" }}><span aria-hidden="true">{/\d/.test(item[2]!) ? item[2] : "•"}</span><span>{inline(item[3]!)}</span></div>);
    } else if (/^\s*\|.*\|\s*$/.test(line)) {
      flush();
      const rows = [line];
      while (/^\s*\|.*\|\s*$/.test(lines[i + 1] ?? "")) rows.push(lines[++i] ?? "");
      out.push(<Table key={out.length} rows={rows} />);
    } else if (/^\s*>/.test(line)) {
      flush();
      const quote = [line];
      while (/^\s*>/.test(lines[i + 1] ?? "")) quote.push(lines[++i] ?? "");
      out.push(<blockquote key={out.length}>{inline(quote.map((l) => l.replace(/^\s*>\s?/, "")).join("\n"))}</blockquote>);
    } else if (/^\s*(---+|\*\*\*+)\s*$/.test(line)) {
      flush();
      out.push(<hr key={out.length} />);
    } else if (!line.trim()) flush();
    else para.push(line);
  }
  flush();
  return out;
}

function Fence(p: { lang: string; text: string }) {
  return (
    <div class="fence">
      <div class="fence-head"><span>{p.lang}</span><button type="button" class="copy" aria-label="Copy the code" onClick={() => void copy(p.text)} /></div>
      <pre><Marked s={p.text} /></pre>
    </div>
  );
}

function Table(p: { rows: string[] }) {
  const cells = p.rows.filter((r) => !/^\s*\|[\s|:-]+\|\s*$/.test(r)).map((r) => r.trim().slice(1, -1).split("|").map((c) => c.trim()));
  const [first, ...rest] = cells;
  return (
    <div class="md-table"><table>
      <thead><tr>{first?.map((c, i) => <th key={i}>{inline(c)}</th>)}</tr></thead>
      <tbody>{rest.map((r, i) => <tr key={i}>{r.map((c, k) => <td key={k}>{inline(c)}</td>)}</tr>)}</tbody>
    </table></div>
  );
}

function inline(s: string): ComponentChildren[] {
  const out: ComponentChildren[] = [];
  let from = 0;
  for (const m of s.matchAll(/`([^`\n]+)`|\*\*([^*\n]+)\*\*/g)) {
    if (m.index > from) out.push(<Marked key={out.length} s={s.slice(from, m.index)} />);
    out.push(m[1] !== undefined ? <code key={out.length}><Marked s={m[1]} /></code> : <b key={out.length}><Marked s={m[2]!} /></b>);
    from = m.index + m[0].length;
  }
  if (from < s.length) out.push(<Marked key={out.length} s={s.slice(from)} />);
  return out;
}
