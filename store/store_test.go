package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"trace/flow"
	"trace/redact"
)

// began is when the tests' runs begin.
var began = time.Date(2026, 1, 2, 3, 4, 5, 100_000, time.UTC)

func at(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }

func testSession() flow.Session {
	return flow.Session{ID: NewID(began), Name: "curl", Source: flow.SourceNamespace, Argv: []string{"curl", "-sS", "https://example.org"},
		Dir: "/tmp", PID: os.Getpid(), Version: "test", Link: "direct", Device: "tun", Started: began}
}

// create makes a session that is finished at the latest when the test ends.
func create(t testing.TB, o Options) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Create(path, testSession(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.finished.Load() {
			s.Finish(0, at(9999))
		}
	})
	return s, path
}

func finish(t testing.TB, s *Store) flow.Session {
	t.Helper()
	fs, err := s.Finish(0, at(9999))
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func open(t testing.TB, path string) *Reader {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func flush(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
}

// conn returns the facts of a connection.
func conn(id int64) *flow.Conn {
	return &flow.Conn{ID: id, Source: flow.SourceNamespace, Process: &flow.Process{PID: 42, Argv: []string{"curl"}, Exe: "/usr/bin/curl"},
		Src: netip.MustParseAddrPort("198.19.255.2:40112"), Dst: netip.MustParseAddrPort("203.0.113.7:443"), Host: "api.example.org",
		Started: at(0), Connect: 5 * time.Millisecond, Transport: "tcp", Protocol: "http", Decrypted: true,
		Child: flow.TLS{Version: "1.3", SNI: "api.example.org"}, Upstream: flow.TLS{Version: "1.3", Verdict: "ok", Chain: [][]byte{{0x30, 1, 2}, {0x30, 4}}}}
}

// script builds the events of one connection.
type script struct {
	s    *Store
	conn int64
	flow int64
	now  int // milliseconds

	speaks string // what randomRun makes of it
}

func (c *script) put(e flow.Event) {
	e.Conn, e.Flow, e.At = c.conn, c.flow, at(c.now)
	if e.Kind <= flow.ConnEnd {
		e.Flow = 0
	}
	c.now++
	c.s.Append(e)
}

func (c *script) open() { c.put(flow.Event{Kind: flow.ConnOpen, Facts: conn(c.conn)}) }

func (c *script) close(fault *flow.Error) {
	f := conn(c.conn)
	f.Ended, f.ChildEnd, f.SrvEnd, f.Error = at(c.now), flow.FIN, flow.CloseNotify, fault
	c.put(flow.Event{Kind: flow.ConnEnd, Facts: f})
}

func (c *script) request(method, path, ctype string, body []byte) {
	c.flow++
	h := &flow.Head{Method: method, Target: path, Scheme: "https", Host: "api.example.org", Port: 443, Path: path, Version: "1.1",
		Fields: []flow.Field{{Name: "Host", Value: "api.example.org"}, {Name: "X-Bytes", Value: "\xff\x00raw"}}}
	if ctype != "" {
		h.Fields = append(h.Fields, flow.Field{Name: "Content-Type", Value: ctype})
	}
	c.put(flow.Event{Kind: flow.Request, Head: h})
	c.body(flow.Client, body)
}

// body sends p in uneven pieces and ends the body.
func (c *script) body(side flow.Side, p []byte) {
	for rest, n := p, 1; len(rest) > 0; n = n*3 + 1 {
		k := min(n, len(rest))
		c.put(flow.Event{Kind: flow.Body, Side: side, Data: rest[:k]})
		rest = rest[k:]
	}
	c.ended(side, p, 0)
}

func (c *script) ended(side flow.Side, p []byte, events int64) {
	n := int64(len(p))
	c.put(flow.Event{Kind: flow.BodyEnd, Side: side, Ended: &flow.Ended{Size: n, Decoded: n, Kept: n, SHA256: sha256.Sum256(p), Events: events}})
}

func (c *script) response(status int, ctype string, streaming bool) {
	c.put(flow.Event{Kind: flow.Response, Side: flow.Server, Head: &flow.Head{Status: status, Reason: "OK", Version: "1.1", Streaming: streaming,
		Fields: []flow.Field{{Name: "Content-Type", Value: ctype}}}})
}

func (c *script) event(data string) []byte {
	p := []byte("event: delta\ndata: " + data + "\n\n")
	c.put(flow.Event{Kind: flow.StreamEvent, Side: flow.Server, Data: p})
	return p
}

func (c *script) end(fault *flow.Error) { c.put(flow.Event{Kind: flow.End, Error: fault}) }

func TestExchangeComesBack(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 7}
	c.open()
	c.request("POST", "/v1?x=1", "application/json", []byte(`{"a":1}`))
	c.response(201, "text/plain", false)
	answer := bytes.Repeat([]byte("0123456789abcdef\n"), 20000)
	c.body(flow.Server, answer)
	c.end(nil)
	c.close(nil)
	fs := finish(t, s)
	if fs.Flows != 1 || fs.State != "ended" || fs.Bytes == 0 || fs.File != path {
		t.Errorf("session = %+v", fs)
	}
	for _, side := range []string{"-wal", "-shm", "-lock", "-journal"} {
		if _, err := os.Stat(path + side); err == nil {
			t.Errorf("%s is left", path+side)
		}
	}
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	r := open(t, path)
	x, err := r.Flow(1)
	if err != nil {
		t.Fatal(err)
	}
	if x.State != "complete" || x.Kind != "http" || x.Request.Head.Method != "POST" || x.Response.Head.Status != 201 ||
		x.Request.Head.Get("x-bytes") != "\xff\x00raw" || x.Session != fs.ID || x.Conn.ID != 7 || x.Ordinal != 1 {
		t.Errorf("exchange = %+v %+v", x, x.Request.Head)
	}
	if !x.Started.Equal(at(1)) || x.RequestEnded.IsZero() || !x.Ended.After(x.Responded) || len(x.Conn.Upstream.Chain) != 2 {
		t.Errorf("times or chain: %+v", x)
	}
	if x.Request.Body.SHA256 != sha256.Sum256([]byte(`{"a":1}`)) || x.Response.Body.Size != int64(len(answer)) {
		t.Errorf("body facts: %+v", x.Response.Body)
	}
	if b, err := r.Body(1, flow.Server); err != nil || !bytes.Equal(b, answer) {
		t.Errorf("body: %d bytes, %v", len(b), err)
	}
	if b, err := r.Body(1, flow.Client); err != nil || string(b) != `{"a":1}` {
		t.Errorf("request body %q, %v", b, err)
	}
	if _, err := r.Flow(2); !errors.Is(err, ErrNoFlow) {
		t.Errorf("Flow(2): %v", err)
	}
}

func TestStreamLiveAndAfter(t *testing.T) {
	s, path := create(t, Options{Redact: redact.New([32]byte{})})
	r := open(t, path)
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/stream", "", nil)
	c.response(200, "text/event-stream", true)
	var whole []byte
	for i := range 3 {
		whole = append(whole, c.event(fmt.Sprintf(`{"n":%d}`, i))...)
	}
	flush(t, s)
	check := func(when string) {
		t.Helper()
		ps, err := r.Events(1)
		if err != nil || len(ps) != 3 || ps[2].Index != 2 || string(ps[1].Data) != "event: delta\ndata: {\"n\":1}\n\n" || ps[1].At.Sub(ps[0].At) != time.Millisecond {
			t.Errorf("%s: events = %v, %v", when, ps, err)
		}
		if b, err := r.Body(1, flow.Server); err != nil || !bytes.Equal(b, whole) {
			t.Errorf("%s: body %q, %v", when, b, err)
		}
	}
	check("live")
	c.ended(flow.Server, whole, 3)
	c.end(nil)
	flush(t, s)
	check("after")
	finish(t, s)
	check("finished")
	err := r.with(func(d *db) error {
		n, err := d.number("SELECT count(*) FROM tail")
		if n != 0 {
			t.Errorf("%d rows left in tail", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// name is a change in short.
func name(c Change) string {
	names := []string{"", "opened", "request", "responded", "streamed", "noted", "done", "conn", "connend", "note", "end"}
	n := names[c.Step]
	if c.Flow != nil {
		n += fmt.Sprint(c.Flow.ID)
	}
	if c.Piece != nil {
		n += fmt.Sprintf("#%d", c.Piece.Index)
	}
	return n
}
