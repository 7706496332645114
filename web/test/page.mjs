// Drives the live page through a run, as a person would. e2e/web_test.go starts the
// run, and releases what the agent waits for when this asks for it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { asked, end, filter, key, launch, open, page, release, row, rows, shot, shots, step, tabTo, trouble, until, want, browser } from "./drive.mjs";

const url = process.env.TRACE_URL;
const origin = new URL(url).origin;
const footCount = () => page.locator(".foot span").first().innerText();
const download = async (act, name) => {
  const [d] = await Promise.all([page.waitForEvent("download"), act()]);
  const path = join(process.env.TRACE_DOWNLOADS, name);
  await d.saveAs(path);
  return readFileSync(path, "utf8");
};

await launch();

await step("the token leaves the address", async () => {
  await open(url);
  await until("rows", () => document.querySelectorAll(".timeline .flow").length > 3);
  want("address", page.url(), (u) => !u.includes("token"));
  want("storage", await page.evaluate(() => [sessionStorage.length, localStorage.length, document.cookie].join()), "1,0,");
});

await step("rows appear as they happen", async () => {
  // The agent waits within its second answer: the row is open, and live.
  await until("an open call", () => [...document.querySelectorAll(".timeline .flow.open")].some((r) => r.textContent.includes("llm")));
  await until("live", () => document.querySelector(".link")?.textContent === "live");
  want("process", await row("/packages/clock").locator(".c-process").innerText(), /python/);
  want("status", await row("/missing").locator(".c-status").innerText(), /404/);
  want("opaque", await row("internal.example.org").getAttribute("class"), /opaque/);
});

await step("an answer comes word by word", async () => {
  await key("3");
  await until("the beginning of the answer", () => document.querySelector(".answer")?.textContent.includes("The test wants"));
  want("not yet", await page.locator(".answer").innerText(), (s) => !s.includes("offset is worked out"));
  want("busy", await page.locator(".answer").getAttribute("aria-busy"), "true");
  await shot("streaming.png");
  await release("live");
  await until("the rest of it", () => [...document.querySelectorAll(".message.assistant")].some((m) => m.textContent.includes("offset is worked out")));
  await key("1");
  await until("later rows", () => document.querySelectorAll(".timeline .flow").length > 18);
});

await step("the conversation reads as a chat", async () => {
  await key("3");
  await until("the last turn", () => document.querySelector(".answer")?.textContent.includes("The clock is") || document.querySelectorAll(".turn").length >= 8);
  want("lanes", await page.locator(".lane").count(), 2);
  await until("a marked turn", () => document.querySelector(".turn.lost"));
  want("turns", await page.locator(".turn").count(), 8);
  await until("what it costs", () => / out, \$\d/.test(document.body.textContent));
  want("tool", await page.locator(".tool .tool-name").first().innerText(), /Read|Edit|Bash|Task/);
  want("new", await page.locator(".message.fresh").count(), (n) => n > 0);
  await until("why", () => /Monday[\s\S]*Tuesday/.test(document.querySelector(".cache-break")?.textContent ?? ""));
  await shot("conversation.png");
  // Its exchanges, for the README.
  await key("1");
  await filter("-host:strange.*");
  await until("rows", () => document.querySelectorAll(".timeline .flow").length > 15);
  await page.locator("#filter").focus();
  await until("the waterfall's scale", () => document.querySelector(".flow:last-child .bar"));
  await shot("web-timeline.png");
  await filter("");
  await key("3");
  await until("turns", () => document.querySelectorAll(".turn").length === 8);
  // Jump to the first turn, and back.
  await page.locator(".turn").first().click();
  await until("the first turn", () => document.querySelector(".turn")?.getAttribute("aria-current") === "true");
  await key("n");
  await until("the second turn", () => document.querySelectorAll(".turn")[1]?.getAttribute("aria-current") === "true");
  // A tool call holds its result, and the sub-agent that it started.
  await page.locator(".turn").last().click();
  const task = page.locator(".tool", { hasText: "Task" }).first();
  await task.locator(".fold-head").click();
  want("result", await task.innerText(), /api\.go/);
  await task.getByRole("button", { name: /sub-agent/ }).click();
  await until("the sub-agent", () => document.querySelector(".lane.now .lane-name")?.textContent.includes("↳"));
  await page.locator(".lane .lane-name").first().click();
  await release("end");
  await until("the end", () => document.querySelector(".answer")?.textContent.includes("All tests pass"));
  want("markdown", await page.locator(".answer .fence pre").innerText(), /z\.base/);
});

