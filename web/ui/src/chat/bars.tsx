// The bars of a call: where its prompt came from, what it consists of.
import type { ContextBytes, Tokens } from "../model";
import { count, percent } from "../base/format";

export function prompt(u: Tokens | null | undefined): number {
  return u ? u.input + u.cache_read + u.cache_write : 0;
}

/** How much of the prompt was read from the cache, written to it, or neither. */
export function CacheBar(p: { u: Tokens }) {
  const sum = prompt(p.u);
  if (!sum) return null;
  const parts: [string, number, string][] = [["from the cache", p.u.cache_read, "read"], ["written to the cache", p.u.cache_write, "write"], ["neither", p.u.input, "new"]];
  const label = parts.filter(([, n]) => n > 0).map(([name, n]) => `${count(n)} tokens ${name} (${percent(n, sum)})`).join(", ");
  return (
    <span class="cache-bar" role="img" aria-label={label} title={label}>
      {parts.map(([name, n, c]) => n > 0 && <i key={name} class={c} style={{ width: (n / sum) * 100 + "%" }} />)}
    </span>
  );
}

export const parts: { key: keyof ContextBytes; name: string }[] = [
  { key: "system", name: "System" }, { key: "tools", name: "Tools" }, { key: "history", name: "History" }, { key: "results", name: "Tool results" }, { key: "user", name: "Asked last" }, { key: "media", name: "Media" },
];
