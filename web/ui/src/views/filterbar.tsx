// The filter bar: a language for those who type, buttons for those who do not.
import { useRef } from "preact/hooks";
import { asking, filterError, filterText, flows, run } from "../state/app";
import { count, short, bytes, percent } from "../base/format";

const chips: [string, string][] = [["LLM", "has:llm"], ["Errors", "has:error"], ["Not decrypted", "has:opaque"], ["Streams", "has:events"], ["Open", "state:open"]];
const suggestions = ["host:", "status:>=400", "kind:websocket", "process:", "model:", "method:POST", "has:error", "has:llm", "size:>1mb", "time:>2s", "body:", "jq:"];

export function FilterBar() {
  const field = useRef<HTMLInputElement>(null);
  const words = filterText.value.split(/\s+/);
  const toggle = (term: string) => {
    const on = words.includes(term);
    filterText.value = (on ? words.filter((w) => w !== term) : filterText.value.includes("jq:") ? [term, filterText.value] : [...words, term]).join(" ").trim();
  };
  return (
    <div class="filter" role="search">
      <label class="filter-field">
        <span class="filter-mark" aria-hidden="true">/</span>
        <input id="filter" ref={field} type="text" value={filterText.value} onInput={(e) => (filterText.value = e.currentTarget.value)} spellcheck={false} autocomplete="off" autocapitalize="off" list="terms"
          placeholder="Filter: words, host:api.*, status:>=400, kind:, process:, model:, body:, jq:…" aria-label="Filter flows" aria-keyshortcuts="/" aria-invalid={filterError.value !== ""} aria-describedby="filter-error"
          onKeyDown={(e) => {
            if (e.key === "Escape") {
              if (filterText.value) filterText.value = "";
              else field.current?.blur();
              e.stopPropagation();
            } else if (e.key === "Enter" || e.key === "ArrowDown") {
              if (e.key === "ArrowDown" && !filterText.value) return;
              document.querySelector<HTMLElement>("main .vlist")?.focus();
              e.preventDefault();
            }
          }} />
        {filterText.value && <button type="button" class="clear" aria-label="Empty the filter" onClick={() => ((filterText.value = ""), field.current?.focus())}>×</button>}
      </label>
      <datalist id="terms">{suggestions.map((s) => <option value={s} key={s} />)}</datalist>
      <span class="chips" role="group" aria-label="Common filters">
        {chips.map(([name, term]) => (
          <button type="button" class="chip" key={term} aria-pressed={words.includes(term)} onClick={() => toggle(term)}>{name}</button>
        ))}
      </span>
      <span id="filter-error" class={"filter-error" + (filterError.value ? " bad" : "")} role={filterError.value ? "alert" : undefined}>{filterError.value || (asking.value ? "searching bodies…" : "")}</span>
    </div>
  );
}

/** Counts at the foot of the page. */
export function Footer() {
  flows.version.value;
  const t = flows.totals, n = flows.rows.length, shown = flows.seen.length;
  return (
    <footer class="foot" aria-label="Counts">
      <span>{shown === n ? count(n) : count(shown) + " of " + count(n)} {n === 1 ? "flow" : "flows"}</span>
      {t.errors > 0 && <span class="bad">{count(t.errors)} {t.errors === 1 ? "error" : "errors"}</span>}
      {t.opaque > 0 && <span>{count(t.opaque)} not decrypted</span>}
      <span>{bytes(t.bytes)}</span>
      {t.calls > 0 && <span>{count(t.calls)} LLM {t.calls === 1 ? "call" : "calls"}</span>}
      {t.prompt > 0 && <span title={`${count(t.prompt)} tokens in, ${count(t.cached)} of them from the cache; ${count(t.output)} out`}>{short(t.prompt)} in ({percent(t.cached, t.prompt)} cached), {short(t.output)} out</span>}
      {(run.value?.gaps ?? 0) > 0 && <span class="bad" title="Something was not recorded: trace could not write it">{run.value?.gaps} {run.value?.gaps === 1 ? "gap" : "gaps"}</span>}
      <span class="space" />
      {run.value?.version && <span class="dim">trace {run.value.version}</span>}
    </footer>
  );
}
