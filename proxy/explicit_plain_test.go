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
	"syscall"
	"testing"
	"time"

	"trace/flow"
	"trace/mitm"
)

// failing dials as ever, but for names that fail in a way of their own.
func failing(ctx context.Context, network, addr string) (net.Conn, error) {
	switch host, _, _ := net.SplitHostPort(addr); host {
	case "slow.test":
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ETIMEDOUT}
	case "barred.test":
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EACCES}
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// A rawServer answers each connection by a script, and keeps what it read.
type rawServer struct {
	addr  string
	mu    sync.Mutex
	heads []string // of requests, with their bodies
	conns int
}

// newRawServer serves connections of requests, whose bodies end with the text "end" if they
// have a body; answer makes each answer, "" ends the connection.
func newRawServer(t *testing.T, answer func(head string) string) *rawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &rawServer{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns++
			s.mu.Unlock()
			go s.serve(c, answer)
		}
	}()
	return s
}

func (s *rawServer) serve(c net.Conn, answer func(string) string) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		var b strings.Builder
		for !strings.HasSuffix(b.String(), "\r\n\r\n") || strings.Contains(b.String(), "chunked") && !strings.HasSuffix(b.String(), "\r\n0\r\n\r\n") {
			o, err := r.ReadByte()
			if err != nil {
				return
			}
			b.WriteByte(o)
		}
		s.mu.Lock()
		s.heads = append(s.heads, b.String())
		s.mu.Unlock()
		text := answer(b.String())
		io.WriteString(c, text)
		if strings.Contains(text, "101 ") {
			io.Copy(c, r)
			return
		}
		if text == "" || strings.Contains(text, "X-Then: close") {
			return
		}
	}
}

func (s *rawServer) read() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.heads...)
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// get reads one answer.
func get(t *testing.T, r *bufio.Reader, method string) (int, string) {
	t.Helper()
	a, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	if method == "CONNECT" && a.StatusCode == 200 {
		return 200, ""
	}
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(b)
}

