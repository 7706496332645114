package proxy

//lint:file-ignore SA1019 net/http serves no single connection, and nothing that speaks first

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"trace/flow"
	"trace/mitm"
	"trace/wire"
)

// A notary keeps what is recorded of flows.
type notary struct {
	mu    sync.Mutex
	ends  map[string]*flow.Error // by path
	paths map[int64]string
}

func (n *notary) record(e flow.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := e.Conn<<32 | e.Flow
	switch e.Kind {
	case flow.Request:
		n.paths[key] = e.Head.Path
	case flow.End:
		n.ends[n.paths[key]] = e.Error
	}
}

// end returns how the exchange of a path ended in the record.
func (n *notary) end(t *testing.T, path string) *flow.Error {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	e, ok := n.ends[path]
	if !ok {
		t.Errorf("%s has no end in the record: %v", path, n.ends)
	}
	return e
}

// dialFar never reaches far.test.
func dialFar(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr == "far.test:80" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// lead serves a reverse proxy whose /s leads to a server without TLS, of which each
// connection is served by f. It returns its address, and what it recorded when stop was
// called.
func lead(t *testing.T, f func(net.Conn), others ...Route) (addr string, n *notary, stop func()) {
	t.Helper()
	var serving sync.WaitGroup
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving.Go(func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	route, err := NewRoute("s", "http://"+server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n = &notary{ends: map[string]*flow.Error{}, paths: map[int64]string{}}
	var ids atomic.Int64
	p := &Reverse{Routes: append(others, route), Dial: dialFar, Record: n.record, NextID: func() int64 { return ids.Add(1) },
		NewTap: func(c *flow.Conn, emit func(flow.Event)) mitm.Tap { return &wire.Decoder{Conn: c, Emit: emit} }}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	serving.Go(func() { p.Serve(ctx, l) })
	stop = sync.OnceFunc(func() {
		p.Settle(5 * time.Second)
		cancel()
		server.Close()
		serving.Wait()
	})
	t.Cleanup(func() {
		stop()
		goleak.VerifyNone(t)
	})
	return l.Addr().String(), n, stop
}

// twoServer is a server of HTTP/2 that speaks nothing else.
func twoServer(s *http2.Server, h http.HandlerFunc) func(net.Conn) {
	return func(c net.Conn) { s.ServeConn(c, &http2.ServeConnOpts{Handler: h}) }
}

// twoClient is a client of HTTP/2 without TLS.
func twoClient(t *testing.T) *http.Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &protocols, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestOneAtATime: a server that takes one stream at a time gets them one after the
// other, and all are served.
func TestOneAtATime(t *testing.T) {
	var now, most atomic.Int64
	addr, n, stop := lead(t, twoServer(&http2.Server{MaxConcurrentStreams: 1}, func(w http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		io.Copy(w, r.Body)
	}))
	c := twoClient(t)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, 1000*i)
			res, err := c.Post(fmt.Sprintf("http://%s/s/%d", addr, i), "text/plain", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, body) || res.ProtoMajor != 2 {
				t.Errorf("%d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	all.Wait()
	c.CloseIdleConnections()
	stop()
	for i := range 40 {
		if e := n.end(t, fmt.Sprintf("/%d", i)); e != nil {
			t.Errorf("%d: %+v", i, e)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d streams at once", most.Load())
	}
}

// TestUnreachedServer: streams to a server that is being connected to for long hold up
// none to another.
func TestUnreachedServer(t *testing.T) {
	addr, n, stop := lead(t, func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			fmt.Fprintf(c, "HTTP/1.1 204 No Content\r\nX-Path: %s\r\n\r\n", r.URL.Path)
		}
	}, Route{"/far", &url.URL{Scheme: "http", Host: "far.test"}})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(gets("/far/1", "/far/2", "/s/near")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for in := http2.NewFramer(io.Discard, c); ; {
		f, err := in.ReadFrame()
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if h, ok := f.(*http2.HeadersFrame); ok {
			if h.StreamID != 5 {
				t.Errorf("stream %d is answered", h.StreamID)
			}
			break
		}
	}
	c.Close()
	stop()
	n.end(t, "/near")
}

// TestStalledStream: a stream that nobody reads takes no more than its window, and
// the others of its connection go on.
func TestStalledStream(t *testing.T) {
	var sent atomic.Int64
	addr, _, _ := lead(t, twoServer(&http2.Server{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			io.WriteString(w, "here")
			return
		}
		for b := make([]byte, 64<<10); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			sent.Add(int64(len(b)))
		}
	}))
	c := twoClient(t)
	slow, err := c.Get("http://" + addr + "/s/endless")
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	defer slow.Body.Close()
	for range 50 {
		res, err := c.Get("http://" + addr + "/s/quick")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "here" || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
		res.Body.Close()
	}
	if got := sent.Load(); got > 16<<20 {
		t.Errorf("the server could send %d bytes that nobody read", got)
	}
}

// TestCutAnswer: an answer of HTTP/1.1 that breaks off is a stream that breaks off,
// and the record says whose fault it was.
func TestCutAnswer(t *testing.T) {
	addr, n, stop := lead(t, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err == nil && r.URL.Path == "/cut" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.")
		}
	})
	c := twoClient(t)
	res, err := c.Get("http://" + addr + "/s/cut")
	if err != nil {
		t.Fatal(err)
	}
	var broken http2.StreamError
	if b, err := io.ReadAll(res.Body); string(b) != "ten bytes." || !errors.As(err, &broken) {
		t.Errorf("%q, %v", b, err)
	}
	res.Body.Close()
	gone, err := c.Get("http://" + addr + "/s/gone")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(gone.Body); gone.StatusCode != http.StatusBadGateway || !strings.Contains(string(b), "trace: ") {
		t.Errorf("%s: %q", gone.Status, b)
	}
	gone.Body.Close()
	c.CloseIdleConnections()
	stop()
	for _, path := range []string{"/cut", "/gone"} {
		if e := n.end(t, path); e == nil || e.Where != flow.AtUpstream {
			t.Errorf("%s: %+v", path, e)
		}
	}
}

