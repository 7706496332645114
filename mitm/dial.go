package mitm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"trace/flow"
)

// ConnectTo says, as curl's option of that name does, that connections for
// Host and Port are carried to ToHost and ToPort instead. What is empty (0 for
// ports) matches any, or stays as it is. Names in TLS do not change.
type ConnectTo struct {
	Host   string // lower case, without brackets
	Port   uint16
	ToHost string
	ToPort uint16
}

// ParseConnectTo reads HOST:PORT:HOST2:PORT2, IPv6 addresses in brackets.
func ParseConnectTo(s string) (ConnectTo, error) {
	var c ConnectTo
	bad := func(why string) (ConnectTo, error) {
		return ConnectTo{}, fmt.Errorf("connect-to %q: %s, want HOST:PORT:HOST2:PORT2", s, why)
	}
	rest := s
	for i, host := range []*string{&c.Host, &c.ToHost} {
		port := []*uint16{&c.Port, &c.ToPort}[i]
		var ok bool
		if *host, rest, ok = cutHost(rest); !ok {
			return bad("a host does not end with a colon")
		}
		field := rest
		if i == 0 {
			if field, rest, ok = strings.Cut(rest, ":"); !ok {
				return bad("too few colons")
			}
		}
		if field == "" {
			continue
		}
		n, err := strconv.ParseUint(field, 10, 16)
		if err != nil || n == 0 {
			return bad(fmt.Sprintf("%q is no port", field))
		}
		*port = uint16(n)
	}
	c.Host = strings.ToLower(c.Host)
	return c, nil
}

// cutHost cuts a host and the colon after it off s.
func cutHost(s string) (host, rest string, ok bool) {
	if !strings.HasPrefix(s, "[") {
		return strings.Cut(s, ":")
	}
	host, rest, ok = strings.Cut(s[1:], "]:")
	if _, err := netip.ParseAddr(host); err != nil {
		return "", "", false
	}
	return host, rest, ok
}

// matches tells whether c is about a destination that goes by these names.
func (c *ConnectTo) matches(port uint16, names ...string) bool {
	if c.Port != 0 && c.Port != port {
		return false
	}
	if c.Host == "" {
		return true
	}
	for _, n := range names {
		if n != "" && strings.EqualFold(strings.TrimSuffix(n, "."), c.Host) {
			return true
		}
	}
	return false
}

// target returns what to dial for a destination: the name it was lent for, or
// the address itself, unless ConnectTo says otherwise.
func (p *Proxy) target(dst netip.AddrPort, name string, lent bool) string {
	addr := dst.Addr().Unmap().String()
	host, port := addr, dst.Port()
	if lent && name != "" {
		host = name
	}
	return redirect(p.ConnectTo, host, port, name, addr)
}

// Redirect returns what to dial for a host and port under rules.
func Redirect(rules []ConnectTo, host string, port uint16) string {
	return redirect(rules, host, port, host)
}

// redirect is Redirect for a destination that goes by several names.
func redirect(rules []ConnectTo, host string, port uint16, names ...string) string {
	for _, rule := range rules {
		if !rule.matches(port, names...) {
			continue
		}
		if rule.ToHost != "" {
			host = rule.ToHost
		}
		if rule.ToPort != 0 {
			port = rule.ToPort
		}
		break
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// dialTimes measures a dial. Its methods run in the dialler's goroutines.
type dialTimes struct {
	now   func() time.Time
	began time.Time

	mu              sync.Mutex // guards what follows
	lookup, found   time.Time
	connect, joined time.Time
	asked           string     // the name that was looked up
	addr            netip.Addr // that was connected to last
}

// lookingUp notes the start of a look-up.
func (t *dialTimes) lookingUp(i httptrace.DNSStartInfo) {
	t.note(&t.lookup, true)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = i.Host
}

// connected notes the address that a connect led to.
func (t *dialTimes) connected(_, addr string, err error) {
	at, perr := netip.ParseAddrPort(addr)
	if err != nil || perr != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addr = at.Addr()
}

// joinedAt returns the address of a name that the dial led to, the zero Addr
// if it led to that of another: a proxy's, say.
func (t *dialTimes) joinedAt(name string) netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !strings.EqualFold(strings.TrimSuffix(t.asked, "."), name) {
		return netip.Addr{}
	}
	return t.addr.Unmap()
}

func (t *dialTimes) note(at *time.Time, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.IsZero() || !first {
		*at = t.now()
	}
}

// spans returns how long the look-up and the connecting took. A dialler that
// does not say when it connects is taken to do so from the start.
func (t *dialTimes) spans() (dns, connect time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.found.IsZero() {
		dns = t.found.Sub(t.lookup)
	}
	from := t.connect
	if from.IsZero() {
		from = t.began
	}
	return dns, t.joined.Sub(from)
}

// dial connects to addr, and measures.
func (p *Proxy) dial(ctx context.Context, addr string) (net.Conn, *dialTimes, error) {
	t := &dialTimes{now: p.now, began: p.now()}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     t.lookingUp,
		DNSDone:      func(httptrace.DNSDoneInfo) { t.note(&t.found, false) },
		ConnectStart: func(string, string) { t.note(&t.connect, true) },
		ConnectDone:  t.connected,
	})
	conn, err := p.dialer()(ctx, "tcp", addr)
	t.note(&t.joined, false)
	return conn, t, err
}

// dialError says for the record why a destination cannot be reached.
func dialError(addr string, err error) *flow.Error {
	e := &flow.Error{Where: flow.AtUpstream, Message: fmt.Sprintf("dial %s: %v", addr, cause(err))}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		e.Code = flow.CodeDNS
		e.Hint = "the host's resolver does not know this name; --connect-to can carry it elsewhere"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Code = flow.CodeRefused
	case errors.Is(err, syscall.ECONNRESET):
		e.Code = flow.CodeReset
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		e.Code = flow.CodeTimeout
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE): // ours, not the network's
		e.Where, e.Code = flow.AtCapture, flow.CodeLimit
		e.Hint = "trace needs a descriptor for each connection: raise the limit of open files (ulimit -n)"
	default:
		e.Code = flow.CodeUnreachable
	}
	return e
}

// cause takes the operation and the addresses off an error of package net.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}

// refusal turns the error of a dial into one that Incoming.Refuse can answer
// in kind: a name that cannot be looked up has no kind of its own.
func refusal(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Errorf("%w: %w", syscall.EHOSTUNREACH, err)
	}
	return err
}
