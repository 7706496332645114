package mirror

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"trace/flow"
	"trace/mitm"
	"trace/wire"
)

var _ mitm.Incoming = (*Incoming)(nil)

// recorder collects events.
type recorder struct {
	mu     sync.Mutex // guards events
	events []flow.Event
}

func (r *recorder) record(e flow.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) find(kind flow.Kind) *flow.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.events {
		if r.events[i].Kind == kind {
			return &r.events[i]
		}
	}
	return nil
}

// TestDecoded: HTTP to a service of the host is recorded as any other; what
// stays inside is not seen.
func TestDecoded(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		var r recorder
		proxy := &mitm.Proxy{Record: r.record,
			Tap: func(c *flow.Conn) mitm.Tap { return &wire.Decoder{Conn: c, Emit: r.record} }}
		l, err := listenPlain("tcp", "[::]:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			fmt.Fprintf(w, "%s for %s", q.URL.Path, q.Host)
		})}
		go server.Serve(l)
		t.Cleanup(func() { server.Close() })
		w := newWorld(t, &Mirror{Accept: func(ctx context.Context, in *Incoming) { proxy.Serve(ctx, in) }}, l)
		port := freePort(t)
		w.must("ok", "listen tcp4 127.0.0.1:%d", port)
		w.must("ok x", "ask 127.0.0.1:%d x", port)
		if e := r.find(flow.ConnOpen); e != nil {
			t.Errorf("seen though it stayed inside: %v", e.Facts)
		}
		host := fmt.Sprintf("[::1]:%d", portOf(l))
		w.must("200 OK /models for "+host, "get http://%s/models", host)
		eventually(t, "response", func() bool { return r.find(flow.Response) != nil })
		open, request := r.find(flow.ConnOpen), r.find(flow.Request)
		if open.Facts.Dst.String() != host || !open.Facts.Src.Addr().IsLoopback() || open.Facts.Src.Port() == 0 {
			t.Errorf("%v → %v", open.Facts.Src, open.Facts.Dst)
		}
		if h := request.Head; h.Path != "/models" || h.Host != "::1" || h.Port != portOf(l) {
			t.Errorf("%+v", h)
		}
		l.Close()
		// By the proxy, whose dial was refused, or once the mirror has gone too.
		if got := w.do("ask 127.0.0.1:%d x", portOf(l)); got != "ECONNRESET" && got != "ECONNREFUSED" {
			t.Errorf("nobody listens any more: %s", got)
		}
	})
}

// TestTwoTraces: what listens in one run can be reached from another beside it,
// and goes from there when it ends.
func TestTwoTraces(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		other := newTracer(t)
		w := newWorld(t, &Mirror{})
		passOn(t, other, w)
		passOn(t, w, other)
		if len(w.notes) > 0 {
			t.Errorf("%v", w.notes)
		}
	})
}

// passOn has a listener in one run that is reached in another, and reached
// there as long as it listens.
func passOn(t *testing.T, from, to *world) {
	t.Helper()
	for range 3 { // mirrors of mirrors would show in the second round
		addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		from.must("ok", "listen tcp4 %s", addr)
		eventually(t, "outside", func() bool { return ask(addr, "x") == "ok x" })
		eventually(t, "in the other run", func() bool { return to.do("ask %s x", addr) == "ok x" })
		to.must("EADDRINUSE", "listen tcp4 %s", addr)
		from.must("ok", "close %s", addr)
		eventually(t, "gone", func() bool { return to.do("ask %s x", addr) == "ECONNREFUSED" && ask(addr, "x") == "ECONNREFUSED" })
	}
}

// TestNested: a run inside a run.
func TestNested(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		host := serveHost(t, "tcp", "[::]:0")
		w := prepare(t, &Mirror{}, "tracer")
		foreign(t, host)
		w.start()
		w.must("ok x", "ask 127.0.0.1:%d x", portOf(host)) // from the first instruction
		w.must("ok x", "ask [::1]:%d x", portOf(host))
		for range 2 {
			port := freePort(t)
			w.must("ok", "listen tcp [::]:%d", port)
			for _, ip := range []string{"127.0.0.1", "[::1]"} {
				eventually(t, ip, func() bool { return ask(fmt.Sprintf("%s:%d", ip, port), "x") == "ok x" })
			}
			w.must("ok", "close [::]:%d", port)
			eventually(t, "gone", func() bool { return ask(fmt.Sprintf("127.0.0.1:%d", port), "x") == "ECONNREFUSED" })
		}
		host.Close()
		eventually(t, "refused", func() bool { return w.do("ask 127.0.0.1:%d x", portOf(host)) == "ECONNREFUSED" })
		if len(w.notes) > 0 {
			t.Errorf("%v", w.notes)
		}
	})
}

// TestPrograms: servers as people run them, with the addresses they choose.
func TestPrograms(t *testing.T) {
	for _, c := range []struct {
		name, path string
		args       []string
		six        bool
	}{
		{"node", "node", []string{"-e", `require("http").createServer((q,r)=>r.end("hello")).listen(+process.argv[1])`}, true},
		{"node localhost", "node", []string{"-e", `require("http").createServer((q,r)=>r.end("hello")).listen(+process.argv[1],"127.0.0.1")`}, false},
		{"python", "python3", []string{"-c", `
import http.server,sys
class H(http.server.BaseHTTPRequestHandler):
  def do_GET(s): s.send_response(200); s.end_headers(); s.wfile.write(b"hello")
  def log_message(*a): pass
http.server.ThreadingHTTPServer(("",int(sys.argv[1])),H).serve_forever()`}, false},
	} {
		path, err := exec.LookPath(c.path)
		if err != nil {
			t.Run(c.name, func(t *testing.T) { skip(t, "%v", err) })
			continue
		}
		t.Run(c.name, func(t *testing.T) { testProgram(t, path, c.args, c.six) })
	}
}

func testProgram(t *testing.T, path string, args []string, six bool) {
	port := freePort(t)
	args = append(args, fmt.Sprint(port))
	get := func(host string) string {
		c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := c.Get("http://" + net.JoinHostPort(host, fmt.Sprint(port)))
		if err != nil {
			return name(err)
		}
		defer r.Body.Close()
		p, _ := io.ReadAll(r.Body)
		return string(p)
	}
	want6 := "ECONNREFUSED"
	if six {
		want6 = "hello"
	}
	// Inside, seen by the host.
	w := &world{t: t}
	w.enter(&Mirror{}, config(path, args...))
	w.start()
	eventually(t, "reachable outside", func() bool { return get("127.0.0.1") == "hello" })
	if got := get("::1"); got != want6 {
		t.Errorf("outside, [::1]: %s", got)
	}
	w.m.Close()
	w.ns.Close()
	// Outside, seen by the child, from its first instruction.
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	eventually(t, "started", func() bool { return get("127.0.0.1") == "hello" })
	in := newWorld(t, &Mirror{})
	in.must("200 OK hello", "get http://127.0.0.1:%d/", port)
	if six {
		in.must("200 OK hello", "get http://[::1]:%d/", port)
	} else {
		in.must("ECONNREFUSED", "get http://[::1]:%d/", port)
	}
}
