package dns

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// serve starts ServeUDP and ServeTCP on loopback for server, and fails the
// test if they do not end well with the Server.
func serve(t *testing.T, s *Server, server netip.AddrPort) (udp, tcp string) {
	t.Helper()
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.ServeUDP(u, server); err != nil {
			t.Errorf("ServeUDP: %v", err)
		}
	})
	wg.Go(func() {
		if err := s.ServeTCP(l, server); err != nil {
			t.Errorf("ServeTCP: %v", err)
		}
	})
	t.Cleanup(func() { s.Close(); wg.Wait() })
	return u.LocalAddr().String(), l.Addr().String()
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

func TestServeUDP(t *testing.T) {
	p := newPeer(t)
	s, rec := newServer(t)
	addr, _ := serve(t, s, p.addr)
	c := dial(t, "udp", addr)
	const n = 50
	c.Write(ask(t, 999, "silent.example.", dnsmessage.TypeA, 0)) // holds up nobody
	c.Write([]byte("no query"))
	for id := range uint16(n) {
		c.Write(ask(t, id, "www.example.", dnsmessage.TypeA, 1232))
	}
	got := map[uint16]bool{}
	buf := make([]byte, 4096)
	for range n {
		k, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got[unpack(t, buf[:k]).ID] = true
	}
	if len(got) != n || got[999] {
		t.Errorf("answers to %d of %d queries", len(got), n)
	}
	if q := <-rec; q.Src.String() != c.LocalAddr().String() || q.Transport != "udp" {
		t.Errorf("recorded %+v", q)
	}
}

func TestServeTCPPipelined(t *testing.T) {
	p := newPeer(t)
	s, rec := newServer(t)
	s.Lend("lent.example")
	_, addr := serve(t, s, p.addr)
	c := dial(t, "tcp", addr)
	names := []string{"late.example.", "www.example.", "lent.example.", "transfer.example."}
	for i, name := range names {
		writeFrame(c, ask(t, uint16(i), name, dnsmessage.TypeA, 0))
	}
	order := map[uint16]int{}
	count := map[uint16]int{}
	for i := range 6 { // the transfer has three
		msg, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		m := unpack(t, msg)
		if m.Questions[0].Name.String() != names[m.ID] {
			t.Errorf("answer %d is for %v", m.ID, m.Questions[0].Name)
		}
		order[m.ID] = i
		count[m.ID]++
	}
	if count[0] != 1 || count[1] != 1 || count[2] != 1 || count[3] != 3 || order[0] < order[1] {
		t.Errorf("answers %v in order %v", count, order)
	}
	for range names {
		if q := <-rec; q.Transport != "tcp" || q.Rcode != "NOERROR" || len(q.Answers) != 1 || q.Local != (q.Name == "lent.example") {
			t.Errorf("recorded %+v", q)
		}
	}
	if len(p.open) != 1 {
		t.Errorf("%d connections to the server for one of the child", len(p.open))
	}
	writeFrame(c, ask(t, 77, "big.example.", dnsmessage.TypeA, 0))
	c.(*net.TCPConn).CloseWrite() // the answer still comes
	if msg, err := readFrame(c); err != nil || len(unpack(t, msg).Answers) != 150 {
		t.Errorf("after half-close: %v", err)
	}
	if _, err := readFrame(c); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
}

func TestServeTCPServerHangsUp(t *testing.T) {
	p := newPeer(t)
	s, rec := newServer(t)
	_, addr := serve(t, s, p.addr)
	c := dial(t, "tcp", addr)
	writeFrame(c, ask(t, 1, "hangup.example.", dnsmessage.TypeA, 0))
	if _, err := readFrame(c); err == nil {
		t.Error("an answer came from a server that gave none")
	}
	if q := <-rec; !errors.Is(q.Err, errNoAnswer) || q.Name != "hangup.example" {
		t.Errorf("recorded %+v", q)
	}
}

func TestServeTCPRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	s, _ := newServer(t)
	_, addr := serve(t, s, dead)
	c := dial(t, "tcp", addr)
	for id := range uint16(3) {
		writeFrame(c, ask(t, id, "www.example.", dnsmessage.TypeA, 0))
		msg, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		if m := unpack(t, msg); m.RCode != dnsmessage.RCodeServerFailure || m.ID != id {
			t.Errorf("%v", m.GoString())
		}
	}
}

// TestServeTCPCloseEndsIdle leaves a connection open on both sides.
func TestServeTCPCloseEndsIdle(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	_, addr := serve(t, s, p.addr)
	c := dial(t, "tcp", addr)
	writeFrame(c, ask(t, 1, "www.example.", dnsmessage.TypeA, 0))
	if _, err := readFrame(c); err != nil {
		t.Fatal(err)
	}
	writeFrame(c, ask(t, 2, "silent.example.", dnsmessage.TypeA, 0))
	s.Close()
	if _, err := readFrame(c); err == nil {
		t.Error("the connection outlived the server")
	}
}

func TestServeTCPGarbage(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	_, addr := serve(t, s, p.addr)
	c := dial(t, "tcp", addr)
	c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	c.(*net.TCPConn).CloseWrite()
	if msg, err := readFrame(c); err == nil {
		t.Errorf("garbage was answered: %x", msg)
	}
	if len(p.queries()) != 0 {
		t.Error("garbage reached the server")
	}
}
