// The bars of the waterfall: when a flow began, what it waited for, how long it
// lasted, on the scale of the flows that are seen.
import type { Outline } from "../model";
import { computed, signal } from "@preact/signals";
import { flows } from "../state/app";
import { duration } from "../base/format";
import { useEffect, useState } from "preact/hooks";

interface Scale { from: number; to: number }

function scale(a: number, b: number): Scale {
  let from = Infinity, to = -Infinity;
  for (let i = a; i < b; i++) {
    const r = flows.shown(i);
    if (!r?.at) continue;
    from = Math.min(from, r.at - before(r));
    to = Math.max(to, r.at + (r.duration_ms ?? 0));
  }
  return from > to ? { from: 0, to: 1 } : { from, to: Math.max(to, from + 1) };
}

/** The time that went into the connection before the request began. */
function before(r: Outline): number {
  return r.kind === "http" || r.kind === "websocket" ? (r.timings?.dns ?? 0) + (r.timings?.connect ?? 0) : 0;
}

/** The places of the list that are in view. */
export const inView = signal<[number, number]>([0, 40]);
/** Whether the scale spans all rows. */
export const wholeScale = signal(false);
const now = computed(() => {
  flows.version.value;
  return wholeScale.value ? scale(0, flows.seen.length) : scale(inView.value[0], inView.value[1]);
});

export function SpanText() {
  return <>{duration(now.value.to - now.value.from)}</>;
}

export function Bar(p: { r: Outline }) {
  const { r } = p, s = now.value;
  const [, tick] = useState(0);
  const live = r.state === "open";
  useEffect(() => {
    if (!live) return;
    const t = setInterval(() => tick((n) => n + 1), 1000);
    return () => clearInterval(t);
  }, [live]);
  if (!r.at) return null;
  const whole = s.to - s.from;
  const joined = before(r);
  const left = ((r.at - joined - s.from) / whole) * 100;
  const length = joined + (r.duration_ms ?? (live ? Math.max(0, s.to - r.at) : 0));
  const width = (length / whole) * 100;
  if (left > 100 || left + width < 0) return null;
  const t = r.timings ?? {};
  const receive = t.receive ?? 0;
  const sum = joined + (t.send ?? 0) + (t.wait ?? 0) + receive || 1;
  return (
    <span class={"bar " + (live ? "live " : "") + (r.error || r.state === "failed" ? "bad" : r.model ? "llm" : "")} title={titleOf(r)}
      style={{ left: Math.max(0, left) + "%", width: `max(2px, ${Math.min(100 - Math.max(0, left), width)}%)` }}>
      {joined > 0 && <i class="connect" style={{ width: (joined / sum) * 100 + "%" }} />}
      <i class="wait" />
      {receive > 0 && <i class="receive" style={{ width: (receive / sum) * 100 + "%" }} />}
    </span>
  );
}

function titleOf(r: Outline): string {
  const t = r.timings ?? {};
  return ([["name", t.dns], ["connect", t.connect], ["TLS (in connect)", t.ssl], ["wait", t.wait], ["first event", t.first_event], ["receive", t.receive], ["in all", r.duration_ms]] as [string, number | undefined][])
    .filter(([, v]) => v !== undefined && v !== null).map(([k, v]) => k + " " + duration(v)).join(", ");
}
