package replay

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"trace/flow"
	"trace/pipe"
)

var errNoTLS = errors.New("TLS is not served")

// maxAsked bounds the body of a live request that is read.
const maxAsked = 256 << 20

// A buffered is a connection of which the beginning was looked at.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// serve plays the server of one connection.
func (p *Player) serve(raw *pipe.End, to hostAndPort) {
	defer raw.Close()
	stop := context.AfterFunc(p.ctx, func() { raw.Reset() })
	defer stop()
	p.serveClear(&buffered{raw, bufio.NewReader(raw)}, raw, to, "http")
}

// serveClear plays what begins with TLS, HTTP/2 or HTTP/1.
func (p *Player) serveClear(c *buffered, raw *pipe.End, to hostAndPort, scheme string) {
	first, err := c.r.Peek(1)
	if err != nil {
		return
	}
	if first[0] == 0x16 && scheme == "http" {
		p.serveTLS(c, raw, to)
		return
	}
	if first[0] == 'P' {
		if word, err := c.r.Peek(4); err == nil && string(word) == "PRI " {
			p.serveHTTP2(c, to, scheme)
			return
		}
	}
	p.serveHTTP1(c, raw, to, scheme)
}

func (p *Player) serveTLS(c *buffered, raw *pipe.End, to hostAndPort) {
	conn := tls.Server(c, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) { return p.config(hello, to) }})
	if conn.HandshakeContext(p.ctx) != nil {
		return
	}
	defer conn.Close()
	inner := &buffered{conn, bufio.NewReader(conn)}
	if conn.ConnectionState().NegotiatedProtocol == alpnHTTP2 {
		p.serveHTTP2(inner, to, "https")
		return
	}
	p.serveClear(inner, raw, to, "https")
}

// config makes the server's side of TLS as the recorded one was.
func (p *Player) config(hello *tls.ClientHelloInfo, to hostAndPort) (*tls.Config, error) {
	name := strings.ToLower(hello.ServerName)
	if name == "" {
		name = to.host
	}
	s := p.servers[name]
	if s == nil {
		s = &recordedServer{alpn: []string{alpnHTTP2, "http/1.1"}}
	}
	wrong := s.leaf != nil && (s.at.Before(s.leaf.NotBefore) || s.at.After(s.leaf.NotAfter))
	if p.certify == nil {
		return nil, errNoTLS
	}
	cert, err := p.certify(name, s.leaf, wrong, hello)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: alpnFor(s.alpn, hello.SupportedProtos), SessionTicketsDisabled: true, MinVersion: tls.VersionTLS10}, nil
}

// alpnFor returns what to choose from: the recorded protocols, in their order,
// and others that we speak where the client offers none of those.
func alpnFor(recorded, offered []string) []string {
	if len(recorded) == 0 {
		return nil
	}
	for _, name := range recorded {
		if slices.Contains(offered, name) && (name == alpnHTTP2 || name == "http/1.1") {
			return recorded
		}
	}
	return []string{alpnHTTP2, "http/1.1"}
}

// askedOf makes what is compared of a live request.
func askedOf(r *http.Request, body []byte, to hostAndPort, scheme string) *asked {
	a := &asked{method: r.Method, scheme: scheme, path: r.URL.RequestURI(), contentType: r.Header.Get("Content-Type"),
		body: DecodeBody(strings.Join(r.Header.Values("Content-Encoding"), ","), body), host: to.host, port: to.port}
	if r.URL.Host != "" && r.URL.Scheme != "" { // absolute form, as to a proxy
		a.scheme, a.port = r.URL.Scheme, map[string]int{"https": 443, "http": 80}[r.URL.Scheme]
		u := *r.URL
		u.Scheme, u.Host = "", ""
		a.path = u.RequestURI()
	}
	if r.Host != "" {
		host, port, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
			if addr, perr := netip.ParseAddr(to.host); perr != nil || addr.String() != host {
				a.port = map[string]int{"https": 443, "http": 80}[a.scheme]
			}
		} else if n, err := strconv.Atoi(port); err == nil {
			a.port = n
		}
		a.host = strings.ToLower(strings.TrimSuffix(host, "."))
	}
	a.websocket = strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	return a
}

