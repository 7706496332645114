package wire_test

import (
	"strings"

	"golang.org/x/net/http2"

	"trace/flow"
)

// h2errors are connections on which something is not as it should be.
var h2errors = []scenario{
	{"odd_heads", "Oddities of heads are told, and the fields are kept.", func(h *h2) {
		h.client(last(1, ":method: GET", ":scheme: https", ":path: /1", "X-Upper: a", "a b: c", ":authority: h.test", ":path: /again", ":new: x", "connection: close", "te: gzip", "host: a", "host: b"))
		h.client(last(3, ":scheme: https", ":path: /2", ":status: 200", "nul: a\x00b", "lines: a\r\nb", "content-length: 1, 2"))
		h.client(last(5, ":method: CONNECT", ":authority: h.test:1", ":scheme: https", ":path: /"), get(7, "/4", "content-length: 0", "content-length: 0"))
		h.server(last(1, ":status: 200", ":status: 201", ":path: /"), last(3, ":status: 20x"), head(5, ":status: 101"), last(5, ":status: 100"), last(7, "a: b"))
		h.close()
	}},
	{"odd_content", "Content that is not as its head says.", func(h *h2) {
		h.client(post(1, "/1", "content-length: 5"), lastData(1, "abc"), last(3, ":method: HEAD", ":scheme: https", ":authority: h.test", ":path: /2"), get(5, "/3"), get(7, "/4"))
		h.server(head(1, ":status: 200", "content-length: 1"), data(1, "a"), lastData(1, "b"), head(3, ":status: 200"), lastData(3, "not allowed"))
		h.server(head(5, ":status: 200"), head(5, "early: trailers"), data(5, "x"), last(5, "more: trailers", ":status: 500"))
		h.client(data(7, "after the end"), last(7, "and: trailers"))
		h.server(data(7, "before the head"), head(7, ":status: 200"))
		h.close()
	}},
	{"odd_streams", "Streams that were not opened, or not by the right side.", func(h *h2) {
		h.client(get(2, "/even"), get(5, "/5"), get(3, "/late"), data(9, "idle"), reset(11, 1))
		h.server(last(7, ":status: 200"), last(4, ":status: 200"), data(9, "idle"), last(5, ":status: 200"))
		h.client(get(7, "/7"))
		h.server(last(7, ":status: 200"))
		h.close()
	}},
	{"bad_hpack", "A header block of the client that cannot be decoded ends its direction; the answers go on.", func(h *h2) {
		h.client(post(1, "/1"), get(3, "/2"))
		h.client(rawFrame(http2.FrameHeaders, 4, 5, "\x82\x84\x87\x41\x01a\xff\xff\xff"), data(1, "lost"))
		h.server(last(1, ":status: 200"), head(3, ":status: 200"), lastData(3, "x"), last(5, ":status: 400"))
		h.close()
	}},
	{"bad_hpack_answer", "A header block of the server that cannot be decoded ends all answers.", func(h *h2) {
		h.client(post(1, "/1"), get(3, "/2"))
		h.server(head(3, ":status: 200"), data(3, "x"), rawFrame(http2.FrameHeaders, 4, 1, "\x88\x40\x82\x00"), lastData(3, "lost"))
		h.client(lastData(1, "abc"), get(5, "/3"))
		h.close()
	}},
	{"bad_block", "A header block ends within a field.", func(h *h2) {
		h.client(rawFrame(http2.FrameHeaders, 4, 1, "\x82\x84\x87\x41\x05a"), get(3, "/"))
		h.close()
	}},
	{"bad_continuation", "Another frame interrupts a header block.", func(h *h2) {
		h.client(rawFrame(http2.FrameHeaders, 0, 1, "\x82\x84\x87\x41\x01a"), data(1, "x"), get(3, "/"))
		h.close()
	}},
	{"bad_continuation_other", "A CONTINUATION of another stream, and one that continues nothing.", func(h *h2) {
		h.client(rawFrame(http2.FrameHeaders, 0, 1, "\x82\x84\x87\x41\x01a"), rawFrame(http2.FrameContinuation, 4, 3, ""))
		h.server(rawFrame(http2.FrameContinuation, 4, 1, "\x88"))
		h.close()
	}},
	{"bad_padding", "A frame is shorter than its padding.", func(h *h2) {
		h.client(post(1, "/1"), rawFrame(http2.FrameData, 8, 1, "\x09abc"), get(3, "/"))
		h.server(last(1, ":status: 200"))
		h.close()
	}},
	{"bad_size", "Frames of a size that their type does not have.", func(h *h2) {
		h.client(get(1, "/1"), rawFrame(http2.FrameRSTStream, 0, 1, "abc"), get(3, "/"))
		h.server(rawFrame(http2.FrameSettings, 0, 0, "abc"), last(1, ":status: 200"))
		h.close()
	}},
	{"bad_server", "The server answers in HTTP/1.", func(h *h2) {
		h.conn.Child.ALPN = ""
		h.steps = nil
		h.script.client(preface)
		h.client(func(p *h2peer) error { return p.WriteSettings() }, get(1, "/"))
		h.script.server("HTTP/1.1 400 Bad Request\r\n\r\n")
		h.close()
	}},
}

