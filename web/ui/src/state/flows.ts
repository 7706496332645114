// The rows of the timeline, and which of them the filter lets through. Rows lie in
// one array, never copied; what changes is gathered and shown once a frame.
import { signal } from "@preact/signals";
import type { Outline } from "../model";
import { parseFilter, type Filter } from "./filter";

export type SortKey = "" | "process" | "method" | "host" | "path" | "status" | "kind" | "size" | "time" | "model" | "tokens";

export class Flows {
  readonly rows: Outline[] = [];
  private readonly at = new Map<string, number>();
  private passed = new Uint8Array(1024);
  /** Indices of the rows that are shown, in their order. */
  seen: number[] = [];
  /** The position of each shown row; built when asked for. */
  private places: Map<string, number> | null = null;
  /** The highest sequence number that came. */
  seq = 0;
  /** Grows when something is to be drawn anew. */
  readonly version = signal(0);
  private filter: Filter = parseFilter("");
  /** Rows that trace let through, where the filter asks it; null: it is not asked. */
  private allowed: Set<string> | null = null;
  private cleared = 0; // rows before this one are hidden
  private sort: SortKey = "";
  private down = false;
  private due = false;
  private framed = false;
  totals = { errors: 0, opaque: 0, bytes: 0, prompt: 0, output: 0, calls: 0, cached: 0 };

  get(id: string): Outline | undefined {
    const i = this.at.get(id);
    return i === undefined ? undefined : this.rows[i];
  }

  /** Adds rows, and replaces those that are there. */
  put(list: Outline[]): void {
    let moved = false;
    for (const r of list) {
      r.at = Date.parse(r.started);
      r.num = Number(r.id);
      if (r.seq > this.seq) this.seq = r.seq;
      const i = this.at.get(r.id);
      if (i !== undefined) {
        if (r.seq < this.rows[i]!.seq) continue; // told late, known better
        this.count(this.rows[i], -1);
        this.rows[i] = r;
        this.count(r, 1);
        const pass = this.passes(r, i) ? 1 : 0;
        if (pass !== this.passed[i]) {
          this.passed[i] = pass;
          moved = true;
        }
        continue;
      }
      const n = this.rows.push(r) - 1;
      this.at.set(r.id, n);
      this.count(r, 1);
      if (n >= this.passed.length) {
        const more = new Uint8Array(this.passed.length * 2);
        more.set(this.passed);
        this.passed = more;
      }
      this.passed[n] = this.passes(r, n) ? 1 : 0;
      if (!this.passed[n] || this.sort) continue;
      // Rows come in the order in which they changed, and are shown in that in
      // which they began.
      const end = this.seen[this.seen.length - 1];
      if (end !== undefined && this.rows[end]!.num! > r.num) moved = true;
      this.seen.push(n);
      this.places?.set(r.id, this.seen.length - 1);
    }
    if (moved || this.sort) this.gather();
    this.draw(true);
  }

  remove(ids: string[]): void {
    const gone = new Set(ids);
    const keep = this.rows.filter((r) => !gone.has(r.id));
    const seq = this.seq;
    this.reset();
    this.put(keep);
    this.seq = seq;
  }

  reset(): void {
    this.rows.length = 0;
    this.at.clear();
    this.seen = [];
    this.places = null;
    this.seq = this.cleared = 0;
    this.totals = { errors: 0, opaque: 0, bytes: 0, prompt: 0, output: 0, calls: 0, cached: 0 };
    this.draw();
  }

  private count(r: Outline | undefined, n: number): void {
    if (!r) return;
    const t = this.totals;
    if (r.error || r.state === "failed" || (r.status ?? 0) >= 400) t.errors += n;
    if (r.opaque) t.opaque += n;
    t.bytes += n * (Math.max(0, r.req_size ?? 0) + Math.max(0, r.resp_size ?? 0));
    if (r.llm) t.calls += n;
    if (r.tokens) {
      t.prompt += n * (r.tokens.input + r.tokens.cache_read + r.tokens.cache_write);
      t.cached += n * r.tokens.cache_read;
      t.output += n * r.tokens.output;
    }
  }

