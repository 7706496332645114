package wire_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/tools/txtar"

	"trace/flow"
)

// A scenario is a script of testdata that is written in frames here: TestScripts
// plays it.
type scenario struct {
	name, comment string
	write         func(h *h2)
}

// TestHTTP2Scenarios tests that testdata holds the scenarios as they are
// written here; with -update it writes them, without what they want.
func TestHTTP2Scenarios(t *testing.T) {
	for _, list := range [][]scenario{h2messages, h2ends, h2errors, h2entries} {
		for _, c := range list {
			h := newH2()
			if strings.HasPrefix(c.name, "entry_") {
				h = idleH2()
			}
			c.write(h)
			file := "testdata/http2_" + c.name + ".txtar"
			var want []txtar.File
			if old, err := txtar.ParseFile(file); err == nil {
				want = slices.DeleteFunc(old.Files, func(f txtar.File) bool { return f.Name != "want" })
			}
			a := archive(h.script, c.comment)
			a.Files = append(a.Files, want...)
			got := txtar.Format(a)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if text, err := os.ReadFile(file); err != nil || !bytes.Equal(text, got) {
				t.Errorf("%s is not the scenario: run with -update, then -run TestScripts -update", file)
			}
		}
	}
}

// archive writes s as parse reads it.
func archive(s *script, comment string) *txtar.Archive {
	a := &txtar.Archive{Comment: []byte(comment + "\n")}
	add := func(name, text string) { a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(text + "\n")}) }
	if s.conn.Child.ALPN != "" {
		add("conn", "alpn="+s.conn.Child.ALPN)
	}
	for _, st := range s.steps {
		at := fmt.Sprintf("%dms", st.at.Milliseconds())
		if st.end != flow.Open {
			add("end "+st.side.String()+" "+st.end.String()+" "+at, "")
			a.Files[len(a.Files)-1].Data = nil
			continue
		}
		text := strconv.Quote(string(st.data))
		text = text[1 : len(text)-1]
		for i := 100; i < len(text); i += 101 { // lines that a reader can see
			for text[i-1] == '\\' || strings.ContainsRune(text[i-3:i], '\\') {
				i++
			}
			text = text[:i] + "\n" + text[i:]
		}
		add(st.side.String()+" "+at, text)
	}
	return a
}

