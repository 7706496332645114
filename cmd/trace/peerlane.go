package main

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"trace/dns"
	"trace/egress"
	"trace/flow"
	"trace/mitm"
	"trace/peers"
	"trace/tcpstack"
)

// maxDenied bounds the destinations of datagrams that a peer is told once
// about that it may not go there.
const maxDenied = 256

// A peerLane carries what one peer sends. It lives as long as the peer may
// come in; sessions come and go meanwhile, so each connection is recorded in
// the one that there is when it begins.
type peerLane struct {
	road   *peerRoad
	peer   peers.Peer
	ctx    context.Context
	cancel context.CancelFunc
	names  *dns.Server
	plan   dns.Plan
	proxy  *mitm.Proxy
	relay  *peerRelay

	// mu guards what follows, and busy against an Add after closed is set.
	mu      sync.Mutex
	closed  bool
	busy    sync.WaitGroup
	entered map[int64]*entered // by connection
	told    map[netip.AddrPort]bool
}

// entered is the session of a connection.
type entered struct {
	sink  peerSink
	leave func()
}

// newLane makes the lane of a peer.
func (r *peerRoad) newLane(p peers.Peer) (*peerLane, error) {
	out, err := egress.FromEnv(os.Environ())
	if err != nil {
		return nil, err
	}
	l := &peerLane{road: r, peer: p, entered: map[int64]*entered{}, told: map[netip.AddrPort]bool{}}
	l.ctx, l.cancel = context.WithCancel(r.ctx)
	l.names = dns.Load("/etc")
	l.names.Stands, l.names.Nameservers = r.own[:], r.resolver.servers
	l.names.Local = map[string][]netip.Addr{peerName: r.own[:]}
	l.names.Record = l.query
	l.names.ByName = func(name string) bool { return out.Applies(name, 0) }
	out.Name, out.Roots = l.names.Name, r.roots
	for _, c := range r.rules.connectTo {
		if _, err := netip.ParseAddr(c.Host); c.Host != "" && err != nil {
			l.names.Lend(c.Host)
		}
	}
	l.plan = l.names.Plan()
	l.proxy = &mitm.Proxy{
		Authority: r.authority, Dial: out.DialContext, Name: l.names.Name, Record: l.emit, Tap: l.tap, NextID: r.nextID,
		ConnectTo: r.rules.connectTo, RootsFunc: r.roots, Only: r.rules.only, Bypass: r.rules.bypass,
		DecryptUntrusted: r.rules.untrusted, Source: flow.SourceWireGuard, Alter: l.altered,
	}
	l.relay = l.newRelay()
	return l, nil
}

// enter counts a connection in, unless the peer was revoked. busy.Done follows.
func (l *peerLane) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.busy.Add(1)
	return true
}

// close resets the connections of the peer and waits until they are over.
func (l *peerLane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.relay.Close()
	l.names.Close()
	l.busy.Wait()
}

// session returns the session of a connection, which begins with ConnOpen. nil:
// it cannot be recorded.
func (l *peerLane) session(id int64, begins bool) *entered {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entered[id]
	if e == nil && begins {
		s, leave, err := l.road.enter(l.peer.Name)
		if err != nil {
			l.road.log("session of peer %s: %v: its traffic is not recorded", l.peer.Name, err)
			return nil
		}
		e = &entered{s, leave}
		l.entered[id] = e
	}
	return e
}

// emit records an event of a connection.
func (l *peerLane) emit(ev flow.Event) {
	e := l.session(ev.Conn, ev.Kind == flow.ConnOpen)
	if e == nil {
		return
	}
	e.sink.emit(ev)
	if ev.Kind == flow.ConnEnd {
		l.mu.Lock()
		delete(l.entered, ev.Conn)
		l.mu.Unlock()
		e.leave()
	}
}

// altered does what is said about the traffic of a session, nil where that is nothing.
func (l *peerLane) altered(c *flow.Conn, server net.Conn) net.Conn {
	if e := l.session(c.ID, false); e != nil {
		if into := e.sink.alter.Into(l.emit); into != nil {
			return into(c, server)
		}
	}
	return nil
}

// tap decodes what passes on a connection into its session.
func (l *peerLane) tap(c *flow.Conn) mitm.Tap {
	if e := l.session(c.ID, false); e != nil {
		return e.sink.tap(c)
	}
	return nil
}

