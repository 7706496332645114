package store

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"trace/flow"
)

// TestOldFormat reads a file of format 1: an exchange with an event stream and
// an opaque connection.
func TestOldFormat(t *testing.T) {
	p, err := os.ReadFile("testdata/v1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s.db")
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, path)
	x, err := r.Flow(1)
	if err != nil || x.Kind != flow.KindHTTP || x.Request.Head.Method != "POST" || x.Response.Head.Status != 200 {
		t.Fatalf("%+v, %v", x, err)
	}
	ps, err := r.Events(1)
	if err != nil || len(ps) != 5 {
		t.Fatalf("%d events, %v", len(ps), err)
	}
	var whole bytes.Buffer
	for i, p := range ps {
		want := fmt.Sprintf("event: delta\ndata: {\"n\":%d}\n\n", i)
		if p.Index != i || p.Side != flow.Server || string(p.Data) != want {
			t.Errorf("event %d: %+v", i, p)
		}
		fmt.Fprint(&whole, want, ": ping\n\n")
	}
	if b, err := r.Body(1, flow.Server); err != nil || !bytes.Equal(b, whole.Bytes()) {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := r.Body(1, flow.Client); err != nil || string(b) != `{"a":1}` {
		t.Errorf("%q, %v", b, err)
	}
	ms, err := r.Messages(2)
	if err != nil || len(ms) != 4 {
		t.Fatalf("%d messages, %v", len(ms), err)
	}
	for i, m := range ms {
		want := bytes.Repeat([]byte{byte('a' + i)}, 10+i)
		if m.Index != i || m.Side != flow.Side(i%2) || m.Opcode != 2 || m.Compressed || !bytes.Equal(m.Data, want) || !m.HasSum || m.SHA256 != sha256.Sum256(want) {
			t.Errorf("message %d: %+v", i, m)
		}
	}
	for _, side := range []flow.Side{flow.Client, flow.Server} {
		if n, err := r.RawSize(1, side); err != nil || n != 0 {
			t.Errorf("raw: %d, %v", n, err)
		}
	}
	told := newAccount(t, "follower")
	if err := r.Follow(t.Context(), true, told.change); err != nil {
		t.Fatal(err)
	}
	told.compare(r)
}

// TestFactsComeBack: what newer protocols say of heads, errors and handshakes.
func TestFactsComeBack(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1, flow: 1}
	f := conn(1)
	f.Child.JA3, f.Child.JA4, f.Child.Offered, f.Child.ECH = "cd08e31494f9531f560d64c695473da9", "t13d1516h2_8daaf6152771_02713d6af862", []string{"h2", "http/1.1"}, true
	c.put(flow.Event{Kind: flow.ConnOpen, Facts: f})
	request := &flow.Head{Method: "CONNECT", Authority: "Example.org:443\xff", Scheme: "https", Host: "example.org", Port: 443, Path: "/chat", Target: "/chat",
		Version: "2", Stream: 3, Protocol: "websocket", Framing: flow.FramingGRPC, Streaming: true, Fields: []flow.Field{{Name: "cookie", Value: "a=1"}, {Name: "cookie", Value: "b=2"}}}
	c.put(flow.Event{Kind: flow.Request, Head: request})
	answer := &flow.Head{Status: 200, Version: "2", Stream: 3, Protocol: "websocket", Framing: flow.FramingSSE}
	c.put(flow.Event{Kind: flow.Response, Side: flow.Server, Head: answer})
	fault := &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "the server reset the stream", Hint: "none", Detail: "ENHANCE_YOUR_CALM"}
	c.put(flow.Event{Kind: flow.Mark, Error: fault})
	c.end(fault)
	c.close(nil)
	finish(t, s)
	x, err := open(t, path).Flow(1)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(x.Request.Head, request) || !reflect.DeepEqual(x.Response.Head, answer) {
		t.Errorf("heads: %+v\n%+v", x.Request.Head, x.Response.Head)
	}
	if !reflect.DeepEqual(x.Error, fault) || !reflect.DeepEqual(x.Marks[0].Error, fault) {
		t.Errorf("error: %+v", x.Error)
	}
	c.close(nil) // ignored: the session is over
	if x.Conn.Child.JA4 != "" && !reflect.DeepEqual(x.Conn.Child, f.Child) {
		t.Errorf("TLS: %+v", x.Conn.Child)
	}
}