await step("the filter", async () => {
  await key("1", "/");
  want("focus", await page.evaluate(() => document.activeElement.id), "filter");
  await filter("status:>=400");
  await until("two errors", () => document.querySelectorAll(".timeline .flow").length === 2);
  want("address", page.url(), /q=status/);
  await filter("host:files.* method:POST");
  await until("posts", () => [...document.querySelectorAll(".timeline .flow .c-method")].every((c) => c.textContent === "POST"));
  await filter("model:claude*");
  await until("calls", () => document.querySelectorAll(".timeline .flow").length === 10);
  await filter("process:python -kind:tcp missing");
  await until("one", () => document.querySelectorAll(".timeline .flow").length === 1);
  await filter("status:abc");
  await until("an error", () => document.querySelector(".filter-error.bad"));
  await filter("body:\"forgets summer time\"");
  await until("bodies", () => { const n = document.querySelectorAll(".timeline .flow").length; return n > 0 && n < 10; });
  await filter("jq:.response.status == 404");
  await until("jq", () => document.querySelectorAll(".timeline .flow").length === 1 && document.querySelector(".timeline .flow").textContent.includes("/missing"));
  await filter("jq:.[");
  await until("jq's error", () => document.querySelector(".filter-error.bad"));
  await filter("nothing-has-this");
  await until("empty", () => document.body.textContent.includes("No flow passes the filter"));
  await key("Escape", "Escape");
  await until("all", () => document.querySelectorAll(".timeline .flow").length > 15);
  await page.getByRole("button", { name: "Not decrypted" }).click();
  await until("opaque", () => document.querySelectorAll(".timeline .flow").length >= 1 && [...document.querySelectorAll(".timeline .flow")].every((r) => r.classList.contains("opaque")));
  await page.getByRole("button", { name: "Not decrypted" }).click();
});

await step("the keys", async () => {
  await page.locator("#timeline").focus();
  await key("Escape", "Escape", "G", "g");
  const first = await page.locator(".flow.selected").getAttribute("data-id");
  await key("j", "j", "k");
  want("selected", await page.locator(".flow.selected").getAttribute("data-id"), (id) => id !== first);
  await key("Enter");
  await until("detail", () => document.querySelector(".detail .facts"));
  await key("]");
  await until("the next tab", () => document.querySelector(".detail [aria-selected=true]")?.textContent.startsWith("Headers"));
  want("address", page.url(), /tab=headers/);
  await key("[", "Escape");
  await until("closed", () => !document.querySelector(".detail"));
  await key("?");
  await until("help", () => document.querySelector("dialog[open]")?.textContent.includes("next, previous flow"));
  await key("Escape");
  await until("no help", () => !document.querySelector("dialog[open]"));
  await key("p");
  want("paused", await page.getByRole("button", { name: /Resume/ }).count(), 1);
  await key("p", "x");
  await until("cleared", () => document.querySelectorAll(".timeline .flow").length === 0);
  await key("x");
  await until("back", () => document.querySelectorAll(".timeline .flow").length > 15);
});

await step("the detail of an exchange", async () => {
  await row("/packages/clock").click();
  await until("facts", () => document.querySelector(".detail .facts")?.textContent.includes("python"));
  want("timings", await page.locator(".timings").innerText(), /Connect/);
  await tabTo("Headers");
  await until("heads", () => document.querySelectorAll(".fields tr").length > 3);
  want("order", await page.locator(".fields").first().innerText(), /Accept-Encoding[\s\S]*Host[\s\S]*User-Agent/i);
  await tabTo("Response");
  await until("the tree", () => document.querySelectorAll(".tree-row").length > 5);
  const tree = await page.locator(".tree").innerText();
  want("long numbers", tree, /12345678901234567890/);
  want("members of one name, in order", tree.replace(/\s+/g, " "), /"?10"?: "ten".*2: "two".*again: 1.*again: 2/);
  await page.locator(".tree").focus();
  await key("End");
  await page.getByRole("button", { name: "Collapse all" }).click();
  want("collapsed", await page.locator(".tree-row").count(), 1);
  await page.getByRole("button", { name: "Expand all" }).click();
  await until("expanded", () => document.querySelector(".tree").textContent.includes("deepest"));
  await page.getByRole("button", { name: "Text", exact: true }).click();
  await until("text", () => document.querySelector(".text .text-row")?.textContent.includes("packages/clock"));
  await page.getByRole("button", { name: "Hex", exact: true }).click();
  await until("hex", () => /^00000000\s*7b 22 70 61/.test(document.querySelector(".hex .text-row")?.textContent ?? ""));
  await tabTo("TLS");
  await until("legs", () => /JA4/.test(document.querySelector(".detail-body").textContent) && /files\.example\.com/.test(document.querySelector(".detail-body").textContent));
  await tabTo("Raw");
  await until("raw", () => /GET \/packages\/clock\?version=1\.4\.2 HTTP\/1\.1/.test(document.querySelector(".detail-body").textContent));
  await page.getByRole("button", { name: "curl" }).click();
  await until("copied", () => document.querySelector(".note-box.on"));
  want("curl", await page.evaluate(() => navigator.clipboard.readText()), /^curl .*files\.example\.com/m);
  await row("/logo.png").click();
  await tabTo("Response");
  await until("the image", () => document.querySelector(".image img")?.naturalWidth === 96);
  await row("internal.example.org").click();
  await until("why", () => /Why is this not decrypted/.test(document.querySelector(".detail-body").textContent) && /--decrypt-untrusted|--upstream-ca/.test(document.querySelector(".detail-body").textContent));
  await shot("opaque.png");
});

