package wire_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"trace/flow"
	"trace/wire"
)

// A flusher is what every encoder is.
type flusher interface {
	io.WriteCloser
	Flush() error
}

// encoders make the codings of Content-Encoding.
var encoders = map[string]func(io.Writer) flusher{
	"gzip": func(w io.Writer) flusher { return gzip.NewWriter(w) },
	"deflate": func(w io.Writer) flusher {
		return zlib.NewWriter(w)
	},
	"raw": func(w io.Writer) flusher {
		f, err := flate.NewWriter(w, flate.DefaultCompression)
		if err != nil {
			panic(err)
		}
		return f
	},
	"br": func(w io.Writer) flusher { return brotli.NewWriter(w) },
	"zstd": func(w io.Writer) flusher {
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err)
		}
		return z
	},
}

// names are the values of Content-Encoding for encoders of another name.
func headerName(coding string) string {
	if coding == "raw" {
		return "deflate"
	}
	return coding
}

func encode(coding string, p []byte) []byte {
	var b bytes.Buffer
	w := encoders[coding](&b)
	if _, err := w.Write(p); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// text returns n bytes that compress as text does.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "{\"n\":%d,\"word\":\"%x\"}\n", r.IntN(1000), r.IntN(1<<16))
	}
	return b.Bytes()[:n]
}

// answer makes a script of one answer with the body and fields.
func answer(body []byte, fields ...string) *script {
	s := newScript()
	s.client("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n")
	s.server("HTTP/1.1 200 OK\r\n" + strings.Join(fields, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(body)))
	s.server(string(body))
	s.end(flow.Server, flow.FIN)
	s.end(flow.Client, flow.FIN)
	return s
}

// decoded joins the decoded body of side and returns its end.
func decoded(events []flow.Event, side flow.Side) (body []byte, ended *flow.Ended, marks []string) {
	for _, e := range events {
		if e.Kind == flow.Mark {
			marks = append(marks, e.Error.Code+": "+e.Error.Message)
		}
		if e.Side != side {
			continue
		}
		switch e.Kind {
		case flow.Body, flow.StreamEvent:
			body = append(body, e.Data...)
		case flow.BodyEnd:
			ended = e.Ended
		}
	}
	return body, ended, marks
}

func TestCodings(t *testing.T) {
	plain := text(300_000)
	for coding := range encoders {
		t.Run(coding, func(t *testing.T) {
			for _, n := range []int{0, 1, 100, len(plain)} {
				wireBody := encode(coding, plain[:n])
				s := answer(wireBody, "Content-Encoding: "+headerName(coding))
				want := show(s.run(whole))
				splits(t, s, want)
				body, e, marks := decoded(s.run(whole), flow.Server)
				if !bytes.Equal(body, plain[:n]) || len(marks) > 0 {
					t.Fatalf("%d bytes: got %d, marks %q", n, len(body), marks)
				}
				if e.Size != int64(len(wireBody)) || e.SHA256 != sha256.Sum256(wireBody) || e.Decoded != int64(n) || e.Kept != int64(n) ||
					e.Truncated || e.Cut || e.Encoding != headerName(coding) {
					t.Fatalf("%d bytes: %+v", n, e)
				}
			}
		})
	}
}

// TestStackedCodings undoes content codings and transfer codings in reverse.
func TestStackedCodings(t *testing.T) {
	plain := text(50_000)
	body := encode("gzip", encode("zstd", encode("br", encode("raw", plain))))
	s := newScript()
	s.client("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Encoding: deflate, BR\r\ncontent-encoding: identity, zstd\r\n" +
		"Transfer-Encoding: x-gzip, chunked\r\n\r\n")
	s.client(fmt.Sprintf("%x\r\n", len(body)))
	s.client(string(body) + "\r\n0\r\n\r\n")
	got, e, marks := decoded(s.run(whole), flow.Client)
	if !bytes.Equal(got, plain) || e.Encoding != "deflate, br, zstd, gzip" || len(marks) > 0 {
		t.Fatalf("got %d bytes, %+v, marks %q", len(got), e, marks)
	}
	splits(t, s, show(s.run(whole)))
}

