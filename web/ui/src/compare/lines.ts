// The difference of two texts, line by line: the greedy algorithm of Myers, with a
// bound on how different they may be.

export interface LinePair { a?: string; b?: string; an?: number; bn?: number; same: boolean }

const maxEdits = 3000;

export function diffLines(a: string[], b: string[]): LinePair[] {
  let from = 0;
  while (from < a.length && from < b.length && a[from] === b[from]) from++;
  let ea = a.length, eb = b.length;
  while (ea > from && eb > from && a[ea - 1] === b[eb - 1]) {
    ea--;
    eb--;
  }
  const out: LinePair[] = [];
  for (let i = 0; i < from; i++) out.push({ a: a[i], b: b[i], an: i + 1, bn: i + 1, same: true });
  for (const op of middle(a, b, from, ea, from, eb)) out.push(op);
  for (let i = ea, k = eb; i < a.length; i++, k++) out.push({ a: a[i], b: b[k], an: i + 1, bn: k + 1, same: true });
  return pairUp(out);
}

function middle(a: string[], b: string[], a0: number, a1: number, b0: number, b1: number): LinePair[] {
  const n = a1 - a0, m = b1 - b0;
  const whole = (): LinePair[] => [
    ...a.slice(a0, a1).map((s, i): LinePair => ({ a: s, an: a0 + i + 1, same: false })),
    ...b.slice(b0, b1).map((s, i): LinePair => ({ b: s, bn: b0 + i + 1, same: false })),
  ];
  if (!n || !m) return whole();
  const max = Math.min(n + m, maxEdits);
  const trace: Int32Array[] = [];
  let v = new Int32Array(2 * max + 3);
  const mid = max + 1;
  for (let d = 0; d <= max; d++) {
    trace.push(v.slice(mid - d - 1, mid + d + 2));
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && v[mid + k - 1]! < v[mid + k + 1]!) ? v[mid + k + 1]! : v[mid + k - 1]! + 1;
      while (x < n && x - k < m && a[a0 + x] === b[b0 + x - k]) x++;
      v[mid + k] = x;
      if (x >= n && x - k >= m) return back(trace, d, n, m, a, b, a0, b0);
    }
    if (d * d > 8e6) break; // what was kept of each step grows with the square
  }
  return whole();
}

function back(trace: Int32Array[], d: number, n: number, m: number, a: string[], b: string[], a0: number, b0: number): LinePair[] {
  const out: LinePair[] = [];
  let x = n, y = m;
  const same = () => {
    x--;
    y--;
    out.push({ a: a[a0 + x], b: b[b0 + y], an: a0 + x + 1, bn: b0 + y + 1, same: true });
  };
  for (; d > 0; d--) {
    const v = trace[d]!;
    const at = (k: number) => v[k + d + 1]!;
    const k = x - y;
    const down = k === -d || (k !== d && at(k - 1) < at(k + 1));
    const pk = down ? k + 1 : k - 1;
    const px = at(pk), py = px - pk;
    while (x > px && y > py && x > (down ? px : px + 1) - 0 && y > (down ? py + 1 : py)) same();
    if (down) {
      y--;
      out.push({ b: b[b0 + y], bn: b0 + y + 1, same: false });
    } else {
      x--;
      out.push({ a: a[a0 + x], an: a0 + x + 1, same: false });
    }
  }
  while (x > 0 && y > 0) same();
  return out.reverse();
}

/** Lines that were removed stand beside those that came in their place. */
function pairUp(list: LinePair[]): LinePair[] {
  const out: LinePair[] = [];
  for (let i = 0; i < list.length; ) {
    if (list[i]!.same) {
      out.push(list[i++]!);
      continue;
    }
    const gone: LinePair[] = [], come: LinePair[] = [];
    for (; i < list.length && !list[i]!.same; i++) (list[i]!.a !== undefined ? gone : come).push(list[i]!);
    for (let k = 0; k < Math.max(gone.length, come.length); k++) out.push({ ...gone[k], ...come[k], same: false });
  }
  return out;
}
