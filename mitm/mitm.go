// Package mitm carries a connection to its destination and shows the plaintext
// to a tap on the way.
//
// [Proxy.Serve] takes one connection of the child that has not been answered
// yet, and returns when it is over. What the child wrote is what the server
// reads, byte for byte and in both directions, and each direction ends as its
// sender ended it. The package does not decode what passes (a [Tap] does), nor
// store anything (Record does), nor ever print.
//
// # Theory of operation
//
// One connection goes through these steps, each a method of conn:
//
//	dial     the destination, by name where the address was lent for one; a
//	         refused dial is answered in kind, before the child was accepted
//	accept   the child
//	peek     both sides, until sniff, a pure function, knows what this is
//	tls      upstream first, then the child with what upstream chose
//	relay    until both directions have ended
//
// Nothing is answered before we are sure. Up to our first byte the child has
// seen nothing of us, and its own bytes are kept; so whatever stops us
// (the server's alert, a client certificate wanted, an issuer that we do not
// know, a ClientHello that crypto/tls cannot serve) ends in a second dial, a replay of
// the kept bytes and a relay of the undecrypted connection. The child and the
// server then settle it between them, and the record says why.
//
// After a handshake that the server did not make with us, the second dial also
// shows whether it minds our ClientHello only: what is not decrypted is read
// along (watch) as far as its handshake is in the clear, which tells the
// version, the cipher, alerts and, before TLS 1.3, the certificates. Other protocols
// are named (label) by what both sides say first, which holds nobody up: one that
// cannot be HTTP or TLS is carried from its first bytes on, and one whose
// server speaks first from the server's.
//
// The child keeps its own judgement. It is offered the version, the ALPN and
// a leaf that say what the server's said: names, key usage and, where it lies
// outside now, validity are copied from the server's certificate. Tickets are
// not given to the child and not kept from the server: a resumed session
// would skip the server's certificate, whose verdict belongs into each
// record, and saves nothing that can be measured over a local link.
//
// Early data (RFC 8446 section 4.2.10) cannot be refused with crypto/tls, so
// a ClientHello that announces it is carried undecrypted. A child that
// only speaks to us never has a ticket that would let it. An
// encrypted_client_hello extension is taken for GREASE (RFC 9849 section 6.2)
// and ignored, as a server without keys does.
//
// A child that refuses our certificate (it pins, or has roots built in) is
// found out by its alert, or by its silence; see refusals. Connections of the same name,
// ClientHello and program then pass undecrypted for a minute, visibly.
//
// A connection that was asked for by name (Named), of us as a proxy, has no
// address until the name was dialled: that which answered stands in the record then,
// unless a proxy of the host or a rule of ConnectTo took the connection elsewhere.
//
// A child that was told to use a proxy sends a CONNECT. It is carried as it is, with
// what the proxy answers, until there is a tunnel; then the connection has ended
// for the record, and another begins at peek, on the same sockets, by the name
// that the child asked for. Its second dial is the child's CONNECT, sent to the proxy
// again. Only and Bypass judge the connection within; a proxy that Bypass
// names is not followed.
//
// The relay reads a side, shows what it read to the tap, and writes the same
// bytes to the other side, in that order: otherwise an answer could be tapped
// before its question. How a direction ends is carried too: close_notify as
// close_notify, FIN without it as FIN without it, errors as RST once what was
// read before has been delivered. No buffer is held while a side is silent where the conn can say
// that it is readable.
//
// Where Alter puts a conn in place of the server's, what changes the traffic stands behind
// the relay: the tap goes on to see what the child sends and gets.
//
// Concurrency: each connection has the goroutine of Serve, one reader per side while
// peeking, and two pumps while relaying; Serve waits for all of them. The tap is called by both
// pumps under one lock, and is switched off for the connection if it panics.
package mitm

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"trace/flow"
)

// Incoming is a connection that the child asked for and that has not been
// answered yet. Exactly one of Accept and Refuse is called, once.
type Incoming interface {
	// Src returns the child's end.
	Src() netip.AddrPort
	// Dst returns where the child wanted to go.
	Dst() netip.AddrPort
	// Accept completes the handshake. The conn is the caller's to close.
	// Where it has CloseWrite() error it ends its direction by that, where it
	// has Reset() error it is aborted by that (after what was acknowledged has been
	// delivered), and where it has WaitRead() error the relay waits for
	// input by that instead of holding a buffer.
	Accept() (net.Conn, error)
	// Refuse answers in kind: ECONNREFUSED with RST, EHOSTUNREACH and
	// ENETUNREACH with ICMP, a timeout with silence.
	Refuse(err error)
}

// Named is an Incoming that was asked for by a name, as by a proxy's clients: it is
// the name that is dialled, and that rules choose by. Dst has the port, and
// an address that stands for none (0.0.0.0).
type Named interface {
	Incoming
	// Host returns the name, "" if the connection was asked for by address.
	Host() string
	// Local returns the address of ours that the child's end is connected to.
	Local() netip.AddrPort
	// Early returns what the child has sent already; it is called after
	// Accept, and the slice is the caller's.
	Early() []byte
}

