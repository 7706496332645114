// Package egress dials the outside world the way the host's proxy settings
// want.
//
//	d, err := egress.FromEnv(os.Environ())
//	d.Name = names.Name // optional: which name led to an address
//	conn, err := d.DialContext(ctx, "tcp", "192.0.2.7:443")
//
// It carries bytes through a proxy and does nothing else with them: requests
// are not rewritten for it, UDP does not pass it, and the only way of saying
// who one is, is a name with a password. Scripts that choose a proxy (PAC,
// WPAD) and the settings of a desktop are not read.
//
// # Theory of operation
//
// The variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in lower case
// first, name proxies for URLs; what is dialled here are ports. Port 80 goes
// through HTTP_PROXY and every other port through HTTPS_PROXY; ALL_PROXY stands
// in for the one that is not set. Loopback, link-local and multicast
// destinations never use a proxy, nor does what NO_PROXY names, be it by the
// address or by the name that led to it, nor the proxies themselves: a program
// may have been told to use one.
//
// An HTTP proxy is asked by CONNECT (RFC 9110 section 9.3.6), also for port
// 80, in the clear or (https) inside TLS; a SOCKS proxy by version 5 (RFC
// 1928, RFC 1929). Proxies choose by names, and often know more of them than
// the host does, so they are told the name wherever one is known. Only socks5
// tells an address if there is one: that is what the scheme says, as opposed
// to socks5h.
//
// A proxy that says why it cannot connect is taken at its word: its answer
// becomes the errno that a connect to the destination itself would have failed
// with. One that does not carry a port at all (many allow CONNECT for 443
// only) is passed by, unless the port is 443: programs that speak something
// other than HTTP know nothing of these variables and would not have asked it.
//
// Not a byte beyond the proxy's own answer is read from the connection, so
// that it can be handed over as the very *net.TCPConn that was dialled. Inside
// TLS, it is a conn that has CloseWrite and Reset.
package egress

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience bounds connecting to a proxy and through it. The proxy itself may
// wait for the destination as long as a kernel does, about two minutes.
const patience = 150 * time.Second

// Ports whose scheme is known.
const (
	portHTTP  = 80
	portHTTPS = 443
)

// A Dialer connects through proxies or without. The zero value knows no
// proxy. Exported fields are set before first use; then it is safe for
// concurrent use.
type Dialer struct {
	// Name says which name led to an address, "" if none is known; whether
	// the address was lent to that name makes no difference. Nil: none is.
	Name func(netip.Addr) (name string, lent bool)

	// Dial connects to proxies, and to all that no proxy applies to. Nil: a
	// net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Roots returns the issuers that proxies spoken to by TLS are verified
	// with. It is asked once, by the first such connection. Nil: those of the
	// host.
	Roots func() *x509.CertPool

	https, http, all *proxy // nil where not set
	bypass           bypass

	rootsOnce sync.Once
	roots     *x509.CertPool // nil: those of the host
}

// DialContext connects to addr, a name or an address with a port, as
// net.Dialer does: by a proxy where one applies. An error of the proxy names
// it, without its password, and unwraps to the errno that a connect to addr
// would have failed with.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, ok := d.parse(network, addr)
	if !ok {
		return d.dial(ctx, network, addr)
	}
	p := d.choose(to.port, to.name, to.host())
	if p == nil {
		return d.dial(ctx, network, addr)
	}
	conn, err := d.through(ctx, p, to)
	var f *failure
	if to.port != portHTTPS && errors.As(err, &f) && f.declined {
		return d.past(ctx, network, addr, f)
	}
	return conn, err
}

// Applies reports whether connections to a host, a name or an address, go
// through a proxy. Port 0 asks whether those to any port do.
func (d *Dialer) Applies(host string, port int) bool {
	return d.choose(port, host) != nil
}

// A destination is what a proxy is asked to connect to.
type destination struct {
	name string     // "" if none is known
	addr netip.Addr // the zero Addr if none is known
	port int
}

