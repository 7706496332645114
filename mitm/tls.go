package mitm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"trace/flow"
)

// upstream is the TLS leg towards the server, with what was learnt from it.
type upstream struct {
	conn    *tls.Conn
	wire    *wireConn
	leaf    *x509.Certificate
	verdict verdict
	asked   bool // the server asks for a client certificate
}

// serveTLS carries a connection that begins with a ClientHello. ctx ends when
// the child leaves.
func (c *conn) serveTLS(ctx context.Context, s sniffed) {
	c.hello = s.hello
	c.change(func(f *flow.Conn) {
		f.Protocol = "tls"
		if h := s.hello; h != nil {
			f.Child = h.facts()
			if h.sni != "" {
				f.Host = h.sni
			}
		}
	})
	if reason, e := c.undecrypted(); reason != "" {
		c.change(func(f *flow.Conn) { f.Opaque, f.Error = reason, e })
		c.carry()
		return
	}
	up, err := c.shakeServer(ctx)
	if err != nil && ctx.Err() != nil {
		if context.Cause(ctx) != errLeft {
			return
		}
		c.fail(ReasonFailed, c.leftEarly(up))
		return
	}
	if reason, e := c.judge(up, err); reason != "" {
		c.redial(ctx, reason, e, alertFor(reason, err))
		return
	}
	c.serveChild(ctx, up)
}

// undecrypted returns why the connection is carried as it is from the start,
// "" if it is not.
func (c *conn) undecrypted() (reason string, e *flow.Error) {
	if reason := c.p.Skips(c.target()); reason != "" {
		return reason, nil
	}
	if _, left := c.peek.seen(flow.Client); c.p.Authority == nil || left != nil {
		return ReasonUndecrypted, nil
	}
	if c.hello == nil {
		return ReasonUndecrypted, &flow.Error{
			Where: flow.AtCapture, Code: CodeClientHello,
			Message: "the ClientHello of " + c.program() + " cannot be read",
			Hint:    "carried undecrypted; --bypass " + c.target() + " does so without a word",
		}
	}
	if c.hello.earlyData {
		return ReasonEarlyData, nil
	}
	c.key = refusalKey{name: c.target(), shape: c.hello.shape}
	if p := c.snapshot().Process; p != nil {
		c.key.exe = p.Exe
	}
	if c.p.refused.passes(c.key, c.p.now()) {
		return ReasonPinned, &flow.Error{
			Where: flow.AtClient, Code: flow.CodePassedThrough,
			Message: fmt.Sprintf("%s refused our certificate for %s a moment ago, so this connection is not decrypted", c.program(), c.target()),
			Hint:    c.pinHint(),
		}
	}
	return "", nil
}

// shakeServer makes the TLS leg towards the server, with what the child offers.
func (c *conn) shakeServer(ctx context.Context) (*upstream, error) {
	up := &upstream{wire: &wireConn{Conn: c.server}}
	h := c.hello
	cfg := &tls.Config{
		ServerName:                  h.sni,
		NextProtos:                  h.alpn,
		MinVersion:                  max(h.lowest(), tls.VersionTLS10),
		MaxVersion:                  min(h.highest(), tls.VersionTLS13),
		CipherSuites:                suites(h.ciphers),
		CurvePreferences:            curves(h.groups),
		DynamicRecordSizingDisabled: true,
		KeyLogWriter:                c.p.KeyLogUpstream,
		Time:                        c.p.now,
		InsecureSkipVerify:          true, // VerifyConnection judges, the child decides
		VerifyConnection:            func(s tls.ConnectionState) error { c.inspect(up, s); return nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			up.asked = true
			return nil, errors.New("the server asks for a client certificate")
		},
	}
	up.conn = tls.Client(up.wire, cfg)
	began := c.p.now()
	err := up.conn.HandshakeContext(ctx)
	c.change(func(f *flow.Conn) {
		f.SSL = c.p.now().Sub(began)
		f.Connect += f.SSL
		if err == nil {
			legFacts(&f.Upstream, up.conn.ConnectionState())
		}
	})
	return up, err
}

