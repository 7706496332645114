package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"trace/anchor"
	"trace/control"
	"trace/flow"
	"trace/peers"
	"trace/wg"
)

// peerBook returns where the keys of this user's WireGuard endpoint are kept.
func peerBook() (*peers.Book, error) {
	sessions, err := sessionsDir()
	if err != nil {
		return nil, err
	}
	return &peers.Book{Dir: filepath.Join(filepath.Dir(sessions), "wireguard"), Avoid: carriedNetworks}, nil
}

// carriedNetworks returns the networks that interfaces of this host are in.
func carriedNetworks() []netip.Prefix {
	var all []netip.Prefix
	addrs, _ := net.InterfaceAddrs() // none known: none avoided
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Masked())
		}
	}
	return all
}

// openPeers lets WireGuard peers come in.
func (s *server) openPeers(accept, ctx context.Context) error {
	book, err := peerBook()
	if err != nil {
		return err
	}
	if err := s.needCA(); err != nil {
		return err
	}
	conns, err := s.peerSockets()
	if err != nil {
		return err
	}
	r := &peerRoad{
		book: book, conns: conns, rules: &s.rules, authority: s.ca.authority, page: anchor.Page(s.ca.Certificate),
		roots: s.clients.roots, nextID: s.clients.nextID, enter: s.clients.enterPeer, ours: s.listensAt,
		stopped: func() bool { return accept.Err() != nil }, log: s.log,
	}
	if err := r.open(); err != nil {
		return err
	}
	s.peers = r
	var at []string
	for _, a := range r.endpoint.Addrs() {
		s.listens("wireguard", a.String())
		at = append(at, a.String())
	}
	s.serving.Go(func() {
		<-accept.Done()
		r.endDatagrams()
		<-ctx.Done()
		r.close()
	})
	s.say("wireguard: %s (trace namespace wireguard-config --peer NAME prints what a client needs)", strings.Join(at, ", "))
	return nil
}

// peerSockets makes the sockets of the endpoint, or takes the one that systemd
// made.
func (s *server) peerSockets() ([]*net.UDPConn, error) {
	if c := s.given.packet["wireguard"]; c != nil {
		delete(s.given.packet, "wireguard")
		return []*net.UDPConn{c}, nil
	}
	conns, err := wg.Listen(s.o.wireguard)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &inUseError{"--wireguard", err, datagramHolder(s.o.wireguard)}
	case err != nil:
		return nil, fmt.Errorf("--wireguard: %w", err)
	}
	return conns, nil
}

// enterPeer enters the client that a peer is.
func (c *clients) enterPeer(name string) (peerSink, func(), error) {
	cl, err := c.enter(flow.SourceWireGuard, name)
	if err != nil {
		return peerSink{}, nil, err
	}
	return peerSink{cl.lane.emit, cl.lane.tap, cl.lane.alter}, func() { c.leave(cl) }, nil
}

// listensAt reports whether this serve listens at an address of this host.
func (s *server) listensAt(dst netip.AddrPort) bool {
	s.opening.RLock()
	defer s.opening.RUnlock()
	return slices.ContainsFunc(s.listeners, func(l control.Listener) bool {
		a, err := netip.ParseAddrPort(l.Addr)
		if err != nil || a.Port() != dst.Port() {
			return false
		}
		return a.Addr().Unmap() == dst.Addr() || a.Addr().IsUnspecified() && isCarried(dst.Addr())
	})
}

// isCarried reports whether an address is one of this host's.
func isCarried(a netip.Addr) bool {
	addrs, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(addrs, func(one net.Addr) bool {
		p, err := netip.ParsePrefix(one.String())
		return err == nil && p.Addr() == a
	})
}

// refusedSoFar counts what was not let in, by why.
func (r *peerRoad) refusedSoFar() map[string]uint64 {
	if r == nil {
		return nil
	}
	m := map[string]uint64{}
	for kind, n := range r.endpoint.Refusals() {
		m[string(kind)] = n
	}
	return m
}

// status tells of the peers; sessions are those that go on.
func (r *peerRoad) status(sessions []control.Session) []control.Peer {
	if r == nil {
		return nil
	}
	list, err := r.endpoint.Peers()
	if err != nil {
		return nil
	}
	var all []control.Peer
	for _, p := range list {
		if len(p.AllowedIPs) == 0 {
			continue
		}
		l := r.lane(p.AllowedIPs[0].Addr())
		if l == nil { // it is being revoked
			continue
		}
		one := control.Peer{Name: l.peer.Name, Key: p.PublicKey.String(), LatestHandshake: control.Time{Time: p.LatestHandshake},
			RX: int64(p.Received), TX: int64(p.Sent)}
		for _, a := range p.AllowedIPs {
			one.Addresses = append(one.Addresses, a.Addr().String())
		}
		if p.Endpoint.IsValid() {
			one.Endpoint = p.Endpoint.String()
		}
		for _, s := range sessions {
			if s.Source == string(flow.SourceWireGuard) && s.Label == l.peer.Name {
				one.Session = s.ID
			}
		}
		all = append(all, one)
	}
	return all
}
