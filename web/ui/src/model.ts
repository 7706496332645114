// The shapes that the server speaks: those of docs/cli.md, and the narrow rows
// of the timeline. What a member may lack is optional, for the page must not
// break on a record that lacks it.

export interface Problem { where?: string; code: string; message?: string; hint?: string; detail?: string; at?: string }

export interface Tokens { input: number; cache_read: number; cache_write: number; output: number; reasoning?: number }

export interface Timings { dns?: number; connect?: number; ssl?: number; send?: number; wait?: number; receive?: number; first_event?: number; blocked?: number }

/** A row of the timeline. */
export interface Outline {
  id: string; seq: number; kind: string; state: string; started: string; duration_ms?: number | null;
  process?: { pid?: number; name?: string } | null; host?: string; port?: number; method?: string; path?: string;
  status?: number; content_type?: string; req_size?: number; resp_size?: number; streaming?: boolean; events?: number;
  error?: Problem | null; opaque?: string; model?: string; tokens?: Tokens | null; altered?: boolean; protocol?: string;
  timings?: Timings | null; source?: string; replay_of?: string; llm?: boolean; rcode?: string; path_cut?: boolean;
  /** Worked out by the page, once. */
  at?: number; num?: number; hay?: string;
}

export interface Session {
  id: string; name: string; source?: string; argv?: string[]; started?: string; ended?: string; state: string; flows: number;
  opaque?: number; gaps?: number; exit?: number | null; file?: string; version?: string; live?: boolean; sessions?: SessionRow[];
}

export interface SessionRow { id: string; name: string; state: string; started?: string; flows?: number }

export type Field = [string, string];

export interface Head {
  method?: string; scheme?: string; host?: string; port?: number; path?: string; http_version?: string; headers?: Field[]; trailers?: Field[];
  status?: number; reason?: string; body_size?: number; body_sha256?: string | null; content_type?: string; streaming?: boolean; events?: number;
  authority?: string; stream_id?: number; protocol?: string; framing?: string; body?: unknown; truncated?: boolean | number; size?: number;
  grpc_status?: number; grpc_message?: string; informational?: Head[];
}

export interface Leg { [k: string]: unknown; verdict?: string; chain?: Certificate[] }

export interface Certificate { subject?: string; issuer?: string; not_before?: string; not_after?: string; sha256?: string; dns_names?: string[]; ip_addresses?: string[] }

export interface Conn {
  id?: string; src?: string; dst?: string; host?: string; sni?: string; alpn?: string; tls?: string; decrypted?: boolean; opaque?: string;
  protocol?: string; child_tls?: Leg | null; upstream_tls?: Leg | null;
}

export interface FlowEvent { n?: number; at_ms: number; event?: string; type?: string; data?: unknown; dir?: string; size?: number; id?: string }

/** One flow in full: `flows show --json`. */
export interface Flow {
  id: string; session?: string; source?: string; kind: string; state: string; started: string; duration_ms?: number | null;
  process?: { pid?: number; argv?: string[]; exe?: string; parents?: number[] } | null; conn?: Conn | null; request?: Head | null; response?: Head | null;
  forwarded?: Head | null; timings?: Timings | null; llm?: LLM | null; redacted?: number; error?: Problem | null; marks?: Problem[];
  dns?: { name?: string; type?: string; rcode?: string; answers?: string[] } | null; bytes?: { sent?: number; received?: number }; message_count?: unknown; messages?: unknown[]; events?: FlowEvent[]; why?: { text?: string; mend?: string } | null; replay_of?: string;
}

export interface LLM {
  provider?: string; api?: string; model?: string; served_model?: string; stop_reason?: string | null; usage?: Tokens | null; thread?: Thread | null;
  error?: CallError | null; partial?: boolean; context_bytes?: ContextBytes; first_token_ms?: number | null; tokens_per_second?: number | null; tool_calls?: number;
}

export interface CallError { type?: string; message?: string; status?: number }

export interface Thread {
  first?: string; turn?: number; previous?: string; shared_messages?: number; retry_of?: string; parent?: string; parent_tool?: string; parent_tool_name?: string;
  compacted?: boolean; edited?: boolean;
}

export interface ContextBytes { system?: number; tools?: number; results?: number; history?: number; user?: number; media?: number }

export interface Block {
  kind: string; type?: string; text?: string; id?: string; name?: string; input?: unknown; server?: boolean; content?: Block[]; is_error?: boolean;
  media_type?: string; size?: number; url?: string; cache_control?: unknown; raw?: unknown;
}

export interface Message { role: string; blocks: Block[]; stop_reason?: string; new?: boolean }

export interface Tool { name: string; type?: string; description?: string; input_schema?: unknown }

export interface Cache { result?: string; expected?: boolean; expected_all?: boolean; why?: string; told?: string; stored_tokens?: number; read_tokens?: number; prompt_tokens?: number; age_ms?: number; life_ms?: number }

export interface Cost { amount: number; currency: string }

export interface Call {
  provider?: string; api?: string; model?: string; served_model?: string; stream?: boolean; params?: Record<string, unknown>; system?: Block[]; tools?: Tool[];
  messages?: Message[]; answer?: Message[]; stop_reason?: string | null; usage?: Tokens | null; error?: CallError | null; partial?: boolean;
  first_token_ms?: number | null; last_event_ms?: number | null; thread?: Thread | null; context_bytes?: ContextBytes; cost?: Cost | null; cache?: Cache | null;
  new_from?: number; state?: string; duration_ms?: number | null;
}

/** A turn of a conversation, for its charts. */
export interface Turn {
  id: string; turn?: number; previous?: string; started?: string; duration_ms?: number | null; model?: string; messages?: number; shared_messages?: number; usage?: Tokens | null;
  context_bytes?: ContextBytes | null; cache?: Cache | null; cost?: Cost | null; retry_of?: string; compacted?: boolean; edited?: boolean; stop_reason?: string | null;
  error?: CallError | null;
}

export interface Conversation {
  id: string; title?: string; parent?: { thread?: string; flow?: string; tool?: string; tool_name?: string } | null; agent?: string; calls: string[]; turns?: Turn[];
}

export interface Span { op: string; text: string }

export interface Change {
  area: string; what: string; old_index?: number; new_index?: number; old_block?: number; new_block?: number; name?: string; kind?: string; old?: string; new?: string; spans?: Span[];
}

export interface FieldChange { path: string; old?: unknown; new?: unknown }

export interface Diff {
  a?: { session?: string; id?: string; template?: string } | null; b?: { session?: string; id?: string } | null; same?: boolean; thread?: Thread | null; changes?: Change[] | null;
  shared_messages?: number; appended_messages?: number; appended?: Message[] | null; appended_answer?: number; first_change?: number; cache?: Cache | null;
  head?: FieldChange[] | null; body?: FieldChange[] | null; skipped?: string[] | null;
}

export interface Replayed { id: string; session?: string; status?: number; state?: string; notes?: string[] | null; changes?: { what: string; old?: unknown; new?: unknown }[] | null }
