// A WebSocket over a stream of HTTP/2 (RFC 8441): texts of several sizes, a close.
const http2 = require("http2");
const session = http2.connect(process.argv[2]);
const fail = (e) => { console.error(e); process.exit(1); };
session.on("error", fail);
function frame(opcode, data) {
  const n = data.length, mask = Buffer.from([1, 2, 3, 4]);
  const size = n < 126 ? Buffer.from([128 | n]) : n < 65536 ? Buffer.from([254, n >> 8, n & 255]) : Buffer.from([255, 0, 0, 0, 0, n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255]);
  return Buffer.concat([Buffer.from([128 | opcode]), size, mask, Buffer.from(data.map((b, i) => b ^ mask[i % 4]))]);
}
session.on("remoteSettings", (settings) => {
  if (!settings.enableConnectProtocol) fail("no extended CONNECT");
  const s = session.request({ ":method": "CONNECT", ":protocol": "websocket", ":path": process.argv[3] + "/ws/plain", "sec-websocket-version": "13", origin: "http://localhost" });
  const texts = ["hello", "river stone ".repeat(500), "river stone ".repeat(20000)].map((t) => Buffer.from(t));
  let got = Buffer.alloc(0), wanted = 0;
  const want = texts.reduce((n, t) => n + t.length + (t.length < 126 ? 2 : t.length < 65536 ? 4 : 10), 0);
  s.on("response", (h) => {
    if (h[":status"] !== 200) fail(h);
    texts.forEach((t) => s.write(frame(1, t)));
  });
  s.on("data", (d) => {
    got = Buffer.concat([got, d]);
    if (got.length >= want && !wanted++) s.end(frame(8, Buffer.from([3, 232])));
  });
  s.on("error", fail);
  s.on("end", () => {
    if (!got.includes(texts[2]) || got.length !== want + 4) fail("got " + got.length + " bytes, want " + want);
    session.close();
  });
});
