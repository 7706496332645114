package replay

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"trace/flow"
	"trace/wire"
)

// A log gathers events.
type eventLog struct {
	mu     sync.Mutex
	events []flow.Event
}

func (l *eventLog) add(e flow.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Data = append([]byte(nil), e.Data...)
	l.events = append(l.events, e)
}

// body joins what a side's body was decoded to.
func (l *eventLog) body(side flow.Side) string {
	var b strings.Builder
	for _, e := range l.events {
		if e.Side == side && (e.Kind == flow.Body || e.Kind == flow.StreamEvent) {
			b.Write(e.Data)
		}
	}
	return b.String()
}

func (l *eventLog) kind(k flow.Kind) *flow.Event {
	for i := range l.events {
		if l.events[i].Kind == k {
			return &l.events[i]
		}
	}
	return nil
}

// client returns a Client that connects to addr whatever is asked, and its log.
func client(addr string, roots *x509.CertPool) (*Client, *eventLog) {
	l := &eventLog{}
	return &Client{
		Addr: func(string, int) string { return addr }, Roots: roots, Record: l.add,
		Tap: func(c *flow.Conn, emit func(flow.Event)) Tap { return &wire.Decoder{Conn: c, Emit: emit} },
	}, l
}

// raw is a server that answers one connection by hand and keeps what it read.
func raw(t *testing.T, talk func(r *bufio.Reader, w io.Writer)) (addr string, got func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var b strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		talk(bufio.NewReader(io.TeeReader(c, &b)), c)
	}()
	return l.Addr().String(), func() string { <-done; return b.String() }
}

func request(body string, fields ...flow.Field) *Request {
	return &Request{Head: flow.Head{Method: "POST", Target: "/p?q", Path: "/p?q", Scheme: "http", Host: "example.test", Port: 80, Version: "1.1",
		Fields: append([]flow.Field{{Name: "HOST", Value: "example.test"}}, fields...)}, Body: []byte(body), Plain: []byte(body)}
}

