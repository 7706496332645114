package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"trace/flow"
)

// serveChild makes the child's leg after the server's, and relays.
func (c *conn) serveChild(ctx context.Context, up *upstream) {
	c.peek.stop(flow.Client)
	half := &c.peek.sides[flow.Client]
	if half.err != nil {
		up.conn.Close()
		c.fail(ReasonFailed, &flow.Error{Where: flow.AtClient, Code: flow.CodeReset,
			Message: c.program() + " left before its handshake with " + c.target() + " was answered"})
		return
	}
	w := &wireConn{Conn: c.child, prefix: half.buf, withhold: true}
	child := tls.Server(w, c.childConfig(up))
	err := child.Handshake()
	switch {
	case err == nil:
		c.joinTLS(child, w, up)
	case !w.answered() && w.ended == nil:
		// The connection upstream is of no use to a child that has to
		// speak with the server itself.
		up.conn.Close()
		e := &flow.Error{
			Where: flow.AtCapture, Code: CodeClientHello,
			Message: fmt.Sprintf("the ClientHello of %s cannot be served: %v", c.program(), err),
			Hint:    "carried undecrypted; --bypass " + c.target() + " does so without trying",
		}
		if a, told := w.lastAlert(); told {
			e.Detail = a.String()
		}
		c.redial(ctx, ReasonChild, e, alertHandshakeFailure)
	default:
		up.conn.Close()
		c.rejected(up, w, err)
	}
}

// classical are the groups of elliptic curves alone.
var classical = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// childConfig offers the child what the server chose.
func (c *conn) childConfig(up *upstream) *tls.Config {
	s := up.conn.ConnectionState()
	cfg := &tls.Config{
		MinVersion:                  s.Version,
		MaxVersion:                  s.Version,
		CipherSuites:                suites(c.hello.ciphers),
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		KeyLogWriter:                c.p.KeyLogChild,
		Time:                        c.p.now,
	}
	if slices.Contains(c.hello.shares, uint16(tls.X25519)) {
		// This leg does not leave the machine, and the child has sent a key for
		// it: the post-quantum half would cost both ends for nothing.
		cfg.CurvePreferences = classical
	}
	if s.NegotiatedProtocol != "" {
		cfg.NextProtos = []string{s.NegotiatedProtocol}
	}
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		leaf, err := c.leafFor(up, hello)
		if err != nil {
			return nil, err
		}
		with := cfg.Clone()
		with.GetConfigForClient = nil
		with.Certificates = []tls.Certificate{*leaf}
		return with, nil
	}
	return cfg
}

// leafFor returns the leaf for a child: with an RSA key only where it can use
// no other.
func (c *conn) leafFor(up *upstream, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	nameless := *hello
	nameless.ServerName = "" // whether the names fit is for the child to say
	var refused error
	for _, useRSA := range []bool{false, true} {
		leaf, err := c.p.Authority.leaf(up.leaf, !up.verdict.known, useRSA, c.p.now())
		if err != nil {
			return nil, err
		}
		if refused = nameless.SupportsCertificate(leaf); refused == nil {
			return leaf, nil
		}
	}
	return nil, refused
}

// joinTLS relays between two TLS legs, and looks afterwards whether the child
// refused our leaf by silence.
func (c *conn) joinTLS(child *tls.Conn, w *wireConn, up *upstream) {
	c.change(func(f *flow.Conn) {
		f.Decrypted = true
		legFacts(&f.Child, child.ConnectionState())
		switch f.Child.ALPN {
		case "h2":
			f.Protocol = "http2"
		case "http/1.1", "http/1.0":
			f.Protocol = "http"
		default:
			c.watch = &watch{c: c, inner: true}
		}
	})
	server := c.alterTLS(up)
	if server == nil {
		server = tlsLeg(up.conn, up.wire)
	}
	c.join(tlsLeg(child, w), server, true)
	r := c.relay
	if r.bytes[flow.Client].Load() > 0 || r.first != flow.Client || c.stopping.Load() || c.tap.started() {
		c.endAlert(flow.Client, r.errs[flow.Client])
		c.endAlert(flow.Server, r.errs[flow.Server])
		return
	}
	// The server did not hang up, so the child did, without a word.
	c.rejected(up, w, r.errs[flow.Client])
}

// rejected records that the child did not take our leaf, or seems not to have.
// err is what its leg ended with.
func (c *conn) rejected(up *upstream, w *wireConn, err error) {
	a, alerted := alertOf(err)
	if w.records.found {
		a, alerted = w.records.alert, true
	}
	now := c.p.now()
	certain := alerted && a.aboutCertificate()
	detail := ""
	if alerted {
		detail = a.String()
	}
	switch {
	case c.stopping.Load():
		c.fail(ReasonFailed, nil)
	case !up.verdict.known:
		e := c.untrusted(up)
		e.Message += fmt.Sprintf("; %s refused it%s", c.program(), saying(a, alerted))
		e.Detail = detail
		e.Hint = "to have it accepted: --upstream-ca FILE with the root of its issuer"
		c.fail(ReasonRejected, e)
	case up.verdict.flawed():
		c.fail(ReasonRejected, &flow.Error{
			Where: flow.AtUpstream, Code: flow.CodeUpstreamInvalid,
			Message: fmt.Sprintf("certificate of %s: %v; %s refused it%s", c.target(), up.verdict.err, c.program(), saying(a, alerted)),
			Hint:    "the server's certificate is at fault, not trace",
			Detail:  detail,
		})
	case certain:
		c.p.refused.certain(c.key, now)
		c.fail(ReasonRejected, &flow.Error{
			Where: flow.AtClient, Code: flow.CodeClientRejected,
			Message: fmt.Sprintf("%s refused our certificate for %s%s", c.program(), c.target(), saying(a, alerted)),
			Hint:    c.pinHint(),
			Detail:  detail,
		})
	case c.p.refused.uncertain(c.key, now):
		c.fail(ReasonRejected, &flow.Error{
			Where: flow.AtClient, Code: flow.CodeClientRejectedMaybe,
			Message: fmt.Sprintf("%s left right after seeing our certificate for %s%s", c.program(), c.target(), saying(a, alerted)),
			Hint:    c.pinHint(),
			Detail:  detail,
		})
	case errors.Is(err, errCloseNotify) || c.relay != nil:
		// A connection opened ahead and not needed. No row.
	default:
		c.fail(ReasonFailed, &flow.Error{
			Where: flow.AtClient, Code: flow.CodeReset,
			Message: fmt.Sprintf("%s gave the handshake for %s up: %v", c.program(), c.target(), err),
			Detail:  detail,
		})
	}
}
