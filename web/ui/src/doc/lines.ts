// Text as rows of a width: where each row begins, so that a line of ten megabytes
// is many rows, of which only those in view are ever decoded.

/** The byte offsets at which rows of at most cols characters begin, and the end. */
export function rows(b: Uint8Array, cols: number): Uint32Array {
  let starts = new Uint32Array(1024), n = 0, chars = 0;
  const push = (at: number) => {
    if (n === starts.length) {
      const more = new Uint32Array(n * 2);
      more.set(starts);
      starts = more;
    }
    starts[n++] = at;
  };
  push(0);
  for (let i = 0; i < b.length; i++) {
    const c = b[i] as number;
    if (c === 0x0a) {
      if (i + 1 < b.length) push(i + 1);
      chars = 0;
    } else if ((c & 0xc0) !== 0x80) {
      if (chars === cols) {
        push(i);
        chars = 0;
      }
      chars++;
    }
  }
  push(b.length);
  return starts.slice(0, n);
}

/** The row that holds an offset. */
export function rowOf(starts: Uint32Array, offset: number): number {
  let lo = 0, hi = starts.length - 2;
  while (lo < hi) {
    const mid = (lo + hi + 1) >> 1;
    if ((starts[mid] as number) <= offset) lo = mid;
    else hi = mid - 1;
  }
  return lo;
}

/** The next place of needle from an offset on, letters of ASCII alike, -1 if none. */
export function find(b: Uint8Array, needle: Uint8Array, from: number): number {
  if (!needle.length) return -1;
  const low = (c: number) => (c >= 0x41 && c <= 0x5a ? c + 32 : c);
  const n = needle.map(low), first = n[0] as number;
  outer: for (let i = from; i + n.length <= b.length; i++) {
    if (low(b[i] as number) !== first) continue;
    for (let k = 1; k < n.length; k++) if (low(b[i + k] as number) !== n[k]) continue outer;
    return i;
  }
  return -1;
}

/** Whether the beginning reads as text: UTF-8, hardly any control characters. */
export function isText(b: Uint8Array): boolean {
  const head = b.subarray(0, 4096);
  let odd = 0;
  for (const c of head) {
    if (c === 0) return false;
    if (c < 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09 && c !== 0x1b) odd++;
  }
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: true });
  } catch {
    return false;
  }
  return odd <= head.length / 20;
}

const magic: [string, number[]][] = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47]], ["image/jpeg", [0xff, 0xd8, 0xff]], ["image/gif", [0x47, 0x49, 0x46, 0x38]], ["image/bmp", [0x42, 0x4d]],
  ["image/x-icon", [0, 0, 1, 0]],
];

/** The type of an image that browsers show, "" if it is none. */
export function imageType(b: Uint8Array, said: string): string {
  for (const [type, m] of magic) if (m.every((c, i) => b[i] === c)) return type;
  const tag = String.fromCharCode(...b.subarray(0, 12));
  if (tag.startsWith("RIFF") && tag.endsWith("WEBP")) return "image/webp";
  if (tag.slice(4, 11) === "ftypavi") return "image/avif";
  return said.startsWith("image/svg") ? "image/svg+xml" : "";
}
