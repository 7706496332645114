package replay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"trace/flow"
)

// continueTime is how long a body waits for the server to ask for it.
const continueTime = time.Second

// lateTime is how long the rest of a request may take when its answer is there.
const lateTime = 2 * time.Second

// alpnHTTP2 is the name of HTTP/2 in ALPN.
const alpnHTTP2 = "h2"

// A Client sends requests, each on a connection of its own.
type Client struct {
	// Dial connects to a name or an address with a port. Nil: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Addr says what is dialled for a host and port. Nil: these.
	Addr func(host string, port int) string
	// Roots are trusted. Nil: those of the host.
	Roots *x509.CertPool
	// Tap returns what decodes a connection into events.
	Tap func(c *flow.Conn, emit func(flow.Event)) Tap
	// Record takes the events.
	Record func(flow.Event)
}

// Do sends r and returns when the answer is complete: nil, or why there is none
// or not all of one. facts has the ID of the connection and what links it to
// its original; the rest of it is filled in and recorded.
func (c *Client) Do(ctx context.Context, r *Request, facts flow.Conn) error {
	s := &sending{c: c, r: r, facts: facts, responded: make(chan struct{}), answered: make(chan struct{}), done: make(chan struct{})}
	return s.run(ctx)
}

// A sending is one request on its way.
type sending struct {
	c    *Client
	r    *Request
	conn net.Conn
	tls  *tls.Conn

	responded chan struct{} // closed by the first head of the server
	answered  chan struct{} // closed when the answer is over
	done      chan struct{} // closed when the exchange is

	wg    sync.WaitGroup // reader and writer
	facts flow.Conn

	mu    sync.Mutex // guards what follows, and the tap
	tap   Tap
	over  bool // the tap is closed
	state int  // how much of the above is closed
	err   *flow.Error
	bytes [2]int64
	ends  [2]flow.How
}

func (s *sending) run(ctx context.Context) error {
	h := &s.r.Head
	s.facts.Source, s.facts.Transport, s.facts.Host, s.facts.Started = flow.SourceReplay, "tcp", h.Host, time.Now()
	s.record(flow.ConnOpen)
	err := s.connect(ctx)
	if err != nil {
		s.fail(h.Host, err)
		return fmt.Errorf("%s: %w", hostPort(h.Scheme, h.Host, h.Port), err)
	}
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	s.mu.Lock()
	s.tap = s.c.Tap(s.snapshot(), s.emit)
	s.mu.Unlock()
	s.record(flow.ConnUpdate)
	exchange := s.http1
	if s.facts.Protocol == "http2" {
		exchange = s.http2
	}
	err = exchange()
	s.finish()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.err != nil:
		return s.err
	}
	return err
}

// connect dials and, for https, shakes hands.
func (s *sending) connect(ctx context.Context) error {
	h := &s.r.Head
	dial := s.c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	addr := net.JoinHostPort(h.Host, itoa(h.Port))
	if s.c.Addr != nil {
		addr = s.c.Addr(h.Host, h.Port)
	}
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s.conn = conn
	s.facts.Connect = time.Since(s.facts.Started)
	s.facts.Src, s.facts.Dst = addrOf(conn.LocalAddr()), addrOf(conn.RemoteAddr())
	s.facts.Protocol = "http"
	if h.Scheme != "https" {
		if h.Version == "2" {
			s.facts.Protocol = "http2"
		}
		return nil
	}
	return s.shake(ctx)
}

// shake makes the TLS leg, with the ALPN that the recorded request went over.
func (s *sending) shake(ctx context.Context) error {
	h := &s.r.Head
	protocols := []string{"http/1.1"}
	if h.Version == "2" {
		protocols = []string{alpnHTTP2, "http/1.1"}
	}
	began := time.Now()
	s.tls = tls.Client(s.conn, &tls.Config{ServerName: h.Host, RootCAs: s.c.Roots, NextProtos: protocols})
	if err := s.tls.HandshakeContext(ctx); err != nil {
		s.conn.Close()
		return err
	}
	state := s.tls.ConnectionState()
	f := &s.facts
	f.SSL = time.Since(began)
	f.Connect += f.SSL
	f.Decrypted = true
	f.Child = flow.TLS{Version: versions[state.Version], Cipher: tls.CipherSuiteName(state.CipherSuite), ALPN: state.NegotiatedProtocol, Offered: protocols, SNI: h.Host}
	if _, err := netip.ParseAddr(h.Host); err == nil {
		f.Child.SNI = ""
	}
	f.Upstream = f.Child
	f.Upstream.Verdict = "ok"
	for _, cert := range state.PeerCertificates {
		f.Upstream.Chain = append(f.Upstream.Chain, cert.Raw)
	}
	s.conn = s.tls
	switch {
	case state.NegotiatedProtocol == alpnHTTP2:
		f.Protocol = "http2"
	case h.Version == "2":
		s.r.toHTTP1("the server does not speak HTTP/2")
	}
	return nil
}

var versions = map[uint16]string{tls.VersionTLS10: "1.0", tls.VersionTLS11: "1.1", tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}

