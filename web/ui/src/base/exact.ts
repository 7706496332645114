// JSON as it was sent: numbers of any length keep their digits, members their order
// and their doubles, which JSON.parse takes away.

/** Indents JSON by its tokens; what is no JSON comes back as it is. */
export function indent(text: string): string {
  const s = text.trim();
  if (!/^[[{]/.test(s)) return text;
  const out: string[] = [];
  const stack: string[] = [];
  const newline = (n: number) => "\n" + "  ".repeat(Math.min(n, 40));
  for (let i = 0; i < s.length; ) {
    const c = s[i]!;
    if (c === '"') {
      let end = i + 1;
      while (end < s.length && s[end] !== '"') end += s[end] === "\\" ? 2 : 1;
      if (end >= s.length) return text;
      out.push(s.slice(i, end + 1));
      i = end + 1;
    } else if (c === "{" || c === "[") {
      const close = c === "{" ? "}" : "]";
      let next = i + 1;
      while (/\s/.test(s[next] ?? "")) next++;
      if (s[next] === close) {
        out.push(c + close);
        i = next + 1;
        continue;
      }
      stack.push(close);
      out.push(c, newline(stack.length));
      i++;
    } else if (c === "}" || c === "]") {
      if (stack.pop() !== c) return text;
      out.push(newline(stack.length), c);
      i++;
    } else if (c === ",") {
      out.push(",", newline(stack.length));
      i++;
    } else if (c === ":") {
      out.push(": ");
      i++;
    } else if (/\s/.test(c)) i++;
    else {
      let end = i;
      while (end < s.length && !/[\s,:[\]{}"]/.test(s[end]!)) end++;
      out.push(s.slice(i, end));
      i = end;
    }
  }
  return stack.length ? text : out.join("");
}

type Reviver = (this: unknown, key: string, value: unknown, context?: { source?: string }) => unknown;
type Raw = typeof JSON & { rawJSON?: (s: string) => unknown };

/** Parses JSON; where the browser can, numbers that a double cannot hold stay as
 * they are written when they are written again. */
export function parseExact(text: string): unknown {
  const raw = (JSON as Raw).rawJSON;
  if (!raw || !/\d{17}|\d\.\d{16}/.test(text)) return JSON.parse(text);
  const keep: Reviver = (_, value, context) =>
    typeof value === "number" && context?.source && context.source.replace(/\D/g, "").length > 16 && String(value) !== context.source ? raw(context.source) : value;
  return JSON.parse(text, keep as (this: unknown, key: string, value: unknown) => unknown);
}
