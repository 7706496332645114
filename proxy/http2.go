package proxy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"trace/flow"
)

// A pending request of HTTP/2 was seen by the tap, and what left for it has not
// been found yet.
type pending struct {
	ordinal int64
	head    *flow.Head
	sum     *[sha256.Size]byte // of its body, once that is over
}

// pend notes a request. The lock is held.
func (s *session) pend(e flow.Event) {
	s.stream = append(s.stream, &pending{ordinal: e.Flow, head: e.Head})
}

// summed notes the sum of the body of a request. The lock is held.
func (s *session) summed(e flow.Event) {
	for _, p := range s.stream {
		if p.ordinal == e.Flow && e.Ended != nil {
			p.sum = &e.Ended.SHA256
		}
	}
}

// match finds and removes the request that a handler carries: net/http does not tell
// which stream it is of, so it is one of the same method, target and, if there is
// a choice, body. The lock is held.
func (s *session) match(method, target string, sum *[sha256.Size]byte) *pending {
	best := -1
	for i, p := range s.stream {
		if p.head.Method != method || p.head.Target != target {
			continue
		}
		if best < 0 {
			best = i
		}
		if sum != nil && p.sum != nil && *p.sum == *sum {
			best = i
			break
		}
	}
	if best < 0 {
		return nil
	}
	found := s.stream[best]
	s.stream = slices.Delete(s.stream, best, best+1)
	return found
}

// serveHTTP2 carries a connection of HTTP/2.
func (s *session) serveHTTP2(p *Reverse) {
	conn := &tappedConn{Conn: s.child, s: s, first: s.buf, closed: make(chan struct{})}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	var handlers sync.WaitGroup
	server := &http.Server{Protocols: &protocols, MaxHeaderBytes: maxHead, ErrorLog: silent,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			s.stream2(p, w, r)
		})}
	server.Serve(&oneListener{conn: conn})
	<-conn.closed
	handlers.Wait()
}

// oneListener hands out one connection, and lasts as long as that.
type oneListener struct {
	conn *tappedConn
	once sync.Once
}

func (l *oneListener) Accept() (c net.Conn, err error) {
	l.once.Do(func() { c = l.conn })
	if c != nil {
		return c, nil
	}
	<-l.conn.closed
	return nil, net.ErrClosed
}
func (l *oneListener) Close() error   { return nil }
func (l *oneListener) Addr() net.Addr { return l.conn.LocalAddr() }

// tappedConn shows what passes to the tap.
type tappedConn struct {
	net.Conn
	s      *session
	first  []byte
	once   sync.Once
	closed chan struct{}
}