func addrOf(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// http1 writes the request and reads until the tap has seen all of the answer.
func (s *sending) http1() error {
	return s.both(s.write1, s.read)
}

// both writes and reads at the same time, and returns when the exchange is over:
// with the error that ended it early.
func (s *sending) both(write, read func() error) error {
	wrote, got := make(chan error, 1), make(chan error, 1)
	s.wg.Go(func() { wrote <- write() })
	s.wg.Go(func() { got <- read() })
	return s.await(wrote, got)
}

func (s *sending) write1() error {
	if s.r.Exact != nil {
		return s.send(s.r.Exact)
	}
	if err := s.send(s.r.head1()); err != nil {
		return err
	}
	if s.r.awaitsContinue() {
		select {
		case <-s.responded:
		case <-time.After(continueTime):
		}
	}
	return s.send(s.r.body1())
}

// send shows p to the tap and writes it.
func (s *sending) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	s.mu.Lock()
	if !s.over {
		s.bytes[flow.Client] += int64(len(p))
		s.tap.Data(flow.Client, time.Now(), p)
	}
	s.mu.Unlock()
	_, err := s.conn.Write(p)
	return err
}

// read shows the tap what the server sends, until the exchange is over or the
// server has ended.
func (s *sending) read() error {
	buf := make([]byte, 32<<10)
	for {
		if _, err := s.receive(buf); err != nil {
			return err
		}
		select {
		case <-s.done:
			return nil
		default:
		}
	}
}

// receive reads once.
func (s *sending) receive(p []byte) (int, error) {
	n, err := s.conn.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return n, err
	}
	if n > 0 {
		s.bytes[flow.Server] += int64(n)
		s.tap.Data(flow.Server, time.Now(), p[:n])
	}
	if err != nil && s.ends[flow.Server] == flow.Open {
		s.ends[flow.Server] = howOf(err, s.tls != nil)
		s.tap.End(flow.Server, time.Now(), s.ends[flow.Server])
	}
	return n, err
}

func howOf(err error, secure bool) flow.How {
	switch {
	case err == io.EOF && secure:
		return flow.CloseNotify
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return flow.FIN
	case errors.Is(err, errReset):
		return flow.Reset
	}
	return flow.Failed
}

// await returns when the exchange is over. That the request could not be written
// is no end: the answer may say why.
func (s *sending) await(wrote, read <-chan error) error {
	select {
	case <-s.done:
		return nil
	case err := <-read:
		select {
		case <-s.done:
			return nil
		default:
		}
		if err == io.EOF {
			err = errors.New("the server closed the connection before it had answered")
		}
		select {
		case werr := <-wrote:
			err = errors.Join(werr, err)
		default:
		}
		return err
	case <-s.answered:
		select { // the request may not be over, if nobody reads it
		case <-s.done:
		case <-time.After(lateTime):
		}
		return nil
	}
}

// emit takes the events of the tap, under the lock.
func (s *sending) emit(e flow.Event) {
	s.c.Record(e)
	reach := func(state int) {
		for ; s.state < state; s.state++ {
			close([]chan struct{}{s.responded, s.answered, s.done}[s.state])
		}
	}
	switch {
	case e.Flow > 1:
	case e.Kind == flow.Informational, e.Kind == flow.Response:
		reach(1)
	case e.Kind == flow.BodyEnd && e.Side == flow.Server:
		reach(2)
	case e.Kind == flow.End:
		s.err = e.Error
		reach(3)
	}
}

// finish ends the connection and its record.
func (s *sending) finish() {
	s.conn.Close()
	s.mu.Lock()
	now := time.Now()
	how := flow.FIN
	if s.tls != nil {
		how = flow.CloseNotify
	}
	s.ends[flow.Client] = how
	s.tap.End(flow.Client, now, how)
	if s.ends[flow.Server] == flow.Open {
		s.ends[flow.Server] = flow.Stopped
		s.tap.End(flow.Server, now, flow.Stopped)
	}
	s.tap.Close(now)
	s.over = true
	f := &s.facts
	f.Sent, f.Received, f.ChildEnd, f.SrvEnd, f.Ended = s.bytes[flow.Client], s.bytes[flow.Server], s.ends[flow.Client], s.ends[flow.Server], now
	s.mu.Unlock()
	s.wg.Wait() // the connection is closed
	s.record(flow.ConnEnd)
}

// fail records that the server could not be reached.
func (s *sending) fail(host string, err error) {
	s.facts.Ended = time.Now()
	code := flow.CodeUnreachable
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns):
		code = flow.CodeDNS
	case errors.Is(err, errRefused):
		code = flow.CodeRefused
	case errors.As(err, &cert):
		code = flow.CodeUpstreamInvalid
	case s.conn != nil:
		code = flow.CodeUpstreamTLS
	}
	s.facts.Error = &flow.Error{Where: flow.AtUpstream, Code: code, Message: err.Error()}
	s.facts.Opaque = "not_connected"
	s.record(flow.ConnEnd)
}

// snapshot copies the facts, which whoever gets them may keep.
func (s *sending) snapshot() *flow.Conn {
	f := s.facts
	return &f
}

func (s *sending) record(kind flow.Kind) {
	f := s.snapshot()
	s.c.Record(flow.Event{Kind: kind, At: time.Now(), Conn: f.ID, Facts: f})
}
