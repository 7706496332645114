package wire_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"

	"trace/flow"
	"trace/wire"
)

// TestLimit: the caller's limit cuts what is handed over, not what is counted,
// at the same byte in every split.
func TestLimit(t *testing.T) {
	plain := text(100_000)
	for _, coding := range []string{"", "gzip", "raw", "br", "zstd"} {
		for _, limit := range []int64{-1, 0, 1, 70_000, 99_999, 100_000, 100_001} {
			body, head := plain, ""
			if coding != "" {
				body, head = encode(coding, plain), "Content-Encoding: "+headerName(coding)+"\r\n"
			}
			s := newScript()
			s.limit = func(side flow.Side, req, resp *flow.Head) int64 {
				if req.Method != "POST" || (side == flow.Client) != (resp == nil) {
					t.Errorf("Limit(%v, %v, %v)", side, req, resp)
				}
				return limit
			}
			message := fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
			s.client("POST / HTTP/1.1\r\nHost: h.test\r\n" + message)
			s.server("HTTP/1.1 200 OK\r\n" + message)
			events := s.run(whole)
			for _, side := range []flow.Side{flow.Client, flow.Server} {
				got, e, marks := decoded(events, side)
				kept := int64(len(plain))
				if limit >= 0 {
					kept = min(kept, limit)
				}
				if !bytes.Equal(got, plain[:kept]) || e.Kept != kept || e.Truncated != (kept < int64(len(plain))) ||
					e.Size != int64(len(body)) || e.SHA256 != sha256.Sum256(body) || len(marks) > 0 {
					t.Errorf("%q limit %d: %d bytes, %+v, %q", coding, limit, len(got), e, marks)
				}
				if coding == "" && e.Decoded != e.Size || coding != "" && e.Decoded != kept {
					t.Errorf("%q limit %d: decoded %d", coding, limit, e.Decoded)
				}
			}
			splits(t, s, show(events))
		}
	}
}

// TestLimitedStream: a limit cuts an event stream, too.
func TestLimitedStream(t *testing.T) {
	s := answer([]byte("data: 1\n\ndata: 2\n\ndata: 3\n\n"), "Content-Type: text/event-stream")
	s.limit = func(side flow.Side, req, resp *flow.Head) int64 { return 14 }
	got, e, _ := decoded(s.run(whole), flow.Server)
	if string(got) != "data: 1\n\ndata:" || e.Events != 1 || e.Kept != 14 || e.Decoded != 27 || !e.Truncated {
		t.Errorf("%q %+v", got, e)
	}
	splits(t, s, show(s.run(whole)))
}

