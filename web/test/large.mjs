// Measures the page with a large session, by hand:
//
//	trace import a.har && trace web        in one terminal
//	TRACE_URL=… TRACE_PLAYWRIGHT=… node web/test/large.mjs
import { launch, open, page, end, step, until, filter, key } from "./drive.mjs";

await launch();
await step("load", async () => {
  const from = performance.now();
  await open(process.env.TRACE_URL);
  await until("rows", () => document.querySelectorAll(".timeline .flow").length > 10);
  const rows = performance.now() - from;
  const paint = await page.evaluate(() => performance.getEntriesByType("paint").map((p) => `${p.name} ${Math.round(p.startTime)} ms`).join(", "));
  await until("all", (want) => { const n = Number(document.querySelector(".foot span").textContent.replace(/\D/g, "")); const was = window.was; window.was = n; return n === was && n >= Number(want); }, process.env.TRACE_FLOWS ?? "100000");
  console.log(`      ${paint}; rows after ${Math.round(rows)} ms, all of them after ${Math.round(performance.now() - from)} ms: ${await page.locator(".foot span").first().innerText()}`);
  console.log(`      heap ${Math.round((await page.evaluate(() => performance.memory?.usedJSHeapSize ?? 0)) / 1e6)} MB`);
});
const show = (o) => Object.entries(o).map(([k, v]) => `${k} ${typeof v === "number" ? v.toFixed(1) + " ms" : v}`).join(", ");

await step("scroll", async () => {
  const scroll = async (step) => page.evaluate(async (step) => {
    const el = document.querySelector(".timeline");
    el.scrollTop = 0;
    await new Promise(requestAnimationFrame);
    const gaps = [];
    let last = performance.now(), blank = 0;
    for (let i = 0; i < 180; i++) {
      el.scrollTop += step;
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      gaps.push(now - last);
      last = now;
      const r = el.getBoundingClientRect();
      if (!document.elementFromPoint(r.left + 100, r.top + r.height / 2)?.closest(".flow")) blank++;
    }
    gaps.sort((a, b) => a - b);
    return { median: gaps[90], p95: gaps[171], max: gaps[179], "frames without rows in the middle": String(blank) };
  }, step);
  for (const n of [60, 600, 12_000]) console.log(`      by ${n} px a frame: ${show(await scroll(n))}`);
});
await step("filter", async () => {
  for (const text of ["status:>=400", "items/9999", "host:cdn.* method:POST", ""]) {
    const ms = await page.evaluate(async (text) => {
      const f = document.querySelector("#filter");
      f.value = text;
      const from = performance.now();
      f.dispatchEvent(new InputEvent("input", { bubbles: true }));
      await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame);
      return performance.now() - from;
    }, text);
    console.log(`      ${JSON.stringify(text)}: ${Math.round(ms)} ms, ${await page.locator(".foot span").first().innerText()}`);
  }
});
await step("sort, keys", async () => {
  const from = performance.now();
  await page.getByRole("columnheader", { name: "Size" }).getByRole("button").click();
  await until("sorted", () => document.querySelector("[aria-sort=descending]"));
  console.log(`      sorted after ${Math.round(performance.now() - from)} ms`);
  await page.getByRole("columnheader", { name: "Size" }).getByRole("button").click();
  await page.getByRole("columnheader", { name: "Size" }).getByRole("button").click();
  await page.locator("#timeline").focus();
  const keys = performance.now();
  await key("g", ...Array(50).fill("j"));
  console.log(`      a key ${((performance.now() - keys) / 51).toFixed(1)} ms`);
});
await end();
