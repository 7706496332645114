// The turns of a conversation as columns: how the context grows, what it consists
// of, what of it came from the cache, and where the cache was lost.
import { useEffect, useRef } from "preact/hooks";
import type { Turn } from "../model";
import { count, percent, short } from "../base/format";
import { title } from "../base/text";
import { parts, prompt } from "./bars";
import { lost } from "./call";

export function Turns(p: { turns: Turn[]; now: string; on: (id: string) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const { turns } = p;
  useEffect(() => {
    box.current?.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [p.now, turns.length]);
  if (!turns.length) return null;
  const top = Math.max(1, ...turns.map((t) => prompt(t.usage)));
  const topBytes = Math.max(1, ...turns.map((t) => bytesOf(t)));
  const keys = (e: KeyboardEvent) => {
    const i = turns.findIndex((t) => t.id === p.now);
    const to = e.key === "ArrowRight" ? i + 1 : e.key === "ArrowLeft" ? i - 1 : e.key === "Home" ? 0 : e.key === "End" ? turns.length - 1 : -1;
    const t = turns[to];
    if (!t) return;
    e.preventDefault();
    p.on(t.id);
    box.current?.querySelectorAll<HTMLElement>("button")[to]?.focus();
  };
  const used = parts.filter((x) => turns.some((t) => t.context_bytes?.[x.key]));
  return (
    <div class="turns">
      <div class="turns-scale dim" title="The prompt of the longest turn, in tokens">{short(top)}<br />tokens</div>
      <div class="turns-columns" ref={box} role="group" aria-label="Turns" onKeyDown={keys}>
        {turns.map((t) => <Column key={t.id} t={t} now={t.id === p.now} on={p.on} height={prompt(t.usage) ? prompt(t.usage) / top : bytesOf(t) / topBytes} />)}
      </div>
      <div class="legend">
        {used.map((x) => <span key={x.key}><i class={"p-" + x.key} />{x.name}</span>)}
        <span><i class="read" />cache read</span><span><i class="write" />written</span><span><i class="new" />neither</span>
      </div>
    </div>
  );
}

const bytesOf = (t: Turn): number => (t.context_bytes ? parts.reduce((n, x) => n + (t.context_bytes![x.key] ?? 0), 0) : 0);

function Column(p: { t: Turn; now: boolean; on: (id: string) => void; height: number }) {
  const { t } = p;
  const u = t.usage;
  const sum = bytesOf(t);
  const whole = prompt(u);
  const gone = !!t.cache && lost(t.cache);
  const label = title(`Turn ${t.turn ?? ""}, flow ${t.id}: ${count(whole)} tokens in, ${percent(u?.cache_read ?? 0, whole)} from the cache, ${count(u?.output ?? 0)} out${gone ? "; the cache was lost" : ""}${t.compacted ? "; compacted" : ""}${t.error ? "; " + (t.error.type ?? "error") : ""}`);
  return (
    <button type="button" class={"turn" + (gone ? " lost" : "") + (t.error ? " bad" : "") + (t.compacted ? " compacted" : "")} aria-current={p.now} aria-label={label} title={label} tabIndex={p.now ? 0 : -1} onClick={() => p.on(t.id)}>
      <span class="stack"><span class="stack-in" style={{ height: Math.max(3, p.height * 100) + "%" }}>
        {sum ? parts.map((x) => t.context_bytes?.[x.key] ? <i key={x.key} class={"p-" + x.key} style={{ flexGrow: t.context_bytes[x.key] }} /> : null) : <i class="p-history" style={{ flexGrow: 1 }} />}
      </span></span>
      <span class="cache-col">{u && whole > 0 && <><i class="read" style={{ width: (u.cache_read / whole) * 100 + "%" }} /><i class="write" style={{ width: (u.cache_write / whole) * 100 + "%" }} /><i class="new" style={{ width: (u.input / whole) * 100 + "%" }} /></>}</span>
    </button>
  );
}
