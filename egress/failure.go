package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
)

// A failure is why a connection was not made by a proxy. It unwraps to its
// kind only: errors of package net inside would be taken for those of the
// destination.
type failure struct {
	what     string
	kind     error // an errno, or an error of package context
	declined bool  // the proxy does not carry such connections
}

func (f *failure) Error() string { return f.what }
func (f *failure) Unwrap() error { return f.kind }

// failed returns a failure of p.
func (p *proxy) failed(what string, err error) *failure {
	return &failure{what: "proxy " + p.String() + ": " + what, kind: kind(err)}
}

// kind returns the errno that a connect to the destination itself would end
// with, or the error of a context that was cancelled.
func kind(err error) error {
	var errno syscall.Errno
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &errno):
		return errno
	case errors.As(err, &dns):
		return syscall.EHOSTUNREACH
	case errors.As(err, &timeout) && timeout.Timeout():
		return syscall.ETIMEDOUT
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return syscall.ECONNRESET
	}
	return syscall.ECONNREFUSED
}
