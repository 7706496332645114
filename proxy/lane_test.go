package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"trace/flow"
	"trace/mitm"
	"trace/wire"
)

func TestCutLabel(t *testing.T) {
	for _, c := range []struct{ target, label, token, rest, shown string }{
		{"/v1/x?a=/@b", "", "", "/v1/x?a=/@b", "/v1/x?a=/@b"},
		{"/@a/v1/x?q", "a", "", "/v1/x?q", "/@a/v1/x?q"},
		{"/@a:secret/v1", "a", "secret", "/v1", "/@a/v1"},
		{"/@:secret/v1", "", "secret", "/v1", "/@/v1"},
		{"/@a:secret", "a", "secret", "/", "/@a"},
		{"/@a:secret?q", "a", "secret", "/?q", "/@a?q"},
		{"http://h:1/@a:s/x", "a", "s", "http://h:1/x", "http://h:1/@a/x"},
		{"http://h:1", "", "", "http://h:1", "http://h:1"},
		{"*", "", "", "*", "*"},
	} {
		if got := cutLabel(c.target); got != (cut{c.label, c.token, c.rest, c.shown}) {
			t.Errorf("%s: %+v", c.target, got)
		}
	}
}

// A clerk keeps the records of lanes, as a text of each.
type clerk struct {
	mu    sync.Mutex
	lines map[string][]string
	open  int
}

func (c *clerk) enter(label, token string) (Lane, *flow.Error) {
	c.mu.Lock()
	c.open++
	c.mu.Unlock()
	lane := Lane{Record: func(e flow.Event) { c.note(label, e) }, Leave: func() {
		c.mu.Lock()
		c.open--
		c.mu.Unlock()
	}}
	if token != "right" {
		return lane, &flow.Error{Where: flow.AtClient, Code: "denied", Message: "wrong token", Hint: "ask"}
	}
	return lane, nil
}

func (c *clerk) note(label string, e flow.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line := ""
	switch e.Kind {
	case flow.ConnOpen:
		line = "open"
	case flow.Request:
		line = e.Head.Method + " " + e.Head.Target + " " + e.Head.Path
	case flow.BodyEnd:
		line = fmt.Sprintf("%d body %d", e.Side, e.Ended.Size)
	case flow.Response:
		line = fmt.Sprint(e.Head.Status)
	case flow.End:
		line = "end"
		if e.Error != nil {
			line += " " + e.Error.Code
		}
	}
	if line != "" {
		c.lines[label] = append(c.lines[label], line)
	}
}

// TestLanes has clients of several labels, of which one is not let in, over HTTP/1.1
// and HTTP/2: each is recorded in its own lane, from the beginning of its
// connection, and no token with it.
func TestLanes(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	}))
	defer server.Close()
	route, err := NewRoute("api", server.URL+"/base")
	if err != nil {
		t.Fatal(err)
	}
	for _, two := range []bool{false, true} {
		c := &clerk{lines: map[string][]string{}}
		var ids int64
		p := &Reverse{Routes: Routes{route}, Enter: c.enter,
			NextID: func() int64 { c.mu.Lock(); defer c.mu.Unlock(); ids++; return ids },
			NewTap: func(f *flow.Conn, emit func(flow.Event)) mitm.Tap { return &wire.Decoder{Conn: f, Emit: emit} }}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- p.Serve(ctx, l) }()
		for _, path := range []string{"/@a:right/api/x", "/@b:right/api/y?q", "/@c:wrong/api/z", "/api/none"} {
			var protocols http.Protocols
			protocols.SetHTTP1(!two)
			protocols.SetUnencryptedHTTP2(two)
			tr := &http.Transport{Protocols: &protocols}
			body := bytes.Repeat([]byte("b"), 100_000)
			res, err := (&http.Client{Transport: tr}).Post("http://"+l.Addr().String()+path, "text/plain", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if right := strings.Contains(path, "right"); err != nil || right != (res.StatusCode == 200) || right != bytes.Equal(got, body) {
				t.Errorf("HTTP/2 %v, %s: %s, %d bytes, %v", two, path, res.Status, len(got), err)
			}
			tr.CloseIdleConnections()
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for label, want := range map[string]string{
			"a": "open|POST /@a/api/x /base/x|",
			"b": "open|POST /@b/api/y?q /base/y?q|",
			"c": "open|POST /@c/api/z /base/z|",
			"":  "open|POST /api/none /base/none|",
		} {
			got := strings.Join(c.lines[label], "|")
			if !strings.HasPrefix(got, want) || strings.Contains(got, "right") || strings.Contains(got, "wrong") {
				t.Errorf("HTTP/2 %v, %q: %s", two, label, got)
			}
			if ok := label == "a" || label == "b"; ok != strings.Contains(got, "1 body 100000|") || !ok && !strings.HasSuffix(got, "end denied") {
				t.Errorf("HTTP/2 %v, %q: %s", two, label, got)
			}
		}
		if c.open != 0 {
			t.Errorf("HTTP/2 %v: %d lanes were never left", two, c.open)
		}
	}
}

// gets is how a client of HTTP/2 begins that asks for all these paths at once.
func gets(paths ...string) []byte {
	var say, head bytes.Buffer
	say.Write(preface)
	fr := http2.NewFramer(&say, nil)
	fr.WriteSettings()
	enc := hpack.NewEncoder(&head)
	for i, path := range paths {
		head.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "h"}, {":path", path}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
	}
	return say.Bytes()
}

// TestManyAtOnce: what a connection of HTTP/2 begins with, however much it is, is in
// the record whole. One that says nothing is not.
func TestManyAtOnce(t *testing.T) {
	const streams = 200
	c := &clerk{lines: map[string][]string{}}
	p := &Reverse{Enter: c.enter, NextID: func() int64 { return 1 },
		NewTap: func(f *flow.Conn, emit func(flow.Event)) mitm.Tap { return &wire.Decoder{Conn: f, Emit: emit} }}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, l) }()
	ahead, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(gets(slices.Repeat([]string{"/@a:right/none"}, streams)...)); err != nil {
		t.Fatal(err)
	}
	in := http2.NewFramer(io.Discard, conn)
	for answers := 0; answers < streams; {
		f, err := in.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if f.Header().Type == http2.FrameHeaders {
			answers++
		}
	}
	conn.Close()
	ahead.Close()
	p.Settle(5 * time.Second)
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if len(c.lines) != 1 {
		t.Errorf("who says nothing has a record: %q", c.lines[""])
	}
	got := map[string]int{}
	for _, line := range c.lines["a"] {
		got[line]++
	}
	for _, line := range []string{"GET /@a/none /none", "404"} {
		if got[line] != streams {
			t.Errorf("%d times %q in the record, want %d", got[line], line, streams)
		}
	}
	if got["open"] != 1 || c.open != 0 {
		t.Errorf("%d beginnings; %d lanes were never left", got["open"], c.open)
	}
}
