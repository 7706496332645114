// The facts of TLS: both legs, and the server's certificates.
import type { Certificate, Flow, Leg } from "../model";
import { Code, Facts } from "../base/ui";
import { Line } from "../base/text";

const names: Record<string, string> = {
  version: "Version", cipher: "Cipher", alpn: "ALPN", sni: "Server name", resumed: "Resumed", alpn_offered: "ALPN offered", versions_offered: "Versions offered", ech: "Encrypted ClientHello",
  ja3: "JA3", ja4: "JA4", verdict: "Verdict",
};

function LegFacts(p: { name: string; leg: Leg }) {
  const rows = Object.entries(p.leg).filter(([k, v]) => k !== "chain" && k !== "certificates" && v !== "" && v !== null)
    .map(([k, v]): [string, preact.ComponentChildren] => [names[k] ?? k, k === "ja3" || k === "ja4" ? <Code s={String(v)} what={k} /> : <Line s={Array.isArray(v) ? v.join(", ") : v === true ? "yes" : v === false ? "no" : String(v)} />]);
  return <section><h3>{p.name}</h3><Facts rows={rows} /></section>;
}

export function Tls(p: { f: Flow }) {
  const c = p.f.conn;
  return (
    <div class="pad">
      <p>{c?.decrypted ? "Decrypted: trace stood between the two legs below." : c?.opaque ? "Not decrypted; this is what the handshake says in the clear." : ""}</p>
      {c?.child_tls && <LegFacts name="The program's leg" leg={c.child_tls} />}
      {c?.upstream_tls && <LegFacts name="The server's leg" leg={c.upstream_tls} />}
      {c?.upstream_tls?.chain?.length ? <section><h3>Certificates of the server</h3>{c.upstream_tls.chain.map((x, i) => <Chain key={i} c={x} />)}</section> : null}
    </div>
  );
}

function Chain(p: { c: Certificate }) {
  const { c } = p;
  const past = c.not_after !== undefined && Date.parse(c.not_after) < Date.now();
  return (
    <Facts rows={[
      ["Subject", <Line s={c.subject} />], ["Issuer", <Line s={c.issuer} />], ["Valid", <span class={past ? "bad" : ""}><Line s={`${c.not_before} – ${c.not_after}`} />{past ? " (expired)" : ""}</span>],
      ["Names", <Line s={[...(c.dns_names ?? []), ...(c.ip_addresses ?? [])].join(", ")} max={600} />], ["SHA-256", c.sha256 ? <Code s={c.sha256} what="fingerprint" /> : ""],
    ]} />
  );
}
