// A WebSocket client: texts and bytes of several sizes, a ping, a close.
const WebSocket = require("ws");
function talk(url, deflate) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url, { perMessageDeflate: deflate && { threshold: 0 } });
    const all = ["hello", "river stone ".repeat(20000), Buffer.alloc(1000, 7), "caf\u00e9 \u2603", ""];
    let got = 0;
    ws.on("open", () => { ws.ping("are you there"); all.forEach((m) => ws.send(m)); });
    ws.on("message", (m) => {
      if (Buffer.compare(Buffer.from(m), Buffer.from(all[got])) !== 0) reject(new Error("message " + got));
      if (++got === all.length) ws.close(1000, "done");
    });
    ws.on("close", resolve);
    ws.on("error", reject);
  });
}
(async () => {
  await talk(process.argv[2] + "/ws", true);
  await talk(process.argv[2] + "/ws/plain", false);
  await talk(process.argv[2] + "/ws/fresh", true);
})().catch((e) => { console.error(e); process.exit(1); });
