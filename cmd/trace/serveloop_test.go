package main

import (
	"errors"
	"net"
	"testing"

	"trace/egress"
)

// TestDialOut: serve does not connect to its own proxy, by whichever address of
// this machine, nor from its reverse proxy to that; to everything else it does.
func TestDialOut(t *testing.T) {
	s := &server{}
	for _, c := range []struct {
		kind, listen, dial string
		loop               bool
	}{
		{"proxy", "127.0.0.1:0", "127.0.0.1", true},
		{"proxy", "127.0.0.1:0", "localhost", true},
		{"proxy", "0.0.0.0:0", "127.0.0.1", true},
		{"proxy", "0.0.0.0:0", "127.0.0.2", true},
		{"proxy", "[::]:0", "::1", true},
		{"proxy", "[::]:0", "127.0.0.1", true},
		{"reverse", "127.0.0.1:0", "127.0.0.1", false},
	} {
		l, err := net.Listen("tcp", c.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s.listens(c.kind, l.Addr().String())
		_, port, _ := net.SplitHostPort(l.Addr().String())
		conn, err := s.dialOut(t.Context(), "tcp", net.JoinHostPort(c.dial, port))
		if errors.Is(err, errLoop) != c.loop || err != nil && !c.loop {
			t.Errorf("%s at %s, dialled at %s: %v", c.kind, c.listen, c.dial, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	s.rules.out = &egress.Dialer{}
	for _, l := range s.listeners {
		if conn, err := s.dialMapped(t.Context(), "tcp", l.Addr); errors.Is(err, errMapLoop) != (l.Kind == "reverse") {
			t.Errorf("a route to %s at %s: %v", l.Kind, l.Addr, err)
		} else if err == nil {
			conn.Close()
		}
	}
}
