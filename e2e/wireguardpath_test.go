package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// A lossyPath is a network between a WireGuard client and the serve: it loses
// every nth message each way, repeats the first handshake, and can give the
// client another address.
type lossyPath struct {
	t     *testing.T
	ns    string
	near  *net.UDPConn // the client's side
	serve netip.AddrPort
	every int

	mu     sync.Mutex // guards what follows
	far    *net.UDPConn
	client netip.AddrPort
	first  []byte
	lost   int
	over   sync.WaitGroup
}

// newLossyPath makes a path in a container.
func newLossyPath(t *testing.T, ns string, serve netip.AddrPort, every int) *lossyPath {
	t.Helper()
	l := &lossyPath{t: t, ns: ns, serve: serve, every: every}
	l.near = l.socket("127.0.0.1:0")
	l.roam()
	l.over.Go(func() { l.outwards() })
	t.Cleanup(func() {
		l.near.Close()
		l.mu.Lock()
		l.far.Close()
		l.mu.Unlock()
		l.over.Wait()
	})
	return l
}

func (l *lossyPath) socket(addr string) (c *net.UDPConn) {
	l.t.Helper()
	err := inNetns("/var/run/netns/"+l.ns, func() error {
		p, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp4", addr)
		if err == nil {
			c = p.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// roam gives the client another address, as a phone that leaves the house.
func (l *lossyPath) roam() {
	far := l.socket("0.0.0.0:0")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.far != nil {
		l.far.Close()
	}
	l.far = far
	l.over.Go(func() { l.inwards(far) })
}

// loses reports whether the nth message is lost. Handshakes are not: a lost
// one is tried again after five seconds.
func (l *lossyPath) loses(n int, p []byte) bool {
	if n%l.every != 0 || len(p) == 0 || p[0] != 4 {
		return false
	}
	l.mu.Lock()
	l.lost++
	l.mu.Unlock()
	return true
}

func (l *lossyPath) outwards() {
	buf := make([]byte, 1<<16)
	for n := 1; ; n++ {
		k, from, err := l.near.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		l.client = from
		if l.first == nil && buf[0] == 1 {
			l.first = bytes.Clone(buf[:k])
		}
		far := l.far
		l.mu.Unlock()
		if !l.loses(n, buf[:k]) {
			far.WriteToUDPAddrPort(buf[:k], l.serve)
		}
	}
}

func (l *lossyPath) inwards(far *net.UDPConn) {
	buf := make([]byte, 1<<16)
	for n := 1; ; n++ {
		k, _, err := far.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		client := l.client
		l.mu.Unlock()
		if !l.loses(n, buf[:k]) {
			l.near.WriteToUDPAddrPort(buf[:k], client)
		}
	}
}

// replay sends the first handshake once more.
func (l *lossyPath) replay() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.far.WriteToUDPAddrPort(l.first, l.serve)
}

// TestWireGuardPath loses packets, moves the client midway, and repeats its
// handshake.
func TestWireGuardPath(t *testing.T) {
	n := newWireguardNet(t, both()[0])
	conf := n.j.must(n.j.trace("namespace", "wireguard-config", "--peer", "phone"), 0).stdout
	_, at, _ := strings.Cut(conf, "Endpoint = ")
	at, _, _ = strings.Cut(at, "\n")
	ns := n.container()
	path := newLossyPath(t, ns, netip.MustParseAddrPort(at), 25)
	conf = n.j.must(n.j.trace("namespace", "wireguard-config", "--peer", "phone", "--endpoint", path.near.LocalAddr().String()), 0).stdout
	p := n.up("phone", ns, 1280, conf)
	p.curl("-o", "/dev/null", "https://known.corp.example/bytes/1000?phone")
	before := n.peers()["phone"].Endpoint
	path.replay()
	done := make(chan result, 1)
	go func() {
		done <- p.j.finish(p.command("curl", "-sS", "--max-time", "100", "--limit-rate", "2M", "--cacert", p.ca, "-o", "/dev/null", "-w", "%{size_download}", "https://known.corp.example/bytes/3000000?phone"))
	}()
	for path.losses() < 30 && len(done) == 0 { // until it is well under way
		time.Sleep(5 * time.Millisecond)
	}
	path.roam()
	r := n.j.must(<-done, 0)
	if r.stdout != "3000000" {
		t.Errorf("%s bytes, %s", r.stdout, r.stderr)
	}
	after := n.peers()["phone"].Endpoint
	if before == after || before == "" {
		t.Errorf("the endpoint was %q and is %q", before, after)
	}
	t.Logf("lost %d messages", path.losses())
	if code := n.s.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, n.s.said())
	}
	http, replayed := 0, 0
	for _, r := range n.rows("phone") {
		switch {
		case r.Kind == "http":
			http++
			p.checkHTTP(r)
		case r.Error != nil && r.Error.Code == "replayed_handshake":
			replayed++
		}
	}
	if http != 2 || replayed != 1 {
		t.Errorf("%d requests, %d replays: %+v", http, replayed, n.rows("phone"))
	}
}

func (l *lossyPath) losses() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// TestWireGuardRefuses shuts a peer out while it talks, and keeps it and
// others from where they may not go.
func TestWireGuardRefuses(t *testing.T) {
	n := newWireguardNet(t, both()[0])
	goes, stays := n.join("goes", 1420), n.join("stays", 1420)
	nowhere := []string{"http://" + goes.addr.String() + "/", "http://169.254.169.254/", "http://[64:ff9b::7f00:1]/"}
	for _, url := range nowhere {
		if r := n.j.finish(stays.command("curl", "-sS", "--max-time", "20", url)); r.code != 7 {
			t.Errorf("%s: curl exits %d: %s", url, r.code, r.stderr)
		}
	}
	heard := n.silence("[::]:9999")
	held := make(chan result, 1)
	go func() {
		held <- n.j.finish(goes.command("/usr/bin/python3", "-c", fmt.Sprintf(`import socket
s = socket.create_connection(("%s", 9999)); s.send(b"x")
s.settimeout(60); s.recv(1)`, publicAddr)))
	}()
	select {
	case <-heard:
	case r := <-held:
		t.Fatalf("the connection of the peer: exit %d, %s", r.code, r.stderr)
	}
	n.j.must(n.j.trace("wg", "rm", "goes"), 0)
	if r := <-held; !strings.Contains(r.stderr, "ConnectionResetError") {
		t.Errorf("the connection of a revoked peer: after %v %s%s", r.took, r.stdout, r.stderr)
	}
	if r := n.j.must(n.j.trace("wg", "rm", "goes"), 1); !strings.Contains(r.stderr, "unknown peer") {
		t.Errorf("removed twice: %s", r.stderr)
	}
	goes.stop()
	again := n.up("again", n.container(), 1420, goes.conf) // the key that was revoked
	if r := n.j.finish(again.command("curl", "-sS", "--max-time", "1", "http://"+publicAddr+"/")); r.code != 28 {
		t.Errorf("a revoked key: curl exits %d: %s", r.code, r.stderr)
	}
	stays.curl("-o", "/dev/null", "https://known.corp.example/text?stays")
	var st struct {
		Serve struct{ Refused map[string]int }
	}
	if err := json.Unmarshal([]byte(n.j.must(n.j.trace("status", "--json"), 0).stdout), &st); err != nil || st.Serve.Refused["unknown_peer"] == 0 {
		t.Errorf("refused: %v, %v", st.Serve.Refused, err)
	}
	if text := n.j.must(n.j.trace("status"), 0).stdout; !strings.Contains(text, "unknown_peer") {
		t.Errorf("trace status says nothing of it:\n%s", text)
	}
	if _, ok := n.peers()["goes"]; ok {
		t.Error("the revoked peer is listed")
	}
	if code := n.s.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, n.s.said())
	}
	denied, unknown := 0, 0
	for _, r := range n.rows("stays") {
		if r.Error != nil && r.Error.Code == "denied" {
			denied++
		}
	}
	for _, r := range n.rows("wireguard") {
		if r.Error == nil || r.Error.Code != "unknown_peer" {
			t.Errorf("of strangers: %+v", r)
		}
		if strings.HasPrefix(r.Conn.Src, "10.201.3.2:") {
			unknown++
		}
	}
	if denied != len(nowhere) || unknown != 1 {
		t.Errorf("%d denied, %d rows of the revoked key", denied, unknown)
	}
}

