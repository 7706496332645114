// The heads of request and answer: fields in the order and case in which they
// passed.
import { useState } from "preact/hooks";
import type { Field, Flow, Head } from "../model";
import { Line, Marked } from "../base/text";
import { Empty, copy } from "../base/ui";

export function Heads(p: { f: Flow }) {
  const { f } = p;
  const [find, setFind] = useState("");
  return (
    <div class="pad">
      <input type="search" class="find" placeholder="Find a field" aria-label="Find a field" value={find} onInput={(e) => setFind(e.currentTarget.value)} />
      {f.request && <HeadTable name="Request" first={<><b><Line s={f.request.method} /></b> <Line s={f.request.path} max={2000} /> <span class="dim">HTTP/<Line s={f.request.http_version} /></span></>} h={f.request} find={find} />}
      {f.forwarded && <HeadTable name="As it left for the server" first={<><b><Line s={f.forwarded.method ?? f.request?.method} /></b> <Line s={f.forwarded.path ?? f.request?.path} max={2000} /></>} h={f.forwarded} find={find} against={f.request?.headers} />}
      {(f.response?.informational ?? []).map((h, i) => <HeadTable key={i} name="Informational" first={<><b>{h.status}</b> <Line s={h.reason} /></>} h={h} find={find} />)}
      {f.response ? <HeadTable name="Response" first={<><b>{f.response.status}</b> <Line s={f.response.reason} /> <span class="dim">HTTP/<Line s={f.response.http_version} /></span></>} h={f.response} find={find} />
        : <Empty title={f.state === "open" ? "No answer yet" : "No answer came"}>{f.error?.message && <p><Line s={f.error.message} /></p>}</Empty>}
    </div>
  );
}

function HeadTable(p: { name: string; first: preact.ComponentChildren; h: Head; find: string; against?: Field[] }) {
  const fields = p.h.headers ?? [];
  const want = p.find.toLowerCase();
  const shown = fields.filter(([k, v]) => !want || k.toLowerCase().includes(want) || v.toLowerCase().includes(want));
  const before = new Set(p.against?.map(([k, v]) => k + ":" + v));
  return (
    <section class="head-part">
      <h3>{p.name} <button type="button" class="link-button" onClick={() => void copy(fields.map(([k, v]) => k + ": " + v).join("\n"), "Fields copied")}>copy</button></h3>
      <p class="first-line">{p.first}</p>
      <table class="fields">
        <tbody>
          {shown.map(([k, v], i) => (
            <tr key={i} class={p.against && !before.has(k + ":" + v) ? "added" : ""}>
              <th scope="row"><Line s={k} max={200} /></th>
              <td class={/\[REDACTED/.test(v) ? "redacted" : ""}><FieldValue v={v} /></td>
            </tr>
          ))}
          {(p.h.trailers ?? []).map(([k, v], i) => <tr key={"t" + i}><th scope="row"><Line s={k} /> <small class="dim">trailer</small></th><td><FieldValue v={v} /></td></tr>)}
        </tbody>
      </table>
      {!fields.length && <p class="dim">No fields.</p>}
      {fields.length > 0 && !shown.length && <p class="dim">No field has “{p.find}”.</p>}
    </section>
  );
}

function FieldValue(p: { v: string }) {
  const [all, setAll] = useState(false);
  if (p.v.length <= 600 || all) return <Marked s={p.v} />;
  return <><Marked s={p.v.slice(0, 500)} />… <button type="button" class="link-button" onClick={() => setAll(true)}>all {p.v.length} characters</button></>;
}
