package proxy

import (
	"context"
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

func (p *Reverse) noRoute(target string) *refusal {
	path, _, _ := strings.Cut(target, "?")
	return &refusal{http.StatusNotFound, &flow.Error{Where: flow.AtClient, Code: codeNoRoute, Message: fmt.Sprintf("no route for %.200q", path),
		Hint: "paths begin with one of " + p.Routes.String() + "; --map PREFIX=URL adds another"}}
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
	case isTimeout(err):
		e.Code = flow.CodeTimeout
	}
	return e
}

// statusFor is how a client is told that its server cannot be reached.
func statusFor(err error) int {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return http.StatusForbidden
	case isTimeout(err):
		return http.StatusGatewayTimeout
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

func isTimeout(err error) bool {
	return errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// plainly returns what is to be said of err: of a name that nobody knows not what
// a connect would have failed with.
func plainly(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns
	}
	return err
}

// proxyStatus is a field that tells programs the same (RFC 9209).
func proxyStatus(err error) string {
	var dns *net.DNSError
	var verify *tls.CertificateVerificationError
	why := "destination_unavailable"
	switch {
	case errors.As(err, &dns):
		why = "dns_error"
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "connection_refused"
	case isReset(err):
		why = "connection_terminated"
	case isTimeout(err):
		why = "connection_timeout"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		why = "destination_ip_prohibited"
	case errors.Is(err, syscall.ENETUNREACH):
		why = "destination_ip_unroutable"
	case errors.As(err, &verify):
		why = "tls_certificate_error"
	}
	return "Proxy-Status: trace; error=" + why
}

// localAnswer is an answer of ours, with some more field lines.
func localAnswer(status int, text string, fields ...string) []byte {
	text = "trace: " + text + "\n"
	p := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	for _, f := range append(fields, "Content-Type: text/plain; charset=utf-8", fmt.Sprintf("Content-Length: %d", len(text)), "Connection: close") {
		p = append(append(p, f...), "\r\n"...)
	}
	return append(append(p, "\r\n"...), text...)
}

// answerTo is localAnswer to a request of a method: that to HEAD has no body (RFC 9110
// section 9.3.2).
func answerTo(method string, status int, text string, fields ...string) []byte {
	p := localAnswer(status, text, fields...)
	if method == http.MethodHead {
		p = p[:headEnd(p)]
	}
	return p
}
