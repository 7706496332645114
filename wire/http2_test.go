package wire_test

import (
	"testing"

	"golang.org/x/net/http2"

	"trace/flow"
)

func TestHTTP2Get(t *testing.T) {
	h := newH2()
	h.client(get(1, "/a?b=c", "user-agent: x", "cookie: a=1", "cookie: b=2"))
	h.server(head(1, ":status: 200", "content-type: text/plain", "content-length: 5"))
	h.server(data(1, "he"))
	h.server(lastData(1, "llo"))
	h.close().expect(t,
		`#1 client Request GET "/a?b=c" https://h.test:443/a?b=c HTTP/2 stream=1 authority="h.test" "user-agent"="x" "cookie"="a=1" "cookie"="b=2"`,
		`#1 client BodyEnd size=0`,
		`#1 server Response 200 "" HTTP/2 stream=1 "content-type"="text/plain" "content-length"="5"`,
		`#1 server Body "hello"`, `#1 server BodyEnd size=5`, `#1 server End`,
	)
}

func TestHTTP2Interleaved(t *testing.T) {
	h := newH2()
	h.client(post(1, "/1"), post(3, "/2"), data(1, "a"), data(3, "b"))
	h.client(get(5, "/3"), lastData(3, "B"))
	h.server(head(5, ":status: 200"), head(3, ":status: 201"), data(5, "5"), data(3, "3"), lastData(5, ""))
	h.server(last(1, ":status: 413"), reset(1, http2.ErrCodeNo))
	h.server(last(3, "x-sum: 1", "grpc-status: 0"))
	h.close().expect(t,
		`#1 client Request POST "/1" https://h.test:443/1 HTTP/2 stream=1 authority="h.test"`,
		`#2 client Request POST "/2" https://h.test:443/2 HTTP/2 stream=3 authority="h.test"`,
		`#1 client Body "a"`, `#2 client Body "b"`,
		`#3 client Request GET "/3" https://h.test:443/3 HTTP/2 stream=5 authority="h.test"`,
		`#3 client BodyEnd size=0`, `#2 client Body "B"`, `#2 client BodyEnd size=2`,
		`#3 server Response 200 "" HTTP/2 stream=5`,
		`#2 server Response 201 "" HTTP/2 stream=3`,
		`#3 server Body "5"`, `#2 server Body "3"`, `#3 server BodyEnd size=1`, `#3 server End`,
		`#1 server Response 413 "" HTTP/2 stream=1`, `#1 server BodyEnd size=0`,
		`#1 client BodyEnd size=1 cut`, `#1 client End`,
		`#2 server BodyEnd size=1 "x-sum"="1" "grpc-status"="0"`, `#2 server End`,
	)
}

// TestHTTP2Raw: the wire form of an exchange is all frames of its stream, also
// those of types that nobody knows.
func TestHTTP2Raw(t *testing.T) {
	h := newH2()
	block := string(h.peer[flow.Client].block(":method: POST", ":scheme: https", ":authority: h.test", ":path: /"))
	frames := [2][]h2frame{
		{
			rawFrame(http2.FrameHeaders, 0x24, 1, "\x00\x00\x00\x00\xff"+block), rawFrame(0xfa, 0xff, 1, "grease"), rawFrame(0xb, 0, 1, ""),
			data(1, "ab"), rawFrame(http2.FramePriority, 0, 1, "\x00\x00\x00\x00\x01"), rawFrame(http2.FrameData, 9, 1, "\x02cd\x00\x00"),
		},
		{rawFrame(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x01"), rawFrame(http2.FrameHeaders, 4, 1, "\x88"), rawFrame(0xa, 0, 1, "\x00\x00altsvc"), lastData(1, "ok")},
	}
	h.client(frames[flow.Client]...)
	h.client(rawFrame(0xb, 0, 0, "of no stream"), rawFrame(0xfa, 0, 3, "of no open one"))
	h.server(frames[flow.Server]...)
	h.close()
	var got [2]string
	for _, e := range h.run(whole) {
		if e.Kind == flow.Raw {
			got[e.Side] += string(e.Data)
		}
	}
	for side, frames := range frames {
		want := newH2()
		want.steps = nil
		want.client(frames...)
		if got[side] != string(want.steps[0].data) {
			t.Errorf("%s: got\n%q, not\n%q", flow.Side(side), got[side], want.steps[0].data)
		}
	}
}
