package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"trace/flow"
)

// isReset tells whether a connection was aborted by its other end.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// codeNoRoute is the code of a request whose path no route names.
const codeNoRoute = "no_route"

func (p *Reverse) noRoute(target string) *flow.Error {
	path, _, _ := strings.Cut(target, "?")
	return &flow.Error{Where: flow.AtClient, Code: codeNoRoute, Message: fmt.Sprintf("no route for %.200q", path),
		Hint: "paths begin with one of " + p.Routes.String() + "; --map PREFIX=URL adds another"}
}

// upstreamError says why a server cannot be reached.
func upstreamError(to destination, err error) *flow.Error {
	e := &flow.Error{Where: flow.AtUpstream, Code: flow.CodeUnreachable, Message: fmt.Sprintf("connect to %s: %v", to.addr(), err)}
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &dns):
		e.Code = flow.CodeDNS
		e.Hint = "the host's resolver does not know this name; --connect-to can carry it elsewhere"
	case errors.As(err, &unknown):
		e.Code = flow.CodeUpstreamUntrusted
		e.Hint = "--upstream-ca FILE with the root of its issuer"
	case errors.As(err, &verify):
		e.Code = flow.CodeUpstreamInvalid
	case errors.As(err, &record):
		e.Code = flow.CodeUpstreamTLS
		e.Hint = "the server speaks no TLS: its URL may have to begin with http://"
	case errors.As(err, &alert):
		e.Code = flow.CodeUpstreamTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Code = flow.CodeRefused
	case isReset(err):
		e.Code = flow.CodeReset
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded):
		e.Code = flow.CodeTimeout
	}
	return e
}

// localAnswer is an answer of ours.
func localAnswer(status int, text string) []byte {
	text = "trace: " + text + "\n"
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(text), text)
}
