// Calls as the SDKs of Anthropic and OpenAI make them: URLs from the base URL's
// variable, JSON both ways, an event stream read as it comes, twenty at once, on
// connections that are kept.
const base = (name, path) => new URL(process.env[name] + (process.env[name].endsWith("/") && path.startsWith("/") ? path.slice(1) : path));
async function call(url, body, stream) {
  const r = await fetch(url, {
    method: "POST", redirect: "manual", body: JSON.stringify(body),
    headers: { "content-type": "application/json", accept: "application/json", "x-api-key": "none", "anthropic-version": "2023-06-01", "x-stainless-lang": "js" },
  });
  if (!r.ok) throw new Error(url + ": " + r.status);
  if (!stream) return r.text();
  let text = "";
  const decoder = new TextDecoder();
  for await (const p of r.body) text += decoder.decode(p, { stream: true });
  return text;
}
const message = { model: "m", max_tokens: 9, messages: [{ role: "user", content: "hello ".repeat(500) }] };
const anthropic = await call(base("ANTHROPIC_BASE_URL", "/v1/messages?beta=true"), message);
if (!anthropic.includes("/v1/messages")) throw new Error(anthropic);
const all = await Promise.all([...Array(20).keys()].map((i) => call(base("OPENAI_BASE_URL", "/chat/completions"), { ...message, i })));
if (!all.every((t) => t.includes("/v1/chat/completions"))) throw new Error(all.join());
const streams = await Promise.all([...Array(20).keys()].map((i) => call(process.env.TRACE_BASE_URL + "/s/sse/" + (i + 1), { ...message, stream: true }, true)));
streams.forEach((t, i) => { if (t.split("data:").length !== i + 2) throw new Error("stream " + i + ": " + t); });
const models = await fetch(base("OPENAI_BASE_URL", "/models"));
if (!(await models.text()).includes("/v1/models")) throw new Error("models");
const gone = await fetch(process.env.TRACE_BASE_URL + "/s/status/404");
if (gone.status !== 404) throw new Error("status " + gone.status);
