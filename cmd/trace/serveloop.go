package main

import (
	"context"
	"errors"
	"net"
	"strconv"
)

// Why serve does not connect to its own proxies: what a client sends would go round
// until no descriptor is left.
var (
	errLoop    = errors.New("this is the proxy of this very trace serve: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or --connect-to lead back to it")
	errMapLoop = errors.New("this is the reverse proxy of this very trace serve: --map or --connect-to lead back to it")
)

// dialOut connects to servers, and to the proxies of the host.
func (s *server) dialOut(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return s.unlessBack(conn, err, "proxy", errLoop)
}

// dialMapped connects the reverse proxy to servers. Clients of the explicit one may
// go to it as to a server like others: its routes lead away from it.
func (s *server) dialMapped(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := s.rules.out.DialContext(ctx, network, addr)
	return s.unlessBack(conn, err, "reverse", errMapLoop)
}

// unlessBack returns a connection that was made, or the error why where it leads to a
// listener of ours of that kind.
func (s *server) unlessBack(conn net.Conn, err error, kind string, why error) (net.Conn, error) {
	if err == nil && s.leadsBack(conn, kind) {
		conn.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: conn.RemoteAddr(), Err: why}
	}
	return conn, err
}

// leadsBack tells whether the other end of a connection is a listener of ours of that
// kind.
func (s *server) leadsBack(conn net.Conn, kind string) bool {
	to, ok := conn.RemoteAddr().(*net.TCPAddr)
	from, ok2 := conn.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return false
	}
	s.opening.RLock()
	defer s.opening.RUnlock()
	for _, l := range s.listeners {
		host, port, err := net.SplitHostPort(l.Addr)
		if l.Kind != kind || err != nil || port != strconv.Itoa(to.Port) {
			continue
		}
		at := net.ParseIP(host)
		here := to.IP.IsLoopback() || to.IP.Equal(from.IP) // as all that leads to this machine
		if at.Equal(to.IP) || at.IsUnspecified() && here {
			return true
		}
	}
	return false
}
