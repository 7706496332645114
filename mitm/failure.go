package mitm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"time"

	"trace/flow"
)

// Codes of failures of TLS that only this package finds.
const (
	// CodeClientHello: crypto/tls cannot serve the child's ClientHello; the
	// connection is carried undecrypted.
	CodeClientHello = "tls_client_unsupported"
	// CodeAlert: one side ended the connection by a fatal alert.
	CodeAlert = "tls_alert"
)

// answerTime is how long a server may be silent before a child that leaves is
// taken to have given it up.
const answerTime = time.Second

// shakeError says why our handshake with the server failed. The child's own
// is still to be tried.
func (c *conn) shakeError(up *upstream, err error) *flow.Error {
	name := c.target()
	e := &flow.Error{Where: flow.AtUpstream, Code: flow.CodeUpstreamTLS,
		Hint: "carried with the child's own handshake, undecrypted; --bypass " + name + " does so without trying"}
	var header tls.RecordHeaderError
	a, alerted := alertOf(err)
	switch {
	case alerted && up.leaf == nil:
		e.Detail = a.String()
		e.Message = fmt.Sprintf("%s refused trace's ClientHello (alert %s)", name, a)
	case alerted:
		e.Detail = a.String()
		e.Message = fmt.Sprintf("%s broke trace's handshake off (alert %s)", name, a)
	case errors.As(err, &header):
		e.Message = fmt.Sprintf("%s speaks no TLS: it answered trace's ClientHello with %q", name, header.RecordHeader[:])
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Message = name + " closed the connection on trace's ClientHello"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Message = name + " reset the connection on trace's ClientHello"
	default:
		c.unable = true
		e.Where = flow.AtCapture
		e.Message = fmt.Sprintf("trace cannot shake hands with %s: %v", name, cause(err))
		if a, told := up.wire.lastAlert(); told {
			e.Detail = a.String()
		}
	}
	c.refused = e
	return e
}

// answered takes in a ServerHello to the child's own ClientHello. final says
// that it is no HelloRetryRequest. If we had been refused, then the server
// minds ours alone.
func (c *conn) answered(final bool, facts func(*flow.Conn)) {
	e := c.refused
	if e == nil || !final {
		c.learn(facts)
		return
	}
	c.refused = nil
	better := *e
	better.Hint = "--bypass " + c.target() + " carries such connections undecrypted from the start"
	better.Message += ", but answers that of " + c.program()
	if c.unable {
		better.Message = e.Message + "; the handshake of " + c.program() + " itself goes on"
	} else {
		better.Code = flow.CodeHelloRefused
	}
	c.learn(func(f *flow.Conn) {
		facts(f)
		f.Error = &better
	})
}

// unanswered takes in that the child's own ClientHello got no ServerHello
// either, but perhaps an alert. Then the server is to blame, or the child, and
// not we.
func (c *conn) unanswered(a alert, alerted bool) {
	e := c.refused
	if e == nil || c.stopping.Load() {
		return
	}
	worse := *e
	worse.Where = flow.AtUpstream
	worse.Hint = "not trace's doing: without it the handshake fails as well"
	left := c.relay.bytes[flow.Server].Load() == 0 && c.relay.first == flow.Client
	switch {
	case left:
		worse.Message += "; " + c.program() + " left before its own was answered"
		worse.Hint = e.Hint
	case c.unable:
		worse.Message += ", and the handshake of " + c.program() + " itself fails"
	default:
		worse.Message += ", and that of " + c.program() + " no less"
		if alerted && a.String() != e.Detail {
			worse.Message += saying(a, true)
			worse.Detail = a.String()
		}
	}
	c.change(func(f *flow.Conn) { f.Error = &worse })
}

// heardAlert takes in a fatal alert that was read along on a connection that
// is not decrypted. done says that the server had answered the ClientHello.
func (c *conn) heardAlert(side flow.Side, a alert, done bool) {
	name, program := c.target(), c.program()
	if c.refused != nil && side == flow.Server {
		return // the end of it says so
	}
	e := &flow.Error{Where: flow.AtUpstream, Code: CodeAlert, Detail: a.String(), Hint: "not trace's doing: this connection is carried as it is"}
	switch {
	case side == flow.Client && a.aboutCertificate():
		e.Where = flow.AtClient
		e.Message = fmt.Sprintf("%s refused the certificate of %s (alert %s)", program, name, a)
	case side == flow.Client:
		e.Where = flow.AtClient
		e.Message = fmt.Sprintf("%s broke the handshake with %s off (alert %s)", program, name, a)
	case done:
		e.Message = fmt.Sprintf("%s broke the handshake of %s off (alert %s)", name, program, a)
	default:
		e.Message = fmt.Sprintf("%s refused the ClientHello of %s (alert %s)", name, program, a)
	}
	c.learn(func(f *flow.Conn) {
		if old := f.Error; old != nil {
			with := *old
			with.Message += "; " + e.Message
			with.Detail = a.String()
			e = &with
		}
		f.Error = e
	})
}

// endAlert notes an alert that ended a decrypted connection.
func (c *conn) endAlert(side flow.Side, err error) {
	a, alerted := alertOf(err)
	who, where := c.program(), flow.AtClient
	if side == flow.Server {
		who, where = c.target(), flow.AtUpstream
	}
	e := &flow.Error{Where: where, Code: CodeAlert, Detail: a.String(), Message: fmt.Sprintf("%s ended the connection by alert %s", who, a)}
	if alerted && side == flow.Client && a.aboutCertificate() {
		e.Hint = c.pinHint()
	}
	if !alerted {
		var ours bool
		if a, ours = ownAlertOf(err); !ours {
			return
		}
		e.Code, e.Detail = flow.CodeMalformed, a.String()
		e.Message = fmt.Sprintf("what %s sent is no TLS any more (%s)", who, a)
	}
	c.mark(e)
}

// unheard says that trace ended while it waited for a server; nil if that was
// not long enough to be worth a word.
func (c *conn) unheard(took time.Duration) *flow.Error {
	if took < answerTime {
		return nil
	}
	return &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTimeout,
		Message: fmt.Sprintf("dial %s: no answer for %v, until trace ended", c.addr, took.Round(100*time.Millisecond))}
}

// leftEarly says that the child left while our handshake with the server was
// under way.
func (c *conn) leftEarly(up *upstream) *flow.Error {
	took := c.snapshot().SSL
	if up.wire.heard || took < answerTime {
		return &flow.Error{Where: flow.AtClient, Code: flow.CodeReset,
			Message: c.program() + " left while the handshake with " + c.target() + " was under way"}
	}
	return &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTimeout,
		Message: fmt.Sprintf("%s did not answer trace's ClientHello for %v, until %s left", c.target(), took.Round(100*time.Millisecond), c.program()),
		Hint:    "--bypass " + c.target() + " shows whether it answers the child's own"}
}

// untrusted says that the issuer of the server's certificate is not known.
func (c *conn) untrusted(up *upstream) *flow.Error {
	name := c.target()
	return &flow.Error{
		Where: flow.AtUpstream, Code: flow.CodeUpstreamUntrusted,
		Message: fmt.Sprintf("certificate of %s: %v", name, up.verdict.err),
		Hint:    "to decrypt: --upstream-ca FILE with the root of its issuer, or --decrypt-untrusted " + name,
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
