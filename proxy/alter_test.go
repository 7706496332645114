package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"trace/flow"
	"trace/rules"
)

// An altering stands before a server, by rules.
type altering struct {
	t      *testing.T
	alter  *Alter
	server *httptest.Server
	conns  int64

	mu     sync.Mutex
	events []flow.Event
}

func newAltering(t *testing.T, text string, h http.HandlerFunc) *altering {
	t.Helper()
	set, err := rules.Parse("r", []byte(`{"rules": [`+text+`]}`), rules.Loader{})
	if err != nil {
		t.Fatal(err)
	}
	a := &altering{t: t, alter: &Alter{Rules: set}}
	a.server = httptest.NewUnstartedServer(h)
	a.server.Config.Protocols = new(http.Protocols)
	a.server.Config.Protocols.SetHTTP1(true)
	a.server.Config.Protocols.SetUnencryptedHTTP2(true)
	a.server.Start()
	t.Cleanup(a.server.Close)
	return a
}

func (a *altering) record(e flow.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
}

// marks returns what was said, a line each.
func (a *altering) marks() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	for _, e := range a.events {
		if e.Kind == flow.Mark {
			fmt.Fprintf(&b, "%d %s: %s\n", e.Flow, e.Error.Code, e.Error.Message)
		}
	}
	return b.String()
}

// dial returns the altered connection.
func (a *altering) dial(protocol string) net.Conn {
	a.t.Helper()
	c, err := net.Dial("tcp", a.server.Listener.Addr().String())
	if err != nil {
		a.t.Fatal(err)
	}
	return a.over(c, protocol)
}

func (a *altering) over(c net.Conn, protocol string) net.Conn {
	a.t.Helper()
	a.conns++
	facts := &flow.Conn{ID: a.conns, Host: "x.test", Protocol: protocol}
	conn := a.alter.Into(a.record)(facts, c)
	if conn == nil {
		a.t.Fatal("no rule may match")
	}
	a.t.Cleanup(func() { conn.Close() })
	return conn
}

// TestAlterPipelined: requests that come at once are answered in their order, by whom
// ever; chunks, 1xx, HEAD and trailers pass; an upgrade ends it.
func TestAlterPipelined(t *testing.T) {
	a := newAltering(t, `{"match": {"path": "/mine"}, "answer": {"body": "ours"}}, {"match": {"path": "/head"}, "response": {"set_header": {"X-A": "b"}}}`, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/up":
			c, b, _ := w.(http.Hijacker).Hijack()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: odd\r\nConnection: Upgrade\r\n\r\n")
			io.Copy(c, b)
			c.Close()
		case "/head":
			w.WriteHeader(103)
			w.Header().Set("Trailer", "T")
			io.WriteString(w, "chunk")
			w.(http.Flusher).Flush()
			w.Header().Set("T", "end")
		default:
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %q %s", r.URL.Path, r.Header["Odd-Case"], b)
		}
	})
	c := a.dial("http")
	io.WriteString(c, "GET /mine HTTP/1.1\r\nHost: x\r\n\r\nPOST /a HTTP/1.1\r\nHost: x\r\nodd-CASE:  v\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\nPOST /mine HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcHEAD /head HTTP/1.1\r\nHost: x\r\n\r\nGET /head HTTP/1.1\r\nHost: x\r\n\r\nGET /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\nanything \x00")
	r := bufio.NewReader(c)
	for i, want := range []string{"ours", `/a ["v"] abc`, "ours", "", "chunk"} {
		method := "GET"
		if i == 3 {
			method = "HEAD"
		}
		var resp *http.Response
		for {
			var err error
			if resp, err = http.ReadResponse(r, &http.Request{Method: method}); err != nil {
				t.Fatal(i, err)
			}
			if resp.StatusCode != 103 {
				break
			}
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || string(b) != want || (i > 2) != (resp.Header.Get("X-A") == "b") || i == 4 && resp.Trailer.Get("T") != "end" {
			t.Errorf("%d: %q %v %v %v", i, b, err, resp.Header, resp.Trailer)
		}
	}
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	c.(interface{ CloseWrite() error }).CloseWrite()
	if b, err := io.ReadAll(r); err != nil || string(b) != "anything \x00" {
		t.Errorf("%q %v", b, err)
	}
	if m := a.marks(); strings.Count(m, "\n") != 4 || !strings.Contains(m, "1 altered") || !strings.Contains(m, "5 altered") {
		t.Error(m)
	}
}

// TestAlterOther: what is no HTTP passes, also where the server speaks first, and so does an end.
func TestAlterOther(t *testing.T) {
	a := newAltering(t, `{"delay": "1ms"}`, nil)
	near, far := net.Pipe()
	c := a.over(far, "")
	go io.WriteString(near, "220 hello\r\n")
	b := make([]byte, 11)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "220 hello\r\n" {
		t.Fatalf("%q %v", b, err)
	}
	io.WriteString(c, "EHLO x\r\n\r\n")
	if _, err := io.ReadFull(near, b[:10]); err != nil || string(b[:10]) != "EHLO x\r\n\r\n" {
		t.Fatalf("%q %v", b, err)
	}
	near.Close()
	if n, err := c.Read(b); err != io.EOF {
		t.Error(n, err)
	}
}

// client returns a client over one altered connection at a time.
func (a *altering) client(two bool) *http.Client {
	if !two {
		return &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return a.dial("http"), nil }, ExpectContinueTimeout: time.Minute}}
	}
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) {
		c, err := net.Dial("tcp", a.server.Listener.Addr().String())
		if err != nil {
			return nil, err
		}
		return a.watched(c), nil
	}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: tr}
}

