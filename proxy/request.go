package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"trace/flow"
	"trace/mitm"
)

// codeProxyAuth is the code of a client that does not say who it is, or says it wrongly.
const codeProxyAuth = "proxy_auth"

// maxMethod is more than any method has.
const maxMethod = 64

// challenge asks for a user and a password (RFC 9110 section 11.7.1).
const challenge = `Proxy-Authenticate: Basic realm="trace", charset="UTF-8"`

// http reads the head of a request and returns what carries it, nil if
// nothing does.
func (c *client) http() (then func() bool) {
	c.who.Protocol = "http"
	n, known := 0, false
	var seek headSeeker
	for {
		n = seek.end(c.buf)
		if !known && !isRequest(c.buf, seek.begun() || n > 0) {
			c.who.Protocol = ""
			return c.bad(http.StatusBadRequest, "this is neither HTTP/1.1 nor SOCKS, which are all that this proxy speaks", place{})
		}
		if n > 0 && n <= maxHead {
			break
		}
		known = seek.begun()
		if len(c.buf) > maxHead {
			return c.bad(http.StatusRequestHeaderFieldsTooLarge, "the head of the request is longer than trace takes", place{})
		}
		if !c.fill() {
			return nil
		}
	}
	head := c.buf[:n:n]
	r, err := parseRequest(head)
	if err != nil {
		return c.bad(http.StatusBadRequest, err.Error(), place{})
	}
	to, err := r.place()
	if err != nil {
		return c.bad(http.StatusBadRequest, err.Error(), place{})
	}
	user, label, ok := c.authorize(&r, head)
	if !ok {
		return c.unauthorized(&r, head, user, to)
	}
	c.challenged = nil
	c.who.User, c.who.Label = user, label
	if r.method != http.MethodConnect {
		return c.plain
	}
	c.take(n)
	t := &tunnel{to: to, granted: []byte("HTTP/1.1 200 Connection established\r\n\r\n"), refused: func(err error) []byte {
		return localAnswer(statusFor(err), fmt.Sprintf("connect to %s: %v", to, plainly(err)), proxyStatus(err))
	}}
	return func() bool { return c.tunnel(t) }
}

// isRequest tells whether p can be the beginning of a request, the first line of
// which may be whole.
func isRequest(p []byte, whole bool) bool {
	p = bytes.TrimLeft(p, "\r\n")
	method, _, _ := bytes.Cut(p[:min(len(p), maxMethod+1)], []byte(" "))
	for _, b := range method {
		if b <= ' ' || b >= 0x7f {
			return false
		}
	}
	if len(method) > maxMethod || !whole {
		return len(method) <= maxMethod
	}
	line, _, _ := bytes.Cut(p, []byte("\n"))
	return bytes.Contains(line, []byte(" HTTP/1."))
}

// bad answers a request that makes no sense.
func (c *client) bad(status int, text string, to place) func() bool {
	c.refuse(localAnswer(status, text), denial{to: to, err: &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: text}})
	return nil
}

// errOrigin tells a client that takes the proxy for a server.
var errOrigin = errors.New("this is a proxy and no server: programs find it by HTTPS_PROXY and HTTP_PROXY, not by its address")

// place returns where a request wants to go.
func (r *request) place() (place, error) {
	if r.method == http.MethodConnect {
		return parseAuthority(r.target, 0)
	}
	if !strings.Contains(r.target, "://") || r.target[0] == '/' {
		return place{}, errOrigin
	}
	d, err := parseAbsolute(r.method, r.target)
	if err != nil {
		return place{}, err
	}
	return newPlace(d.host, uint16(d.port))
}

// authorize finds out for whom a request speaks.
func (c *client) authorize(r *request, head []byte) (user, label string, ok bool) {
	value, _ := r.field(head, "Proxy-Authorization")
	user, password, ok := basic(value)
	if !ok {
		return user, "", false
	}
	label, ok = c.p.admit(user, password)
	return user, label, ok
}

// basic reads the credentials of RFC 7617. A request without any names no user; those
// of another scheme are nobody's.
func basic(value string) (user, password string, ok bool) {
	if value == "" {
		return "", "", true
	}
	scheme, coded, _ := strings.Cut(value, " ")
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(coded))
	if err != nil || !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	user, password, _ = strings.Cut(string(text), ":")
	return user, password, true
}

