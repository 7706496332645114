package wire_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"trace/flow"
	"trace/wire"
)

// A tappedConn shows what is written to a decoder before it passes on.
type tappedConn struct {
	net.Conn
	side flow.Side
	tap  *tap
}

// A oneConn is a listener that has one connection to give.
type oneConn struct {
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *oneConn) Accept() (conn net.Conn, err error) {
	l.once.Do(func() { conn = l.conn })
	if conn == nil {
		<-l.closed
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// A tap is what mitm makes of a decoder: safe for concurrent use.
type tap struct {
	mu sync.Mutex
	d  *wire.Decoder
	recorder
	passed *script
	closed bool
}

func (c tappedConn) Write(p []byte) (int, error) {
	c.tap.mu.Lock()
	if !c.tap.closed {
		c.tap.d.Data(c.side, time.Now(), p)
		c.tap.passed.data(c.side, string(p))
	}
	c.tap.mu.Unlock()
	return c.Conn.Write(p)
}

func (c tappedConn) Close() error {
	c.tap.mu.Lock()
	c.tap.d.End(c.side, time.Now(), flow.CloseNotify)
	c.tap.mu.Unlock()
	return c.Conn.Close()
}

// seenBy is what an end of an exchange knows of it.
type seenBy struct {
	status             int
	request, response  string // size and hash of the bodies
	trailers, declared string
}

func sizeAndSum(n int64, sum []byte) string { return fmt.Sprintf("%d %x", n, sum[:4]) }

// both is the log of the server and the record of the decoder, by path.
type both struct {
	mu      sync.Mutex
	log     map[string]*seenBy
	handled sync.WaitGroup
}

func (b *both) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer b.handled.Done()
	w.(http.Flusher).Flush()
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	s := &seenBy{status: 200, request: sizeAndSum(n, sum.Sum(nil))}
	if err != nil {
		s.request = "aborted"
	}
	answer := randomBytes(r.URL.Path)
	asum := sha256.Sum256(answer)
	s.response = sizeAndSum(int64(len(answer)), asum[:])
	if len(r.Trailer) > 0 {
		s.declared = r.Trailer.Get("X-Sum")
	}
	for p := answer; len(p) > 0; {
		k := min(len(p), 1+len(answer)/3)
		if _, err := w.Write(p[:k]); err != nil {
			s.response = "aborted"
			break
		}
		w.(http.Flusher).Flush()
		p = p[k:]
	}
	w.Header().Set(http.TrailerPrefix+"X-Path", r.URL.Path)
	s.trailers = r.URL.Path
	b.mu.Lock()
	b.log[r.URL.Path] = s
	b.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/panic") {
		panic(http.ErrAbortHandler)
	}
}

// randomBytes returns what the server answers at path.
func randomBytes(path string) []byte {
	sum := sha256.Sum256([]byte(path))
	r := rand.New(rand.NewChaCha8(sum))
	return bytes.Repeat(sum[:], r.IntN(1<<r.IntN(14)))
}

// TestHTTP2Peers has another implementation's client and server speak: the
// record is what the server saw, or says how it was aborted.
func TestHTTP2Peers(t *testing.T) {
	log := &both{log: map[string]*seenBy{}}
	events, _ := log.converse(t, 60)
	byFlow := map[int64]*seenBy{}
	paths := map[int64]string{}
	ends := map[string]int{}
	for _, e := range events {
		s := byFlow[e.Flow]
		switch e.Kind {
		case flow.Request:
			byFlow[e.Flow], paths[e.Flow] = new(seenBy), e.Head.Path
		case flow.Response:
			s.status = e.Head.Status
		case flow.Mark:
			t.Errorf("%s: mark %v", paths[e.Flow], e.Error)
		case flow.BodyEnd:
			text := sizeAndSum(e.Ended.Size, e.Ended.SHA256[:])
			if e.Ended.Cut {
				text = "aborted"
			}
			if e.Side == flow.Client {
				s.request = text
				for _, f := range e.Ended.Trailers {
					s.declared += f.Value
				}
			} else {
				s.response = text
				for _, f := range e.Ended.Trailers {
					s.trailers += f.Value
				}
			}
		case flow.End:
			path := paths[e.Flow]
			how := "complete"
			if e.Error != nil {
				how = e.Error.Code + " " + e.Error.Detail
			}
			ends[path[strings.LastIndexByte(path, '/'):]+" "+how]++
			want := log.log[path]
			if e.Error == nil && (want == nil || *want != *s) {
				t.Errorf("%s: recorded %+v, the server saw %+v", path, s, want)
			}
		}
	}
	want := map[string]int{"/plain complete": 60, "/trailers complete": 60, "/panic reset INTERNAL_ERROR": 60, "/cancel reset CANCEL": 60}
	for how, n := range want {
		if ends[how] != n {
			t.Errorf("%q: %d of %d: %v", how, ends[how], n, ends)
		}
	}
}