  private passes(r: Outline, i: number): boolean {
    return i >= this.cleared && (!this.allowed || this.allowed.has(r.id)) && this.filter.match(r);
  }

  setFilter(f: Filter, allowed: Set<string> | null): void {
    this.filter = f;
    this.allowed = allowed;
    this.retest();
  }

  setSort(key: SortKey, down: boolean): void {
    this.sort = key;
    this.down = down;
    this.gather();
    this.draw();
  }

  /** Hides what is there now; it stays in the record. */
  clear(): void {
    this.cleared = this.rows.length;
    this.retest();
  }

  unclear(): void {
    this.cleared = 0;
    this.retest();
  }

  get hidden(): number {
    return this.cleared;
  }

  private retest(): void {
    for (let i = 0; i < this.rows.length; i++) this.passed[i] = this.passes(this.rows[i]!, i) ? 1 : 0;
    this.gather();
    this.draw();
  }

  private gather(): void {
    const seen: number[] = [];
    for (let i = 0; i < this.rows.length; i++) if (this.passed[i]) seen.push(i);
    if (this.sort) {
      const keys = seen.map((i) => sortValue(this.rows[i]!, this.sort));
      const order = seen.map((_, k) => k);
      const sign = this.down ? -1 : 1;
      order.sort((a, b) => {
        const x = keys[a]!, y = keys[b]!;
        return x < y ? -sign : x > y ? sign : this.rows[seen[a]!]!.num! - this.rows[seen[b]!]!.num!;
      });
      this.seen = order.map((k) => seen[k]!);
    } else this.seen = seen.sort((a, b) => this.rows[a]!.num! - this.rows[b]!.num!);
    this.places = null;
  }

  /** The row that stands at a place of the list. */
  shown(place: number): Outline | undefined {
    const i = this.seen[place];
    return i === undefined ? undefined : this.rows[i];
  }

  /** Where a row stands in the list, -1 if it is filtered out. */
  place(id: string): number {
    if (!this.places) {
      this.places = new Map();
      this.seen.forEach((i, k) => this.places!.set(this.rows[i]!.id, k));
    }
    return this.places.get(id) ?? -1;
  }

  private drawn = 0;

  /** Shows what has changed. Rows that pour in are shown ten times a second, which
   * leaves the page time for its reader; what he does himself is shown at once. */
  private draw(pouring = false): void {
    const wait = pouring ? 100 - (performance.now() - this.drawn) : 0;
    if (this.due && wait > 0) return;
    if (!this.due && wait > 0) {
      this.due = true;
      setTimeout(() => {
        this.due = false;
        this.draw();
      }, wait);
      return;
    }
    if (this.framed) return;
    this.framed = true;
    // A tab in the background has no frames; it is brought up to date when it is seen.
    requestAnimationFrame(() => {
      this.framed = false;
      this.drawn = performance.now();
      this.version.value++;
    });
  }
}

function sortValue(r: Outline, key: SortKey): string | number {
  switch (key) {
    case "process": return r.process?.name ?? "";
    case "method": return r.method ?? "";
    case "host": return (r.host ?? "").split(".").reverse().join(".");
    case "path": return r.path ?? "";
    case "status": return r.status ?? (r.state === "failed" ? 999 : 0);
    case "kind": return r.kind;
    case "size": return Math.max(0, r.resp_size ?? 0) + Math.max(0, r.req_size ?? 0);
    case "time": return r.duration_ms ?? -1;
    case "model": return r.model ?? "";
    case "tokens": return r.tokens ? r.tokens.input + r.tokens.cache_read + r.tokens.cache_write + r.tokens.output : -1;
  }
  return 0;
}
