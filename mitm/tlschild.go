package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"

	"trace/flow"
)

// serveChild makes the child's leg after the server's, and relays.
func (c *conn) serveChild(ctx context.Context, up *upstream) {
	c.peek.stop(flow.Client)
	half := &c.peek.sides[flow.Client]
	if half.err != nil {
		up.conn.Close()
		c.fail(ReasonFailed, &flow.Error{Where: flow.AtClient, Code: flow.CodeReset,
			Message: "the child left before its handshake was answered"})
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
		c.redial(ctx, ReasonChild, &flow.Error{
			Where: flow.AtCapture, Code: CodeClientHello,
			Message: fmt.Sprintf("the ClientHello of %s cannot be served: %v", c.program(), err),
			Hint:    "carried undecrypted; --bypass " + c.target() + " does so without trying",
		}, alertHandshakeFailure)
	default:
		up.conn.Close()
		c.rejected(up, w, err)
	}
}

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
		}
	})
	c.join(tlsLeg(child, w), tlsLeg(up.conn, up.wire), true)
	r := c.relay
	if r.bytes[flow.Client].Load() > 0 || r.first != flow.Client || c.stopping.Load() || c.tap.started() {
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
	switch {
	case c.stopping.Load():
		c.fail(ReasonFailed, nil)
	case !up.verdict.known:
		c.fail(ReasonRejected, c.untrusted(up))
	case up.verdict.flawed():
		c.fail(ReasonRejected, &flow.Error{
			Where: flow.AtUpstream, Code: flow.CodeUpstreamInvalid,
			Message: fmt.Sprintf("certificate of %s: %v; the child refused it%s", c.target(), up.verdict.err, saying(a, alerted)),
			Hint:    "the server's certificate is at fault, not trace",
		})
	case certain:
		c.p.refused.certain(c.key, now)
		c.fail(ReasonRejected, &flow.Error{
			Where: flow.AtClient, Code: flow.CodeClientRejected,
			Message: fmt.Sprintf("%s refused our certificate for %s%s", c.program(), c.target(), saying(a, alerted)),
			Hint:    c.pinHint(),
		})
	case c.p.refused.uncertain(c.key, now):
		c.fail(ReasonRejected, &flow.Error{
			Where: flow.AtClient, Code: flow.CodeClientRejectedMaybe,
			Message: fmt.Sprintf("%s left right after seeing our certificate for %s%s", c.program(), c.target(), saying(a, alerted)),
			Hint:    c.pinHint(),
		})
	case errors.Is(err, errCloseNotify) || c.relay != nil:
		// A connection opened ahead and not needed. No row.
	default:
		c.fail(ReasonFailed, &flow.Error{
			Where: flow.AtClient, Code: flow.CodeReset,
			Message: fmt.Sprintf("%s gave the handshake for %s up: %v", c.program(), c.target(), err),
		})
	}
}

// saying is the end of a sentence about a refusal.
func saying(a alert, alerted bool) string {
	if !alerted {
		return ""
	}
	return " (alert " + a.String() + ")"
}

// program names the child's program for a message.
func (c *conn) program() string {
	p := c.snapshot().Process
	switch {
	case p == nil:
		return "the client"
	case p.Exe != "":
		return filepath.Base(p.Exe)
	case len(p.Argv) > 0:
		return filepath.Base(p.Argv[0])
	}
	return fmt.Sprintf("process %d", p.PID)
}

// pinHint says how to mend a refusal.
func (c *conn) pinHint() string {
	return "it may have its own roots or pins: add the run's CA there, or carry it undecrypted with --bypass " + c.target()
}
