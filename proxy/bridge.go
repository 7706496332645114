package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"hash"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"trace/flow"
	"trace/mitm"
)

// A bridge leads from a connection of HTTP/2 to one server, which may or may not
// speak HTTP/2.
type bridge struct {
	p  *Reverse
	s  *session
	to destination

	mu    sync.Mutex // guards what follows; held while a connection is made
	link  *link      // to a server that speaks HTTP/2
	old   []*link    // those that take no new streams
	http1 *http.Transport
	spare net.Conn // for http1: it was made to find out what the server speaks

	line sync.Mutex    // guards last: streams to other servers wait for their turn in it
	last chan struct{} // closed when the latest stream has been begun
}

// bridge returns what leads to a server.
func (c *crossing) bridge(to destination) *bridge {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.bridges[to.origin()]
	if b == nil {
		b = &bridge{p: c.p, s: c.s, to: to}
		c.bridges[to.origin()] = b
	}
	return b
}

// turn puts a stream at the end of the line of those that are to be begun.
func (b *bridge) turn() (before, begun chan struct{}) {
	b.line.Lock()
	defer b.line.Unlock()
	before, b.last = b.last, make(chan struct{})
	return before, b.last
}

// close ends the connections. No stream is left.
func (b *bridge) close() {
	if b.link != nil {
		b.old = append(b.old, b.link)
	}
	for _, l := range b.old {
		l.close()
	}
	if b.spare != nil {
		b.spare.Close()
	}
	if b.http1 != nil {
		b.http1.CloseIdleConnections()
	}
}

// speaksFirst is how long a server without TLS that was not heard of before may
// take to begin HTTP/2: one that speaks nothing else says so at once.
const speaksFirst = 100 * time.Millisecond

// reach returns a connection that a stream can be opened on, nil if the server
// takes it over HTTP/1.1 only.
func (b *bridge) reach(q *asked) (*link, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	grpc := q.grpc()
	if b.http1 != nil && !grpc {
		return nil, nil
	}
	if b.link == nil || !b.link.usable() {
		if two, err := b.connect(grpc); err != nil || !two {
			return nil, err
		}
	}
	if q.protocol != "" {
		if understood, err := b.link.await(b.s.ctx); err != nil || !understood {
			return nil, err
		}
	}
	return b.link, nil
}

// grpc tells whether a request is one that only HTTP/2 can carry.
func (q *asked) grpc() bool {
	for _, f := range q.fields {
		if f.Name == "content-type" {
			return f.Value == "application/grpc" || strings.HasPrefix(f.Value, "application/grpc+") || strings.HasPrefix(f.Value, "application/grpc;")
		}
	}
	return false
}

// connect makes a connection, and tells whether the server speaks HTTP/2 on it. The
// lock is held.
func (b *bridge) connect(grpc bool) (two bool, err error) {
	conn, leg, err := b.s.dialServer(b.s.ctx, b.to, "h2", "http/1.1")
	if err != nil {
		return false, err
	}
	two = leg.ALPN == "h2"
	if b.to.scheme != "https" {
		conn, two = b.p.listen(b.to.origin(), conn, grpc)
	}
	if !two {
		if b.http1 == nil {
			b.http1 = &http.Transport{DialContext: b.dial, DialTLSContext: b.dial, DisableCompression: true, MaxResponseHeaderBytes: maxHead}
		}
		if b.spare != nil {
			b.spare.Close()
		}
		b.spare = conn
		return false, nil
	}
	if b.link != nil {
		b.old = append(b.old, b.link)
	}
	b.link = newLink(conn, true, nil)
	go b.link.run()
	return true, nil
}

// listen finds out whether a server without TLS speaks HTTP/2 only, by hearing
// what it says first.
func (p *Reverse) listen(origin string, conn net.Conn, grpc bool) (net.Conn, bool) {
	if two, known := p.spoken.Load(origin); known || grpc {
		return conn, grpc || two.(bool)
	}
	conn.SetReadDeadline(time.Now().Add(speaksFirst))
	head := make([]byte, 9)
	n, _ := conn.Read(head)
	conn.SetReadDeadline(time.Time{})
	two := n > 3 && http2.FrameType(head[3]) == http2.FrameSettings
	if n > 0 { // silence may be that of a server that is slow today
		p.spoken.Store(origin, two)
		conn = &readConn{Conn: conn, first: head[:n]}
	}
	return conn, two
}

