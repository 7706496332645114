package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"trace/flow"
	"trace/mitm"
	"trace/wire"
)

// A hall is an Explicit with what it records.
type hall struct {
	t    *testing.T
	p    *Explicit
	addr string
	mitm *mitm.Proxy
	stop func()

	mu     sync.Mutex
	opened []Client
	left   int
	events []flow.Event
}

// newHall starts an Explicit, which change may alter before.
func newHall(t *testing.T, change func(*hall)) *hall {
	t.Helper()
	h := &hall{t: t}
	var ids atomic.Int64
	h.mitm = &mitm.Proxy{Record: h.record, NextID: func() int64 { return ids.Add(1) }, Source: flow.SourceProxy,
		Tap: func(c *flow.Conn) mitm.Tap { return &wire.Decoder{Conn: c, Emit: h.record} }}
	h.p = &Explicit{Open: h.open}
	if change != nil {
		change(h)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.p.Serve(ctx, l) }()
	h.stop = sync.OnceFunc(func() {
		h.p.Settle(5 * time.Second)
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.left != len(h.opened) {
			t.Errorf("%d lanes opened, %d left", len(h.opened), h.left)
		}
	})
	t.Cleanup(h.stop)
	return h
}

func (h *hall) open(c Client) Lane {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened = append(h.opened, c)
	return Lane{Proxy: h.mitm, Record: h.record,
		NewTap: func(c *flow.Conn, emit func(flow.Event)) mitm.Tap { return &wire.Decoder{Conn: c, Emit: emit} },
		Leave: func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.left++
		}}
}

func (h *hall) record(e flow.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Data = append([]byte(nil), e.Data...)
	h.events = append(h.events, e)
}

// rows tells what was recorded, a line an exchange or a failed connection, once
// all is over.
func (h *hall) rows() []string {
	h.stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	var rows []string
	for _, e := range h.events {
		switch {
		case e.Kind == flow.Request:
			rows = append(rows, fmt.Sprintf("%s %s://%s:%d%s", e.Head.Method, e.Head.Scheme, e.Head.Host, e.Head.Port, e.Head.Path))
		case e.Kind == flow.Opaque:
			rows = append(rows, "opaque "+e.Reason)
		case e.Kind == flow.End && e.Error != nil:
			rows = append(rows, "failed "+e.Error.Code)
		case e.Kind == flow.ConnEnd && e.Facts.Error != nil:
			rows = append(rows, fmt.Sprintf("%s %s:%d %s", e.Facts.Error.Code, e.Facts.Host, e.Facts.Dst.Port(), e.Facts.Protocol))
		}
	}
	return rows
}

// forwarded returns the heads of what left.
func (h *hall) forwarded() []*flow.Head {
	h.stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	var heads []*flow.Head
	for _, e := range h.events {
		if e.Kind == flow.Forwarded && e.Head != nil {
			heads = append(heads, e.Head)
		}
	}
	return heads
}

func (h *hall) dial() net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// say writes what a client says, and returns what it is answered with until the end.
func (h *hall) say(text string, bytewise bool) string {
	h.t.Helper()
	c := h.dial()
	defer c.Close()
	step := len(text)
	if bytewise {
		step = 1
	}
	for i := 0; i < len(text); i += step {
		if _, err := io.WriteString(c, text[i:min(i+step, len(text))]); err != nil {
			break
		}
	}
	c.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(c)
	if err != nil {
		h.t.Errorf("%q: %v", text, err)
	}
	return string(answer)
}

// echo listens and answers every connection with what it says, in capitals.
func echo(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4<<10)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					io.WriteString(c, strings.ToUpper(string(b[:n])))
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// closedPort is one that nobody listens on.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func be16(n int) string { return string([]byte{byte(n >> 8), byte(n)}) }