// TestNotDecoded: bodies whose coding cannot be undone are kept as they passed.
func TestNotDecoded(t *testing.T) {
	for _, c := range []struct{ status, coding, body, mark string }{
		{"200 OK", "sdch", "abc", ""},
		{"200 OK", "gzip, dcb", "abc", ""},
		{"200 OK", "gzip, gzip, gzip, gzip, gzip", "abc", ""},
		{"206 Partial Content", "gzip", "abc", ""},
		{"200 OK", "identity", "abc", ""},
		{"200 OK", "gzip", "plain text", "malformed: the body is not gzip, as its head says: kept as it passed"},
		{"200 OK", "zstd", "\x28\xb5x", "malformed: the body is not zstd, as its head says: kept as it passed"},
		{"200 OK", "gzip", "\x1f", "malformed: the body is not gzip, as its head says: kept as it passed"},
		{"200 OK", "gzip", "", ""},
	} {
		s := newScript()
		s.client("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n")
		s.server(fmt.Sprintf("HTTP/1.1 %s\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", c.status, c.coding, len(c.body), c.body))
		got, e, marks := decoded(s.run(whole), flow.Server)
		if string(got) != c.body || e.Encoding != "" || e.Truncated || strings.Join(marks, "|") != c.mark {
			t.Errorf("%q of %q: got %q, %+v, marks %q", c.coding, c.body, got, e, marks)
		}
		splits(t, s, show(s.run(whole)))
	}
}

// TestBrokenCodings: what breaks is told, and costs the decoded body only.
func TestBrokenCodings(t *testing.T) {
	plain := text(200_000)
	for coding := range encoders {
		good := encode(coding, plain)
		short := good[:len(good)*2/3]
		bad := bytes.Clone(good)
		for i := len(bad) / 2; i < len(bad)/2+60; i++ {
			bad[i] ^= 0x55
		}
		for what, body := range map[string][]byte{"short": short, "bad": bad} {
			if coding == "raw" && what == "bad" {
				continue // it has no checksum
			}
			t.Run(coding+"_"+what, func(t *testing.T) {
				s := answer(body, "Content-Encoding: "+headerName(coding))
				s.client("GET /2 HTTP/1.1\r\n\r\n") // after the end: ignored
				for _, cut := range []split{whole, bytewise, random(3)} {
					got, e, marks := decoded(s.run(cut), flow.Server)
					if len(got) == len(plain) && bytes.Equal(got, plain) {
						t.Fatal("decoded all the same")
					}
					if !e.Truncated || e.Cut || e.Size != int64(len(body)) || e.SHA256 != sha256.Sum256(body) || e.Kept != int64(len(got)) {
						t.Errorf("%+v", e)
					}
					if len(marks) != 1 || !strings.HasPrefix(marks[0], "malformed: the ") {
						t.Errorf("marks %q", marks)
					}
				}
			})
		}
	}
}

// TestTrailingBytes: bytes behind the coded data are told and harmless; further
// members and frames belong to it.
func TestTrailingBytes(t *testing.T) {
	for _, c := range []struct {
		coding string
		body   []byte
		want   string
		marks  int
	}{
		{"gzip", append(encode("gzip", []byte("abc")), "\x00\x00\x00\x00"...), "abc", 1},
		{"br", append(encode("br", []byte("abc")), "xx"...), "abc", 0},
		{"deflate", append(encode("deflate", []byte("abc")), "xx"...), "abc", 1},
		{"gzip", append(encode("gzip", []byte("abc")), encode("gzip", []byte("def"))...), "abcdef", 0},
		{"zstd", append(encode("zstd", []byte("abc")), encode("zstd", []byte("def"))...), "abcdef", 0},
	} {
		s := answer(c.body, "Content-Encoding: "+c.coding)
		for _, cut := range []split{whole, bytewise} {
			got, e, marks := decoded(s.run(cut), flow.Server)
			if string(got) != c.want || e.Truncated || len(marks) != c.marks {
				t.Errorf("%s: %q %+v %q", c.coding, got, e, marks)
			}
		}
	}
}

