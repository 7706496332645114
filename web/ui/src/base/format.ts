// Numbers, times and hostile text as people read them. Pure functions.

const units = ["B", "KB", "MB", "GB", "TB"];

/** A size in bytes, three digits at most. */
export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined || n < 0) return "";
  let u = 0;
  while (n >= 999.5 && u < units.length - 1) {
    n /= 1000;
    u++;
  }
  return (u === 0 || n >= 99.5 ? Math.round(n).toString() : n.toFixed(n >= 9.95 ? 1 : 2).replace(/\.?0+$/, "")) + " " + units[u];
}

/** A duration in milliseconds. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !isFinite(ms)) return "";
  if (ms < 0) return "−" + duration(-ms);
  if (ms < 9.95) return ms.toFixed(1) + " ms";
  if (ms < 999.5) return Math.round(ms) + " ms";
  if (ms < 59950) return (ms / 1000).toFixed(ms < 9995 ? 2 : 1) + " s";
  const s = Math.round(ms / 1000);
  if (s < 3600) return Math.floor(s / 60) + "m " + String(s % 60).padStart(2, "0") + "s";
  return Math.floor(s / 3600) + "h " + String(Math.floor((s % 3600) / 60)).padStart(2, "0") + "m";
}

/** A count with thin spaces, or shortened: 48 512, 48.5k. */
export function count(n: number | null | undefined): string {
  return n === null || n === undefined ? "" : n.toLocaleString("en-US").replaceAll(",", "\u202f");
}

export function short(n: number | null | undefined): string {
  if (n === null || n === undefined) return "";
  if (n < 1000) return String(n);
  if (n < 999500) return (n / 1000).toFixed(n < 9950 ? 1 : n < 99950 ? 1 : 0).replace(/\.0$/, "") + "k";
  return (n / 1e6).toFixed(n < 99.5e6 ? 1 : 0).replace(/\.0$/, "") + "M";
}

export function percent(part: number, whole: number): string {
  return whole > 0 ? Math.round((part / whole) * 100) + "\u202f%" : "–";
}

/** The time of day, with milliseconds. */
export function clock(iso: string | number | undefined, millis = true): string {
  if (iso === undefined || iso === "") return "";
  const d = new Date(iso);
  if (isNaN(d.getTime())) return "";
  const p = (n: number, w = 2) => String(n).padStart(w, "0");
  return p(d.getHours()) + ":" + p(d.getMinutes()) + ":" + p(d.getSeconds()) + (millis ? "." + p(d.getMilliseconds(), 3) : "");
}

export function day(iso: string | undefined): string {
  const d = new Date(iso ?? "");
  return isNaN(d.getTime()) ? "" : d.toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" });
}

export function money(c: { amount: number; currency: string } | null | undefined): string {
  if (!c) return "";
  return (c.currency === "USD" ? "$" : c.currency + " ") + c.amount.toFixed(c.amount !== 0 && c.amount < 0.01 ? 4 : 2);
}

// Characters that show nothing, or turn the text around them: C0 and C1 but for
// tab and newline, bidirectional marks, joiners that only hide, tags, and halves of
// surrogate pairs.
const odd = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]|\udb40[\udc00-\udfff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

export interface Piece { text: string; odd: boolean }

/** Cuts text into plain pieces and escaped odd ones. */
export function pieces(s: string): Piece[] {
  const out: Piece[] = [];
  let from = 0;
  for (const m of s.matchAll(odd)) {
    if (m[0] === "\r" && s[m.index + 1] === "\n") {
      out.push({ text: s.slice(from, m.index), odd: false });
      from = m.index + 1; // CR LF is a line's end
      continue;
    }
    if (m.index > from) out.push({ text: s.slice(from, m.index), odd: false });
    out.push({ text: escape(m[0]), odd: true });
    from = m.index + m[0].length;
  }
  if (from < s.length) out.push({ text: s.slice(from), odd: false });
  return out;
}

// Without the flag g, which would remember where it was.
const anyOdd = new RegExp(odd.source);

/** Whether all of s can be shown as it is. */
export function plain(s: string): boolean {
  return !anyOdd.test(s);
}

function escape(c: string): string {
  const n = c.codePointAt(0) ?? 0;
  if (n === 0x1b) return "\\e";
  if (n === 0x0d) return "\\r";
  return n < 0x100 ? "\\x" + n.toString(16).padStart(2, "0") : "\\u" + (n < 0x10000 ? n.toString(16).padStart(4, "0") : "{" + n.toString(16) + "}");
}

/** The text as one string, odd characters escaped; for titles and attributes. */
export function visible(s: string): string {
  return plain(s) ? s : pieces(s).map((p) => p.text).join("");
}

/** The same on one line. */
export function oneLine(s: string, max = 400): string {
  const cut = s.length > max ? s.slice(0, max) + "…" : s;
  return visible(cut.replace(/\s*\n\s*/g, " ⏎ ").replaceAll("\t", " "));
}

/** The class by which a status is coloured. */
export function statusClass(status: number | undefined, state: string): string {
  if (state === "failed") return "bad";
  if (!status) return "none";
  return status >= 500 ? "bad" : status >= 400 ? "warn" : status >= 300 ? "moved" : status >= 200 ? "ok" : "info";
}