await step("the events of a stream", async () => {
  await filter("model:claude*");
  await rows().first().click();
  await tabTo("Events");
  await until("events", () => document.querySelectorAll(".event-row").length > 5);
  want("types", await page.locator(".types").innerText(), /content_block_delta/);
  await page.locator(".types .chip", { hasText: "content_block_delta" }).click();
  await until("filtered", () => ![...document.querySelectorAll(".event-row .e-type")].some((e) => e.textContent === "content_block_delta"));
  await page.getByRole("button", { name: "Expand all" }).click();
  await until("lines", () => document.querySelectorAll(".event-line").length > 5);
  await page.getByRole("button", { name: "Collapse all" }).click();
  await until("no lines", () => document.querySelectorAll(".event-line").length === 0);
  await tabTo("Call");
  await until("the call", () => document.querySelector(".detail .chat")?.textContent.includes("The test of the clock fails"));
  await shot("timeline.png");
  await filter("");
  await key("2");
  await until("all events", () => document.querySelectorAll(".event-row").length > 20 && document.querySelector(".types").textContent.includes("content_block_delta"));
  want("kinds", await page.locator(".types").innerText(), /request[\s\S]*response/);
  await shot("events.png");
  await key("1");
});

await step("what is hostile stays data", async () => {
  await filter("host:strange.example.net");
  await row("/page").click();
  await tabTo("Response");
  await until("the page as text", () => document.querySelector(".text .text-row")?.textContent.includes("<script>"));
  await tabTo("Headers");
  await until("its head", () => document.querySelector(".detail-body").textContent.includes("onerror"));
  await tabTo("Raw");
  await row("/names").click();
  await tabTo("Response");
  await until("escaped", () => document.querySelector(".tree")?.textContent.includes("\\u202e") && document.querySelector(".tree .odd"));
  const bare = await page.evaluate((all = document.title + document.body.innerText + [...document.querySelectorAll("[title], [aria-label]")].map((e) => e.title + e.ariaLabel).join("\n")) => /[\u202a-\u202e\u2066-\u2069\u200b\u0000-\u0008\u001b]|\udb40/.test(all));
  want("bare bidi or control characters", bare, false);
  await row("/deep").click();
  await until("deep", () => document.querySelectorAll(".tree-row").length > 10);
  await page.getByRole("button", { name: "Expand all" }).click();
  await until("deeper", () => document.querySelectorAll(".tree-row").length > 20);
  for (const path of ["/long", "/big"]) {
    await row(path).click();
    const from = Date.now();
    await until(path, () => document.querySelectorAll(".tree-row").length > 0);
    // The page answers while it shows ten megabytes.
    const lag = await page.evaluate(() => new Promise((ok) => { const t = performance.now(); setTimeout(() => ok(performance.now() - t), 0); }));
    console.log(`      ${path}: shown after ${Date.now() - from} ms, the page answers within ${Math.round(lag)} ms`);
    want("lag", lag, (ms) => ms < 500);
    await page.getByRole("button", { name: "Text", exact: true }).click();
    await until("rows of text", () => document.querySelectorAll(".text .text-row").length > 10);
    await page.evaluate(() => { const e = document.querySelector(".text"); e.scrollTop = e.scrollHeight; });
    await until("the last rows", () => [...document.querySelectorAll(".text .text-row")].pop()?.textContent.length > 3);
  }
  want("title", await page.title(), (t) => !t.includes("owned"));
  want("elements from captured text", await page.evaluate(() => document.querySelectorAll("[onerror], [onload], .detail script, .detail iframe, .detail svg, .tree img").length), 0);
  await filter("");
});

