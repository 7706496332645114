// The overview: what happened, how long each part took, what is wrong, and what
// would mend it.
import type { Flow, Problem } from "../model";
import { bytes, clock, count, day, duration, percent } from "../base/format";
import { Code, Facts } from "../base/ui";
import { Line } from "../base/text";
import { show, tab } from "../state/app";
import { url } from "./detail";
import { CacheBar } from "../chat/bars";

const reasons: Record<string, [string, string]> = {
  not_http: ["The bytes are neither HTTP nor TLS, so there is nothing to decode.", ""],
  bypass: ["Its name is on the list of those that pass undecrypted.", "Leave out the --bypass that fits it."],
  not_selected: ["--only names others.", "Add --only with this name."],
  tls_pinned: ["The program trusts only a certificate that it carries in itself.", "Look for its own switch for further authorities; trace shows what it cannot read."],
  tls_rejected: ["The program refused the certificate of this run.", "Point the program's own setting for authorities at the bundle of the run (SSL_CERT_FILE in its environment)."],
  tls_untrusted: ["The server's certificate is of an issuer that this machine does not know.", "--upstream-ca FILE with the issuer, or --decrypt-untrusted GLOB."],
  client_cert: ["The server wants a certificate that only the program has.", "--bypass GLOB makes that the rule; it passes undecrypted either way."],
  tls_upstream: ["The handshake with the server failed for trace.", "--bypass GLOB lets it pass at once."],
  tls_child: ["trace cannot serve this ClientHello.", "--bypass GLOB lets it pass at once."],
  early_data: ["The program sent data before the handshake was done.", ""],
  not_connected: ["No connection came to be.", ""],
  connect: ["It passed through a proxy's tunnel.", ""],
  limit: ["A limit of trace's own was hit.", ""],
  malformed: ["The bytes are not what their protocol allows.", ""],
};

export function Overview(p: { f: Flow }) {
  const { f } = p;
  const r = f.request, a = f.response, c = f.conn;
  return (
    <div class="pad">
      <Why f={f} />
      {f.error && !(f.why?.text && f.why.text === f.error.message) && <ProblemBox p={f.error} name="error" />}
      <Timings f={f} />
      {f.llm && <CallFacts f={f} />}
      <Facts rows={[
        ["URL", r || c ? <Code s={url(f)} what="URL" /> : ""],
        ["State", f.state + (a?.status ? `, ${a.status}` : "") + (a?.streaming ? ", streaming" : "")],
        ["Started", day(f.started) + " " + clock(f.started)],
        ["Duration", duration(f.duration_ms)],
        ["Request body", r ? size(r.body_size, r.content_type) : ""],
        ["Response body", a ? size(a.body_size, a.content_type) : ""],
        ["Query", f.dns ? <Line s={`${f.dns.type ?? ""} ${f.dns.name ?? ""}`} /> : ""],
        ["Answer", f.dns ? <Line s={[f.dns.rcode, ...(f.dns.answers ?? [])].filter(Boolean).join(", ")} max={600} /> : ""],
        ["Events", a?.events ? count(a.events) + (a.framing ? ` (${a.framing})` : "") : ""],
        ["Bytes", f.bytes ? `${bytes(f.bytes.sent ?? 0)} sent, ${bytes(f.bytes.received ?? 0)} received` : ""],
        ["gRPC status", a?.grpc_status !== undefined ? <><span>{a.grpc_status}</span> <Line s={a.grpc_message} /></> : ""],
        ["Process", f.process ? <><Line s={f.process.argv?.join(" ") ?? f.process.exe} max={300} /> <span class="dim">pid {f.process.pid}</span></> : <span class="dim">not found</span>],
        ["Program", f.process?.exe ? <Line s={f.process.exe} /> : ""],
        ["Protocol", <Line s={[r?.http_version && "HTTP/" + r.http_version, c?.alpn && "ALPN " + c.alpn, c?.tls && "TLS " + c.tls, !r && c?.protocol].filter(Boolean).join(", ")} />],
        ["Connection", c ? <><span>{c.id}: </span><Line s={`${c.src ?? ""} → ${c.dst ?? ""}`} /></> : ""],
        ["Source", f.source ?? ""],
        ["Repeats", f.replay_of ? <button type="button" class="link-button" onClick={() => show(f.replay_of!.split("/").pop()!, "overview")}>{f.replay_of}</button> : ""],
        ["Redacted", f.redacted ? count(f.redacted) + (f.redacted === 1 ? " secret" : " secrets") : ""],
        ["Request SHA-256", hash(r?.body_size, r?.body_sha256)],
        ["Response SHA-256", hash(a?.body_size, a?.body_sha256)],
        ["Sent on", f.forwarded ? "differently: the Headers tab shows both" : ""],
      ]} />
      {(f.marks?.length ?? 0) > 0 && <><h3>Noticed</h3>{f.marks!.map((m, i) => <ProblemBox key={i} p={m} name="mark" />)}</>}
    </div>
  );
}