// A readConn is a connection of which something was read.
type readConn struct {
	net.Conn
	first []byte
}

func (c *readConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// dial makes a connection of HTTP/1.1 to the server.
func (b *bridge) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	b.mu.Lock()
	conn := b.spare
	b.spare = nil
	b.mu.Unlock()
	if conn == nil {
		var err error
		if conn, _, err = b.s.dialServer(ctx, b.to, "http/1.1"); err != nil {
			return nil, err
		}
	}
	return b.s.leaving(conn, b.to), nil
}

// dialServer connects to a server, by TLS where its URL says so.
func (s *session) dialServer(ctx context.Context, to destination, protocols ...string) (net.Conn, flow.TLS, error) {
	var asked time.Time
	var found time.Duration
	began := time.Now()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { asked = time.Now() },
		DNSDone:  func(httptrace.DNSDoneInfo) { found = time.Since(asked) },
	})
	conn, err := s.way.dial(ctx, to)
	connected := time.Now()
	var leg flow.TLS
	if err != nil {
		return nil, leg, err
	}
	if to.scheme == "https" {
		c := tls.Client(conn, s.way.tlsConfig(to.host, protocols...))
		if err := c.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, leg, err
		}
		conn, leg = c, legOf(c.ConnectionState(), protocols)
	}
	now := time.Now()
	s.change(func(f *flow.Conn) {
		f.Host, f.Upstream, f.Error = hostOf(to.host), leg, nil
		f.DNS, f.Connect = found, now.Sub(began)-found
		if leg.Version != "" {
			f.SSL = now.Sub(connected)
		}
	})
	return conn, leg, nil
}

// A leavingConn is a connection of HTTP/1.1 to a server. What leaves on it is
// tapped and recorded as such.
type leavingConn struct {
	net.Conn
	s    *session
	to   destination
	once sync.Once
	tap  mitm.Tap // under the session's lock, as what follows

	ordinals []int64 // of the child, by ordinal here
}

func (s *session) leaving(conn net.Conn, to destination) *leavingConn {
	c := &leavingConn{Conn: conn, s: s, to: to}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.facts
	f.Upstream, f.Protocol = flow.TLS{}, "http"
	c.tap = s.tapped(&f, c.emit)
	return c
}

// begin says whose request leaves next.
func (c *leavingConn) begin(ordinal int64) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.ordinals = append(c.ordinals, ordinal)
}

func (c *leavingConn) saw(side flow.Side, p []byte) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.tap.Data(side, time.Now(), p)
}

func (c *leavingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.saw(flow.Server, p[:n])
	}
	return n, err
}

func (c *leavingConn) Write(p []byte) (int, error) {
	c.saw(flow.Client, p)
	return c.Conn.Write(p)
}

func (c *leavingConn) Close() error {
	c.once.Do(func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.tap.Close(time.Now())
	})
	return c.Conn.Close()
}

// emit takes what the tap tells: only what left is kept. The lock is held.
func (c *leavingConn) emit(e flow.Event) {
	if e.Kind != flow.Request && (e.Kind != flow.BodyEnd || e.Side != flow.Client) || e.Flow < 1 || e.Flow > int64(len(c.ordinals)) {
		return
	}
	if e.Head != nil {
		h := *e.Head
		h.Scheme, h.Host, h.Port = c.to.scheme, c.to.host, c.to.port
		e.Head = &h
	}
	if ordinal := c.ordinals[e.Flow-1]; ordinal != 0 {
		c.s.emitted(flow.Event{Kind: flow.Forwarded, At: e.At, Conn: e.Conn, Flow: ordinal, Side: flow.Client, Head: e.Head, Ended: e.Ended})
	}
}

// summed sums a body as it leaves.
type summed struct {
	sum  hash.Hash
	size int64
}

func newSummed() *summed { return &summed{sum: sha256.New()} }

func (b *summed) Write(p []byte) (int, error) {
	b.size += int64(len(p))
	return b.sum.Write(p)
}
