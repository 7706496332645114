package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"trace/flow"
	"trace/mitm"
	"trace/wire"
)

// TestStopWhileServerIsSilent: a client that was killed while its server says nothing
// has ended its direction only, as far as the kernel tells; who stops the proxy does
// not wait for that server.
func TestStopWhileServerIsSilent(t *testing.T) {
	defer goleak.VerifyNone(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	to := server.Addr().String()
	route, err := NewRoute("s", "http://"+to)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var ends []flow.How
	record := func(e flow.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == flow.ConnEnd {
			ends = append(ends, e.Facts.ChildEnd, e.Facts.SrvEnd)
		}
	}
	tap := func(c *flow.Conn, emit func(flow.Event)) mitm.Tap { return &wire.Decoder{Conn: c, Emit: emit} }
	next := func() int64 { return 1 }
	explicit := &Explicit{Open: func(Client) Lane {
		return Lane{Record: record, NewTap: tap, Proxy: &mitm.Proxy{Record: record, NextID: next}}
	}}
	for target, serve := range map[string]func(context.Context, net.Listener) error{
		"/s/x":               (&Reverse{Routes: Routes{route}, Record: record, NextID: next, NewTap: tap}).Serve,
		"http://" + to + "/": explicit.Serve,
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- serve(ctx, l) }()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, to)
		s, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if _, err := io.Copy(io.Discard, s); err != nil { // the end has arrived
			t.Error(err)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		s.Close()
		mu.Lock()
		if len(ends) != 2 || ends[0] != flow.FIN || ends[1] != flow.Stopped {
			t.Errorf("%s: recorded ends %v, want FIN and stopped", target, ends)
		}
		ends = nil
		mu.Unlock()
	}
}