// TestHTTP2Aborted ends such connections at random bytes in every way: what was
// opened ends, sizes and hashes are of what passed, and no split changes that.
func TestHTTP2Aborted(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 9))
		log := &both{log: map[string]*seenBy{}}
		_, s := log.converse(t, 2)
		n := r.IntN(len(s.steps))
		s.steps = s.steps[:n+1]
		last := &s.steps[n]
		last.data = last.data[:r.IntN(len(last.data)+1)]
		first := flow.Side(seed / 5 % 2)
		s.end(first, flow.CloseNotify+flow.How(seed%5))
		if r.IntN(4) > 0 {
			s.end(first.Other(), flow.CloseNotify+flow.How(r.IntN(5)))
		}
		events := s.run(whole)
		check(t, s, events)
		want, raw := show(events), rawOf(events)
		for _, cut := range []split{bytewise, random(seed)} {
			events := s.run(cut)
			if got := show(events); got != want {
				t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
			}
			if rawOf(events) != raw {
				t.Fatalf("seed %d: another wire form", seed)
			}
		}
		for _, e := range events {
			if e.Kind == flow.End && e.Error != nil {
				seen[fmt.Sprint(e.Error.Where, " ", e.Error.Code)]++
			}
		}
	}
	for _, want := range strings.Split("client reset,client truncated,upstream reset,upstream truncated,capture truncated", ",") {
		if seen[want] == 0 {
			t.Errorf("no flow ended by %s: %v", want, seen)
		}
	}
}

// converse has 4*n requests in parallel on one connection.
func (b *both) converse(t *testing.T, n int) ([]flow.Event, *script) {
	client, server := net.Pipe()
	tap := &tap{passed: newScript()}
	tap.passed.conn.Child.ALPN = "h2"
	tap.d = &wire.Decoder{Conn: &flow.Conn{Decrypted: true, Child: flow.TLS{ALPN: "h2"}}, Emit: tap.add}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	var done sync.WaitGroup
	l := &oneConn{conn: tappedConn{server, flow.Server, tap}, closed: make(chan struct{})}
	srv := &http.Server{Handler: b, Protocols: &protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000}}
	done.Go(func() {
		if err := srv.Serve(l); err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	transport := &http.Transport{Protocols: &protocols, HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return tappedConn{client, flow.Client, tap}, nil
		}}
	conn, err := transport.NewClientConn(context.Background(), "http", "h.test:80")
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for i := range n {
		for _, kind := range []string{"plain", "trailers", "panic", "cancel"} {
			path := fmt.Sprintf("/%d/%s", i, kind)
			b.handled.Add(1)
			calls.Go(func() { call(t, conn, path, kind) })
		}
	}
	calls.Wait()
	b.handled.Wait()
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	done.Wait()
	tap.mu.Lock() // the ends of the connection are closed once more, later
	defer tap.mu.Unlock()
	tap.d.Close(time.Now())
	tap.closed = true
	return tap.events, tap.passed
}

// call sends one request and reads its answer.
func call(t *testing.T, conn *http.ClientConn, path, kind string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	content := randomBytes(path + "?")
	var body io.Reader = struct{ io.Reader }{bytes.NewReader(content)} // else trailers of an empty one are never sent
	if kind == "cancel" {
		r, w := io.Pipe()
		defer w.Close()
		body = r
	}
	r, err := http.NewRequestWithContext(ctx, "POST", "http://h.test"+path, body)
	if err != nil {
		t.Error(err)
		return
	}
	if kind == "trailers" {
		r.ContentLength, r.Trailer = -1, http.Header{"X-Sum": {path}}
	}
	r.Header[textproto.CanonicalMIMEHeaderKey("x-long")] = []string{strings.Repeat(path, 300)}
	resp, err := conn.RoundTrip(r)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	defer resp.Body.Close()
	if kind == "cancel" {
		cancel()
		return
	}
	got, err := io.ReadAll(resp.Body)
	if kind != "panic" && (err != nil || !bytes.Equal(got, randomBytes(path))) {
		t.Errorf("%s: %d bytes, %v", path, len(got), err)
	}
}
