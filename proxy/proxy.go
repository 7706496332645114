// Package proxy takes HTTP apart and carries it: reverse and explicit proxies that programs
// are told to use, and the relay that rules alter.
//
//	p := &proxy.Reverse{Routes: routes, Record: store.Append, NewTap: decoder, NextID: next}
//	err := p.Serve(ctx, listener)
//
// A [Reverse] takes requests whose path begins with the prefix of a [Route] and
// carries them to the server that the route names. It does not decode what
// passes (a tap does) and stores nothing (Record does).
//
//	p := &proxy.Explicit{Open: func(c proxy.Client) proxy.Lane { return lane }, Users: users}
//
// An [Explicit] is asked for a server by its clients: by CONNECT, by SOCKS, or by a
// request in absolute-form. A tunnel is handed to package mitm, which dials before it
// is answered and decrypts what passes; requests take the way of a Reverse.
//
// # Theory of operation
//
// HTTP/1.1 is relayed as bytes. Of each request only the head is made anew, and
// of that only the target and the value of Host; what follows is followed
// (framing.go) as far as is needed to find the next head, and passed on as it
// was read. Answers are passed on as they come. A connection of the child has one
// connection to a server at a time; a request for another server waits for
// the answers before it, and then gets a connection of its own. Each side's end
// is carried to the other: the end of the stream as such, an error as a reset.
//
// HTTP/2 without TLS (RFC 9113 section 3.3, prior knowledge) is carried stream by
// stream (crossing), because streams may go to several servers, of which each may
// or may not speak HTTP/2 (bridge). Both ends (link) have windows of their own.
// Between two streams header sections pass field by field, and data, 1xx answers,
// trailers, and the codes of resets (half). Streams are begun at a server in the
// order in which the child began them. To a server of HTTP/1.1 a stream is a
// request of net/http's, an extended CONNECT an Upgrade (downgrade.go).
//
// Two taps see each connection of HTTP/1.1: one on the child's side, one on what
// leaves. The first makes the record; of the second the heads and sums of
// requests are recorded as flow.Forwarded, and so is what is written to a server
// of HTTP/2. What we answer ourselves (no route,
// no connection to the server) passes the first tap like any answer.
//
// A client of an Explicit negotiates (explicit.go, request.go, socks.go) under a deadline, and what
// it agreed on is carried without one. A connection may come back from that: after
// requests in absolute-form there may be one for a tunnel, for another user, or one that is
// not to be decoded, which is another connection for the record. Nothing that a client has
// sent ahead is lost: it goes along as what was read already.
//
// An [Alter] stands behind a relay in place of a server (hop), as the other end of a pipe: so the
// relay, its tap and its ways of ending stay as they are, and see the child's side. Of HTTP/1
// (alter1) one request is under way at a time, and of one that no rule is for each byte is passed on as it was
// read. Streams of HTTP/2 (alter2) cross between two links. What becomes of a body
// (alteration) is the same for both.
//
// Concurrency: a connection has the goroutine that reads requests, and one that
// reads the answers of its current server. Both tap under one lock. Serve waits
// for all of them.
package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"trace/flow"
	"trace/mitm"
)

// Reverse is a reverse proxy. Its fields are set before Serve.
type Reverse struct {
	Routes Routes
	// Dial connects to servers, as net.Dialer does, which is the default.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// ConnectTo redirects dials; the first that matches counts.
	ConnectTo []mitm.ConnectTo
	// Roots returns what servers are verified with; it is asked once. nil:
	// those of the host.
	Roots func() *x509.CertPool
	// KeyLog gets the secrets of connections to servers.
	KeyLog io.Writer
	// Record takes events, from several goroutines. Not used with Enter.
	Record func(flow.Event)
	// Enter, where it is set, says where a connection is recorded, by the label
	// and the token that the path of its first request begins with
	// (/@LABEL:TOKEN/…); both may be empty. An error is what a client is
	// answered that is not let in; it is recorded in the lane all the same. It is
	// called for each request that names a label or a token of its own.
	Enter func(label, token string) (Lane, *flow.Error)
	// NewTap returns what decodes a connection into emit.
	NewTap func(c *flow.Conn, emit func(flow.Event)) mitm.Tap
	// NextID numbers connections.
	NextID func() int64
	// Process finds the program behind a connection, given its end and ours; nil
	// if not known.
	Process func(src, dst netip.AddrPort) *flow.Process

	// Alter does what rules say to requests of HTTP/1.1, without Enter. nil: there are none.
	Alter *Alter

	rootsOnce sync.Once
	roots     *x509.CertPool
	active    atomic.Int64
	spoken    sync.Map // origin without TLS → whether it speaks HTTP/2 only
}