await step("sending again, edited", async () => {
  await row("/orders").click();
  await tabTo("Replay");
  await until("the body", () => document.querySelector(".replay-body")?.value.includes("A-1"));
  await page.locator(".replay-body").fill('{"id":7,"items":[],"note":"edited in the page"}');
  const heads = page.locator(".replay textarea").first();
  await heads.fill((await heads.inputValue()) + "\nX-Edited: yes");
  await page.getByRole("button", { name: "Send again" }).click();
  await until("the answer", () => document.querySelector(".answers")?.textContent.includes("lines differ") || document.querySelector(".replay .box.bad"));
  want("sent", await page.locator(".replay .box.bad").count().then(async (n) => n ? await page.locator(".replay .box.bad").innerText() : ""), "");
  want("beside", await page.locator(".sides").innerText(), /12345678901234567890,[\s\S]*edited in the page/);
  await shot("replay.png");
  await page.getByRole("button", { name: /^Open flow/ }).click();
  await until("the new flow", () => /replay/.test(document.querySelector(".detail .facts")?.textContent ?? ""));
  await tabTo("Headers");
  await until("its field", () => /x-edited/i.test(document.querySelector(".fields").textContent));
  await key("Escape");
});

await step("comparing", async () => {
  await filter("model:claude*");
  await until("calls", () => document.querySelectorAll(".timeline .flow").length >= 10);
  const ids = await page.locator(".timeline .flow").evaluateAll((r) => r.map((x) => x.dataset.id));
  const main = await page.evaluate(() => 0).then(() => ids.filter((_, i) => i !== 3 && i !== 4)); // without the sub-agent's
  await page.locator(`.flow[data-id="${main[3]}"]`).click();
  await key("m");
  await page.locator(`.flow[data-id="${main[4]}"]`).click();
  await key("m");
  await until("what differs", () => /system block/.test(document.querySelector(".diff")?.textContent ?? ""));
  want("spans", await page.locator(".spans").first().innerText(), /Monday[\s\S]*Tuesday/);
  await until("bodies", () => document.querySelector(".side-by-side")?.textContent.includes("lines differ"));
  await shot("web-compare.png");
  want("address", page.url(), /view=compare.*a=\d+.*b=\d+/);
  await page.reload();
  await until("the same after a reload", () => /system block/.test(document.querySelector(".diff")?.textContent ?? ""));
  await page.getByRole("button", { name: "Two runs" }).click();
  const value = await page.locator(".pick select").first().inputValue();
  await page.locator(".pick select").last().selectOption(value);
  await until("the same run", () => /asked the same/.test(document.querySelector(".compare")?.textContent ?? ""));
  await key("1");
  await filter("");
});

await step("the messages of a WebSocket, live", async () => {
  await filter("kind:websocket");
  await rows().first().click();
  await tabTo("Messages");
  await until("what was said", () => document.querySelectorAll(".event-row").length === 4);
  want("an open one", await rows().first().getAttribute("class"), /open/);
  await release("hold");
  await until("what is said now", () => [...document.querySelectorAll(".event-row")].some((r) => r.textContent.includes("third")));
  await until("its close", () => document.querySelector(".types")?.textContent.includes("close"));
  await page.locator(".event-row").first().click();
  await until("opened", () => [...document.querySelectorAll(".event-line")].some((l) => l.textContent.includes('"type": "hello"')));
  await key("Escape");
  await filter("");
});

await step("exports", async () => {
  const choose = async (name) => {
    await page.getByRole("button", { name: "Export" }).click();
    await page.getByRole("menuitem", { name }).click();
  };
  const har = JSON.parse(await download(() => choose("All flows as HAR"), "all.har"));
  want("entries", har.log.entries.length, (n) => n > 10);
  const jsonl = await download(() => choose("All flows as JSON lines"), "all.jsonl");
  want("lines", jsonl.trim().split("\n").every((l) => JSON.parse(l)), true);
  await key("3");
  const html = await download(() => page.getByRole("button", { name: "Save as HTML" }).click(), "talk.html");
  want("html", html, /The clock is right again/);
  want("secrets", har && (jsonl + html).includes("k".repeat(40)), false);
  await key("1");
});

await step("the pictures of the README", async () => {
  await key("3");
  await page.locator(".turn").last().click();
  await until("the last turn", () => document.querySelector(".answer")?.textContent.includes("All tests pass"));
  await page.locator(".turn.lost").click();
  await until("the break", () => document.querySelector(".cache-break p"));
  const tool = page.locator(".tool", { hasText: "zones.go" }).first();
  await tool.locator(".fold-head").first().click();
  await page.locator(".turn.lost").click();
  await shot("web-conversation.png");
  await tool.locator(".fold-head").first().click();
  await key("1");
  await page.emulateMedia({ colorScheme: "dark" });
  await row("/packages/clock").click();
  await tabTo("Response");
  await until("the tree", () => document.querySelectorAll(".tree-row").length > 5);
  await shot("web-detail.png");
  await page.emulateMedia({ colorScheme: "light" });
  await key("Escape");
});