// Tap sees what passes on one connection. Its methods are called one at a
// time.
type Tap interface {
	// Data is called before p is forwarded; p is valid during the call.
	Data(side flow.Side, at time.Time, p []byte)
	// End is called once per side when it has sent its last byte.
	End(side flow.Side, at time.Time, how flow.How)
	// Close is called once, after the Ends. A connection that became a tunnel
	// has none: its sides go on in the connection within, which has a tap of its own.
	Close(at time.Time)
}

// Proxy carries connections. The zero value carries them without a tap, and
// TLS undecrypted; fields are set before the first Serve. It is safe for
// concurrent use.
type Proxy struct {
	// Authority signs what the child is shown. nil: TLS is not decrypted.
	Authority *Authority

	// Dial connects to a destination, as net.Dialer does, which is the
	// default. addr is an address and port, or a name and port.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Name says which name led the child to an address, "" if none is known,
	// and whether the address was lent for that name and so is no one's.
	Name func(netip.Addr) (name string, lent bool)

	// Process finds the program behind a connection; nil if not known. It is
	// called before the connection is accepted. Of a Named one dst is Local.
	Process func(src, dst netip.AddrPort) *flow.Process

	// Record takes the events of connections: ConnOpen, ConnUpdate, ConnEnd
	// and Mark. It is called from several goroutines.
	Record func(flow.Event)

	// Tap returns what looks at a connection, or nil. It is called when the
	// first bytes are there; Opaque and Decrypted of c are final then.
	Tap func(c *flow.Conn) Tap

	// Alter, where it is set, is asked for a conn to take in place of the server's of a
	// connection that is decoded, nil if that is to be relayed as it is. What Alter
	// returns ends a direction by CloseWrite() error, and closes server when it is closed.
	Alter func(c *flow.Conn, server net.Conn) net.Conn

	// NextID numbers connections. Default: a counter of this Proxy, from 1.
	NextID func() int64

	// ConnectTo redirects dials; the first that matches counts.
	ConnectTo []ConnectTo

	// Roots are trusted towards servers. nil: those of the host.
	Roots *x509.CertPool

	// RootsFunc, where Roots is nil, is asked for them once, by the first TLS
	// connection: reading them takes milliseconds that a start need not wait
	// for.
	RootsFunc func() *x509.CertPool

	// Only, Bypass and DecryptUntrusted are globs (path.Match, without case) of names: the
	// server name of the ClientHello, else the name that was looked up, else
	// the address. Connections that Only does not name, or Bypass does, are
	// not decrypted nor decoded. Those of DecryptUntrusted are decrypted though the
	// issuer of their certificate is not known.
	Only, Bypass, DecryptUntrusted []string

	// KeyLogChild and KeyLogUpstream get the secrets of the two legs in
	// SSLKEYLOGFILE format. Writes are serialised by crypto/tls.
	KeyLogChild, KeyLogUpstream io.Writer

	// Source is what connections are recorded as coming from. Default:
	// flow.SourceNamespace.
	Source flow.Source

	// Now is the clock. Default: time.Now.
	Now func() time.Time

	ids     atomic.Int64
	active  atomic.Int64
	refused refusals

	rootsOnce sync.Once
	roots     *x509.CertPool
	verdicts  verdicts
}

// Serve carries one connection and returns when it is over. Cancelling ctx
// resets both sides.
func (p *Proxy) Serve(ctx context.Context, in Incoming) {
	deepen()
	p.active.Add(1)
	defer p.active.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := p.newConn(in)
	for c != nil {
		c = c.run(ctx)
	}
}

// deepen grows the goroutine's stack at once to what a handshake needs. Else it
// is copied from size to size within each.
//
//go:noinline
func deepen() {
	var room [12 << 10]byte
	runtime.KeepAlive(&room)
}

// Active returns how many connections are being carried.
func (p *Proxy) Active() int { return int(p.active.Load()) }

func (p *Proxy) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

func (p *Proxy) nextID() int64 {
	if p.NextID != nil {
		return p.NextID()
	}
	return p.ids.Add(1)
}

func (p *Proxy) source() flow.Source {
	if p.Source != "" {
		return p.Source
	}
	return flow.SourceNamespace
}

func (p *Proxy) name(a netip.Addr) (name string, lent bool) {
	if p.Name == nil {
		return "", false
	}
	return p.Name(a)
}

// DialTo connects to a host and port, where ConnectTo says that it is.
func (p *Proxy) DialTo(ctx context.Context, network, host string, port uint16) (net.Conn, error) {
	return p.dialer()(ctx, network, Redirect(p.ConnectTo, host, port))
}

func (p *Proxy) dialer() func(ctx context.Context, network, addr string) (net.Conn, error) {
	if p.Dial != nil {
		return p.Dial
	}
	return new(net.Dialer).DialContext
}

// Trusted returns the roots to verify servers with.
func (p *Proxy) Trusted() *x509.CertPool {
	if p.Roots != nil {
		return p.Roots
	}
	p.rootsOnce.Do(p.loadRoots)
	return p.roots
}

func (p *Proxy) loadRoots() {
	if p.RootsFunc != nil {
		p.roots = p.RootsFunc()
		return
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // then every issuer is unknown, and nothing is decrypted
	}
	p.roots = pool
}