// drainTime is how long a child may go on sending after its server has ended.
const drainTime = 5 * time.Second

// Serve carries the connections that l accepts until ctx ends, and then
// resets those that are left. It closes l.
func (p *Reverse) Serve(ctx context.Context, l net.Listener) error { return serve(ctx, l, p.carry) }

// serve carries what l accepts until ctx ends, and waits for all of it.
func serve(ctx context.Context, l net.Listener, carry func(context.Context, net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors, most likely: others end
			continue
		}
		all.Go(func() { carry(ctx, conn) })
	}
}

// Settle waits until no connection is left, for at most d.
func (p *Reverse) Settle(d time.Duration) { settle(&p.active, d) }

// settle waits until active is zero, for at most d.
func settle(active *atomic.Int64, d time.Duration) {
	for end := time.Now().Add(d); active.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// carry serves one connection.
func (p *Reverse) carry(ctx context.Context, conn net.Conn) {
	p.active.Add(1)
	defer p.active.Add(-1)
	s := &session{way: p, child: conn}
	if p.Enter == nil {
		s.lane.Record, s.lane.Alter = p.Record, p.Alter
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	defer s.cancel()
	stop := context.AfterFunc(ctx, s.stop)
	defer stop()
	s.facts = flow.Conn{ID: p.NextID(), Source: flow.SourceReverse, Src: addrPort(conn.RemoteAddr()), Dst: addrPort(conn.LocalAddr()),
		Transport: "tcp", Protocol: "http", Started: time.Now()}
	if p.Process != nil {
		s.facts.Process = p.Process(s.facts.Src, s.facts.Dst)
	}
	if !s.fill() { // clients connect ahead, and some look whether anybody is there
		conn.Close()
		return
	}
	s.record(flow.ConnOpen)
	s.serve(p)
	s.settle(p)
	s.finish()
}

func (p *Reverse) takes([]byte) bool                                   { return true }
func (p *Reverse) outlives() bool                                      { return false }
func (p *Reverse) newTap(c *flow.Conn, emit func(flow.Event)) mitm.Tap { return p.NewTap(c, emit) }

// find works out where the routes lead a request.
func (p *Reverse) find(s *session, r *request) (destination, *refusal) {
	c := p.cut(r.target)
	if e := s.enter(p, c); e != nil {
		return destination{}, &refusal{http.StatusForbidden, e}
	}
	to, ok := p.Routes.find(c.target)
	if !ok {
		return to, p.noRoute(c.target)
	}
	return to, nil
}

// tapped returns what decodes a connection. A decoder that panics costs its view of the
// connection only.
func (s *session) tapped(c *flow.Conn, emit func(flow.Event)) mitm.Tap {
	return mitm.Guarded(s.way.newTap(c, emit), func(e *flow.Error) { // as all taps, under the lock
		s.emitted(flow.Event{Kind: flow.Mark, At: time.Now(), Conn: c.ID, Error: e})
	})
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		at := t.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return netip.AddrPort{}
}

func (p *Reverse) trusted() *x509.CertPool {
	p.rootsOnce.Do(func() {
		if p.Roots != nil {
			p.roots = p.Roots()
		}
	})
	return p.roots
}

func (p *Reverse) tlsConfig(name string, protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: p.trusted(), ServerName: name, NextProtos: protocols, KeyLogWriter: p.KeyLog}
}

func (p *Reverse) dial(ctx context.Context, to destination) (net.Conn, error) {
	return p.dialContext(ctx, "tcp", to.addr())
}

// dialContext connects to a server, where ConnectTo says that it is.
func (p *Reverse) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d := p.Dial
	if d == nil {
		d = new(net.Dialer).DialContext
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	return d(ctx, network, mitm.Redirect(p.ConnectTo, host, uint16(n)))
}
