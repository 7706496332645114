package proxy

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"trace/flow"
	"trace/mitm"
)

// An upstream is a connection to a server, for one session. A goroutine of its own
// reads answers.
type upstream struct {
	s    *session
	to   destination
	raw  net.Conn
	conn net.Conn // raw, or TLS on it
	tap  mitm.Tap // of what leaves; under the session's lock

	done    chan struct{} // closed when the goroutine has ended
	aborted atomic.Bool   // a write came upon a reset

	mu       sync.Mutex // guards what follows
	turn     sync.Cond
	answers  answers
	ordinals []int64 // of the child, by ordinal here
	altering bool    // the hop records what leaves
	tunnel   bool
	retired  bool // the child's connection goes on without it
	over     bool // the server has ended
	idle     bool // it did between requests, and the child goes on
}

// connect makes a connection to a server.
func (s *session) connect(to destination) (*upstream, error) {
	conn, _, err := s.dialServer(s.ctx, to, "http/1.1")
	if err != nil {
		return nil, err
	}
	u := &upstream{s: s, to: to, raw: conn, conn: conn, done: make(chan struct{})}
	u.turn.L = &u.mu
	if c, ok := conn.(*tls.Conn); ok {
		u.raw = c.NetConn()
	}
	u.alter()
	s.mu.Lock()
	f := s.facts
	f.Upstream, f.Protocol = flow.TLS{}, "http"
	u.tap = s.tapped(&f, u.emit)
	s.server = u.raw
	stopped := s.stopped
	s.mu.Unlock()
	if stopped {
		reset(u.raw)
	}
	go u.run()
	return u, nil
}

// alter puts what rules change between the session and the server.
func (u *upstream) alter() {
	u.s.mu.Lock()
	f, a := u.s.facts, u.s.lane.Alter
	u.s.mu.Unlock()
	if a == nil {
		return
	}
	h := &hop{a: a, conn: &f, host: hostOf(u.to.host), port: u.to.port, server: u.conn, ordinal: u.ordinalOf, record: func(e flow.Event) {
		u.s.mu.Lock()
		u.s.emitted(e)
		u.s.mu.Unlock()
	}}
	f.Protocol = "http"
	if end := h.start(); end != nil {
		u.conn, u.raw, u.altering = end, end, true
	}
}

// ordinalOf returns the child's number of the n-th request here.
func (u *upstream) ordinalOf(n int64) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n < 1 || n > int64(len(u.ordinals)) {
		return 0
	}
	return u.ordinals[n-1]
}

// legOf says what a handshake came to.
func legOf(c tls.ConnectionState, offered []string) flow.TLS {
	leg := flow.TLS{Cipher: tls.CipherSuiteName(c.CipherSuite), ALPN: c.NegotiatedProtocol, Offered: offered, SNI: c.ServerName, Verdict: "ok"}
	switch c.Version {
	case tls.VersionTLS12:
		leg.Version = "1.2"
	case tls.VersionTLS13:
		leg.Version = "1.3"
	}
	for _, cert := range c.PeerCertificates {
		leg.Chain = append(leg.Chain, cert.Raw)
	}
	return leg
}

// emit takes what the tap of the server's side tells: only what left is kept.
func (u *upstream) emit(e flow.Event) {
	if u.altering || e.Kind != flow.Request && (e.Kind != flow.BodyEnd || e.Side != flow.Client) {
		return
	}
	u.mu.Lock()
	n := int64(len(u.ordinals))
	ordinal := int64(0)
	if e.Flow >= 1 && e.Flow <= n {
		ordinal = u.ordinals[e.Flow-1]
	}
	u.mu.Unlock()
	if ordinal == 0 {
		return
	}
	if e.Head != nil {
		h := *e.Head
		h.Scheme, h.Host, h.Port = u.to.scheme, hostOf(u.to.host), u.to.port
		e.Head = &h
	}
	u.s.emitted(flow.Event{Kind: flow.Forwarded, At: e.At, Conn: e.Conn, Flow: ordinal, Side: flow.Client, Head: e.Head, Ended: e.Ended})
}

