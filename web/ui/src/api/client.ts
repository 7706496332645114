// Speaks with trace. The token comes in the fragment of the page's address, which
// browsers send to nobody; it is kept for this tab only and goes back in the
// Authorization header.
import { signal } from "@preact/signals";
import { parseExact } from "../base/exact";

const tokenKey = "trace-token";

/** Why nothing can be asked: no or a wrong token. */
export const locked = signal(false);

/** Takes the token out of the address, and the address clean. */
export function takeToken(): void {
  const params = new URLSearchParams(location.hash.slice(1));
  const token = params.get("token");
  if (token) {
    remember(token);
    params.delete("token");
    const rest = params.toString();
    history.replaceState(null, "", location.pathname + (rest ? "#" + rest : ""));
  }
  locked.value = !currentToken();
}

let inMemory = ""; // where the browser keeps no storage

function remember(token: string): void {
  inMemory = token;
  try {
    sessionStorage.setItem(tokenKey, token);
  } catch {
    // kept in memory then
  }
}

export function currentToken(): string {
  if (inMemory) return inMemory;
  try {
    return sessionStorage.getItem(tokenKey) ?? "";
  } catch {
    return "";
  }
}

/** What trace answered instead, or why it could not be asked. */
export class ApiError extends Error {
  constructor(readonly status: number, message: string, readonly hint = "") {
    super(message);
  }
  /** No answer at all: trace has ended, or the machine sleeps. */
  get gone(): boolean {
    return this.status === 0;
  }
}

/** The session whose flows are shown; "" is the newest. */
export const session = signal("");
/** Which session that was when the page was loaded. */
export const pinned = signal("");

export function address(path: string, params: Record<string, string | number | undefined> = {}): string {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) if (v !== undefined && v !== "") q.set(k, String(v));
  const chosen = session.value || pinned.value;
  if (chosen && !q.has("session")) q.set("session", chosen);
  const s = q.toString();
  return path + (s ? "?" + s : "");
}

export async function request(url: string, init: RequestInit = {}): Promise<Response> {
  let r: Response;
  try {
    r = await fetch(url, {
      ...init, credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
      headers: { ...(init.headers as Record<string, string>), Authorization: "Bearer " + currentToken() },
    });
  } catch (e) {
    if ((e as Error).name === "AbortError") throw e;
    throw new ApiError(0, "trace does not answer", "If its run has ended, 'trace web' shows the record again.");
  }
  if (r.ok) return r;
  if (r.status === 401) locked.value = true;
  let message = r.status + " " + r.statusText, hint = "";
  try {
    const j = (await r.json()) as { error?: string; hint?: string };
    message = j.error ?? message;
    hint = j.hint ?? "";
  } catch {
    // an answer without JSON says no more than its status
  }
  throw new ApiError(r.status, message, hint);
}

export async function get<T>(path: string, params?: Record<string, string | number | undefined>, signal?: AbortSignal): Promise<T> {
  return parseExact(await (await request(address(path, params), { signal })).text()) as T;
}

export async function text(path: string, params?: Record<string, string | number | undefined>, signal?: AbortSignal): Promise<string> {
  return await (await request(address(path, params), { signal })).text();
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  const r = await request(address(path), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  return parseExact(await r.text()) as T;
}

/** The path of a flow; ids such as 12#2 have characters of their own. */
export const flowPath = (id: string, rest = ""): string => "/api/flows/" + encodeURIComponent(id) + rest;

/** Saves what trace exports as a file of the reader's. */
export async function download(path: string, params: Record<string, string | number | undefined>, name: string): Promise<void> {
  const r = await request(address(path, params));
  const said = /filename="?([\w.-]+)"?/.exec(r.headers.get("Content-Disposition") ?? "");
  save(await r.blob(), said?.[1] ?? name);
}

export function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  document.body.append(a);
  a.click();
  a.remove();
  setTimeout(() => URL.revokeObjectURL(url), 30_000);
}