// unauthorized asks for a user and a password. A client that had named none may
// do so on the same connection, as many do; it is a row if it never does.
func (c *client) unauthorized(r *request, head []byte, user string, to place) func() bool {
	c.who.User = user
	d := denial{to: to, err: &flow.Error{Where: flow.AtClient, Code: codeProxyAuth, Message: "the client gives the proxy no user and password",
		Hint: "put them into the URL of the proxy, before the host"}}
	_, given := r.field(head, "Proxy-Authorization")
	if given {
		d.err.Message = fmt.Sprintf("the user %q or the password is not known to the proxy", user)
	}
	say := answerTo(r.method, http.StatusProxyAuthRequired, d.err.Message+": "+d.err.Hint, challenge)
	if given || !r.body.over() || c.challenged != nil {
		c.challenged = nil
		c.refuse(say, d)
		return nil
	}
	c.take(len(head))
	d.c, d.who, d.at = c, c.who, time.Now()
	c.challenged = &d
	say = bytes.Replace(say, []byte("Connection: close\r\n"), nil, 1)
	if _, err := c.conn.Write(say); err != nil {
		return nil
	}
	return func() bool { return true }
}

// plain carries requests in absolute-form, until there is one that is not for the
// same session.
func (c *client) plain() bool {
	w := &plainWay{c: c, lane: c.p.Open(c.who)}
	s := &session{way: w, child: c.conn, buf: c.buf, lane: w.lane}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	defer s.cancel()
	stop := context.AfterFunc(c.ctx, s.stop)
	defer stop()
	s.facts = w.lane.facts(c.who)
	s.facts.Protocol = "http"
	w.opaque = w.skips(c.buf[:headEnd(c.buf)])
	s.facts.Opaque = w.opaque
	s.record(flow.ConnOpen)
	s.open("http")
	s.requests()
	s.finish()
	c.buf = s.buf
	return s.left && c.ctx.Err() == nil
}

// A plainWay is that of requests in absolute-form.
type plainWay struct {
	c      *client
	lane   Lane
	opaque string // why its requests are not decoded; "": they are
}

// takes tells whether a request is for this session: of the same user, decoded or not
// like the others, and not for a tunnel. What makes no sense is answered within it.
func (w *plainWay) takes(head []byte) bool {
	r, err := parseRequest(head)
	if err != nil {
		return true
	}
	if _, err := r.place(); err != nil {
		return true
	}
	user, label, ok := w.c.authorize(&r, head)
	return ok && user == w.c.who.User && label == w.c.who.Label && r.method != http.MethodConnect && w.skips(head) == w.opaque
}

// skips returns why a request is not decoded, "" if it is.
func (w *plainWay) skips(head []byte) string {
	r, err := parseRequest(head)
	if err != nil {
		return ""
	}
	to, err := r.place()
	if err != nil {
		return ""
	}
	return w.lane.Proxy.Skips(hostOf(to.host))
}

func (w *plainWay) find(_ *session, r *request) (destination, *refusal) {
	to, err := parseAbsolute(r.method, r.target)
	if err == nil {
		_, err = r.place()
	}
	if err != nil {
		return to, &refusal{http.StatusBadRequest, &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: err.Error()}}
	}
	return to, nil
}

func (w *plainWay) address(h *flow.Head) *flow.Head {
	d, err := parseAbsolute(h.Method, h.Target)
	if err != nil {
		return h
	}
	g := *h
	g.Scheme, g.Host, g.Port, g.Path = d.scheme, hostOf(d.host), d.port, d.target
	return &g
}

// hostOf returns a host as it is recorded.
func hostOf(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (w *plainWay) outlives() bool         { return true }
func (w *plainWay) begun(*session, string) {}

func (w *plainWay) dial(ctx context.Context, to destination) (net.Conn, error) {
	return w.lane.Proxy.DialTo(ctx, "tcp", to.host, uint16(to.port))
}

func (w *plainWay) tlsConfig(name string, protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: w.lane.Proxy.Trusted(), ServerName: strings.TrimSuffix(name, "."), NextProtos: protocols, KeyLogWriter: w.lane.Proxy.KeyLogUpstream}
}

func (w *plainWay) newTap(c *flow.Conn, emit func(flow.Event)) mitm.Tap {
	return w.lane.NewTap(c, emit)
}
