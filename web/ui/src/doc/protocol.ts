// What the page asks the worker that holds a body.
import type { Members } from "./json";

export type Question =
  | { op: "open"; url: string; token: string }
  | { op: "text"; text: string }
  | { op: "root"; sequence: boolean; from: number; index: number; max: number }
  | { op: "members"; start: number; from: number; index: number; max: number }
  | { op: "string"; start: number; end: number; max: number }
  | { op: "slice"; start: number; end: number; max: number }
  | { op: "bytes"; start: number; end: number }
  | { op: "wrap"; cols: number }
  | { op: "rows"; from: number; to: number }
  | { op: "find"; text: string; from: number };

/** What a body is. */
export interface Body { have: number; size: number; type: string; shape: "json" | "ndjson" | ""; text: boolean; image: string; truncated?: boolean }

export interface TextRow { text: string; begins: boolean }

/** A body in a worker. */
export class Doc {
  private readonly worker = new Worker("/assets/doc.js");
  private readonly waiting = new Map<number, { ok(v: unknown): void; no(e: Error): void }>();
  private n = 0;
  private broken: Error | null = null;
  onProgress: (p: { have: number; size: number }) => void = () => {};

  constructor() {
    this.worker.onmessage = (e: MessageEvent<{ id: number; value?: unknown; error?: string; progress?: { have: number; size: number } }>) => {
      if (e.data.progress) return this.onProgress(e.data.progress);
      const w = this.waiting.get(e.data.id);
      this.waiting.delete(e.data.id);
      if (e.data.error !== undefined) w?.no(new Error(e.data.error));
      else w?.ok(e.data.value);
    };
    this.worker.onerror = (e) => {
      this.broken = new Error(e.message || "the worker ended");
      for (const w of this.waiting.values()) w.no(this.broken);
      this.waiting.clear();
    };
  }

  ask<T>(q: Question): Promise<T> {
    if (this.broken) return Promise.reject(this.broken);
    return new Promise<T>((ok, no) => {
      const id = ++this.n;
      this.waiting.set(id, { ok: ok as (v: unknown) => void, no });
      this.worker.postMessage({ ...q, id });
    });
  }

  members(start: number, from: number, index: number, max: number): Promise<Members> {
    return this.ask<Members>({ op: "members", start, from, index, max });
  }

  close(): void {
    this.worker.terminate();
    this.waiting.clear(); // nobody looks at the answers any more
  }
}