// TestHTTP1IsExact: order, case and framing are those of the record.
func TestHTTP1IsExact(t *testing.T) {
	const answer = "HTTP/1.1 200 Fine\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok"
	for name, c := range map[string]struct {
		req  *Request
		want string
	}{
		"length":   {request("body", flow.Field{Name: "zeta", Value: "1"}, flow.Field{Name: "ALPHA", Value: "2"}, flow.Field{Name: "content-LENGTH", Value: "4"}), "POST /p?q HTTP/1.1\r\nHOST: example.test\r\nzeta: 1\r\nALPHA: 2\r\ncontent-LENGTH: 4\r\n\r\nbody"},
		"chunked":  {request("body", flow.Field{Name: "transfer-encoding", Value: "chunked"}), "POST /p?q HTTP/1.1\r\nHOST: example.test\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"},
		"very own": {&Request{Head: request("").Head, Exact: []byte("POST  /p?q HTTP/1.1\r\nhost:\texample.test\r\nContent-Length:4\r\n\r\nbody")}, "POST  /p?q HTTP/1.1\r\nhost:\texample.test\r\nContent-Length:4\r\n\r\nbody"},
	} {
		addr, got := raw(t, func(r *bufio.Reader, w io.Writer) {
			req, err := http.ReadRequest(r)
			if err == nil {
				io.Copy(io.Discard, req.Body)
			}
			io.WriteString(w, answer)
		})
		cl, l := client(addr, nil)
		if err := cl.Do(t.Context(), c.req, flow.Conn{ID: 7, Replay: "S/1"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s := got(); s != c.want {
			t.Errorf("%s:\n got %q\nwant %q", name, s, c.want)
		}
		end := l.kind(flow.ConnEnd)
		if h := l.kind(flow.Response).Head; h.Reason != "Fine" || l.body(flow.Server) != "ok" || l.body(flow.Client) != "body" || end == nil ||
			end.Facts.Source != flow.SourceReplay || end.Facts.Replay != "S/1" || end.Facts.ID != 7 || end.Facts.Sent != int64(len(c.want)) || end.Facts.Received != int64(len(answer)) {
			t.Errorf("%s: recorded %+v %+v", name, h, end)
		}
	}
}

// TestExpectContinue: the body waits for the 100, and is not sent to a server
// that has answered.
func TestExpectContinue(t *testing.T) {
	addr, got := raw(t, func(r *bufio.Reader, w io.Writer) {
		for {
			if line, err := r.ReadString('\n'); err != nil || line == "\r\n" {
				break
			}
		}
		if r.Buffered() > 0 {
			t.Error("the body did not wait")
		}
		io.WriteString(w, "HTTP/1.1 100 Continue\r\n\r\n")
		io.ReadFull(r, make([]byte, 4))
		io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	cl, l := client(addr, nil)
	if err := cl.Do(t.Context(), request("body", flow.Field{Name: "Content-Length", Value: "4"}, flow.Field{Name: "Expect", Value: "100-continue"}), flow.Conn{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(got(), "body") || l.kind(flow.Informational) == nil || l.kind(flow.Response).Head.Status != 204 {
		t.Errorf("%q", got())
	}
}

// TestSendFailures: what goes wrong is an error, and stands in the record.
func TestSendFailures(t *testing.T) {
	addr, _ := raw(t, func(r *bufio.Reader, w io.Writer) {
		http.ReadRequest(r)
		io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
	})
	cl, l := client(addr, nil)
	if err := cl.Do(t.Context(), request(""), flow.Conn{ID: 1}); err == nil {
		t.Error("half an answer is taken for a whole one")
	}
	if e := l.kind(flow.End); e == nil || e.Error == nil || l.body(flow.Server) != "half" {
		t.Errorf("recorded %+v", e)
	}
	addr, _ = raw(t, func(r *bufio.Reader, w io.Writer) { http.ReadRequest(r) })
	cl, _ = client(addr, nil)
	if err := cl.Do(t.Context(), request(""), flow.Conn{ID: 1}); err == nil {
		t.Error("no answer is none")
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	cl, l = client(closed.Addr().String(), nil)
	if err := cl.Do(t.Context(), request(""), flow.Conn{ID: 1}); err == nil || l.kind(flow.ConnEnd).Facts.Error.Code != flow.CodeRefused {
		t.Errorf("refused: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	addr, _ = raw(t, func(r *bufio.Reader, w io.Writer) {
		http.ReadRequest(r)
		cancel()
		io.Copy(io.Discard, r)
	})
	cl, l = client(addr, nil)
	if err := cl.Do(ctx, request(""), flow.Conn{ID: 1}); err != context.Canceled || l.kind(flow.End) == nil {
		t.Errorf("cancelled: %v", err)
	}
}

// tlsServer is a real server of net/http.
func tlsServer(t *testing.T, h http.HandlerFunc, protocols ...string) (addr string, roots *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{NextProtos: protocols}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = len(protocols) == 0
	s.StartTLS()
	t.Cleanup(s.Close)
	roots = x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.Listener.Addr().String(), roots
}

// TestHTTP2 sends a body beyond the windows of the server, and trailers, and
// gets an answer beyond those of old.
func TestHTTP2(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	echo := func(w http.ResponseWriter, r *http.Request) {
		p, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Trailer", r.Trailer.Get("x-after"))
		w.Header().Set("X-Host", r.Host)
		w.Write(p)
	}
	addr, roots := tlsServer(t, echo)
	req := request(long, flow.Field{Name: "x-long", Value: strings.Repeat("v", 40<<10)}, flow.Field{Name: "trailer", Value: "x-after"})
	req.Head.Scheme, req.Head.Host, req.Head.Version, req.Head.Authority = "https", "example.com", "2", "example.com"
	req.Head.Fields = dropField(req.Head.Fields, "Host")
	req.Trailers = []flow.Field{{Name: "x-after", Value: "t"}}
	cl, l := client(addr, roots)
	if err := cl.Do(t.Context(), req, flow.Conn{ID: 1}); err != nil {
		t.Fatal(err)
	}
	h := l.kind(flow.Response).Head
	if h.Get("X-Proto") != "HTTP/2.0" || h.Get("X-Trailer") != "t" || h.Get("X-Host") != "example.com" || l.body(flow.Server) != long || l.body(flow.Client) != long {
		t.Errorf("%+v, %d bytes", h, len(l.body(flow.Server)))
	}
	if f := l.kind(flow.ConnEnd).Facts; f.Child.ALPN != "h2" || f.Upstream.Verdict != "ok" || len(f.Upstream.Chain) == 0 || !f.Decrypted {
		t.Errorf("%+v", f)
	}
	// A server that speaks only HTTP/1.1 gets that.
	addr, roots = tlsServer(t, echo, "http/1.1")
	cl, l = client(addr, roots)
	req.Trailers = nil
	if err := cl.Do(t.Context(), req, flow.Conn{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if h := l.kind(flow.Response).Head; h.Get("X-Proto") != "HTTP/1.1" || h.Get("X-Host") != "example.com" || l.body(flow.Server) != long || len(req.Notes) == 0 {
		t.Errorf("%+v", h)
	}
	// An issuer that is not known is an error.
	cl, l = client(addr, x509.NewCertPool())
	if err := cl.Do(t.Context(), req, flow.Conn{ID: 1}); err == nil || l.kind(flow.ConnEnd).Facts.Error.Code != flow.CodeUpstreamInvalid {
		t.Errorf("unknown issuer: %v", err)
	}
}

// TestHTTP2Reset: a stream that the server resets is an error.
func TestHTTP2Reset(t *testing.T) {
	addr, roots := tlsServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("some"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	req := request("")
	req.Head.Scheme, req.Head.Host, req.Head.Version, req.Head.Fields = "https", "example.com", "2", nil
	cl, l := client(addr, roots)
	began := time.Now()
	if err := cl.Do(t.Context(), req, flow.Conn{ID: 1}); err == nil || l.body(flow.Server) != "some" {
		t.Errorf("%v, %q", err, l.body(flow.Server))
	}
	if took := time.Since(began); took > lateTime {
		t.Errorf("it took %v to notice", took)
	}
}