// TestTunnels asks for a server in every protocol, whole and octet by octet, with
// what follows sent ahead of the answer.
func TestTunnels(t *testing.T) {
	port := echo(t)
	closed := closedPort(t)
	const name = "a.test"
	v4 := "\x7f\x00\x00\x01"
	v5 := "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	established := "HTTP/1.1 200 Connection established\r\n\r\n"
	type script struct{ name, say, answer, row string }
	scripts := []script{
		{"connect", fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n\r\nhallo", name, port, name, port), established + "HALLO", "opaque not_http"},
		{"connect ip", fmt.Sprintf("\r\nCONNECT 127.0.0.1:%d HTTP/1.0\n\nhallo", port), established + "HALLO", "opaque not_http"},
		{"connect mapped", fmt.Sprintf("CONNECT [::ffff:127.0.0.1]:%d HTTP/1.1\r\n\r\nhallo", port), established + "HALLO", "opaque not_http"},
		{"socks5 name", "\x05\x01\x00\x05\x01\x00\x03\x06" + name + be16(port) + "hallo", "\x05\x00" + v5[:1] + "\x00" + v5[2:] + "HALLO", "opaque not_http"},
		{"socks5 ip", "\x05\x02\x02\x00\x05\x01\x00\x01" + v4 + be16(port) + "hallo", "\x05\x00\x05\x00" + v5[2:] + "HALLO", "opaque not_http"},
		{"socks5 ip as name", "\x05\x01\x00\x05\x01\x00\x03\x09127.0.0.1" + be16(port) + "hallo", "\x05\x00\x05\x00" + v5[2:] + "HALLO", "opaque not_http"},
		{"socks5 password that nobody asks for", "\x05\x01\x02\x01\x01u\x01p\x05\x01\x00\x01" + v4 + be16(port) + "hallo", "\x05\x02\x01\x00\x05\x00" + v5[2:] + "HALLO", "opaque not_http"},
		{"socks4", "\x04\x01" + be16(port) + v4 + "me\x00hallo", "\x00\x5a\x00\x00\x00\x00\x00\x00HALLO", "opaque not_http"},
		{"socks4a", "\x04\x01" + be16(port) + "\x00\x00\x00\x09\x00" + name + "\x00hallo", "\x00\x5a\x00\x00\x00\x00\x00\x00HALLO", "opaque not_http"},
		{"socks5 refused", "\x05\x01\x00\x05\x01\x00\x01" + v4 + be16(closed), "\x05\x00\x05\x05" + v5[2:], fmt.Sprintf("refused :%d ", closed)},
		{"socks5 no such name", "\x05\x01\x00\x05\x01\x00\x03\x0cnone.invalid\x00\x50", "\x05\x00\x05\x04" + v5[2:], "dns none.invalid:80 "},
		{"socks4 refused", "\x04\x01" + be16(closed) + v4 + "\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00", fmt.Sprintf("refused :%d ", closed)},
		{"socks5 bind", "\x05\x01\x00\x05\x02\x00\x01" + v4 + be16(port), "\x05\x00\x05\x07" + v5[2:], fmt.Sprintf("malformed :%d socks5", port)},
		{"socks5 udp associate", "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x00\x05\x07" + v5[2:], "malformed :PORT socks5"},
		{"socks5 address type", "\x05\x01\x00\x05\x01\x00\x09" + v4 + be16(port), "\x05\x00\x05\x08" + v5[2:], "malformed :PORT socks5"},
		{"socks5 empty name", "\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", "\x05\x00\x05\x01" + v5[2:], "malformed :PORT socks5"},
		{"socks5 name with a NUL", "\x05\x01\x00\x05\x01\x00\x03\x03a\x00b\x00\x50", "\x05\x00\x05\x01" + v5[2:], "malformed :PORT socks5"},
		{"socks5 no method", "\x05\x01\x01", "\x05\xff", "proxy_auth :PORT socks5"},
		{"socks5 no methods at all", "\x05\x00", "\x05\xff", "proxy_auth :PORT socks5"},
		{"socks5 other version", "\x05\x01\x00\x04\x01\x00\x01" + v4 + be16(port), "\x05\x00", "malformed :PORT socks5"},
		{"socks5 cut", "\x05\x01\x00\x05\x01\x00\x03\x50abc", "\x05\x00", "truncated :PORT socks5"},
		{"socks4 bind", "\x04\x02" + be16(port) + v4 + "\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00", fmt.Sprintf("malformed :%d socks4", port)},
		{"socks4 endless user", "\x04\x01" + be16(port) + v4 + strings.Repeat("u", maxSocks4), "\x00\x5b\x00\x00\x00\x00\x00\x00", "malformed :PORT socks4"},
		{"tls", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", string(versionAlert), "malformed :PORT tls"},
		{"silence", "", "", ""},
	}
	for _, s := range scripts {
		for _, bytewise := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", s.name, bytewise), func(t *testing.T) {
				h := newHall(t, func(h *hall) { h.mitm.ConnectTo = []mitm.ConnectTo{{Host: name, ToHost: "127.0.0.1"}} })
				if got := h.say(s.say, bytewise); got != s.answer {
					t.Errorf("answered %q, want %q", got, s.answer)
				}
				_, own, _ := net.SplitHostPort(h.addr)
				if got, want := strings.Join(h.rows(), "|"), strings.ReplaceAll(s.row, "PORT", own); got != want {
					t.Errorf("recorded %q, want %q", got, want)
				}
			})
		}
	}
}

