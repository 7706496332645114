// A body, as what it is: a tree, text, bytes or an image. It is fetched into a
// worker; this page holds what is in view.
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Flow } from "../model";
import { address, currentToken, flowPath, request, save } from "../api/client";
import { Doc, type Body } from "../doc/protocol";
import { JsonTree } from "../doc/tree";
import { HexView, TextView } from "../doc/textview";
import { Button, Empty } from "../base/ui";
import { bytes } from "../base/format";
import { Line } from "../base/text";

type Side = "request" | "response";
type Mode = "tree" | "text" | "hex" | "image";

export function BodyTab(p: { f: Flow; side: Side }) {
  const head = p.f[p.side];
  const state = p.side === "response" && p.f.state === "open" ? "open" : "done";
  // While it comes it is not read again and again: the reader asks.
  return <BodyView key={state} url={address(flowPath(p.f.id, "/body/" + p.side))} name={`flow-${p.f.id}-${p.side}`} live={state === "open"} empty={!head?.body_size && state !== "open"} />;
}

export function BodyView(p: { url: string; name: string; live: boolean; empty: boolean }) {
  const [read, setRead] = useState(0);
  const doc = useMemo(() => (p.empty ? null : new Doc()), [p.url, read]);
  const [body, setBody] = useState<Body | null>(null);
  const [error, setError] = useState("");
  const [have, setHave] = useState("");
  const [mode, setMode] = useState<Mode | null>(null);
  useEffect(() => {
    if (!doc) return;
    setBody(null);
    setError("");
    doc.onProgress = (x) => setHave(bytes(x.have) + (x.size > 0 ? " of " + bytes(x.size) : ""));
    doc.ask<Body>({ op: "open", url: p.url, token: currentToken() }).then(setBody, (e: Error) => e.name !== "AbortError" && setError(e.message));
    return () => doc.close();
  }, [doc]);
  if (p.empty || (body && body.have === 0 && !p.live)) return <Empty title="No body" />;
  if (error) return <Empty title="The body cannot be read" bad><p><Line s={error} /></p></Empty>;
  if (!doc || !body) return <Empty title={"Reading the body… " + have} />;
  const modes: Mode[] = [];
  if (body.image) modes.push("image");
  if (body.shape) modes.push("tree");
  modes.push("text", "hex");
  const now: Mode = mode && modes.includes(mode) ? mode : body.image ? "image" : body.shape ? "tree" : body.text ? "text" : "hex";
  const names: Record<Mode, string> = { tree: body.shape === "ndjson" ? "JSON lines" : "JSON", text: "Text", hex: "Hex", image: "Image" };
  return (
    <div class="fill">
      <div class="bar-line">
        {modes.map((m) => <Button key={m} on={() => setMode(m)} pressed={m === now}>{names[m]}</Button>)}
        <span class="dim"><Line s={body.type} max={80} /> {bytes(body.size)}</span>
        <span class="space" />
        {p.live && <Button on={() => setRead(read + 1)} title="The answer is still coming">Read again</Button>}
        <Button on={() => void request(p.url).then((r) => r.blob()).then((b) => save(b, p.name))}>Save</Button>
      </div>
      {body.truncated && !p.live && <p class="box note">The record has only the beginning of this body: {bytes(body.size)}. More was not kept (--max-body) or did not come.</p>}
      {body.have < body.size && <p class="box note">The first {bytes(body.have)} of {bytes(body.size)}. Save has all of it.</p>}
      {now === "tree" && <JsonTree doc={doc} sequence={body.shape === "ndjson"} small={body.have < 20_000} />}
      {now === "text" && <TextView doc={doc} />}
      {now === "hex" && <HexView doc={doc} size={body.have} />}
      {now === "image" && <ImageView doc={doc} type={body.image} size={body.have} />}
    </div>
  );
}

/** An image, as the browser's own decoders read it: scripts of an SVG do not run
 * in an img. */
function ImageView(p: { doc: Doc; type: string; size: number }) {
  const [src, setSrc] = useState("");
  const [about, setAbout] = useState("");
  useEffect(() => {
    let url = "";
    void p.doc.ask<Uint8Array<ArrayBuffer>>({ op: "bytes", start: 0, end: p.size }).then((b) => {
      url = URL.createObjectURL(new Blob([b], { type: p.type }));
      setSrc(url);
    }, () => undefined);
    return () => URL.revokeObjectURL(url);
  }, [p.doc]);
  return (
    <figure class="image">
      {src && <img src={src} alt="The body as an image" onLoad={(e) => setAbout(`${e.currentTarget.naturalWidth} × ${e.currentTarget.naturalHeight}`)} onError={() => setAbout("The browser cannot read it as an image.")} />}
      <figcaption class="dim">{p.type} {about}</figcaption>
    </figure>
  );
}
