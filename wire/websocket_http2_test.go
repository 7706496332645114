package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"trace/flow"
)

// connect opens a WebSocket on stream id (RFC 8441 section 5.1).
func connect(id uint32, more ...string) h2frame {
	return head(id, append([]string{":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: h.test", ":path: /ws",
		"sec-websocket-version: 13"}, more...)...)
}

// expectLines is expect of another file for a connection of HTTP/2.
func (h *h2) expectLines(t *testing.T, want ...string) {
	t.Helper()
	expect(t, h.script, want...)
}

// TestWebSocketHTTP2: two WebSockets on one connection, one of them deflated in
// one direction with takeover, their frames cut anywhere by those of HTTP/2.
func TestWebSocketHTTP2(t *testing.T) {
	const extension = "sec-websocket-extensions: "
	c, s := flow.Client, flow.Server
	h := newH2()
	h.client(connect(1, extension+pmd), data(1, frame(c, 0x81, "early")), get(3, "/"), connect(5))
	h.server(head(1, ":status: 200", extension+pmd+"; client_no_context_takeover"), last(3, ":status: 204"))
	h.server(head(5, ":status: 200"), data(5, frame(s, 0x81, "five")))
	hello := frame(s, 0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00")
	again := frame(s, 0xc1, "\xf2\x00\x11\x00\x00")
	h.server(data(1, hello[:3]), data(5, "\x81"), data(1, hello[3:]+again[:1]), data(5, "\x02"), data(1, again[1:]), data(5, "hi"))
	big := string(text(100_000))
	masked := frame(c, 0x82, big)
	for masked != "" {
		n := min(16_000, len(masked))
		h.client(data(1, masked[:n]))
		masked = masked[n:]
	}
	h.client(data(1, frame(c, 0x88, "\x03\xe8")), lastData(1, ""))
	h.server(lastData(1, frame(s, 0x88, "\x03\xe8")))
	h.client(reset(5, http2.ErrCodeCancel))
	h.close()
	want := strings.Split(strings.TrimSpace(`
client 1 "early"
end
server 1 "five"
server 1 "Hello" deflated
server 1 "Hello" deflated
server 1 "hi"
client 2 BIG
client 8 "\x03\xe8"
server 8 "\x03\xe8"
end
end client reset`), "\n")
	var got []string
	events := h.run(whole)
	check(t, h.script, events)
	for _, line := range lines(events) {
		if strings.HasPrefix(line, "client 2 100000 bytes") {
			line = "client 2 BIG"
		}
		if strings.HasPrefix(line, "end client reset: ") {
			line = "end client reset"
		}
		got = append(got, line)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, e := range events {
		switch {
		case e.Kind == flow.Response && e.Head.Status == 200 && (e.Head.Protocol != "websocket" || !e.Head.Streaming):
			t.Errorf("%+v", e.Head)
		case e.Kind == flow.Message && e.Opcode == 2 && (e.Flow != 1 || e.Size != 100_000 || string(e.Data) != big):
			t.Errorf("%d bytes of flow %d", e.Size, e.Flow)
		case e.Kind == flow.End && e.Flow == 3 && (e.Error == nil || e.Error.Detail != "CANCEL"):
			t.Errorf("%+v", e.Error)
		}
	}
	splits(t, h.script, show(events))
}

// TestWebSocketHTTP2Ends: how the stream of a WebSocket can end.
func TestWebSocketHTTP2Ends(t *testing.T) {
	c, s := flow.Client, flow.Server
	const noClose = "mark client truncated: the client closed the connection without a Close frame"
	for name, x := range map[string]struct {
		play func(h *h2)
		want []string
	}{
		"refused": {func(h *h2) { h.server(last(1, ":status: 403")); h.client(lastData(1, "")) }, []string{"end"}},
		"no Close": {func(h *h2) { h.server(head(1, ":status: 200")); h.client(lastData(1, "")); h.server(lastData(1, "")) },
			[]string{noClose, "end"}},
		"closed, then reset": {func(h *h2) {
			h.server(head(1, ":status: 200"))
			h.client(data(1, frame(c, 0x88, "\x03\xe8")))
			h.server(data(1, frame(s, 0x88, "\x03\xe8")), reset(1, http2.ErrCodeCancel))
		}, []string{`client 8 "\x03\xe8"`, `server 8 "\x03\xe8"`, "end"}},
		"cut": {func(h *h2) { h.server(head(1, ":status: 200"), lastData(1, "\x81\x05Hel")); h.client(lastData(1, "")) },
			[]string{`server 1 "Hel" no sum`, "mark upstream truncated: the server's last message is incomplete",
				"end upstream truncated: the server's last message is incomplete"}},
		"the connection ends": {func(h *h2) {
			h.server(head(1, ":status: 200"), data(1, "\x81\x05Hel"))
			h.end(s, flow.Reset)
			h.end(c, flow.FIN)
		},
			nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newH2()
			h.client(connect(1))
			x.play(h)
			if x.want != nil {
				h.close()
				h.expectLines(t, x.want...)
				return
			}
			got := strings.Join(lines(h.run(whole)), "\n")
			if !strings.HasPrefix(got, "server 1 \"Hel\" no sum\nmark upstream truncated: the server's last message is incomplete\nend upstream reset: ") {
				t.Errorf("got\n%s", got)
			}
		})
	}
}

// TestWebSocketHTTP2Raw: the wire form of a WebSocket is kept as far as that of
// one on a connection of its own.
func TestWebSocketHTTP2Raw(t *testing.T) {
	h := newH2()
	h.client(connect(1))
	h.server(head(1, ":status: 200"))
	payload := string(text(16_000))
	for range 200 {
		h.server(data(1, frame(flow.Server, 0x82, payload)))
	}
	h.close()
	raw := 0
	for _, e := range h.run(whole) {
		if e.Kind == flow.Raw && e.Side == flow.Server {
			raw += len(e.Data)
		}
	}
	if raw < 200*16_000 {
		t.Errorf("%d bytes of raw", raw)
	}
}