// h2entries are the ways into HTTP/2.
var h2entries = []scenario{
	{"entry_server_first", "The server's SETTINGS come first, byte by byte with the preface.", func(h *h2) {
		h.conn.Child.ALPN = "h2"
		h.server(func(p *h2peer) error { return p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 9}) })
		h.script.client(preface[:10])
		h.server(rawFrame(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x09"))
		h.script.client(preface[10:])
		h.client(func(p *h2peer) error { return p.WriteSettings() }, get(1, "/"))
		h.server(last(1, ":status: 200"))
		h.close()
	}},
	{"entry_prior", "Prior knowledge, in cleartext.", func(h *h2) {
		h.script.client(preface[:5])
		h.script.client(preface[5:])
		h.client(func(p *h2peer) error { return p.WriteSettings() }, get(1, "/"))
		h.server(func(p *h2peer) error { return p.WriteSettings() }, last(1, ":status: 200"))
		h.close()
	}},
	{"entry_upgrade", "Upgrade: h2c. The answer to the request of HTTP/1 comes on stream 1.", func(h *h2) {
		h.script.client("POST /1 HTTP/1.1\r\nHost: h.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAAAA\r\nContent-Length: 2\r\n\r\nab")
		h.script.client(preface[:7])
		h.script.server("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		h.server(func(p *h2peer) error { return p.WriteSettings() }, head(1, ":status: 200"), data(1, "x"))
		h.script.client(preface[7:])
		h.client(func(p *h2peer) error { return p.WriteSettings() }, get(3, "/2"))
		h.server(lastData(1, "y"), last(3, ":status: 404"))
		h.close()
	}},
	{"entry_upgrade_bad", "Upgrade: h2c, after which the client does not speak HTTP/2.", func(h *h2) {
		h.script.client("GET /1 HTTP/1.1\r\nHost: h.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: %\r\n\r\n")
		h.script.server("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		h.server(func(p *h2peer) error { return p.WriteSettings() }, head(1, ":status: 200"))
		h.script.client("GET / HTTP/1.1\r\n\r\n")
		h.script.server("more")
		h.close()
	}},
	{"entry_tunnel", "HTTP/2 inside of a CONNECT tunnel, where the server may speak first.", func(h *h2) {
		h.script.client("CONNECT in.test:80 HTTP/1.1\r\nHost: in.test:80\r\n\r\n")
		h.script.server("HTTP/1.1 200 OK\r\n\r\n")
		h.server(func(p *h2peer) error { return p.WriteSettings() })
		h.script.client(preface)
		h.client(func(p *h2peer) error { return p.WriteSettings() }, last(1, ":method: GET", ":scheme: http", ":path: /"))
		h.server(last(1, ":status: 200"))
		h.close()
	}},
	{"entry_no_preface", "ALPN chose HTTP/2, and the client speaks HTTP/1.", func(h *h2) {
		h.conn.Child.ALPN = "h2"
		h.server(func(p *h2peer) error { return p.WriteSettings() })
		h.script.client("PR")
		h.script.client("OPFIND / HTTP/1.1\r\n\r\n")
		h.server(goAway(0, http2.ErrCodeProtocol, strings.Repeat("x", 10)))
		h.close()
	}},
	{"entry_half_preface", "The client's preface stays incomplete.", func(h *h2) {
		h.conn.Child.ALPN = "h2"
		h.script.client(preface[:20])
		h.end(flow.Client, flow.FIN)
		h.server(func(p *h2peer) error { return p.WriteSettings() })
		h.end(flow.Server, flow.FIN)
	}},
	{"entry_idle", "A connection on which nothing is asked.", func(h *h2) {
		h.conn.Child.ALPN = "h2"
		h.script.client(preface)
		h.client(func(p *h2peer) error { return p.WriteSettings() })
		h.server(func(p *h2peer) error { return p.WriteSettings() })
		h.close()
	}},
}
