import test from "node:test";
import assert from "node:assert/strict";
import { members, sequence, shape, skip, valueAt } from "../src/doc/json";
import { find, imageType, isText, rowOf, rows } from "../src/doc/lines";
import { diffLines } from "../src/compare/lines";
import { indent, parseExact } from "../src/base/exact";
import { EventParser } from "../src/api/stream";

const b = (s: string): Uint8Array => new TextEncoder().encode(s);

test("members stay as they were sent", () => {
  const m = members(b('{"10":1,"2":12345678901234567890.10,"a":"x\\u0041\\n","a":{"b":[]} , "e":[1,2 ]}'), 0, -1, 0, 100);
  assert.deepEqual(m.values.map((v) => [v.key, v.kind, v.text, v.count]), [["10", "number", "1", 0], ["2", "number", "12345678901234567890.10", 0], ["a", "string", "xA\n", 0], ["a", "object", "b: […]", 1], ["e", "array", "1, 2", 2]]);
  assert.equal(m.next, -1);
});

test("in parts", () => {
  const doc = b("[" + Array.from({ length: 1000 }, (_, i) => i).join(" , ") + "]");
  assert.equal(valueAt(doc, 0).count, 1000);
  const seen: string[] = [];
  for (let from = -1, index = 0; ; ) {
    const m = members(doc, 0, from, index, 77);
    seen.push(...m.values.map((v) => v.index + "=" + v.text));
    if (m.next < 0) break;
    from = m.next;
    index = m.nextIndex;
  }
  assert.deepEqual(seen, Array.from({ length: 1000 }, (_, i) => i + "=" + i));
});

test("depth costs no stack, length no copy", () => {
  const deep = b("[".repeat(200_000) + "]".repeat(200_000));
  assert.deepEqual(skip(deep, 0), { end: 400_000, count: 1 });
  const long = valueAt(b('"' + "é\\u00e9".repeat(100_000) + '"'), 0);
  assert.ok(long.cut && long.text.startsWith("éé") && !/\ufffd|\\/.test(long.text));
});

test("what is not JSON is told", () => {
  for (const s of ['{"a":1', '{"a" 1}', "[1,]", '{"a":}', '{a:1}', '["x', "[1 2]"]) {
    const bytes = b(s);
    assert.ok(shape(bytes) === "" || members(bytes, 0, -1, 0, 10).bad, s);
  }
  assert.deepEqual([shape(b(' {"a":1} ')), shape(b('{"a":1}\n{"a":2}\n')), shape(b("hello")), shape(b('"s"')), shape(b(""))], ["json", "ndjson", "", "json", ""]);
  assert.equal(sequence(b('{"a":1}\n{"a":2}\n'), 0, 0, 10).values.length, 2);
});

test("rows of text", () => {
  const t = b("one\ntwo is longer\n" + "é".repeat(25) + "\nend");
  const s = rows(t, 10);
  const text = [...s].slice(0, -1).map((at, i) => new TextDecoder().decode(t.subarray(at, s[i + 1])));
  assert.deepEqual(text, ["one\n", "two is lon", "ger\n", "é".repeat(10), "é".repeat(10), "é".repeat(5) + "\n", "end"]);
  assert.equal(text.join(""), new TextDecoder().decode(t));
  assert.equal(rowOf(s, 0), 0);
  assert.equal(rowOf(s, t.length - 1), 6);
  assert.equal(find(t, b("LONGER"), 0), 11);
  assert.equal(find(t, b("nowhere"), 0), -1);
});

test("kinds of bytes", () => {
  assert.ok(isText(b("a text\n")) && !isText(new Uint8Array([0, 1, 2])) && !isText(new Uint8Array([0xff, 0xfe, 0x41])));
  assert.equal(imageType(new Uint8Array([0x89, 0x50, 0x4e, 0x47]), "text/html"), "image/png");
  assert.equal(imageType(b("<svg>"), "text/html"), "");
});

test("differences of lines", () => {
  for (let n = 0; n < 200; n++) {
    const make = () => Array.from({ length: n % 23 }, (_, i) => String(Math.floor(Math.abs(Math.sin(n * 31 + i * 17 + n * i)) * 6)));
    const a = make(), c = make().map((x, i) => (i % 3 === n % 3 ? x + "!" : x)).filter((_, i) => i % 5 !== n % 5);
    const d = diffLines(a, c);
    assert.deepEqual(d.filter((x) => x.a !== undefined).map((x) => x.a), a);
    assert.deepEqual(d.filter((x) => x.b !== undefined).map((x) => x.b), c);
    assert.ok(d.every((x) => !x.same || x.a === x.b));
  }
  assert.equal(diffLines(["a", "b", "c"], ["a", "x", "c"]).filter((x) => !x.same).length, 1);
});

test("JSON is indented as it was sent", () => {
  assert.equal(indent('{"a":12345678901234567890,"a":[1.10,{}, [ ] ],"10":"x\\"y,{"}'), '{\n  "a": 12345678901234567890,\n  "a": [\n    1.10,\n    {},\n    []\n  ],\n  "10": "x\\"y,{"\n}');
  for (const s of ['{"a":1', "[1}", "text", '{"a', "", "12"]) assert.equal(indent(s), s);
  const deep = "[".repeat(50_000) + "]".repeat(50_000);
  assert.ok(indent(deep).length > deep.length);
  assert.deepEqual(parseExact('{"a":1,"b":[1.5]}'), { a: 1, b: [1.5] });
});

test("events in any pieces", () => {
  const text = ': hi\n\nevent: flow\ndata: {"a":\ndata: 1}\nid: 3\n\r\ndata:x\r\n\r\n';
  for (let size = 1; size < text.length; size++) {
    const got: string[] = [];
    const p = new EventParser((e, d) => got.push(e + "=" + d));
    for (let i = 0; i < text.length; i += size) p.write(text.slice(i, i + size));
    assert.deepEqual(got, ['flow={"a":\n1}', "message=x"]);
  }
});