// h2messages are exchanges in good order.
var h2messages = []scenario{
	{"padding", "Padding, priorities, CONTINUATION, unknown frames and settings.", func(h *h2) {
		h.client(func(p *h2peer) error {
			b := p.block(":method: PUT", ":scheme: https", ":authority: H.test:443", ":path: /p", "content-length: 3", "a: b", "a: c")
			if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: b[:2], PadLength: 7, Priority: http2.PriorityParam{StreamDep: 1, Weight: 3}}); err != nil {
				return err
			}
			if err := p.WriteContinuation(3, false, b[2:5]); err != nil {
				return err
			}
			if err := p.WriteContinuation(3, false, nil); err != nil {
				return err
			}
			return p.WriteContinuation(3, true, b[5:])
		})
		h.client(rawFrame(0xfa, 0xff, 3, "grease"), func(p *h2peer) error { return p.WritePriority(3, http2.PriorityParam{Weight: 9}) })
		h.client(func(p *h2peer) error { return p.WriteDataPadded(3, false, []byte("xy"), make([]byte, 200)) })
		h.client(func(p *h2peer) error { return p.WriteDataPadded(3, true, []byte("z"), make([]byte, 1)) })
		h.server(rawFrame(http2.FrameWindowUpdate, 0, 3, "\x00\x00\x00\x09"), rawFrame(http2.FramePing, 0, 0, "12345678"), rawFrame(0x0a, 0, 0, "altsvc"))
		h.server(head(3, ":status: 200"), rawFrame(http2.FrameData, 0x9, 3, "\x04ok\x00\x00\x00\x00"))
		h.close()
	}},
	{"heads", "Informational answers; HEAD, 204 and 304; hosts with ports, without, in a field.", func(h *h2) {
		h.client(last(1, ":method: HEAD", ":scheme: HTTPS", ":authority: A.test:444", ":path: /"))
		h.server(head(1, ":status: 103", "link: </a>"), head(1, ":status: 100"), last(1, ":status: 200", "content-length: 99", "content-encoding: gzip"))
		h.client(last(3, ":method: GET", ":scheme: http", ":path: *", "host: B.test"))
		h.server(head(3, ":status: 204", "content-length: 0"), lastData(3, ""))
		h.client(last(5, ":method: GET", ":scheme: https", ":authority: u@[::1]:443", ":path: /x"))
		h.server(last(5, ":status: 304", "content-length: 7"))
		h.client(last(7, ":method: GET", ":scheme: https", ":path: /y"))
		h.server(last(7, ":status: 200"))
		h.close()
	}},
	{"push", "A pushed exchange, one that is reset by the client, and one that cannot be.", func(h *h2) {
		h.client(get(1, "/page"))
		promise := func(parent, id uint32, path string) h2frame {
			return func(p *h2peer) error {
				return p.WritePushPromise(http2.PushPromiseParam{StreamID: parent, PromiseID: id, EndHeaders: true, PadLength: 3,
					BlockFragment: p.block(":method: GET", ":scheme: https", ":authority: h.test", ":path: "+path)})
			}
		}
		h.server(promise(1, 2, "/a.css"), head(1, ":status: 200"), promise(1, 4, "/b.js"), promise(1, 3, "/odd"))
		h.client(reset(4, http2.ErrCodeCancel))
		h.server(head(2, ":status: 200"), lastData(2, "css"), head(4, ":status: 200"), lastData(1, "page"))
		h.close()
	}},
	{"coded", "Content codings and events.", func(h *h2) {
		h.client(get(1, "/events"), get(3, "/gzip"))
		gz := string(encode("gzip", []byte("hello")))
		h.server(head(1, ":status: 200", "content-type: text/event-stream"), head(3, ":status: 200", "content-encoding: gzip"))
		h.server(data(1, "data: 1\n"), data(3, gz[:10]), data(1, "\ndata: 2\n\nda"), lastData(3, gz[10:]))
		h.server(lastData(1, "ta: 3\n\n"))
		h.close()
	}},
	{"grpc", "gRPC: messages of both sides and a status in trailers; a status without an answer.", func(h *h2) {
		call := func(id uint32) h2frame { return post(id, "/a.B/C", "content-type: application/grpc", "te: trailers") }
		h.client(call(1), data(1, "\x00\x00\x00"), data(1, "\x00\x02\x08\x01"), call(3), lastData(3, "\x00\x00\x00\x00\x00"))
		h.server(head(1, ":status: 200", "content-type: application/grpc"), data(1, "\x00\x00\x00\x00\x02\x08\x02"), last(3, ":status: 200", "content-type: application/grpc", "grpc-status: 5", "grpc-message: no such thing"))
		h.client(data(1, "\x00\x00\x00\x00\x02\x08\x03"), lastData(1, ""))
		h.server(last(1, "grpc-status: 0"))
		h.close()
	}},
	{"connect", "Tunnels: a plain one, a WebSocket, bytes before its answer, one that is refused, another protocol.", func(h *h2) {
		ws := func(id uint32, protocol string) h2frame {
			return head(id, ":method: CONNECT", ":protocol: "+protocol, ":scheme: https", ":authority: h.test", ":path: /chat", "sec-websocket-version: 13")
		}
		h.client(head(1, ":method: CONNECT", ":authority: t.test:22"), ws(3, "websocket"), ws(5, "websocket"), ws(7, "connect-udp"), ws(9, "websocket"))
		h.server(head(1, ":status: 200"), data(1, "SSH-2.0\r\n"), head(3, ":status: 200"))
		h.client(data(1, "SSH"), data(3, "\x81\x82abcd\x09"), data(3, "\x0b"), lastData(1, "-2.0\r\n"), data(5, "\x81\x80abcd"), data(7, "\x00u"), data(9, "\x88\x82abcd\x62\x8a"))
		h.server(data(3, "\x81\x02hi"), lastData(1, ""), head(5, ":status: 403"), lastData(5, "no"), head(7, ":status: 200"), lastData(7, "v"), head(9, ":status: 200"))
		h.client(lastData(3, "\x88\x82abcd\x62\x8a"), lastData(7, ""), lastData(5, "more"))
		h.server(lastData(3, "\x88\x02\x03\xe8"), reset(9, http2.ErrCodeCancel))
		h.close()
	}},
}

