// The exchange as it stands on the wire, as far as text can show it.
import { useEffect, useState } from "preact/hooks";
import type { Flow, Head } from "../model";
import { address, flowPath, request } from "../api/client";
import { Button, Clip, copy } from "../base/ui";

const shownBody = 200_000;

function headText(first: string, h: Head): string {
  return first + "\n" + (h.headers ?? []).map(([k, v]) => k + ": " + v).join("\n") + "\n";
}

async function bodyText(id: string, side: string): Promise<string> {
  const r = await request(address(flowPath(id, "/body/" + side), { offset: 0, length: shownBody }));
  const b = new Uint8Array(await r.arrayBuffer());
  const size = Number(r.headers.get("X-Trace-Size") ?? b.length);
  const text = new TextDecoder().decode(b);
  return text + (size > b.length ? `\n… ${size - b.length} more bytes` : "");
}

export function Raw(p: { f: Flow }) {
  const { f } = p;
  const [bodies, set] = useState<{ request: string; response: string }>({ request: "", response: "" });
  useEffect(() => {
    let alive = true;
    for (const side of ["request", "response"] as const) {
      if (f[side]?.body_size || (side === "response" && f.response?.events)) void bodyText(f.id, side).then((s) => alive && set((b) => ({ ...b, [side]: s })), () => undefined);
    }
    return () => void (alive = false);
  }, [f.id, f.state, f.response?.body_size]);
  const r = f.request, a = f.response;
  const request_ = r ? headText(`${r.method} ${r.path} HTTP/${r.http_version}`, r) + "\n" + bodies.request : "";
  const response = a ? headText(`HTTP/${a.http_version} ${a.status} ${a.reason ?? ""}`.trim(), a) + "\n" + bodies.response : "";
  return (
    <div class="pad">
      {[["Request", request_], ["Response", response]].map(([name, s]) => s && (
        <section key={name}>
          <h3>{name} <Button on={() => void copy(s!)}>Copy</Button></h3>
          <Clip s={s!} class="mono" lines={400} />
        </section>
      ))}
      <p class="dim">Bodies are shown as decoded; secrets as redacted.</p>
    </div>
  );
}