// serveHTTP2 plays HTTP/2 by the server of net/http.
func (p *Player) serveHTTP2(c net.Conn, to hostAndPort, scheme string) {
	s := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols),
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: 1000},
		BaseContext: func(net.Listener) context.Context { return p.ctx },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !p.enter() {
				panic(http.ErrAbortHandler)
			}
			defer p.wg.Done()
			p.handle(w, r, to, scheme)
		}),
	}
	s.Protocols.SetUnencryptedHTTP2(true) // TLS has been taken off
	l := &oneListener{conn: c, over: make(chan struct{})}
	s.Serve(l)
}

// A oneListener accepts one connection, and is closed when that is.
type oneListener struct {
	conn  net.Conn // nil once accepted
	close sync.Once
	over  chan struct{}
}

// Accept implements net.Listener.
func (l *oneListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return &oneConn{c, l}, nil
	}
	<-l.over
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *oneListener) Close() error { return nil }

// Addr implements net.Listener.
func (l *oneListener) Addr() net.Addr { return pipe.Addr{} }

// A oneConn tells its listener when it is closed.
type oneConn struct {
	net.Conn
	l *oneListener
}

// Close implements net.Conn.
func (c *oneConn) Close() error {
	c.l.close.Do(func() { close(c.l.over) })
	return c.Conn.Close()
}

// handle answers one request of HTTP/2.
func (p *Player) handle(w http.ResponseWriter, r *http.Request, to hostAndPort, scheme string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAsked))
	if err != nil {
		return
	}
	a, m := p.answer(askedOf(r, body, to, scheme))
	if m != nil {
		a = unmatchedAnswer(m)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	if a.head == nil || pause(ctx, a.wait) != nil {
		panic(http.ErrAbortHandler)
	}
	whole, isWhole := a.whole()
	p.head2(w, a, r.Method, whole, isWhole)
	if a.bodiless(r.Method) {
		return
	}
	flusher := w.(http.Flusher)
	if isWhole {
		w.Write(whole)
	} else {
		flusher.Flush()
		if err := a.play(ctx, func(p []byte) error {
			_, err := w.Write(p)
			flusher.Flush()
			return err
		}); err != nil || a.cut {
			panic(http.ErrAbortHandler)
		}
	}
	for _, f := range a.trailers {
		w.Header().Add(http.TrailerPrefix+f.Name, f.Value)
	}
}

// head2 writes the head of an answer to HTTP/2.
func (p *Player) head2(w http.ResponseWriter, a *answer, method string, whole []byte, isWhole bool) {
	h := w.Header()
	for _, early := range a.early {
		if early.Status > 101 && early.Status < 200 {
			for _, f := range early.Fields {
				h.Add(f.Name, f.Value)
			}
			w.WriteHeader(early.Status)
			clear(h)
		}
	}
	h["Date"], h["Content-Type"] = nil, nil // only what was recorded
	for _, f := range a.head.Fields {
		key := http.CanonicalHeaderKey(f.Name)
		if slices.Contains(hopByHop, key) || key == "Trailer" {
			continue
		}
		h[key] = append(h[key], f.Value)
	}
	if h.Get("Content-Length") != "" && !a.bodiless(method) {
		delete(h, "Content-Length")
		if isWhole {
			h.Set("Content-Length", strconv.Itoa(len(whole)))
		}
	}
	w.WriteHeader(a.head.Status)
}

// idle bounds how long a played connection waits for its next request.
const idle = 10 * time.Minute

// fieldsFor returns the fields of an answer of HTTP/1 with framing that fits,
// and whether the body is chunked.
func (a *answer) fieldsFor(method, version string, whole []byte, isWhole bool) (fs []flow.Field, chunked bool) {
	fs = slices.Clone(a.head.Fields)
	if a.bodiless(method) {
		return fs, false
	}
	recordedChunked := a.head.Get("Transfer-Encoding") != "" && a.head.Version != "2"
	old := version == "1.0"
	switch {
	case old:
		fs = dropField(fs, "Transfer-Encoding")
	case recordedChunked:
		fs = setField(dropField(fs, "Content-Length"), "Transfer-Encoding", "chunked")
		return fs, true
	}
	switch {
	case isWhole:
		return setField(fs, "Content-Length", strconv.Itoa(len(whole))), false
	case a.cut && a.head.Get("Content-Length") != "":
		return fs, false // it promises more than comes, as it did
	case old:
		return dropField(fs, "Content-Length"), false
	}
	return append(dropField(fs, "Content-Length"), flow.Field{Name: "Transfer-Encoding", Value: "chunked"}), true
}