await step("narrow, dark, large", async () => {
  // What stands out of the window, unless it is cut off or scrolls by itself.
  const wide = async () => page.evaluate((clipped = (e) => { for (let x = e.parentElement; x && x !== document.body; x = x.parentElement) if (getComputedStyle(x).overflowX !== "visible") return true; return e.closest(".note-box") !== null; }) => [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !clipped(e)).map((e) => e.tagName + "." + e.className).slice(0, 5).join(" "));
  for (const [width, height, name] of [[380, 760, "narrow"], [640, 400, "200 percent"]]) {
    await page.setViewportSize({ width, height });
    for (const view of ["1", "2", "3", "4"]) {
      await key(view);
      await until("view " + view, () => document.querySelector("#view")?.childElementCount > 0);
      want(`${name}, view ${view}: elements that stand out`, await wide(), "");
      want(`${name}, view ${view}: scrolls sideways`, await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
    }
    await key("1", "Escape");
    await row("/orders").click();
    await until("detail", () => document.querySelector(".detail-body")?.textContent.length > 20);
    want(`${name}, detail: elements that stand out`, await wide(), "");
    await shot(name.replace(" ", "-") + ".png");
    await key("Escape");
  }
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.emulateMedia({ colorScheme: "dark" });
  await key("1");
  await row("/packages/clock").click();
  await shot("dark.png");
  await key("3");
  await until("turns", () => document.querySelectorAll(".turn").length > 5);
  await shot("dark-conversation.png");
  await page.emulateMedia({ colorScheme: "light" });
  await key("1");
});

await step("contrast", async () => {
  const { contrast } = await import("./contrast.mjs");
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const view of ["1", "3", "4"]) {
      await key(view);
      await until("view", () => document.querySelector("#view")?.childElementCount > 0);
      const poor = await page.evaluate(contrast);
      want(`${scheme}, view ${view}: text of too little contrast`, poor.join("; "), "");
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await key("1");
});

await step("a stranger's page gets nothing", async () => {
  // Another origin of the same browser, with what it could send.
  const stranger = await browser.newPage();
  await stranger.route("http://stranger.example/", (r) => r.fulfill({ contentType: "text/html", body: "<title>stranger</title>" }));
  await stranger.goto("http://stranger.example/");
  for (const init of [{}, { mode: "no-cors" }, { credentials: "include" }, { headers: { Authorization: "Bearer x" } }]) {
    const got = await stranger.evaluate(([u, i]) => fetch(u, i).then(async (r) => r.type + " " + (await r.text()).length, () => "refused"), [origin + "/api/session", init]);
    want("a stranger's " + JSON.stringify(init), got, (s) => s === "refused" || s === "opaque 0");
  }
  const frame = await stranger.evaluate((u) => new Promise((ok) => { const f = document.createElement("iframe"); f.src = u; f.onload = () => { try { ok(f.contentDocument ? "read" : "shut"); } catch { ok("shut"); } }; document.body.append(f); setTimeout(() => ok("shut"), 1500); }), origin + "/");
  want("in a frame", frame, "shut");
  await stranger.close();
  const locked = await browser.newContext().then((c) => c.newPage());
  await locked.goto(origin + "/");
  want("without the token", await locked.locator("main").innerText(), /needs the token/);
  await locked.close();
});

await step("the end of the run", async () => {
  await release("last");
  await until("ended", () => /has ended|does not answer/.test(document.querySelector(".banner")?.textContent ?? ""));
  want("rows stay", await rows().count(), (n) => n > 15);
  want("count", await footCount(), /flows/);
  await shot("ended.png");
});

await step("nothing went wrong by itself", async () => {
  const others = asked.filter((u) => !u.startsWith(origin + "/") && !u.startsWith("blob:") && !u.startsWith("data:"));
  want("requests to others", others.join(" "), "");
  // What the steps above asked for in error is the page's to say, not to hide.
  const real = trouble.filter((t) => !/400|net::ERR_CONNECTION_REFUSED|net::ERR_INCOMPLETE_CHUNKED|ERR_ABORTED/.test(t));
  want("trouble", real.join("\n"), "");
});

console.log("screenshots: " + shots);
await end();