// inspect judges the server's certificate, within the handshake.
func (c *conn) inspect(up *upstream, s tls.ConnectionState) {
	chain := s.PeerCertificates
	up.leaf = chain[0]
	up.verdict = c.p.verdicts.verify(chain, c.nameFor(c.hello.sni), c.p.Trusted(), c.p.now())
	c.change(func(f *flow.Conn) {
		f.Upstream = flow.TLS{SNI: c.hello.sni, Offered: c.hello.alpn, Verdict: up.verdict.text()}
		for _, cert := range chain {
			f.Upstream.Chain = append(f.Upstream.Chain, cert.Raw)
		}
		legFacts(&f.Upstream, s)
	})
}

// judge returns why the connection cannot be decrypted after the handshake with
// the server, "" if it can.
func (c *conn) judge(up *upstream, err error) (reason string, e *flow.Error) {
	name := c.target()
	switch {
	case up.asked:
		return ReasonClientCert, &flow.Error{
			Where: flow.AtUpstream, Code: flow.CodeClientCert,
			Message: name + " asks for a client certificate, which only " + c.program() + " can have",
			Hint:    "carried undecrypted; --bypass " + name + " does so without trying",
		}
	case err != nil:
		return ReasonUpstream, c.shakeError(up, err)
	case !up.verdict.known && !anyMatches(c.p.DecryptUntrusted, name):
		return ReasonUntrusted, c.untrusted(up)
	}
	return "", nil
}

// redial connects again and carries the connection undecrypted, from the
// first byte of the child, which has seen nothing of us.
func (c *conn) redial(ctx context.Context, reason string, e *flow.Error, a alert) {
	c.server.Close()
	server, err := c.reachServer(ctx)
	if err != nil {
		c.child.Write(a.record())
		e.Message += fmt.Sprintf("; connecting again failed: %v", cause(err))
		c.fail(reason, e)
		return
	}
	c.server = server
	c.track(server)
	c.peek.sides[flow.Server] = half{conn: server}
	c.change(func(f *flow.Conn) { f.Opaque, f.Error = reason, e })
	c.carry()
}

// alertFor returns what to tell the child if even the second dial fails.
func alertFor(reason string, err error) alert {
	if a, ok := alertOf(err); ok {
		return a
	}
	switch reason {
	case ReasonUntrusted:
		return alertUnknownCA
	case ReasonClientCert:
		return alertCertRequired
	}
	return alertHandshakeFailure
}

// suites returns the cipher suites that both the child and crypto/tls know,
// those of TLS 1.3 left out, which cannot be chosen. Never nil, which would mean
// those that Go thinks best.
func suites(offered []uint16) []uint16 {
	all := make([]uint16, 0, len(offered))
	for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, s := range list {
			if slices.Contains(offered, s.ID) {
				all = append(all, s.ID)
			}
		}
	}
	return all
}

// curves returns the groups that both the child and crypto/tls know, nil if
// there are none.
func curves(offered []uint16) []tls.CurveID {
	var all []tls.CurveID
	for _, id := range []tls.CurveID{
		tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024,
		tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
	} {
		if slices.Contains(offered, uint16(id)) {
			all = append(all, id)
		}
	}
	return all
}

// legFacts writes what a handshake agreed on.
func legFacts(t *flow.TLS, s tls.ConnectionState) {
	t.Version = versionName(s.Version)
	t.Cipher = tls.CipherSuiteName(s.CipherSuite)
	t.ALPN = s.NegotiatedProtocol
	t.Resumed = s.DidResume
}

func versionName(v uint16) string {
	switch v {
	case 0:
		return ""
	case tls.VersionTLS10:
		return "1.0"
	case tls.VersionTLS11:
		return "1.1"
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return fmt.Sprintf("0x%04x", v)
}