// silence runs a server on the public host that takes a connection and says
// nothing. The channel tells when it has read something.
func (n *wireguardNet) silence(addr string) <-chan struct{} {
	n.t.Helper()
	l := n.listen(addr)
	heard, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Read(make([]byte, 1))
		close(heard)
		c.Read(make([]byte, 1)) // until the other side ends it
	}()
	n.t.Cleanup(func() {
		l.Close()
		<-over
	})
	return heard
}

// TestWireGuardListens takes the socket that a service manager made, and says
// who has a port that is taken.
func TestWireGuardListens(t *testing.T) {
	j := newJob(t, both()[0])
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	at := c.LocalAddr().String()
	for _, bad := range []struct {
		addr string
		code int
		want string
	}{{at, 125, "has it"}, {"51820", 2, "ADDR:PORT"}, {"", 2, "ADDR:PORT"}, {"127.0.0.1:port", 125, "--wireguard"}, {"203.0.113.250:51820", 125, "cannot assign"}} {
		s := j.tryServing("--listen", "none", "--wireguard", bad.addr)
		if code := s.stop(); code != bad.code || !strings.Contains(s.said(), bad.want) {
			t.Errorf("--wireguard %q: exit %d, %s", bad.addr, code, s.said())
		}
	}
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := j.command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh", traceBin, "serve", "--listen", "none")
	cmd.ExtraFiles = []*os.File{f}
	s := &serving{t: t, cmd: cmd}
	s.prints()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop() })
	for end := time.Now().Add(10 * time.Second); !strings.Contains(s.said(), "wireguard: "+at) && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	if conf := j.must(j.trace("namespace", "wireguard-config"), 0).stdout; !strings.Contains(conf, "Endpoint = "+at+"\n") {
		t.Errorf("not at the socket %s: %s", at, conf)
	}
	for _, args := range [][]string{{"--peer", "a/b"}, {"--peer", ""}, {"--endpoint", "nowhere"}} {
		j.must(j.trace(append([]string{"namespace", "wireguard-config"}, args...)...), 2)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, s.said())
	}
}
