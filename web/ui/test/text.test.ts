// What of captured text reaches the eye, and how.
import test from "node:test";
import assert from "node:assert/strict";
import { bytes, duration, oneLine, pieces, plain, short, visible } from "../src/base/format";

test("odd characters are escaped wherever they stand", () => {
  for (const odd of ["\u202e", "\u2066", "\u200b", "\u0000", "\u001b", "\u009b", "\u007f", "\ufeff", "\u{e0041}", "\ud800", "\udc00", "\u00ad", "\u2028"]) {
    for (const s of [odd, "a" + odd, odd + "a", "a" + odd + "b" + odd, odd + odd]) {
      assert.equal(plain(s), false, JSON.stringify(s));
      const shown = visible(s);
      assert.ok(!shown.includes(odd), JSON.stringify(s) + " shows as " + JSON.stringify(shown));
      assert.match(shown, /\\/);
      assert.equal(plain(s), false, "asked twice");
    }
  }
});

test("other text stays as it is", () => {
  for (const s of ["", "plain", "tab\tand\nline", "a\r\nb", "שלום", "日本語", "👩‍👩‍👧", "é", "\u{1f600}"]) {
    if (!s.includes("\r")) assert.equal(plain(s), true, s);
    assert.equal(visible(s), s.replace("\r\n", "\n"));
  }
  assert.equal(visible("a\rb"), "a\\rb");
  assert.equal(pieces("a\u202eb").length, 3);
  assert.equal(oneLine("a\n  b\u202e"), "a ⏎ b\\u202e");
  assert.equal(oneLine("x".repeat(500), 10), "x".repeat(10) + "…");
});

test("numbers", () => {
  assert.deepEqual([0, 999, 1000, 1500, 99_600, 12_345_678, 3e12].map(bytes), ["0 B", "999 B", "1 KB", "1.5 KB", "100 KB", "12.3 MB", "3 TB"]);
  assert.equal(bytes(undefined), "");
  assert.deepEqual([0.4, 12, 999, 1000, 61_000, 7_260_000].map(duration), ["0.4 ms", "12 ms", "999 ms", "1.00 s", "1m 01s", "2h 01m"]);
  assert.deepEqual([12, 1234, 48_512, 1_250_000].map(short), ["12", "1.2k", "48.5k", "1.3M"]);
});