// h2ends are exchanges that end before they are complete.
var h2ends = []scenario{
	{"reset", "Streams that are reset: before the answer, within it, by the server, after a complete answer, and when they are over.", func(h *h2) {
		for id := uint32(1); id < 13; id += 2 {
			h.client(post(id, "/"+strconv.Itoa(int(id)), "expect: 100-continue"))
		}
		h.client(reset(1, http2.ErrCodeCancel), data(3, "q"))
		h.server(head(3, ":status: 200"), data(3, "abc"), reset(5, http2.ErrCodeRefusedStream), last(7, ":status: 413"), last(9, ":status: 417"), last(11, ":status: 200"))
		h.client(reset(3, http2.ErrCodeInternal), reset(9, http2.ErrCodeNo), data(11, "x"), reset(11, 0xbad))
		h.server(reset(7, http2.ErrCodeNo), data(3, "late"), head(1, ":status: 200"), reset(9, http2.ErrCodeStreamClosed), reset(99, 1))
		h.close()
	}},
	{"goaway", "GOAWAY: what is above its last stream was not dealt with; what is not goes on.", func(h *h2) {
		h.client(get(1, "/1"), get(3, "/2"), post(5, "/3"))
		h.server(head(3, ":status: 200"), data(3, "x"), goAway(1, http2.ErrCodeNo, ""))
		h.client(get(7, "/4"), data(5, "late"))
		h.server(last(1, ":status: 200"), goAway(3, http2.ErrCodeEnhanceYourCalm, "too_many_pings"), goAway(3, http2.ErrCodeEnhanceYourCalm, "too_many_pings"))
		h.end(flow.Server, flow.CloseNotify)
		h.end(flow.Client, flow.CloseNotify)
	}},
	{"cut", "The connection ends by the server's hand: open answers are cut, open requests when the client has gone, too.", func(h *h2) {
		h.client(post(1, "/1"), data(1, "abc"), get(3, "/2"), get(5, "/3"), post(7, "/4"))
		h.server(head(3, ":status: 200"), data(3, "x"), last(7, ":status: 200"))
		h.end(flow.Server, flow.Reset)
		h.client(data(1, "d"), get(9, "/5"))
		h.end(flow.Client, flow.FIN)
	}},
	{"cut_half", "The client closes its half: complete requests are answered.", func(h *h2) {
		h.client(get(1, "/1"), post(3, "/2"))
		h.end(flow.Client, flow.FIN)
		h.server(head(1, ":status: 200"), lastData(1, "x"), last(3, ":status: 400"))
		h.end(flow.Server, flow.FIN)
	}},
	{"cut_frame", "Half frames at the end: a head of a request, a head of an answer, content.", func(h *h2) {
		h.client(get(1, "/1"), get(3, "/2"), get(5, "/3"))
		h.client(func(p *h2peer) error {
			b := p.block(":method: POST", ":scheme: https", ":authority: h.test", ":path: /cut", "a: b", "never: there")
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, BlockFragment: b[:len(b)-3]})
		})
		h.end(flow.Client, flow.FIN)
		h.server(head(3, ":status: 200"), head(5, ":status: 200"), rawFrame(http2.FrameData, 1, 3, "abc"))
		h.server(func(p *h2peer) error {
			b := p.block(":status: 200", "a: b", "cut: off")
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:len(b)-1], EndStream: true})
		})
		h.end(flow.Server, flow.FIN)
	}},
	{"stopped", "Recording ends.", func(h *h2) {
		h.client(post(1, "/1"), get(3, "/2"))
		h.server(head(3, ":status: 200"), data(3, "x"))
	}},
}