// zeros is a reader of n zero bytes.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func bomb(t *testing.T, coding string, r io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	w := encoders[coding](&b)
	if coding == "gzip" {
		fast, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		w = fast
	}
	if _, err := io.Copy(w, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBombs: without a limit of the caller's, decoding ends where a body grows
// beyond measure; a limit of the caller's ends it long before.
func TestBombs(t *testing.T) {
	const size = 80 << 20
	gz := bomb(t, "gzip", zeros(size))
	members := bytes.Repeat(encode("gzip", nil), size/len(encode("gzip", nil)))
	for _, c := range []struct {
		name, encoding string
		body           []byte
		silent         bool // nothing comes out before it is found
	}{
		{"gzip", "gzip", gz, false},
		{"zstd", "zstd", bomb(t, "zstd", zeros(size)), false},
		{"gzip in gzip", "gzip, gzip", encode("gzip", gz), false},
		{"empty members in zstd", "gzip, zstd", bomb(t, "zstd", bytes.NewReader(members)), true},
	} {
		var kept int64
		var ended *flow.Ended
		var marks []string
		limit := int64(-1)
		run := func() {
			kept, ended, marks = 0, nil, nil
			d := &wire.Decoder{Conn: &flow.Conn{}, Emit: func(e flow.Event) {
				switch {
				case e.Kind == flow.Body:
					kept += int64(len(e.Data))
				case e.Kind == flow.BodyEnd && e.Side == flow.Server:
					ended = e.Ended
				case e.Kind == flow.Mark:
					marks = append(marks, e.Error.Code)
				}
			}, Limit: func(flow.Side, *flow.Head, *flow.Head) int64 { return limit }}
			d.Data(flow.Client, epoch, []byte("GET / HTTP/1.1\r\n\r\n"))
			d.Data(flow.Server, epoch, fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n", c.encoding, len(c.body)))
			d.Data(flow.Server, epoch, c.body)
			d.Close(epoch)
		}
		run()
		if kept > 65<<20 || (kept == 0) != c.silent || !ended.Truncated || ended.Kept != kept || ended.Size != int64(len(c.body)) || strings.Join(marks, " ") != flow.CodeLimit {
			t.Errorf("%s: kept %d, %+v, %q", c.name, kept, ended, marks)
		}
		if limit = 1000; !c.silent {
			run()
			if kept != 1000 || !ended.Truncated || len(marks) > 0 {
				t.Errorf("%s with a limit: kept %d, %+v, %q", c.name, kept, ended, marks)
			}
		}
	}
}

// TestOpaqueLimit: of each direction the first bytes are kept, the rest counted.
func TestOpaqueLimit(t *testing.T) {
	s := newScript()
	s.conn.Opaque = "undecrypted"
	sent, received := text(200_000), text(65_536)
	s.client(string(sent))
	s.server(string(received))
	events := s.run(whole)
	var data [2][]byte
	var size [2]int64
	for _, e := range events {
		if e.Kind == flow.Message {
			data[e.Side] = append(data[e.Side], e.Data...)
			size[e.Side] += e.Size
		}
	}
	if !bytes.Equal(data[0], sent[:65_536]) || size[0] != 200_000 || !bytes.Equal(data[1], received) || size[1] != 65_536 {
		t.Errorf("kept %d of %d and %d of %d", len(data[0]), size[0], len(data[1]), size[1])
	}
	splits(t, s, show(events))
}

// summary names the events of s and, of errors, the code.
func summary(events []flow.Event) string {
	var words []string
	for _, e := range events {
		if e.Kind == flow.Raw {
			continue
		}
		w := fmt.Sprintf("%d%s", e.Flow, kinds[e.Kind])
		if e.Error != nil {
			w += ":" + e.Error.Code
		}
		if e.Reason != "" {
			w += ":" + e.Reason
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// TestHeadLimits: heads beyond measure are recorded as far as they are kept,
// and cost their direction only.
func TestHeadLimits(t *testing.T) {
	field := "X: " + strings.Repeat("y", 1000) + "\r\n"
	get := "GET / HTTP/1.1\r\nHost: h.test\r\n"
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
	for _, c := range []struct {
		name, client, server, want string
	}{
		{"10 MB request", get + strings.Repeat(field, 10_000) + "\r\n", "HTTP/1.1 431 Big\r\nContent-Length: 0\r\n\r\n",
			"1Request 1Mark:limit 1BodyEnd 2Opaque:limit 2Message 1Response 1BodyEnd 1End:limit 2Message 2End"},
		{"10 MB answer", get + "\r\n", ok + strings.Repeat(field, 10_000) + "\r\n",
			"1Request 1BodyEnd 1Response 1Mark:limit 1BodyEnd 1End:limit 2Opaque:limit 2Message 2End"},
		{"endless name", get + strings.Repeat("n", 2<<20), "", "1Request 1Mark:limit 1BodyEnd 2Opaque:limit 2Message 1End:limit 2Message 2End"},
		{"endless target", "GET /" + strings.Repeat("n", 2<<20), "", "1Opaque:not_http 1Message 1End"},
		{"empty lines", strings.Repeat("\r\n", 1<<20), "", "1Opaque:not_http 1Message 1End"},
		{"many fields", get + strings.Repeat("a:\n", 20_000) + "\r\n", ok + "\r\n", "1Request 1Mark:limit 1BodyEnd 1Response 1BodyEnd 1End"},
		{"long chunk extension", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", 20_000), ok + "\r\n",
			"1Request 1Mark:limit 1BodyEnd 2Opaque:limit 2Message 1Response 1BodyEnd 1End:limit 2End"},
		{"long trailers", get + "\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat(field, 1100) + "\r\n",
			"1Request 1BodyEnd 1Response 1Mark:limit 1BodyEnd 1End:limit 2Opaque:limit 2Message 2End"},
		{"answer too early", get + "X", ok[:len(ok)-3] + "300000\r\n\r\n" + strings.Repeat("z", 300_000),
			"1Request 1Mark:limit 1BodyEnd 2Opaque:limit 2Message 1Response 1Body 1BodyEnd 1End:limit 2End"},
		{"tunnel too early", "CONNECT a:1 HTTP/1.1\r\n\r\n" + strings.Repeat("z", 300_000), ok + "\r\nabc",
			"1Request 1BodyEnd 2Opaque:connect 2Message 1Response 1BodyEnd 1End 2Message 2Message 2End"},
		{"requests without end", strings.Repeat(get+"\r\n", 10_001), strings.Repeat(ok+"\r\n", 10_002), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript()
			s.client(c.client)
			if c.server != "" {
				s.server(c.server)
			}
			s.end(flow.Client, flow.FIN)
			s.end(flow.Server, flow.FIN)
			events := s.run(whole)
			if got := summary(events); c.want != "" && got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if c.want == "" {
				got := summary(events[len(events)-3:])
				if n := events[len(events)-1].Flow; n != 10_001 || !strings.HasPrefix(got, "10000End 10001Message 10001End") {
					t.Errorf("%d flows, the last: %s", n, got)
				}
			}
			want := show(events)
			for seed := range uint64(3) {
				if show(s.run(random(seed))) != want {
					t.Errorf("split %d: %s", seed, summary(s.run(random(seed))))
				}
			}
		})
	}
}

// TestLongEvent: an event beyond its limit is kept as part of the body.
func TestLongEvent(t *testing.T) {
	long := "data: " + strings.Repeat("x", 17<<20) + "\n\n"
	s := answer([]byte("data: 1\n\n"+long+"data: 2\n\n"), "Content-Type: text/event-stream")
	for _, cut := range []split{whole, random(1)} {
		events := s.run(cut)
		if got, want := summary(events), "1Request 1BodyEnd 1Response 1StreamEvent 1Mark:limit 1Body 1StreamEvent 1BodyEnd 1End"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		body, e, _ := decoded(events, flow.Server)
		if int64(len(body)) != e.Size || e.Events != 2 || e.Truncated {
			t.Errorf("%+v", e)
		}
	}
}

// TestManyInformational: an exchange keeps the first of its 1xx answers only,
// in both versions, and the final one.
func TestManyInformational(t *testing.T) {
	s := newScript()
	s.data(flow.Client, "GET / HTTP/1.1\r\nHost: h.test\r\n\r\n")
	s.data(flow.Server, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 5000)+"HTTP/1.1 204 No Content\r\n\r\n")
	s.end(flow.Server, flow.FIN)
	s.end(flow.Client, flow.FIN)
	counts := map[flow.Kind]int{}
	for _, e := range s.run(whole) {
		counts[e.Kind]++
	}
	if counts[flow.Informational] != 100 || counts[flow.Response] != 1 || counts[flow.Mark] != 1 {
		t.Errorf("%d informational answers, %d final, %d marks", counts[flow.Informational], counts[flow.Response], counts[flow.Mark])
	}
}
