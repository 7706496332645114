package mitm

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"trace/flow"
)

// Reasons why a connection is not decoded (flow.Conn.Opaque), besides those
// of the decoder.
const (
	ReasonBypass      = "bypass"        // --bypass names it
	ReasonNotSelected = "not_selected"  // --only does not name it
	ReasonNotHTTP     = "not_http"      // neither TLS nor HTTP
	ReasonFailed      = "not_connected" // it did not come to a relay
	ReasonUndecrypted = "undecrypted"   // no authority, or a ClientHello that is none
	ReasonEarlyData   = "early_data"    // TLS with early data
	ReasonPinned      = "tls_pinned"    // passed through after the child refused our certificate
	ReasonRejected    = "tls_rejected"  // the child refused our certificate
	ReasonUntrusted   = "tls_untrusted" // the issuer is not known
	ReasonClientCert  = "client_cert"   // the server asks for a client certificate
	ReasonUpstream    = "tls_upstream"  // the handshake with the server failed
	ReasonChild       = "tls_child"     // crypto/tls cannot serve this ClientHello
)

// conn is one connection while Serve carries it. Its steps run in the
// goroutine of Serve.
type conn struct {
	p    *Proxy
	in   Incoming
	name string // what the destination was looked up as, or lent for
	addr string // what is dialled

	byName bool // the name was asked for: Dst has no address until it was dialled
	child  net.Conn
	server net.Conn
	peek   *peek
	relay  *relay
	tap    *tapped
	hello  *clientHello
	key    refusalKey
	failed bool // it carried nothing, whatever the tap might say
	watch  *watch

	refused *flow.Error // why the server did not shake hands with us, while it may with the child
	unable  bool        // it would have: we could not

	// reach connects to the server of a connection within a tunnel again.
	// nil: it is dialled.
	reach  func(context.Context) (net.Conn, error)
	passed [2]int64 // bytes that were carried before the relay

	stopping atomic.Bool

	mu    sync.Mutex // guards what follows
	facts flow.Conn
	open  []net.Conn // to reset when ctx ends
}

func (p *Proxy) newConn(in Incoming) *conn {
	c := &conn{p: p, in: in}
	dst := in.Dst()
	name, lent := p.name(dst.Addr().Unmap())
	c.addr = p.target(dst, name, lent)
	if n, ok := in.(Named); ok && n.Host() != "" {
		name = strings.ToLower(strings.TrimSuffix(n.Host(), "."))
		c.addr = redirect(p.ConnectTo, n.Host(), dst.Port(), name)
		c.byName = true
	}
	c.name = name
	c.facts = flow.Conn{
		ID: p.nextID(), Source: p.source(), Src: in.Src(), Dst: dst, Host: name,
		Started: p.now(), Transport: "tcp",
	}
	return c
}

// run carries the connection, and returns the one within it that goes on where
// it turned out to be a tunnel.
func (c *conn) run(ctx context.Context) (within *conn) {
	stop := context.AfterFunc(ctx, c.stop)
	defer stop()
	if ctx.Err() != nil {
		c.stop() // at once, so that what goes on is not recorded as cut off by others
	}
	c.record(flow.ConnOpen)
	within = c.serve(ctx)
	c.finish()
	return within
}

// serve goes through the steps. The connection within a tunnel is connected
// already, and some of it has been read.
func (c *conn) serve(ctx context.Context) (within *conn) {
	if c.peek == nil {
		if !c.connect(ctx) {
			return nil
		}
		c.peek = newPeek(c.child, c.server)
		if n, ok := c.in.(Named); ok {
			c.peek.begin(flow.Client, n.Early(), c.p.now())
		}
	}
	defer func() {
		if within == nil {
			c.close(ctx)
		}
	}()
	gone, cancel := context.WithCancelCause(ctx) // done when the child has left
	defer cancel(nil)
	c.peek.start(flow.Client, func() { cancel(errLeft) })
	c.peek.start(flow.Server, func() {})
	s := c.peek.decide(ctx)
	if s.is == isTLS {
		c.serveTLS(gone, s)
		return nil
	}
	if client, _ := c.peek.seen(flow.Client); s.is == isHTTP1 && isConnect(client) && c.p.Authority != nil {
		if reason := c.p.Skips(c.target()); reason != ReasonBypass {
			return c.followConnect(ctx, reason)
		}
	}
	c.servePlain(s)
	return nil
}

// errLeft is why a context of serveTLS is done: the child closed the
// connection.
var errLeft = errors.New("the child left")

// connect dials and accepts, or refuses in kind.
func (c *conn) connect(ctx context.Context) bool {
	found := make(chan *flow.Process, 1)
	go c.findProcess(found)
	server, times, err := c.p.dial(ctx, c.addr)
	process := <-found
	c.change(func(f *flow.Conn) {
		f.Process = process
		f.DNS, f.Connect = times.spans()
		if at := times.joinedAt(c.name); c.byName && err == nil && at.IsValid() {
			f.Dst = netip.AddrPortFrom(at, f.Dst.Port())
		}
	})
	if err != nil {
		e := dialError(c.addr, err)
		if ctx.Err() != nil {
			e = c.unheard(c.p.now().Sub(times.began))
			c.stop()
		}
		c.failed = true
		c.change(func(f *flow.Conn) { f.Error, f.Opaque = e, ReasonFailed })
		c.in.Refuse(refusal(err))
		return false
	}
	c.server = server
	c.track(server)
	c.record(flow.ConnUpdate)
	child, err := c.in.Accept()
	if err != nil {
		reset(server)
		c.fail(ReasonFailed, &flow.Error{Where: flow.AtClient, Code: flow.CodeReset, Message: err.Error()})
		return false
	}
	c.child = child
	c.track(child)
	return true
}

