import test from "node:test";
import assert from "node:assert/strict";
import type { Outline } from "../src/model";
import { parseFilter } from "../src/state/filter";

const row = (x: Partial<Outline>): Outline => ({ id: "1", seq: 1, kind: "http", state: "complete", started: "", host: "api.example.com", port: 443, method: "GET", path: "/v1/items", status: 200, process: { name: "node", pid: 7 }, ...x });
const passes = (text: string, x: Partial<Outline> = {}): boolean => parseFilter(text).match(row(x));

test("terms", () => {
  for (const t of ["", "items", "ITEMS api", '"v1/items"', "host:api.*", "host:example", "host:*:443", "status:200", "status:2xx", "status:>=200", "status:200-299", "status:!=404", "kind:http", "process:node", "process:7", "method:get", "state:complete", "-status:404", "-missing", "id:1", "id:3,1"]) assert.ok(passes(t), t);
  for (const t of ["other", "items other", "host:api", "host:example.*", "status:404", "status:<200", "status:5xx", "kind:dns", "process:python", "-items", "-host:api.*", "has:error", "has:llm", "is:opaque"]) {
    if (t === "host:api") assert.ok(passes(t)); // a part of the name
    else assert.ok(!passes(t), t);
  }
  assert.ok(passes("has:error", { status: 503 }) && passes("has:error", { state: "failed", status: 0 }));
  assert.ok(passes("has:llm model:claude*", { llm: true, model: "claude-x" }) && !passes("model:claude*", { model: "gpt" }));
  assert.ok(passes("size:>1mb", { resp_size: 2e6 }) && !passes("size:>1mb", { resp_size: 2e3 }));
  assert.ok(passes("time:>2s", { duration_ms: 2500 }) && !passes("time:>2s", { duration_ms: 1500 }) && !passes("time:>2s", { duration_ms: null }));
});

test("while it is typed nothing is lost, and errors are told", () => {
  for (const t of ["status:", "host:", "status:>", "-", '"', "size:>="]) assert.ok(passes(t) && !parseFilter(t).error, t);
  for (const t of ["status:abc", "has:nothing", "size:big"]) assert.ok(parseFilter(t).error, t);
  assert.equal(parseFilter("  ").empty, true);
});

test("what trace is asked", () => {
  assert.equal(parseFilter('host:a body:"two words"').server, 'body:"two words"');
  assert.equal(parseFilter("host:a jq:.response.status >= 400 and true").server, "jq:.response.status >= 400 and true");
  assert.equal(parseFilter("jq:").server, "");
  assert.equal(parseFilter("a:b http://x").server, "");
});