// query records a name query of the peer.
func (l *peerLane) query(q dns.Query) {
	s, leave, err := l.road.enter(l.peer.Name)
	if err != nil {
		l.road.log("session of peer %s: %v: a name query is not recorded", l.peer.Name, err)
		return
	}
	defer leave()
	s.emit(queryEvent(l.road.nextID(), &flow.Conn{Source: flow.SourceWireGuard}, q))
}

// queryEvent makes a flow of a name query; c says whose it is.
func queryEvent(id int64, c *flow.Conn, q dns.Query) flow.Event {
	c.ID, c.Src, c.Dst, c.Transport, c.Started, c.Ended = id, q.Src, q.Dst, q.Transport, q.At, q.At.Add(q.Took)
	c.Sent, c.Received, c.Protocol = int64(q.Sent), int64(q.Received), "dns"
	e := flow.Event{Kind: flow.Query, At: q.At, Conn: id, Flow: 1, Facts: c,
		DNS: &flow.DNS{Name: q.Name, Type: q.Type, Rcode: q.Rcode, Answers: q.Answers, Took: q.Took}}
	if q.Err != nil {
		e.Error = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeDNS, Message: q.Err.Error(),
			Hint: "the host's own resolver did not answer: look at /etc/resolv.conf"}
	}
	return e
}

// denied records that the peer may not go somewhere.
func (l *peerLane) denied(transport string, src, dst netip.AddrPort) {
	s, leave, err := l.road.enter(l.peer.Name)
	if err != nil {
		return
	}
	defer leave()
	l.road.row(s, &flow.Conn{Transport: transport, Src: src, Dst: dst, Opaque: "denied",
		Error: &flow.Error{Where: flow.AtClient, Code: "denied",
			Message: "peers may not reach this host's loopback and links, what this serve listens on, or each other"}})
}

// deniedFirst reports whether a destination of datagrams is denied for the
// first time.
func (l *peerLane) deniedFirst(dst netip.AddrPort) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told[dst] || len(l.told) >= maxDenied {
		return false
	}
	l.told[dst] = true
	return true
}

// A peerWeb answers http://trace.internal/.
type peerWeb struct {
	server *http.Server // nil: nobody is there
	conns  chan net.Conn
	done   chan struct{}
	once   sync.Once
	over   sync.WaitGroup
}

func newPeerWeb(h http.Handler) *peerWeb {
	w := &peerWeb{conns: make(chan net.Conn), done: make(chan struct{})}
	if h != nil {
		w.server = &http.Server{Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
		w.over.Go(func() { w.server.Serve(w) })
	}
	return w
}

// take answers a connection, and reports whether anybody is there to do so.
func (w *peerWeb) take(in *tcpstack.Incoming) bool {
	if w.server == nil {
		return false
	}
	conn, err := in.Accept()
	if err != nil {
		return true
	}
	select {
	case w.conns <- conn:
	case <-w.done:
		conn.Close()
	}
	return true
}

// Accept implements net.Listener.
func (w *peerWeb) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (w *peerWeb) Addr() net.Addr { return &net.TCPAddr{Port: 80} }

// Close implements net.Listener.
func (w *peerWeb) Close() error {
	w.once.Do(func() { close(w.done) })
	return nil
}

func (w *peerWeb) close() {
	w.Close()
	if w.server != nil {
		w.server.Close()
	}
	w.over.Wait()
}

// A hostResolver knows the nameservers of the host, which change while a serve
// runs: a laptop moves to another network.
type hostResolver struct {
	file string

	mu      sync.Mutex // guards what follows
	checked time.Time
	changed time.Time
	list    []netip.Addr
}

func newHostResolver(file string) *hostResolver { return &hostResolver{file: file} }

// resolvEvery is how often the file is looked at.
const resolvEvery = time.Second

// servers returns those that resolv.conf lists now.
func (h *hostResolver) servers() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Sub(h.checked) < resolvEvery {
		return h.list
	}
	h.checked = now
	fi, err := os.Stat(h.file)
	if err != nil || fi.ModTime().Equal(h.changed) {
		return h.list
	}
	text, err := os.ReadFile(h.file)
	if err != nil {
		return h.list
	}
	h.changed, h.list = fi.ModTime(), dns.ParseConfig(text).Nameservers
	return h.list
}