// TestHTTPRefusals: what an HTTP client is told.
func TestHTTPRefusals(t *testing.T) {
	closed := closedPort(t)
	for _, s := range []struct {
		say    string
		status int
		text   string
		row    string
	}{
		{fmt.Sprintf("CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n", closed), 502, "connection refused", fmt.Sprintf("refused :%d ", closed)},
		{"CONNECT none.invalid:443 HTTP/1.1\r\n\r\n", 502, "none.invalid", "dns none.invalid:443 "},
		{"CONNECT slow.test:443 HTTP/1.1\r\n\r\n", 504, "timed out", "timeout slow.test:443 "},
		{"CONNECT barred.test:443 HTTP/1.1\r\n\r\n", 403, "permission denied", "unreachable barred.test:443 "},
		{"CONNECT a.test HTTP/1.1\r\n\r\n", 400, "want HOST:PORT", "malformed :PORT http"},
		{"CONNECT a.test:99999 HTTP/1.1\r\n\r\n", 400, "want HOST:PORT", "malformed :PORT http"},
		{"CONNECT a.test:0 HTTP/1.1\r\n\r\n", 400, "no port", "malformed :PORT http"},
		{"CONNECT [::1:443 HTTP/1.1\r\n\r\n", 400, "want HOST:PORT", "malformed :PORT http"},
		{"CONNECT user@a.test:443 HTTP/1.1\r\n\r\n", 400, "no host", "malformed :PORT http"},
		{"CONNECT :443 HTTP/1.1\r\n\r\n", 400, "no host", "malformed :PORT http"},
		{"CONNECT " + strings.Repeat("a", 300) + ":443 HTTP/1.1\r\n\r\n", 400, "255", "malformed :PORT http"},
		{fmt.Sprintf("GET http://127.0.0.1:%d/x HTTP/1.1\r\n\r\n", closed), 502, "connection refused", fmt.Sprintf("GET http://127.0.0.1:%d/x|failed refused", closed)},
		{"GET http://slow.test/x HTTP/1.1\r\n\r\n", 504, "timed out", "GET http://slow.test:80/x|failed timeout"},
		{"GET http:///x HTTP/1.1\r\n\r\n", 400, "no host", "malformed :PORT http"},
		{"GET ftp://a.test/x HTTP/1.1\r\n\r\n", 400, `scheme "ftp"`, "malformed :PORT http"},
		{"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "no server", "malformed :PORT http"},
		{"GET /?u=http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "no server", "malformed :PORT http"},
		{"GET http://a.test/ HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "framing", "malformed :PORT http"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "neither", "malformed :PORT "},
		{"SSH-2.0-OpenSSH_9.2\r\n", 400, "neither", "malformed :PORT "},
		{"\x00\x01\x02", 400, "neither", "malformed :PORT "},
		{"GET http://a.test/\r\n", 400, "neither", "malformed :PORT "},
		{"GET http://a.test/ HTTP/1.1\r\nA: " + strings.Repeat("b", maxHead) + "\r\n\r\n", 431, "longer", "malformed :PORT http"},
		{"GET http://a.test/ HTTP/1.1\r\nA: b\r\n", 0, "", "truncated :PORT http"},
	} {
		t.Run(fmt.Sprintf("%.40q", s.say), func(t *testing.T) {
			h := newHall(t, func(h *hall) { h.mitm.Dial = failing })
			got := h.say(s.say, false)
			if s.status == 0 && got != "" {
				t.Errorf("answered %q", got)
			}
			if s.status != 0 {
				r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
				if err != nil {
					t.Fatalf("%q: %v", got, err)
				}
				body, err := io.ReadAll(r.Body)
				if r.StatusCode != s.status || !strings.Contains(string(body), s.text) || !strings.HasPrefix(string(body), "trace: ") || !r.Close || err != nil {
					t.Errorf("answered %q, want %d with %q", got, s.status, s.text)
				}
				if s.status > 500 && !strings.HasPrefix(r.Header.Get("Proxy-Status"), "trace; error=") {
					t.Errorf("Proxy-Status %q", r.Header.Get("Proxy-Status"))
				}
			}
			_, own, _ := net.SplitHostPort(h.addr)
			if got, want := strings.Join(h.rows(), "|"), strings.ReplaceAll(s.row, "PORT", own); got != want {
				t.Errorf("recorded %q, want %q", got, want)
			}
		})
	}
}