// begin says that a request comes.
func (u *upstream) begin(ordinal int64, method string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ordinals = append(u.ordinals, ordinal)
	u.answers.expect(method)
}

// write sends to the server. Where that fails the reader of answers sees why.
func (u *upstream) write(p []byte) {
	u.s.mu.Lock()
	u.tap.Data(flow.Client, time.Now(), p)
	u.s.mu.Unlock()
	if _, err := u.conn.Write(p); isReset(err) {
		u.aborted.Store(true) // a socket tells a reset once
	}
}

// ready waits until no answer is awaited. It returns false if the connection to
// the child is not to be used for another request.
func (u *upstream) ready() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.answers.busy && !u.over && !u.tunnel {
		u.turn.Wait()
	}
	return (!u.over || u.idle) && !u.tunnel
}

func (u *upstream) tunnelled() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.tunnel
}

func (u *upstream) gone() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.over
}

// run passes answers on.
func (u *upstream) run() {
	defer close(u.done)
	b := make([]byte, readSize)
	for {
		n, err := u.conn.Read(b)
		if n > 0 && !u.answer(b[:n]) {
			u.s.ended(flow.Client, flow.Reset) // the child takes nothing more
			reset(u.raw)
			u.ended(flow.Reset)
			return
		}
		if err != nil {
			how := howEnded(err)
			if u.aborted.Load() {
				how = flow.Reset
			}
			u.ended(how)
			return
		}
	}
}

// answer passes a piece on. It returns false if the child is gone.
func (u *upstream) answer(p []byte) bool {
	u.mu.Lock()
	if u.retired {
		u.mu.Unlock()
		return true
	}
	over, tunnel := u.answers.step(p)
	if over {
		u.answers.busy = true // until the child has it
	}
	u.tunnel = u.tunnel || tunnel
	u.mu.Unlock()
	u.s.saw(flow.Server, p)
	u.s.mu.Lock()
	u.tap.Data(flow.Server, time.Now(), p)
	u.s.mu.Unlock()
	_, err := u.s.child.Write(p)
	u.mu.Lock()
	defer u.mu.Unlock()
	if over {
		u.answers.busy = false
	}
	u.turn.Broadcast()
	return err == nil
}

// ended carries the end of the server's stream to the child.
func (u *upstream) ended(how flow.How) {
	u.mu.Lock()
	u.over = true
	tunnel := u.tunnel
	u.idle = !u.answers.busy && !tunnel && u.s.way.outlives()
	retired := u.retired || u.idle
	u.turn.Broadcast()
	u.mu.Unlock()
	if retired {
		return
	}
	u.s.ended(flow.Server, how)
	if how != flow.FIN {
		reset(u.s.child)
		return
	}
	if w, ok := u.s.child.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
	if !tunnel {
		u.s.child.SetReadDeadline(time.Now().Add(drainTime))
	}
}

// childEnded carries the end of the child's stream to the server.
func (u *upstream) childEnded(how flow.How) {
	u.mu.Lock()
	busy := u.answers.busy || u.tunnel
	u.mu.Unlock()
	switch {
	case how != flow.FIN:
		u.s.mu.Lock()
		u.tap.End(flow.Client, time.Now(), how)
		u.s.mu.Unlock()
		reset(u.raw)
	case busy:
		if w, ok := u.conn.(interface{ CloseWrite() error }); ok {
			w.CloseWrite()
		}
		if w, ok := u.raw.(interface{ CloseWrite() error }); ok {
			w.CloseWrite()
		}
	}
}

// leave waits for the answer that may still come, and closes the connection.
func (u *upstream) leave() {
	u.mu.Lock()
	for (u.answers.busy || u.tunnel) && !u.over {
		u.turn.Wait()
	}
	u.mu.Unlock()
	u.retire()
}

// retire closes the connection; the child's goes on.
func (u *upstream) retire() {
	u.mu.Lock()
	u.retired = true
	u.mu.Unlock()
	u.conn.Close()
	<-u.done
	u.s.mu.Lock()
	u.tap.Close(time.Now())
	u.s.mu.Unlock()
}
