package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"trace/flow"
	"trace/mitm"
	"trace/peers"
	"trace/proxy"
	"trace/tcpstack"
	"trace/wg"
)

// peerName is the host name under which peers reach this serve itself.
const peerName = "trace.internal"

// peersLeave is how long a peer that was revoked still gets packets, those
// that say that its connections are reset. Its own are not taken any more.
const peersLeave = 200 * time.Millisecond

// peerSilence is after what silence of a connection it is asked whether its
// peer is still there. Phones are woken by the question, so it is seldom.
const peerSilence = 5 * time.Minute

// A peerSink is the session that a connection of a peer is recorded in.
type peerSink struct {
	emit  func(flow.Event)
	tap   func(*flow.Conn) mitm.Tap
	alter *proxy.Alter // nil: its traffic is not altered
}

// A peerRoad carries the traffic of WireGuard peers: everything between their
// packets and their sessions. The fields are set before open.
type peerRoad struct {
	book      *peers.Book
	conns     []*net.UDPConn // of wg.Listen; the road closes them
	rules     *rules
	authority *mitm.Authority // nil: TLS is not decrypted
	roots     func() *x509.CertPool
	nextID    func() int64
	// enter returns where what a peer sends is recorded; its name is "" for
	// what nobody who is known sent. leave follows.
	enter func(name string) (s peerSink, leave func(), err error)
	page  http.Handler              // what http://trace.internal/ answers; nil: nobody is there
	ours  func(netip.AddrPort) bool // whether this serve listens there; nil: nowhere
	// stopped reports whether nothing new is to be carried. nil: never.
	stopped func() bool
	log     func(format string, args ...any)

	ctx      context.Context
	cancel   context.CancelFunc
	own      [2]netip.Addr
	nets     [2]netip.Prefix
	resolver *hostResolver
	endpoint *wg.Endpoint
	stack    *tcpstack.Stack
	web      *peerWeb
	refusals chan wg.Refusal
	noting   sync.WaitGroup

	// changing makes changes of the peers one at a time.
	changing sync.Mutex

	// mu guards the lanes, by the addresses of their peers: two each.
	mu    sync.Mutex
	lanes map[netip.Addr]*peerLane
}

// open begins to carry.
func (r *peerRoad) open() (err error) {
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.lanes = map[netip.Addr]*peerLane{}
	r.resolver = newHostResolver("/etc/resolv.conf")
	r.refusals = make(chan wg.Refusal, 64)
	r.noting.Go(r.noteRefusals)
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	list, err := r.book.Open()
	if err != nil {
		return err
	}
	r.own, r.nets = list.Own(), [2]netip.Prefix{list.Net4, list.Net6}
	r.web = newPeerWeb(r.page)
	tunnel, err := tcpstack.NewPeerTunnel(wg.PeerMTU)
	if err != nil {
		return err
	}
	r.endpoint = &wg.Endpoint{Key: list.Key, Far: tunnel.Device(), Conns: r.conns, Log: r.log, Refused: r.refused}
	if r.stack, err = tcpstack.New(tcpstack.Options{Link: tunnel, Accept: r.accept, Datagram: r.datagram, Echo: r.echo,
		KeepAlive: peerSilence}); err != nil {
		return err
	}
	if err := r.endpoint.Up(); err != nil {
		return err
	}
	return r.reload()
}