// reachServer connects to the server once more.
func (c *conn) reachServer(ctx context.Context) (net.Conn, error) {
	if c.reach != nil {
		return c.reach(ctx)
	}
	server, _, err := c.p.dial(ctx, c.addr)
	return server, err
}

func (c *conn) findProcess(found chan<- *flow.Process) {
	var p *flow.Process
	if c.p.Process != nil {
		dst := c.in.Dst()
		if n, ok := c.in.(Named); ok {
			dst = n.Local()
		}
		p = c.p.Process(c.in.Src(), dst)
	}
	found <- p
}

// servePlain carries what is not TLS.
func (c *conn) servePlain(s sniffed) {
	reason := c.p.Skips(c.target())
	protocol := s.is.name()
	if protocol == "" {
		client, _ := c.peek.seen(flow.Client)
		server, _ := c.peek.seen(flow.Server)
		protocol = label(client, server)
		if reason == "" {
			reason = ReasonNotHTTP
		}
	}
	c.change(func(f *flow.Conn) { f.Protocol, f.Opaque = protocol, reason })
	if c.p.Alter != nil && reason == "" {
		c.alterPlain()
	}
	c.carry()
}

// carry relays the connection as it is, beginning with what was peeked.
func (c *conn) carry() {
	c.peek.stop(flow.Client)
	c.peek.stop(flow.Server)
	c.watch = c.newWatch()
	c.join(plainLeg(&c.peek.sides[flow.Client]), plainLeg(&c.peek.sides[flow.Server]), false)
	c.watch.finish()
}

// join relays between two legs until both directions have ended. wait says
// that the tap is only opened when the child has sent something.
func (c *conn) join(child, server *leg, wait bool) {
	c.record(flow.ConnUpdate)
	if c.tap == nil {
		c.tap = c.newTapped(wait)
	}
	c.relay = &relay{tap: c.tap, watch: c.watch, now: c.p.now, stop: &c.stopping}
	for side := range c.passed {
		c.relay.bytes[side].Store(c.passed[side])
	}
	if wait {
		c.relay.said = func() { c.p.refused.accepted(c.key, c.p.now()) }
	}
	c.relay.legs[flow.Client], c.relay.legs[flow.Server] = child, server
	c.peek = nil // what it holds is the legs' now
	c.relay.run()
	c.change(func(f *flow.Conn) {
		f.Sent, f.Received = c.relay.bytes[flow.Client].Load(), c.relay.bytes[flow.Server].Load()
		f.ChildEnd, f.SrvEnd = c.relay.how[flow.Client], c.relay.how[flow.Server]
	})
}

// target is the name by which rules choose: the server name, else the name
// that was looked up, else the address.
func (c *conn) target() string {
	switch {
	case c.hello != nil && c.hello.sni != "":
		return c.hello.sni
	case c.name != "":
		return c.name
	}
	return c.facts.Dst.Addr().Unmap().String()
}

// finish closes the tap and records the end.
func (c *conn) finish() {
	now := c.p.now()
	c.change(func(f *flow.Conn) { f.Ended = now })
	if c.tap != nil {
		c.tap.close(now, c.failed)
	}
	c.record(flow.ConnEnd)
}

// fail notes why the connection carried nothing. With an end but no flow it is a row
// of the record by itself.
func (c *conn) fail(reason string, e *flow.Error) {
	if c.stopping.Load() {
		e = nil
	}
	c.failed = true
	c.change(func(f *flow.Conn) { f.Error, f.Opaque, f.Decrypted = e, reason, false })
}

func (c *conn) newTapped(wait bool) *tapped {
	return &tapped{open: c.openTap, fail: c.mark, wait: wait}
}

// openTap makes the tap of this connection.
func (c *conn) openTap() Tap {
	if c.p.Tap == nil {
		return nil
	}
	return c.p.Tap(c.snapshot())
}

// mark records something to say about the connection.
func (c *conn) mark(e *flow.Error) {
	c.emit(flow.Event{Kind: flow.Mark, At: c.p.now(), Conn: c.facts.ID, Error: e})
}

// change changes what is known of the connection.
func (c *conn) change(f func(*flow.Conn)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.facts)
}

func (c *conn) snapshot() *flow.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.facts
	return &f
}

// record records what is known of the connection now.
func (c *conn) record(kind flow.Kind) {
	f := c.snapshot()
	c.emit(flow.Event{Kind: kind, At: c.p.now(), Conn: f.ID, Facts: f})
}

func (c *conn) emit(e flow.Event) {
	if c.p.Record != nil {
		c.p.Record(e)
	}
}

// track keeps a conn for stop.
func (c *conn) track(conn net.Conn) {
	c.mu.Lock()
	c.open = append(c.open, conn)
	c.mu.Unlock()
	if c.stopping.Load() {
		reset(conn)
	}
}

// close closes what is still open, and waits for the reader of the child.
func (c *conn) close(ctx context.Context) {
	if c.peek != nil {
		c.peek.stop(flow.Client)
	}
	if ctx.Err() != nil {
		c.stop()
	}
	c.child.Close()
	c.server.Close()
}

// stop resets whatever is open. It may be called at any time.
func (c *conn) stop() {
	c.stopping.Store(true)
	c.mu.Lock()
	open := c.open
	c.mu.Unlock()
	for _, conn := range open {
		reset(conn)
	}
}

// nameFor is what the certificate of a server that was asked by a server
// name, "" for none, should be for.
func (c *conn) nameFor(sni string) string {
	return cmp.Or(sni, c.name, c.facts.Dst.Addr().Unmap().String())
}
