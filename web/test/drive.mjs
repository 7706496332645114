// What the tests of the page share: a browser, steps that are told, waiting for
// what is seen rather than for time.
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { chromium } = await import(pathToFileURL(process.env.TRACE_PLAYWRIGHT).href);

export const shots = process.env.TRACE_SHOTS ?? "shots";
mkdirSync(shots, { recursive: true });

let failed = 0;

/** Does a step; one that fails is told, and the next is done. */
export async function step(name, f) {
  const from = performance.now();
  try {
    await f();
    console.log(`ok    ${name} (${Math.round(performance.now() - from)} ms)`);
  } catch (e) {
    failed++;
    console.log(`FAIL  ${name}: ${String(e.message ?? e).slice(0, 1500)}`);
    await page?.screenshot({ path: join(shots, "failed-" + name.replace(/\W+/g, "-").slice(0, 40) + ".png") }).catch(() => {});
  }
}

export function want(what, got, expected) {
  const fits = expected instanceof RegExp ? expected.test(String(got)) : typeof expected === "function" ? expected(got) : got === expected;
  if (!fits) throw new Error(`${what}: ${JSON.stringify(got)}, want ${expected}`);
}

export let page = null;
export let browser = null;
/** What went wrong in the page by itself: errors, refused scripts, requests to others. */
export const trouble = [];
export const asked = [];

export async function launch() {
  browser = await chromium.launch({ executablePath: process.env.TRACE_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
  return browser;
}

export async function open(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, colorScheme: "light", reducedMotion: "reduce", permissions: ["clipboard-read", "clipboard-write"], ...options });
  page = await context.newPage();
  page.setDefaultTimeout(Number(process.env.TRACE_PATIENCE ?? 15) * 1000);
  page.on("pageerror", (e) => trouble.push("error: " + (e.stack ?? e)));
  page.on("console", (m) => (m.type() === "error" || m.type() === "warning") && trouble.push(`console: ${m.text()} ${m.location().url}`));
  page.on("dialog", (d) => (trouble.push("dialog: " + d.message()), d.dismiss()));
  page.on("request", (r) => asked.push(r.url()));
  await page.goto(url);
  return page;
}

/** Waits until a function of the page yields what is wanted. */
export async function until(what, f, arg) {
  try {
    await page.waitForFunction(f, arg, { polling: 50 });
  } catch {
    const text = await page.evaluate(() => document.body.innerText.slice(0, 600)).catch(() => "");
    throw new Error(`${what}: it did not come; the page says ${JSON.stringify(text)}`);
  }
}

export async function shot(name, options = {}) {
  const path = join(shots, name);
  await page.evaluate(() => document.querySelector(".note-box")?.classList.remove("on"));
  await page.screenshot({ path, ...options });
  return statSync(path).size;
}

/** The rows of the timeline that are in the document. */
export const rows = () => page.locator(".timeline .flow");
export const row = (text) => page.locator(".timeline .flow", { hasText: text }).first();
export const key = (...keys) => keys.reduce((p, k) => p.then(() => page.keyboard.press(k)), Promise.resolve());
export const tabTo = (name) => page.locator(`.detail [role=tab]`, { hasText: name }).first().click();

export async function filter(text) {
  await page.locator("#filter").fill(text);
  await page.locator("#filter").press("Enter"); // to the list
}

export async function release(name) {
  const r = await fetch(process.env.TRACE_CONTROL + "/" + name, { method: "POST" });
  if (!r.ok) throw new Error("release " + name + ": " + r.status);
}

export async function end() {
  await browser?.close();
  console.log(failed ? `${failed} steps failed` : "all steps passed");
  process.exit(failed ? 1 : 0);
}