// reload takes over the list of peers as it is now: new ones may come in from
// then on, and those that are gone are cut off.
func (r *peerRoad) reload() error {
	r.changing.Lock()
	defer r.changing.Unlock()
	list, err := r.book.Read()
	if err != nil {
		return err
	}
	if own := list.Own(); own != r.own || list.Key != r.endpoint.Key {
		return errors.New("wireguard: the endpoint's key is another one now: start trace serve again")
	}
	var errs []error
	for _, l := range r.all() {
		if p, ok := list.Find(l.peer.Name); !ok || p != l.peer {
			errs = append(errs, r.revoke(l))
		}
	}
	for _, p := range list.Peers {
		if r.lane(p.Addr4) != nil {
			continue
		}
		l, err := r.newLane(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.mu.Lock()
		r.lanes[p.Addr4], r.lanes[p.Addr6] = l, l
		r.mu.Unlock()
		errs = append(errs, r.endpoint.Add(wg.Peer{PublicKey: p.PublicKey, AllowedIPs: p.AllowedIPs()}))
	}
	return errors.Join(errs...)
}

// revoke cuts a peer off. Its connections are reset, of which it is told as
// far as it still listens.
func (r *peerRoad) revoke(l *peerLane) error {
	r.mu.Lock()
	delete(r.lanes, l.peer.Addr4)
	delete(r.lanes, l.peer.Addr6)
	r.mu.Unlock()
	told := time.After(peersLeave)
	l.cancel()
	gone := make(chan struct{})
	go func() {
		l.close()
		close(gone)
	}()
	<-told
	err := r.endpoint.Remove(l.peer.PublicKey)
	<-gone
	return err
}

// all returns the lanes, each once.
func (r *peerRoad) all() []*peerLane {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*peerLane
	for a, l := range r.lanes {
		if a.Is4() {
			all = append(all, l)
		}
	}
	return all
}

// lane returns the lane of the peer that has an address, nil if none does.
func (r *peerRoad) lane(a netip.Addr) *peerLane {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lanes[a]
}

// accept carries one connection of a peer.
func (r *peerRoad) accept(in *tcpstack.Incoming) {
	l := r.lane(in.Src().Addr())
	if l == nil || r.stopped != nil && r.stopped() || !l.enter() {
		in.Refuse(syscall.EACCES)
		return
	}
	defer l.busy.Done()
	dst := in.Dst()
	switch {
	case l.plan.Takes(dst):
		if conn, err := in.Accept(); err == nil {
			l.names.ServeConn(conn, in.Src(), dst)
		}
	case r.isOwn(dst.Addr()):
		if dst.Port() != 80 || !r.web.take(in) {
			in.Refuse(syscall.ECONNREFUSED)
		}
	case r.forbidden(dst):
		l.denied("tcp", in.Src(), dst)
		in.Refuse(syscall.EACCES)
	default:
		l.proxy.Serve(l.ctx, in)
	}
}

// datagram answers name queries and carries the rest.
func (r *peerRoad) datagram(d *tcpstack.Datagram) bool {
	l := r.lane(d.Src().Addr())
	switch {
	case l == nil || r.isOwn(d.Dst().Addr()) && d.Dst().Port() != 53:
		return false
	case l.plan.Takes(d.Dst()):
		d.Go(func() {
			answer, err := l.names.Query(l.ctx, d.Src(), d.Dst(), d.Payload(), false)
			if err == nil && answer != nil {
				d.Reply(answer)
			}
		})
		return true
	case r.forbidden(d.Dst()):
		if l.deniedFirst(d.Dst()) {
			d.Go(func() { l.denied("udp", d.Src(), d.Dst()) })
		}
		d.Refuse(syscall.EACCES)
		return true
	}
	return l.relay.Take(d)
}

// echo answers for ourselves, and carries the rest.
func (r *peerRoad) echo(e *tcpstack.Echo) bool {
	l := r.lane(e.Src().Addr())
	switch {
	case l == nil:
		return false
	case r.isOwn(e.Dst().Addr()):
		e.Reply(e.Payload(), 0)
		return true
	case r.forbidden(e.Dst()):
		return false // prohibited
	}
	return l.relay.TakeEcho(e)
}

func (r *peerRoad) isOwn(a netip.Addr) bool { return a == r.own[0] || a == r.own[1] }

// forbidden reports whether a peer may not go there: what is this host's
// alone, its links included, what this serve listens on, and other peers.
func (r *peerRoad) forbidden(dst netip.AddrPort) bool {
	for _, a := range meant(dst.Addr()) {
		switch {
		case a.IsLoopback(), a.IsUnspecified(), a.IsLinkLocalUnicast(), a.IsMulticast(),
			r.nets[0].Contains(a), r.nets[1].Contains(a),
			r.ours != nil && r.ours(netip.AddrPortFrom(a, dst.Port())):
			return true
		}
	}
	return false
}

// The prefixes whose addresses carry one of IPv4, and where in them it is.
var embedding = map[netip.Prefix]int{
	netip.MustParsePrefix("64:ff9b::/96"): 12, // RFC 6052, NAT64
	netip.MustParsePrefix("2002::/16"):    2,  // RFC 3056, 6to4
}

// meant returns an address, and the one of IPv4 in it.
func meant(a netip.Addr) []netip.Addr {
	all := []netip.Addr{a}
	for p, at := range embedding {
		if p.Contains(a) {
			b := a.As16()
			all = append(all, netip.AddrFrom4([4]byte(b[at:at+4])))
		}
	}
	return all
}

// refused is told of what WireGuard does not let in.
func (r *peerRoad) refused(x wg.Refusal) {
	select {
	case r.refusals <- x:
	default: // counted all the same
	}
}

// noteRefusals makes rows of what was not let in.
func (r *peerRoad) noteRefusals() {
	for x := range r.refusals {
		name := ""
		for _, l := range r.all() {
			if l.peer.PublicKey == x.Key {
				name = l.peer.Name
			}
		}
		r.log("wireguard: refused from %v: %s", x.Source, refusalText(x, name))
		s, leave, err := r.enter(name)
		if err != nil {
			r.log("wireguard: %v", err)
			continue
		}
		c := &flow.Conn{Transport: "udp", Opaque: "wireguard", Src: x.Source, Dst: r.endpoint.Addrs()[0],
			Error: &flow.Error{Where: flow.AtClient, Code: string(x.Kind), Message: refusalText(x, name), Hint: refusalHint(x.Kind)}}
		r.row(s, c)
		leave()
	}
}

// row records a connection that came to nothing.
func (r *peerRoad) row(s peerSink, c *flow.Conn) {
	now := time.Now()
	c.ID, c.Source, c.Started, c.Ended = r.nextID(), flow.SourceWireGuard, now, now
	s.emit(flow.Event{Kind: flow.ConnOpen, At: now, Conn: c.ID, Facts: c})
	s.emit(flow.Event{Kind: flow.ConnEnd, At: now, Conn: c.ID, Facts: c})
}

// refusalText says what was refused; name is that of the peer, if it is known.
func refusalText(x wg.Refusal, name string) string {
	text := map[wg.RefusalKind]string{
		wg.UnknownPeer: fmt.Sprintf("a handshake with key %v, which no peer has", x.Key),
		wg.Replayed:    fmt.Sprintf("a handshake of peer %s that was sent before", name),
		wg.Foreign:     "a handshake for another server's key",
		wg.Invalid:     "a handshake that is broken",
	}[x.Kind]
	if x.Count > 1 {
		text += fmt.Sprintf(" (%d times)", x.Count)
	}
	return text
}

func refusalHint(k wg.RefusalKind) string {
	switch k {
	case wg.UnknownPeer:
		return "if it should come in: trace namespace wireguard-config --peer NAME, and use what that prints"
	case wg.Foreign:
		return "the client may have another server's configuration: trace namespace wireguard-config --peer NAME prints this one's"
	case wg.Replayed:
		return "somebody on the way repeats packets, or the clock of the peer was set back"
	}
	return ""
}

// endDatagrams ends what has no end of its own, so that nobody waits for it.
func (r *peerRoad) endDatagrams() {
	for _, l := range r.all() {
		l.relay.Close()
	}
}

// close ends all connections, waits for everything, and closes the sockets.
func (r *peerRoad) close() {
	r.cancel()
	for _, l := range r.all() {
		l.close()
	}
	if r.web != nil {
		r.web.close()
	}
	if r.stack != nil {
		r.stack.Close()
	}
	if r.endpoint != nil {
		r.endpoint.Close()
	} else {
		for _, c := range r.conns {
			c.Close()
		}
	}
	close(r.refusals)
	r.noting.Wait()
}