// host returns the address, or else the name.
func (t destination) host() string {
	if t.addr.IsValid() {
		return t.addr.String()
	}
	return t.name
}

// parse reads what is to be dialled, and looks for the name that goes with
// an address. It is not ok for what a proxy cannot carry.
func (d *Dialer) parse(network, addr string) (t destination, ok bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return t, false
	}
	t.port, err = strconv.Atoi(port)
	if err != nil || t.port <= 0 || t.port > 65535 || host == "" {
		return t, false
	}
	if t.addr, err = netip.ParseAddr(host); err != nil {
		t.name = strings.TrimSuffix(host, ".")
		return t, true
	}
	t.addr = t.addr.Unmap()
	if d.Name != nil {
		t.name, _ = d.Name(t.addr)
	}
	if !sendable(t.name) {
		t.name = ""
	}
	return t, true
}

// sendable reports whether a proxy can be told the name: it stands in a line
// of text, or after one octet of length.
func sendable(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"/\@:?#[]`, c) >= 0 {
			return false
		}
	}
	return name != "" && len(name) <= 255
}

// choose returns the proxy for a port of a host that goes by these names, nil
// if there is none. An empty name says nothing.
func (d *Dialer) choose(port int, hosts ...string) *proxy {
	var p *proxy
	switch port {
	case 0:
		p = first(d.https, d.all, d.http)
	case portHTTP:
		p = first(d.http, d.all)
	default:
		p = first(d.https, d.all)
	}
	if p == nil {
		return nil
	}
	for _, h := range hosts {
		if h != "" && (isLocal(h) || d.bypass.names(h, port) || d.isProxy(h, port)) {
			return nil
		}
	}
	return p
}

// isProxy reports whether this is one of the proxies.
func (d *Dialer) isProxy(host string, port int) bool {
	addr := net.JoinHostPort(strings.TrimSuffix(host, "."), strconv.Itoa(port))
	for _, p := range []*proxy{d.https, d.http, d.all} {
		if p != nil && strings.EqualFold(p.addr, addr) {
			return true
		}
	}
	return false
}

func first(ps ...*proxy) *proxy {
	for _, p := range ps {
		if p != nil {
			return p
		}
	}
	return nil
}

// through connects by way of a proxy.
func (d *Dialer) through(ctx context.Context, p *proxy, to destination) (net.Conn, error) {
	if !to.addr.IsValid() && !sendable(to.name) {
		return nil, p.failed("the name "+strconv.Quote(to.name)+" cannot be told to it", syscall.EHOSTUNREACH)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := d.dial(ctx, "tcp", p.addr)
	if err != nil {
		return nil, p.failed(err.Error(), err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	open, err := d.open(ctx, p, conn, to)
	if !stop() {
		err = p.failed("asked for "+p.target(to)+": no answer", ctx.Err())
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return open, nil
}

// open makes conn, which leads to the proxy, lead to a destination. The conn
// that it returns is conn itself, or one around it.
func (d *Dialer) open(ctx context.Context, p *proxy, conn net.Conn, to destination) (net.Conn, error) {
	switch p.scheme {
	case "http":
		return conn, p.connect(conn, p.target(to))
	case "https":
		t, err := p.secure(ctx, conn, d.trusted())
		if err != nil {
			return nil, err
		}
		return t, p.connect(t, p.target(to))
	}
	return conn, p.socks(conn, to)
}

// trusted returns the roots to verify proxies with.
func (d *Dialer) trusted() *x509.CertPool {
	d.rootsOnce.Do(func() {
		if d.Roots != nil {
			d.roots = d.Roots()
		}
	})
	return d.roots
}

// past connects without the proxy that does not carry such connections.
func (d *Dialer) past(ctx context.Context, network, addr string, declined *failure) (net.Conn, error) {
	conn, err := d.dial(ctx, network, addr)
	if err == nil {
		return conn, nil
	}
	return nil, &failure{what: declined.what + "; without it: " + err.Error(), kind: kind(err)}
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.Dial != nil {
		return d.Dial(ctx, network, addr)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}
