package main

import (
	"crypto/sha256"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"trace/flow"
	"trace/redact"
	"trace/store"
)

// A script writes a session as the road does.
type script struct {
	t    *testing.T
	s    *store.Store
	id   string
	path string
	conn int64
	at   time.Time
}

// record begins a session in a state directory of this test's own.
func scripted(t *testing.T, name string) *script {
	t.Helper()
	return recordWith(t, name, store.Options{})
}

// recordRedacted is record without --keep-secrets.
func recordRedacted(t *testing.T, name string) *script {
	t.Helper()
	return recordWith(t, name, store.Options{Redact: redact.New([32]byte{1})})
}

func recordWith(t *testing.T, name string, o store.Options) *script {
	t.Helper()
	dir, err := store.Dir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	meta := flow.Session{ID: store.NewID(now), Name: name, Source: flow.SourceNamespace, Argv: []string{name, "-x"}, PID: os.Getpid(), Version: "test", Started: now}
	path := store.Path(dir, meta)
	s, err := store.Create(path, meta, o)
	if err != nil {
		t.Fatal(err)
	}
	r := &script{t: t, s: s, id: meta.ID, path: path, at: now}
	t.Cleanup(func() { r.finish() })
	return r
}

// finish ends the run.
func (r *script) finish() {
	if r.s == nil {
		return
	}
	if _, err := r.s.Finish(3, r.at.Add(time.Minute)); err != nil {
		r.t.Error(err)
	}
	r.s = nil
}

func (r *script) flush() {
	r.t.Helper()
	if err := r.s.Flush(); err != nil {
		r.t.Fatal(err)
	}
}

// open records a connection and returns what makes its events.
func (r *script) open(host string, port uint16, change func(*flow.Conn)) func(flow.Kind, int64, func(*flow.Event)) {
	r.conn++
	r.at = r.at.Add(100 * time.Millisecond)
	c := &flow.Conn{
		ID: r.conn, Source: flow.SourceNamespace, Transport: "tcp", Host: host, Started: r.at, Protocol: "http", Decrypted: true,
		Src: netip.MustParseAddrPort("198.19.255.2:40112"), Dst: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.7"), port),
		Process: &flow.Process{PID: 42, Exe: "/usr/bin/curl", Argv: []string{"curl"}}, Child: flow.TLS{Version: "1.3", SNI: host},
	}
	if change != nil {
		change(c)
	}
	r.s.Append(flow.Event{Kind: flow.ConnOpen, Conn: c.ID, At: r.at, Facts: c})
	n := 0
	return func(kind flow.Kind, ordinal int64, change func(*flow.Event)) {
		n++
		e := flow.Event{Kind: kind, Conn: c.ID, Flow: ordinal, At: r.at.Add(time.Duration(n) * time.Millisecond)}
		if kind == flow.ConnEnd {
			over := *c
			over.Ended, over.ChildEnd, over.SrvEnd = e.At, flow.FIN, flow.FIN
			e.Facts = &over
		}
		if change != nil {
			change(&e)
		}
		r.s.Append(e)
	}
}

type emit func(flow.Kind, int64, func(*flow.Event))

func (on emit) body(ordinal int64, side flow.Side, body string) {
	if body != "" {
		on(flow.Body, ordinal, func(e *flow.Event) { e.Side, e.Data = side, []byte(body) })
	}
	on(flow.BodyEnd, ordinal, func(e *flow.Event) {
		e.Side = side
		n := int64(len(body))
		e.Ended = &flow.Ended{Size: n, Decoded: n, Kept: n, SHA256: sha256.Sum256([]byte(body))}
	})
}

func (on emit) request(ordinal int64, method, host, path, body string) {
	on(flow.Request, ordinal, func(e *flow.Event) {
		e.Head = &flow.Head{Method: method, Target: path, Path: path, Scheme: "https", Host: host, Port: 443, Version: "1.1", Fields: []flow.Field{{Name: "Host", Value: host}}}
	})
	on.body(ordinal, flow.Client, body)
}

func (on emit) answer(ordinal int64, status int, kind string, streaming bool) {
	on(flow.Response, ordinal, func(e *flow.Event) {
		e.Side = flow.Server
		e.Head = &flow.Head{Status: status, Reason: "R", Version: "1.1", Streaming: streaming, Fields: []flow.Field{{Name: "Content-Type", Value: kind}}}
	})
}

func (on emit) event(ordinal int64, data string) {
	on(flow.StreamEvent, ordinal, func(e *flow.Event) { e.Side, e.Data = flow.Server, []byte("data: "+data+"\n\n") })
}

// streamEnd ends an event stream whose blocks were these.
func (on emit) streamEnd(ordinal int64, data ...string) {
	on(flow.BodyEnd, ordinal, func(e *flow.Event) {
		var all strings.Builder
		for _, d := range data {
			all.WriteString("data: " + d + "\n\n")
		}
		n := int64(all.Len())
		e.Side, e.Ended = flow.Server, &flow.Ended{Size: n, Decoded: n, Kept: n, Events: int64(len(data)), SHA256: sha256.Sum256([]byte(all.String()))}
	})
	on(flow.End, ordinal, nil)
	on(flow.ConnEnd, 0, nil)
}

const binaryBody = "\xff\x00\x1b[31m\r\n<&>"

// sampleSession records one flow of each sort: ids 1 to 4.
func sampleSession(t *testing.T) *script {
	r := scripted(t, "sample")
	on := emit(r.open("a.example", 443, nil))
	on.request(1, "GET", "a.example", "/one?x=1", "")
	on.answer(1, 404, "text/plain", false)
	on.body(1, flow.Server, binaryBody)
	on(flow.End, 1, nil)
	on.request(2, "POST", "a.example", "/two", `{"n":12345678901234567890}`)
	on.answer(2, 200, "text/event-stream", true)
	on.event(2, `{"text":"Hel"}`)
	on.event(2, "[DONE]")
	on.streamEnd(2, `{"text":"Hel"}`, "[DONE]")
	opaque := emit(r.open("pinned.example", 443, func(c *flow.Conn) { c.Decrypted, c.Opaque, c.Protocol = false, "undecrypted", "tls" }))
	opaque(flow.Opaque, 1, func(e *flow.Event) { e.Reason = "undecrypted" })
	opaque(flow.Message, 1, func(e *flow.Event) { e.Data, e.Size = []byte("\x16\x03\xff"), 3 })
	opaque(flow.End, 1, nil)
	opaque(flow.ConnEnd, 0, func(e *flow.Event) { e.Facts.Sent = 3 })
	r.s.Append(flow.Event{Kind: flow.Query, Flow: 1, Conn: 99, At: r.at.Add(time.Second), DNS: &flow.DNS{Name: "a.example", Type: "A", Rcode: "NOERROR", Answers: []string{"203.0.113.7"}}})
	r.flush()
	return r
}
