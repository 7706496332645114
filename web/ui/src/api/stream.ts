// Follows a run: a text/event-stream that is read by fetch, for an EventSource
// can send no Authorization header. A stream that ends is taken up again where it
// ended, later and later while trace does not answer.
import { address, request, ApiError, pinned, session } from "./client";

export interface Handlers {
  message(event: string, data: unknown): void;
  /** Told of each beginning, and of each end with the time to the next try. */
  opened(): void;
  closed(why: ApiError | null, again: number): void;
  /** Where to go on. */
  after(): number;
}

/** Cuts a text/event-stream into events, as the WHATWG says, whatever the pieces. */
export class EventParser {
  private rest = "";
  private name = "";
  private data: string[] = [];
  constructor(private readonly on: (event: string, data: string) => void) {}

  write(piece: string): void {
    this.rest += piece;
    let from = 0;
    for (;;) {
      const end = this.rest.indexOf("\n", from);
      if (end < 0) break;
      this.line(this.rest.slice(from, this.rest[end - 1] === "\r" && end > from ? end - 1 : end));
      from = end + 1;
    }
    this.rest = this.rest.slice(from);
  }

  private line(line: string): void {
    if (line === "") {
      if (this.data.length) this.on(this.name || "message", this.data.join("\n"));
      this.name = "";
      this.data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment keeps the connection alive
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "event") this.name = value;
    else if (field === "data") this.data.push(value);
  }
}

/** Follows until the returned function is called. */
export function follow(h: Handlers): () => void {
  const stop = new AbortController();
  const ours = session.value || pinned.value;
  void (async () => {
    let wait = 500;
    while (!stop.signal.aborted) {
      let why: ApiError | null = null;
      try {
        const r = await request(address("/api/stream", { after: h.after(), session: ours }), { signal: stop.signal });
        h.opened();
        await read(r, (event, data) => {
          wait = 500;
          h.message(event, data);
        });
      } catch (e) {
        if (stop.signal.aborted) return;
        why = e instanceof ApiError ? e : new ApiError(0, "the connection broke");
      }
      if (stop.signal.aborted || (why && why.status >= 400 && why.status < 500)) return h.closed(why, 0);
      h.closed(why, wait);
      await new Promise<void>((go) => {
        const t = setTimeout(go, wait);
        stop.signal.addEventListener("abort", () => (clearTimeout(t), go()), { once: true });
      });
      wait = Math.min(wait * 2, 10_000);
    }
  })();
  return () => stop.abort();
}

async function read(r: Response, on: (event: string, data: unknown) => void): Promise<void> {
  const reader = r.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  const parser = new EventParser((event, data) => {
    let value: unknown;
    try {
      value = JSON.parse(data);
    } catch {
      return; // half an event of a server that was killed
    }
    on(event, value);
  });
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    parser.write(decoder.decode(value, { stream: true }));
  }
}