// TestPlainRequests sends requests for several servers on one connection, one of
// which ends its connections when they are idle, and then asks for a tunnel on it:
// each server reads what a proxy must send, and the record has what was sent.
func TestPlainRequests(t *testing.T) {
	a := newRawServer(t, func(string) string { return okAnswer })
	b := newRawServer(t, func(string) string { return strings.Replace(okAnswer, "\r\n\r\n", "\r\nX-Then: close\r\n\r\n", 1) })
	port := echo(t)
	h := newHall(t, func(h *hall) {
		for name, addr := range map[string]string{"a.test": a.addr, "b.test": b.addr} {
			host, port, _ := net.SplitHostPort(addr)
			to, err := mitm.ParseConnectTo(name + "::" + host + ":" + port)
			if err != nil {
				t.Fatal(err)
			}
			h.mitm.ConnectTo = append(h.mitm.ConnectTo, to)
		}
	})
	c := h.dial()
	r := bufio.NewReader(c)
	for _, x := range []struct{ say, read string }{
		{"GET http://A.test HTTP/1.1\r\nhOst: other\r\nProxy-Connection: keep-alive\r\nX-Odd:  1\r\nX-Odd: 2\r\n\r\n",
			"GET / HTTP/1.1\r\nhOst: A.test\r\nX-Odd:  1\r\nX-Odd: 2\r\n\r\n"},
		{"GET http://me:secret@b.test:8080/a%2Fb//c?d=http://e#f HTTP/1.1\r\nHost: b.test:8080\r\nProxy-Authorization: Basic\r\n\tbWU6c2VjcmV0\r\nA: b\r\n\r\n",
			"GET /a%2Fb//c?d=http://e#f HTTP/1.1\r\nHost: b.test:8080\r\nA: b\r\n\r\n"},
		{"GET http://b.test?q HTTP/1.1\r\n\r\n", "GET /?q HTTP/1.1\r\nHost: b.test\r\n\r\n"},
		{"OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n"},
		{"POST http://a.test./x HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
			"POST /x HTTP/1.0\r\nHost: a.test.\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
	} {
		io.WriteString(c, x.say)
		if status, body := get(t, r, "GET"); status != 200 || body != "ok" {
			t.Fatalf("%q: %d %q", x.say, status, body)
		}
		all := append(a.read(), b.read()...)
		if !contains(all, x.read) {
			t.Errorf("no server read %q, but %q", x.read, all)
		}
	}
	fmt.Fprintf(c, "CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\nhallo", port)
	if status, _ := get(t, r, "CONNECT"); status != 200 {
		t.Fatalf("CONNECT: %d", status)
	}
	said := make([]byte, 5)
	if _, err := io.ReadFull(r, said); err != nil || string(said) != "HALLO" {
		t.Errorf("in the tunnel: %q, %v", said, err)
	}
	c.Close()
	want := "GET http://a.test:80/|GET http://b.test:8080/a%2Fb//c?d=http://e#f|GET http://b.test:80/?q|OPTIONS http://a.test:80*|POST http://a.test:80/x|opaque not_http"
	if got := strings.Join(h.rows(), "|"); got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
	for _, f := range h.forwarded() {
		if f.Get("Proxy-Authorization") != "" || f.Get("Proxy-Connection") != "" || f.Host == "" || f.Port == 0 || strings.HasPrefix(f.Target, "http") {
			t.Errorf("left: %+v", f)
		}
	}
	if n := len(h.forwarded()); n != 5 {
		t.Errorf("%d heads left, want 5", n)
	}
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}

// TestPlainUpgrade carries a WebSocket that is asked for in absolute-form.
func TestPlainUpgrade(t *testing.T) {
	s := newRawServer(t, func(string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
	})
	h := newHall(t, nil)
	c := h.dial()
	r := bufio.NewReader(c)
	fmt.Fprintf(c, "GET ws://%s/chat HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", s.addr, s.addr)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	frame := "\x81\x82\x00\x00\x00\x00ok"
	io.WriteString(c, frame)
	got := make([]byte, len(frame))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != frame {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	if got, want := strings.Join(h.rows(), "|"), "GET http://"+s.addr+"/chat"; !strings.HasPrefix(got, want) {
		t.Errorf("recorded %s, want %s", got, want)
	}
	var messages []string
	for _, e := range h.events {
		if e.Kind == flow.Message && e.Opcode == 1 {
			messages = append(messages, e.Side.Dir()+" "+string(e.Data))
		}
	}
	if got := strings.Join(messages, ", "); got != "sent ok, received ok" {
		t.Errorf("messages: %s", got)
	}
}

// TestPlainServerEnds: an answer that lasts until the end of the connection, and
// one that is cut, end the client's connection as the server ended its own.
func TestPlainServerEnds(t *testing.T) {
	for _, answer := range []string{"HTTP/1.0 200 OK\r\n\r\nuntil the end X-Then: close", "HTTP/1.1 200 OK\r\nContent-Length: 999\r\nX-Then: close\r\n\r\ncut", ""} {
		s := newRawServer(t, func(string) string { return answer })
		h := newHall(t, nil)
		c := h.dial()
		fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", s.addr)
		if got, err := io.ReadAll(c); string(got) != answer || err != nil {
			t.Errorf("read %q, %v; want %q", got, err, answer)
		}
		c.Close()
		h.stop()
	}
}

// TestSelection: what is not to be decoded is carried, and not decoded, also where
// other requests of the same connection are.
func TestSelection(t *testing.T) {
	s := newRawServer(t, func(string) string { return okAnswer })
	_, port, _ := net.SplitHostPort(s.addr)
	h := newHall(t, func(h *hall) {
		h.mitm.Bypass = []string{"*.bypass.test"}
		to, _ := mitm.ParseConnectTo("::127.0.0.1:" + port)
		h.mitm.ConnectTo = []mitm.ConnectTo{to}
	})
	c := h.dial()
	r := bufio.NewReader(c)
	for _, host := range []string{"a.test", "x.bypass.test", "y.BYPASS.test", "b.test"} {
		fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\n\r\n", host)
		if status, _ := get(t, r, "GET"); status != 200 {
			t.Fatalf("%s: %d", host, status)
		}
	}
	c.Close()
	if got, want := strings.Join(h.rows(), "|"), "GET http://a.test:80/|opaque bypass|GET http://b.test:80/"; got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
}

// TestImpatience: a client that does not come to the point is told so, at once when
// its time is over, and one that has is not hurried.
func TestImpatience(t *testing.T) {
	port := echo(t)
	h := newHall(t, func(h *hall) { h.p.Patience = 200 * time.Millisecond })
	slow := map[string]string{"GET http": "HTTP/1.1 408 ", "\x05\x01\x00\x05": "\x05\x00", "\x04\x01": ""}
	for say, want := range slow {
		c := h.dial()
		io.WriteString(c, say)
		if got, err := io.ReadAll(c); !strings.HasPrefix(string(got), want) || want == "" && len(got) > 0 || err != nil {
			t.Errorf("%q: answered %q, %v", say, got, err)
		}
		c.Close()
	}
	c := h.dial()
	r := bufio.NewReader(c)
	fmt.Fprintf(c, "CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n", port)
	if status, _ := get(t, r, "CONNECT"); status != 200 {
		t.Fatal(status)
	}
	c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // longer than patience
	if _, err := r.ReadByte(); err == nil || !err.(net.Error).Timeout() {
		t.Errorf("a tunnel that is silent ended: %v", err)
	}
	c.Close()
	n := 0
	for _, row := range h.rows() {
		if strings.HasPrefix(row, "timeout ") {
			n++
		}
	}
	if n != len(slow) {
		t.Errorf("%d rows, want %d", n, len(slow))
	}
}
