// The little of node that the tests use, so that no type package is needed.
declare module "node:test" {
  export default function test(name: string, f: () => void | Promise<void>): void;
}
declare module "node:assert/strict" {
  const assert: {
    ok(v: unknown, message?: string): asserts v;
    equal(a: unknown, b: unknown, message?: string): void;
    deepEqual(a: unknown, b: unknown, message?: string): void;
    match(s: string, re: RegExp, message?: string): void;
  };
  export default assert;
}