// TestSocketRefused: a server that does not switch to a WebSocket has not accepted it,
// whatever its status says.
func TestSocketRefused(t *testing.T) {
	addr, n, _ := lead(t, func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			status := strings.TrimPrefix(r.URL.Path, "/")
			io.WriteString(c, "HTTP/1.1 "+status+" Whatever\r\nContent-Length: 2\r\n\r\nno")
		}
	})
	for asked, want := range map[string]string{"200": "502", "403": "403"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(preface)
		fr := http2.NewFramer(conn, conn)
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		fr.WriteSettings()
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, f := range [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":authority", addr}, {":path", "/s/" + asked}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok {
				if got := h.PseudoValue("status"); got != want {
					t.Errorf("the server says %s, the child reads %s", asked, got)
				}
				break
			}
		}
		fr.WriteRSTStream(1, http2.ErrCodeCancel)
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn)
		conn.Close()
	}
	if e := n.end(t, "/200"); e == nil || e.Code != codeUnsupported {
		t.Errorf("%+v", e)
	}
}

// TestOddFrames: what is no HTTP/2 ends its connection, and nothing else.
func TestOddFrames(t *testing.T) {
	addr, _, _ := lead(t, twoServer(&http2.Server{}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, say := range []string{
		"garbage that is no frame, whatever one makes of it, and long enough",
		settings + "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",                 // WINDOW_UPDATE by 0
		settings + "\x00\x00\x03\x01\x05\x00\x00\x00\x01\xff\xff\xff",                     // no HPACK
		settings + "\x00\x00\x01\x01\x05\x00\x00\x00\x02\x82",                             // an even stream
		settings + "\x00\x00\x01\x01\x05\x00\x00\x00\x01\x82",                             // no path
		settings + "\x00\x00\x05\x00\x00\x00\x00\x00\x01hello",                            // DATA of an idle stream
		settings + "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08",                 // RST_STREAM of one
		settings + strings.Repeat("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", 50_000), // pings that nobody reads the answers of
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, string(preface)+say)
		c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%.40q: %v", say, err)
		}
		c.Close()
	}
	res, err := twoClient(t).Get("http://" + addr + "/s/x")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}