// watched is over for HTTP/2: the streams are made known in their order.
func (a *altering) watched(c net.Conn) net.Conn {
	conn := a.over(c, "http2")
	see := a.alter.Watch(&flow.Conn{ID: a.conns}, func(flow.Event) {})
	for i := range int64(100) {
		see(flow.Event{Kind: flow.Request, Flow: i + 1, Head: &flow.Head{Stream: 2*i + 1}})
	}
	return conn
}

// TestAlterBodies: JSON of both sides, coded or not, and what cannot be applied.
func TestAlterBodies(t *testing.T) {
	const text = `{"match": {"path": "/json*"}, "request": {"set_json": {"a": 2}}, "response": {"set_json": {"b": [1]}}},
		{"match": {"path": "/cut"}, "cut_after_events": 2}, {"match": {"path": "/busy"}, "first": 1, "answer": {"status": 429, "header": {"retry-after": "2"}, "body": {}}}`
	for _, two := range []bool{false, true} {
		a := newAltering(t, text, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			switch r.URL.Path {
			case "/json/gzip":
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				fmt.Fprintf(z, `{"got": %s}`, body)
				z.Close()
			case "/json/text":
				w.Header().Set("Content-Type", "text/plain")
				w.Write(body)
			case "/json/long":
				w.Write(body[:100])
				w.Write(bytes.Repeat([]byte(" "), maxWhole))
				w.Write(body[100:])
			case "/cut":
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "data: 1\n\ndata: 2\n\ndata: 3\n\n")
			default:
				w.Header().Set(http.TrailerPrefix+"End", "trailer")
				fmt.Fprintf(w, `{"got": %s}`, body)
				w.(http.Flusher).Flush()
			}
		})
		c := a.client(two)
		long := strings.Repeat("x", maxWhole+1000)
		for _, want := range [][3]string{
			{"/json", `{"a": 1, "z": 1}`, `{"got": {"a": 2, "z": 1},"b":[1]}`}, {"/json/gzip", `{"a": 1}`, `{"got": {"a": 2},"b":[1]}`},
			{"/json/text", `{"a": 1}`, `{"a": 2}`}, {"/json/text", `[]`, `[]`}, {"/json/text", long, long}, {"/json/long", long[:200], long[:100] + strings.Repeat(" ", maxWhole) + long[:100]},
			{"/busy", "x", "{}"}, {"/busy", "1", `{"got": 1}`}, {"/cut", "", "data: 1\n\ndata: 2\n\n"},
		} {
			req, _ := http.NewRequest("POST", "http://x.test"+want[0], strings.NewReader(want[1]))
			req.Header.Set("Expect", "100-continue")
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(two, want[0], err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if (err != nil) != (want[0] == "/cut") || string(b) != want[2] || want[0] == "/json" && two && resp.Trailer.Get("End") != "trailer" {
				t.Errorf("http2 %t %s: %.100q %v %v", two, want[0], b, err, resp.Trailer)
			}
		}
		c.CloseIdleConnections()
		for _, s := range []string{`request body: a: 2, was 1`, `answer body: b: [1], was nothing`, `it is "text/plain", not JSON`, "body of the request: it is longer than", "body of the answer: it is longer than",
			"the answer was cut after 2 events", "answered with 429"} {
			if !strings.Contains(a.marks(), s) {
				t.Errorf("http2 %t: no %q in\n%s", two, s, a.marks())
			}
		}
	}
}

// TestAlterPace: an answer takes the time that its rule wants, and one that the child leaves ends.
func TestAlterPace(t *testing.T) {
	for _, two := range []bool{false, true} {
		a := newAltering(t, `{"match": {"path": "/slow"}, "throttle": 40000}, {"match": {"path": "/never"}, "delay": "1h"}`, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 8000)) })
		c := a.client(two)
		began := time.Now()
		resp, err := c.Get("http://x.test/slow")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if took := time.Since(began); err != nil || len(b) != 8000 || took < 190*time.Millisecond {
			t.Errorf("http2 %t: %d bytes after %v, %v", two, len(b), took, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://x.test/never", nil)
		if _, err := c.Do(req); err == nil {
			t.Error("an answer")
		}
		cancel()
		c.CloseIdleConnections()
	}
}

// TestEventCutter finds the same end however the stream is split.
func TestEventCutter(t *testing.T) {
	frame := "\x00\x00\x00\x0a123456"
	for _, c := range [][3]string{
		{"text/event-stream; charset=utf-8", "\n: c\n\ndata: 1\n\nevent: x\r\ndata: 2\r\n\r\ndata: 3\n\n", "\n: c\n\ndata: 1\n\nevent: x\r\ndata: 2\r\n\r"},
		{"text/event-stream", "data: 1\r\rdata: 2\r\rdata: 3", "data: 1\r\rdata: 2\r\r"},
		{"application/x-ndjson", "{}\n\n{}\n{}\n", "{}\n\n{}\n"},
		{"application/vnd.amazon.eventstream", frame + frame + frame, frame + frame},
		{"application/grpc+proto", "\x00\x00\x00\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x01a\x00\x00\x00\x00\x00"},
	} {
		for size := 1; size <= len(c[1]); size++ {
			e, out, cut := newEventCutter(c[0], 2), "", false
			for i := 0; i < len(c[1]) && !cut; i += size {
				p := []byte(c[1][i:min(i+size, len(c[1]))])
				var n int
				n, cut = e.take(p)
				out += string(p[:n])
			}
			if !cut || strings.TrimSuffix(out, "\n") != strings.TrimSuffix(c[2], "\n") {
				t.Errorf("%s by %d: %q", c[0], size, out)
			}
		}
	}
	if newEventCutter("text/html", 1) != nil {
		t.Error("text/html is no stream")
	}
}