// TestLiveEvents: an event inside a compressed stream comes out with the bytes
// that complete it, not later.
func TestLiveEvents(t *testing.T) {
	for coding, encoder := range encoders {
		t.Run(coding, func(t *testing.T) {
			var r recorder
			d := &wire.Decoder{Conn: &flow.Conn{}, Emit: r.add}
			d.Data(flow.Client, epoch, []byte("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n"))
			d.Data(flow.Server, epoch, fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: %s\r\n\r\n", headerName(coding)))
			var b bytes.Buffer
			w := encoder(&b)
			for i := range 50 {
				if coding == "gzip" && i == 25 { // a new member
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
					w = encoder(&b)
				}
				event := fmt.Sprintf("data: %d %s\n\n", i, strings.ReplaceAll(string(text(i*7)), "\n", ""))
				if _, err := io.WriteString(w, event); err != nil {
					t.Fatal(err)
				}
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				at := epoch.Add(time.Duration(i) * time.Second)
				for _, c := range b.Bytes() {
					d.Data(flow.Server, at, []byte{c})
				}
				b.Reset()
				last := r.events[len(r.events)-1]
				if last.Kind != flow.StreamEvent || !last.At.Equal(at) || string(last.Data) != event {
					t.Fatalf("event %d: have %s %q at %v", i, kinds[last.Kind], last.Data, last.At.Sub(epoch))
				}
			}
			d.End(flow.Server, epoch, flow.Reset)
			d.End(flow.Client, epoch, flow.Reset)
			d.Close(epoch)
			if _, e, marks := decoded(r.events, flow.Server); !e.Cut || e.Truncated || e.Events != 50 || len(marks) > 0 {
				t.Errorf("%+v %q", e, marks)
			}
		})
	}
}

// TestCoroutinesEnd: whatever happens to a connection, nothing keeps running.
func TestCoroutinesEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	for coding := range encoders {
		body := encode(coding, text(10_000))
		for _, how := range []flow.How{flow.Open, flow.FIN, flow.Reset, flow.Stopped} {
			s := newScript()
			s.client("POST / HTTP/1.1\r\nContent-Length: 99999\r\nContent-Encoding: " + headerName(coding) + "\r\n\r\n" + string(body[:len(body)/2]))
			s.server("HTTP/1.1 200 OK\r\nContent-Encoding: " + headerName(coding) + "\r\n\r\n" + string(body[:len(body)/2]))
			if how != flow.Open {
				s.end(flow.Server, how)
			}
			s.run(random(1))
		}
		panicking(t, coding, body)
	}
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if i == 1000 {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}

// panicking has Emit panic amid two compressed bodies.
func panicking(t *testing.T, coding string, body []byte) {
	t.Helper()
	bodies := 0
	d := &wire.Decoder{Conn: &flow.Conn{}, Emit: func(e flow.Event) {
		if e.Kind == flow.Body && e.Side == flow.Server {
			bodies++
			panic("full")
		}
	}}
	head := "Content-Length: 99999\r\nContent-Encoding: " + headerName(coding) + "\r\n\r\n"
	d.Data(flow.Client, epoch, append([]byte("POST / HTTP/1.1\r\n"+head), body[:len(body)/2]...))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic of Emit is lost")
			}
		}()
		d.Data(flow.Server, epoch, append([]byte("HTTP/1.1 200 OK\r\n"+head), body...))
	}()
	d.Data(flow.Server, epoch, body)
	d.End(flow.Server, epoch, flow.FIN)
	d.Close(epoch)
	if bodies != 1 {
		t.Errorf("%d bodies after a panic", bodies)
	}
}
