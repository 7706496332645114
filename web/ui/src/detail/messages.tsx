// The messages of a WebSocket, the datagrams of a UDP row, the beginning of what is
// not decoded.
import { useMemo } from "preact/hooks";
import type { Flow } from "../model";
import { EventList, type Item } from "./eventlist";
import { Empty } from "../base/ui";
import { useEvents } from "./events";

interface Message { dir?: string; opcode?: number; type?: string; size?: number; at_ms?: number; data?: unknown; code?: number; reason?: string; truncated?: number }

const hexLines = (base64: string): string => {
  let raw = "";
  try {
    raw = atob(base64.slice(0, 1 << 16));
  } catch {
    return base64;
  }
  const out = [];
  for (let i = 0; i < raw.length; i += 16) {
    const part = [...raw.slice(i, i + 16)];
    out.push(part.map((c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join(" ").padEnd(49) + part.map((c) => (c >= " " && c < "\x7f" ? c : "·")).join(""));
  }
  return out.join("\n");
};

export function messageItem(m: Message): Item {
  const d = m.data as { base64?: string } | string | undefined;
  const binary = typeof d === "object" && d !== null && typeof d.base64 === "string" && Object.keys(d).length === 1;
  const note = [m.code !== undefined ? `${m.code} ${m.reason ?? ""}` : "", m.truncated ? `first part of ${m.truncated} bytes` : ""].join(" ").trim();
  return {
    at: m.at_ms ?? 0, dir: m.dir, type: m.type ?? (m.opcode !== undefined ? "opcode " + m.opcode : "data"), size: m.size, note,
    text: binary ? hexLines((d as { base64: string }).base64) : typeof d === "string" ? d : d === undefined ? "" : JSON.stringify(d),
  };
}

export function Messages(p: { f: Flow }) {
  const recorded = useMemo(() => ((p.f.messages ?? []) as Message[]).map(messageItem), [p.f.messages]);
  const live = useEvents(p.f.id);
  // The whole record has sizes and directions; what came since is at its end.
  const items = recorded.length >= live.items.length ? recorded : [...recorded, ...live.items.slice(recorded.length)];
  return (
    <EventList items={items} version={items.length + ":" + live.version} label="Messages" follow={p.f.state === "open"}
      empty={<Empty title={p.f.state === "open" ? "No message yet" : "No messages"}>{p.f.kind === "tcp" && <p>What hides its text from redaction is counted and not kept.</p>}</Empty>} />
  );
}