func (c *tappedConn) Read(p []byte) (n int, err error) {
	if len(c.first) > 0 {
		n = copy(p, c.first)
		c.first = c.first[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	if n > 0 {
		c.s.saw(flow.Client, p[:n])
	}
	if err != nil {
		c.s.ended(flow.Client, howEnded(err))
	}
	return n, err
}

func (c *tappedConn) Write(p []byte) (int, error) {
	c.s.saw(flow.Server, p)
	return c.Conn.Write(p)
}

func (c *tappedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// summedBody sums what a server is sent.
type summedBody struct {
	io.ReadCloser
	hash hash.Hash
	size int64
	over func(size int64, sum [sha256.Size]byte)
	once sync.Once
}

func (b *summedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.hash.Write(p[:n])
	b.size += int64(n)
	if errors.Is(err, io.EOF) {
		b.end()
	}
	return n, err
}

func (b *summedBody) end() {
	b.once.Do(func() { b.over(b.size, [sha256.Size]byte(b.hash.Sum(nil))) })
}

// stream2 carries one stream.
func (s *session) stream2(p *Reverse, w http.ResponseWriter, r *http.Request) {
	to, no := p.find(s, &request{target: r.RequestURI})
	if no != nil {
		s.failHTTP2(p, w, r, no.status, no.err, no.text())
		return
	}
	out, err := s.outgoing(p, w, r, to)
	if err != nil {
		s.failHTTP2(p, w, r, 400, &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: err.Error()}, err.Error())
		return
	}
	resp, err := p.roundTripper().RoundTrip(out)
	if err != nil {
		if r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
		e := upstreamError(to, err)
		s.failHTTP2(p, w, r, statusFor(err), e, e.Message)
		return
	}
	defer resp.Body.Close()
	if out.Body == nil {
		s.forwarded(p.cut(r.RequestURI).shown, r, out, to, 0, sha256.Sum256(nil))
	}
	copyFields(w.Header(), resp.Header)
	for _, name := range []string{"Date", "Content-Type"} { // which net/http would add
		if _, ok := resp.Header[name]; !ok {
			w.Header()[name] = nil
		}
	}
	w.WriteHeader(resp.StatusCode)
	control := http.NewResponseController(w)
	if resp.ContentLength != 0 || len(resp.Trailer) > 0 {
		control.Flush()
	}
	b := make([]byte, readSize)
	left := resp.ContentLength
	for {
		n, err := resp.Body.Read(b)
		if n > 0 {
			if _, err := w.Write(b[:n]); err != nil {
				return
			}
			if left -= int64(n); left != 0 || len(resp.Trailer) > 0 {
				control.Flush() // what is last goes with the end of the stream: some clients wait for nothing more
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	for name, values := range resp.Trailer {
		w.Header()[http.TrailerPrefix+name] = values
	}
}

// outgoing makes the request that leaves.
func (s *session) outgoing(p *Reverse, w http.ResponseWriter, r *http.Request, to destination) (*http.Request, error) {
	u, err := url.Parse(to.scheme + "://" + to.authority + to.target)
	if err != nil {
		return nil, err
	}
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code != http.StatusContinue {
			copyFields(w.Header(), http.Header(h))
			w.WriteHeader(code)
			clear(w.Header())
		}
		return nil
	}})
	out := (&http.Request{Method: r.Method, URL: u, Host: to.authority, Header: r.Header.Clone(), ContentLength: r.ContentLength, Trailer: r.Trailer}).WithContext(ctx)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // or net/http would add its own
	}
	if r.ContentLength == 0 && len(r.Trailer) == 0 {
		return out, nil
	}
	body := &summedBody{ReadCloser: r.Body, hash: sha256.New()}
	body.over = func(size int64, sum [sha256.Size]byte) { s.forwarded(p.cut(r.RequestURI).shown, r, out, to, size, sum) }
	out.Body = body
	return out, nil
}

// forwarded records the request that left.
func (s *session) forwarded(shown string, r, out *http.Request, to destination, size int64, sum [sha256.Size]byte) {
	h := &flow.Head{Method: out.Method, Target: to.target, Authority: to.authority, Scheme: to.scheme, Host: to.host, Port: to.port, Path: to.target, Version: "2"}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.match(r.Method, shown, &sum)
	if p == nil {
		return
	}
	left := out.Header.Clone()
	for _, f := range p.head.Fields { // in the child's order
		name := http.CanonicalHeaderKey(f.Name)
		for _, v := range left[name] {
			h.Fields = append(h.Fields, flow.Field{Name: f.Name, Value: v})
		}
		if name == "Content-Length" && len(left[name]) == 0 && out.ContentLength >= 0 {
			h.Fields = append(h.Fields, flow.Field{Name: f.Name, Value: fmt.Sprint(out.ContentLength)})
		}
		delete(left, name)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		for _, v := range left[name] {
			h.Fields = append(h.Fields, flow.Field{Name: strings.ToLower(name), Value: v})
		}
	}
	s.emitted(flow.Event{Kind: flow.Forwarded, At: time.Now(), Conn: s.facts.ID, Flow: p.ordinal, Side: flow.Client, Head: h, Ended: &flow.Ended{Size: size, SHA256: sum}})
}

// failHTTP2 answers a stream ourselves.
func (s *session) failHTTP2(p *Reverse, w http.ResponseWriter, r *http.Request, status int, e *flow.Error, text string) {
	s.mu.Lock()
	if p := s.match(r.Method, p.cut(r.RequestURI).shown, nil); p != nil {
		if s.failed == nil {
			s.failed = map[int64]*flow.Error{}
		}
		s.failed[p.ordinal] = e
	}
	s.mu.Unlock()
	http.Error(w, "trace: "+text, status)
}

func copyFields(to, from http.Header) {
	for name, values := range from {
		switch name {
		case "Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Proxy-Connection": // of a hop of HTTP/1.1 (RFC 9113 section 8.2.2)
			continue
		}
		to[name] = values
	}
}

// roundTripper carries streams to servers.
func (p *Reverse) roundTripper() http.RoundTripper {
	p.once.Do(func() {
		p.transport = &http.Transport{DialContext: p.dialContext, TLSClientConfig: p.tlsConfig(""), ForceAttemptHTTP2: true, DisableCompression: true,
			MaxResponseHeaderBytes: maxHead}
	})
	return p.transport
}

// silent swallows what net/http would print.
var silent = log.New(io.Discard, "", 0)
