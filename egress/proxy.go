package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"time"
)

// A proxy is what one variable names.
type proxy struct {
	variable       string
	scheme         string // "http", "https", "socks5", "socks5h"
	host, addr     string // addr has the port
	user, password string
	known          bool // user and password are set, be they empty
}

// String names the proxy for people, without user and password.
func (p *proxy) String() string { return p.scheme + "://" + p.addr + " (" + p.variable + ")" }

func (p *proxy) isSOCKS() bool { return p.scheme == "socks5" || p.scheme == "socks5h" }

// checkUser tells of user names and passwords that the protocol cannot carry.
func (p *proxy) checkUser() error {
	if p.known && p.isSOCKS() && (p.user == "" || len(p.user) > 255 || len(p.password) > 255) {
		return errors.New("user name and password of a SOCKS proxy have at most 255 bytes, the name at least 1 (RFC 1929)")
	}
	return nil
}

// target is how the proxy is told a destination: by its name if that is known.
func (p *proxy) target(to destination) string {
	host := to.name
	if host == "" || p.scheme == "socks5" && to.addr.IsValid() {
		host = to.host()
	}
	return net.JoinHostPort(host, strconv.Itoa(to.port))
}

// secure makes TLS with the proxy.
func (p *proxy) secure(ctx context.Context, conn net.Conn, roots *x509.CertPool) (*tunnel, error) {
	c := &tls.Config{ServerName: p.host, NextProtos: []string{"http/1.1"}, RootCAs: roots}
	t := &tunnel{Conn: tls.Client(patient{conn}, c), raw: conn}
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, p.failed("TLS: "+err.Error(), err)
	}
	return t, nil
}

// goodbye bounds how long Close waits to say close_notify.
const goodbye = time.Second

// A tunnel is a connection inside TLS with a proxy.
type tunnel struct {
	*tls.Conn
	raw net.Conn
}

// patient is the conn under a tls.Conn, whose CloseWrite sets a deadline of
// its own: an end that reads slowly has a right to its last bytes.
type patient struct{ net.Conn }

func (patient) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline, as SetWriteDeadline, reaches the conn that does not ignore it.
func (t *tunnel) SetDeadline(at time.Time) error { return t.raw.SetDeadline(at) }

// SetWriteDeadline bounds writes. One that it cuts off ends the tunnel.
func (t *tunnel) SetWriteDeadline(at time.Time) error { return t.raw.SetWriteDeadline(at) }

// Reset ends the tunnel without close_notify, which is how TLS says that what
// came may not be all. What was written before is delivered.
func (t *tunnel) Reset() error { return t.raw.Close() }

// Close ends both directions, with close_notify if the proxy takes it.
func (t *tunnel) Close() error {
	t.raw.SetWriteDeadline(time.Now().Add(goodbye))
	return t.Conn.Close()
}
