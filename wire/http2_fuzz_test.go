package wire_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"trace/flow"
)

// fuzzScript makes a connection of the fuzzer's input. Each step begins with a
// byte: bit 0 the side, bits 1 and 2 what it is: a frame, bytes as they are, or
// an end. Of a frame type, flags, stream, and the length of its payload follow,
// a byte each, and the payload; its length is right, unless bit 3 says that it
// is three bytes of the input.
func fuzzScript(b []byte) *script {
	s := newScript()
	s.conn.Child.ALPN = "h2"
	take := func(n int) []byte {
		n = min(n, len(b))
		p := b[:n]
		b = b[n:]
		return p
	}
	if len(b) > 0 && b[0]&0x80 == 0 {
		s.client(preface)
		s.server("\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	}
	for len(b) > 0 {
		op := take(1)[0]
		side := flow.Side(op & 1)
		switch op >> 1 & 3 {
		case 0, 1:
			h := append(take(4), 0, 0, 0, 0)[:4:4]
			payload := take(int(h[3]))
			size := []byte{0, 0, byte(len(payload))}
			if op&8 != 0 {
				size = append(take(3), 0, 0, 0)[:3:3]
			}
			s.data(side, string(size)+string(h[:2])+"\x00\x00\x00"+string(h[2:3])+string(payload))
		case 2:
			if n := take(1); len(n) > 0 {
				s.data(side, string(take(int(n[0]))))
			}
		case 3:
			s.end(side, flow.CloseNotify+flow.How(op>>4)%(flow.Stopped))
		}
	}
	return s
}

// fuzzInput writes s as fuzzScript reads it, as far as it can.
func fuzzInput(s *script) []byte {
	var out []byte
	for _, st := range s.steps {
		p := []byte(strings.TrimPrefix(string(st.data), preface))
		if st.end != flow.Open {
			out = append(out, byte(st.side)|6|byte(st.end-1)<<4)
			continue
		}
		for len(p) >= 9 {
			n := int(binary.BigEndian.Uint32(p) >> 8)
			if n > 255 || n > len(p)-9 {
				break
			}
			out = append(out, byte(st.side), p[3], p[4], p[8], byte(n))
			out = append(out, p[9:9+n]...)
			p = p[9+n:]
		}
		if n := min(len(p), 255); n > 0 {
			out = append(out, byte(st.side)|4, byte(n))
			out = append(out, p[:n]...)
		}
	}
	return out
}

// FuzzHTTP2: whatever passes on a connection that says it speaks HTTP/2, the
// decoder does not panic, its events are in order and add up, and they are the
// same in every split.
func FuzzHTTP2(f *testing.F) {
	for i, s := range h2seeds() {
		f.Add(fuzzInput(s), uint64(i))
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		s := fuzzScript(input)
		events := s.run(whole)
		check(t, s, events)
		for _, e := range events {
			if x := e.Ended; x != nil && strings.Contains(x.Encoding, "br") && (x.Truncated || x.Cut) {
				return // how much a broken brotli stream gives depends on the split
			}
		}
		want, raw := show(events), rawOf(events)
		for _, cut := range []split{bytewise, random(seed)} {
			events := s.run(cut)
			if got := show(events); got != want {
				t.Fatalf("%s\ngot\n%s\nwant\n%s", s, got, want)
			}
			if got := rawOf(events); got != raw {
				t.Fatalf("%s\nraw: got\n%s\nwant\n%s", s, got, raw)
			}
		}
	})
}

// h2seeds returns connections that use what HTTP/2 has.
func h2seeds() []*script {
	whole := newH2()
	whole.client(post(1, "/1", "content-length: 2"), get(3, "/2"), data(1, "a"))
	whole.server(head(1, ":status: 103"), head(3, ":status: 200", "content-type: text/event-stream"), data(3, "data: 1\n\n"))
	whole.client(lastData(1, "b"), rawFrame(http2.FrameWindowUpdate, 0, 3, "\x00\x00\x00\x09"))
	whole.server(last(1, ":status: 204"), lastData(3, "data: 2\n\n"))
	whole.close()

	split := newH2()
	split.client(func(p *h2peer) error {
		b := p.block(":method: POST", ":scheme: https", ":authority: h.test", ":path: /", "a: b")
		if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:3], PadLength: 4, Priority: http2.PriorityParam{Weight: 3}}); err != nil {
			return err
		}
		if err := p.WriteContinuation(1, false, b[3:9]); err != nil {
			return err
		}
		return p.WriteContinuation(1, true, b[9:])
	}, func(p *h2peer) error { return p.WriteDataPadded(1, true, []byte("xyz"), make([]byte, 9)) })
	split.server(func(p *h2peer) error {
		return p.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true, PadLength: 2,
			BlockFragment: p.block(":method: GET", ":scheme: https", ":authority: h.test", ":path: /pushed")})
	}, last(2, ":status: 404"), head(1, ":status: 200"), data(1, "x"), last(1, "x-sum: 1"), goAway(1, http2.ErrCodeEnhanceYourCalm, "slow"))
	split.end(flow.Server, flow.FIN)

	broken := newH2()
	broken.client(get(1, "/"), post(3, "/"), reset(3, http2.ErrCodeCancel), rawFrame(http2.FrameHeaders, 4, 5, "\xff\xff\xff"))
	broken.server(last(1, ":status: 200"), data(1, "late"), data(1, "again"), rawFrame(http2.FrameSettings, 0, 0, "abc"))

	tunnels := newH2()
	tunnels.client(head(1, ":method: CONNECT", ":authority: a.test:1"), data(1, "abc"),
		head(3, ":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: a.test", ":path: /"), data(3, "\x81\x80abcd"))
	tunnels.server(head(1, ":status: 200"), data(1, "def"), head(3, ":status: 200"), lastData(3, "\x81\x02hi"))
	tunnels.close()
	return []*script{whole.script, split.script, broken.script, tunnels.script, grpcCalls()}
}
