package main

import (
	"context"
	"errors"
	"net"
	"strconv"
)

// errLoop is why serve does not connect to its own proxy. Where the variables of
// the host or --connect-to lead there, what a client sends would go round until
// no descriptor is left.
var errLoop = errors.New("this is the proxy of this very trace serve: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or --connect-to lead back to it")

// dialOut connects to servers, and to the proxies of the host.
func (s *server) dialOut(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil && s.leadsBack(conn) {
		conn.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Addr: conn.RemoteAddr(), Err: errLoop}
	}
	return conn, err
}

// leadsBack tells whether the other end of a connection is our own explicit
// proxy. The reverse proxy is a server like others: its routes lead away from it.
func (s *server) leadsBack(conn net.Conn) bool {
	to, ok := conn.RemoteAddr().(*net.TCPAddr)
	from, ok2 := conn.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return false
	}
	s.opening.RLock()
	defer s.opening.RUnlock()
	for _, l := range s.listeners {
		host, port, err := net.SplitHostPort(l.Addr)
		if l.Kind != "proxy" || err != nil || port != strconv.Itoa(to.Port) {
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