const size = (n: number | undefined, type: string | undefined) => <>{bytes(n ?? 0)} <span class="dim">{n && n >= 1000 ? `(${count(n)} bytes) ` : ""}<Line s={type} max={120} /></span></>;

const hash = (n: number | undefined, h: string | null | undefined) => !n ? "" : h ? <Code s={h} what="hash" /> : h === null ? <span class="dim">none: redaction changed the body</span> : "";

function ProblemBox(p: { p: Problem; name: string }) {
  const e = p.p;
  return (
    <div class={"box " + (p.name === "error" ? "bad" : "note")}>
      <b><Line s={e.code} max={60} /></b> <Line s={e.message} max={600} />{e.detail && <> <code><Line s={e.detail} max={120} /></code></>}
      {e.where && <span class="dim"> at the {e.where}</span>}
      {e.hint && <p class="mend">{e.hint}</p>}
    </div>
  );
}

/** Why a flow is not decrypted, and what would mend it. */
function Why(p: { f: Flow }) {
  const { f } = p;
  const opaque = f.conn?.opaque;
  if (!opaque && !f.why) return null;
  const known = reasons[opaque ?? ""];
  const text = f.why?.text ?? known?.[0] ?? (opaque?.startsWith("upgrade:") ? `The connection was switched to ${opaque.slice(8)}, which trace does not decode.` : "Its bytes are not decoded.");
  const mend = f.why?.mend ?? (f.error?.hint ? "" : known?.[1]);
  return (
    <div class="box note" role="note">
      <b>Why is this not decrypted?</b> <code><Line s={opaque} max={60} /></code>
      <p><Line s={text} max={1000} /></p>
      {mend && <p class="mend"><Line s={mend} max={1000} /></p>}
    </div>
  );
}

const phases: [string, "dns" | "connect" | "ssl" | "send" | "wait" | "receive", string][] = [["Name", "dns", "name"], ["Connect", "connect", "connect"], ["TLS", "ssl", "ssl"], ["Send", "send", "send"], ["Wait", "wait", "wait"], ["Receive", "receive", "receive"]];

function Timings(p: { f: Flow }) {
  const t = p.f.timings;
  if (!t) return null;
  const sum = (t.dns ?? 0) + (t.connect ?? 0) + (t.send ?? 0) + (t.wait ?? 0) + (t.receive ?? 0);
  if (!sum) return null;
  let at = 0;
  return (
    <div class="timings" role="table" aria-label="Timings">
      {phases.map(([name, key, kind]) => {
        const ms = t[key];
        if (ms === undefined || ms === null || ms < 0) return null;
        // TLS lies inside connect, at its end.
        const from = key === "ssl" ? Math.max(0, at - ms) : at;
        if (key !== "ssl") at += ms;
        return (
          <div role="row" key={key}>
            <span role="rowheader">{name}</span>
            <span role="cell" class="track"><i class={kind} style={{ left: (from / sum) * 100 + "%", width: `max(2px, ${(ms / sum) * 100}%)` }} />
              {key === "wait" && t.first_event !== undefined && t.first_event !== null && <b title={"first event after " + duration(t.first_event)} style={{ left: `min(calc(100% - 2px), ${(((t.dns ?? 0) + (t.connect ?? 0) + t.first_event) / sum) * 100}%)` }} />}</span>
            <span role="cell" class="num">{duration(ms)}</span>
          </div>
        );
      })}
    </div>
  );
}

function CallFacts(p: { f: Flow }) {
  const l = p.f.llm!;
  const u = l.usage;
  return (
    <div class="call-facts">
      <div>
        <b><Line s={l.served_model || l.model} max={80} /></b> <span class="dim"><Line s={[l.provider, l.api].filter(Boolean).join(" ")} max={60} /></span>
        {l.stop_reason && <span class="pill"><Line s={l.stop_reason} max={40} /></span>}
        {l.partial && <span class="pill warn">cut off</span>}
        {l.thread?.turn !== undefined && <span class="dim">turn {l.thread.turn} of conversation {l.thread.first}</span>}
        <button type="button" class="link-button" onClick={() => (tab.value = "call")}>Read the call</button>
      </div>
      {u && <><CacheBar u={u} /><div class="dim">{count(u.input + u.cache_read + u.cache_write)} tokens in ({percent(u.cache_read, u.input + u.cache_read + u.cache_write)} from the cache), {count(u.output)} out{u.reasoning ? ` (${count(u.reasoning)} reasoning)` : ""}{l.first_token_ms ? `, first after ${duration(l.first_token_ms)}` : ""}{l.tokens_per_second ? `, ${l.tokens_per_second.toFixed(1)} a second` : ""}</div></>}
      {l.error && <div class="box bad"><b><Line s={l.error.type} max={60} /></b> <Line s={l.error.message} max={600} /></div>}
    </div>
  );
}
