// An HTTP/2 client: a dozen streams at once, one of them with a body. Paths begin
// with its second argument.
const http2 = require("http2");
const session = http2.connect(process.argv[2]);
session.on("error", (e) => { console.error(e); process.exit(1); });
function ask(path, body) {
  return new Promise((resolve, reject) => {
    const s = session.request({ ":path": (process.argv[3] || "") + path, ":method": body ? "POST" : "GET" });
    let n = 0;
    s.on("data", (d) => { n += d.length; });
    s.on("end", () => resolve(n));
    s.on("error", reject);
    s.end(body);
  });
}
(async () => {
  const sizes = [...Array(12).keys()].map((i) => i * 7000);
  const got = await Promise.all(sizes.map((n) => ask("/bytes/" + n)));
  if (got.join() !== sizes.join()) throw new Error(got.join());
  if (await ask("/echo", "z".repeat(50000)) !== 50000) throw new Error("echo");
  if (await ask("/sse/5") === 0) throw new Error("sse");
  session.close();
})().catch((e) => { console.error(e); process.exit(1); });
