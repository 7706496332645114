package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestWireGuard has three peers at once, of different MTU, do all that a
// container does, and holds the record of each against the server's log.
func TestWireGuard(t *testing.T) {
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			n := newWireguardNet(t, w)
			n.answer("[::]:7777", func(p []byte) []byte { return bytes.ToUpper(p) })
			mtus := map[string]int{"small": 1280, "usual": 1420, "other": 1420}
			joined := map[string]*wireguardPeer{}
			for name, mtu := range mtus {
				joined[name] = n.join(name, mtu)
			}
			joined["other"].narrow(1300) // messages of the tunnel do not fit its network
			var all sync.WaitGroup
			for _, p := range joined {
				all.Go(func() { p.work() })
			}
			all.Wait()
			if t.Failed() {
				t.FailNow()
			}
			live := n.peers()
			for name, p := range joined {
				l := live[name]
				if l.RX < 400_000 || l.TX < 400_000 || l.Handshake == "" || l.Session == "" || !strings.HasPrefix(l.Endpoint, "10.201.") || l.Addresses[0] != p.addr.String() {
					t.Errorf("%s: %+v", name, l)
				}
			}
			if code := n.s.stop(); code != 0 {
				t.Errorf("exit %d\n%s", code, n.s.said())
			}
			for _, p := range joined {
				p.check()
			}
		})
	}
}

// work is what a container does.
func (p *wireguardPeer) work() {
	up := p.j.file(p.name+".up", strings.Repeat(p.name+" uploads\n", 40_000))
	sum := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	got := p.curl("https://known.corp.example/bytes/400000?" + p.name).stdout
	back := p.curl("--data-binary", "@"+up, "https://known.corp.example/echo?"+p.name).stdout
	if text, _ := os.ReadFile(up); sum(back) != sum(string(text)) || len(got) != 400_000 {
		p.t.Errorf("%s: %d bytes back, %d bytes", p.name, len(back), len(got))
	}
	p.curl("-o", "/dev/null", "https://lent.example/text?"+p.name) // which no resolver knows
	p.curl("https://[" + publicAddr6 + "]/bytes/1000?" + p.name)
	if page := p.curl("http://trace.internal/ca.pem").stdout; page != p.read(p.ca) {
		p.t.Errorf("%s: trace.internal has another certificate: %s", p.name, page)
	}
	p.curl("-o", "/dev/null", "http://trace.internal/")
	if a := p.in("dig", "+short", "+tcp", "known.corp.example").stdout; a != siteAddr+"\n" {
		p.t.Errorf("%s: dig over TCP: %q", p.name, a)
	}
	py := fmt.Sprintf(`import socket
for host in "%s", "%s":
  for size in 10, 1300, 5000:
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect((host, 7777))
    s.send(b"u" * size)
    assert s.recv(9999) == b"U" * size`, publicAddr, publicAddr6)
	p.in("/usr/bin/python3", "-c", py)
	p.in("ping", "-c", "2", "-i", "0.2", "-W", "5", "trace.internal")
	if p.j.w.root {
		p.in("ping", "-c", "1", "-W", "5", "-s", "2000", publicAddr)
		p.in("ping", "-c", "1", "-W", "5", "-s", "1300", publicAddr6)
	}
}

func (p *wireguardPeer) read(file string) string {
	b, err := os.ReadFile(filepath.Join(p.j.home, filepath.Base(file)))
	if err != nil {
		p.t.Error(err)
	}
	return string(b)
}

// check holds the peer's session against the log of the server.
func (p *wireguardPeer) check() {
	p.t.Helper()
	var http, dns, udp, icmp int
	for _, r := range p.rows(p.name) {
		if r.Source != "wireguard" || !strings.HasPrefix(r.Conn.Src, p.addr.String()) && !strings.HasPrefix(r.Conn.Src, "[fd") {
			p.t.Errorf("%s: %+v", p.name, r)
		}
		switch {
		case r.Kind == "http":
			http++
			p.checkHTTP(r)
		case r.Kind == "dns":
			dns++
		case r.Conn.Opaque == "icmp":
			icmp++
		case r.Kind == "udp" && strings.HasSuffix(r.Conn.Dst, ":7777"):
			udp++
			if r.Bytes == nil || r.Bytes.Sent != r.Bytes.Received || r.State != "complete" && r.State != "open" {
				p.t.Errorf("%s: %+v", p.name, r)
			}
		default:
			p.t.Errorf("%s: what is this: %+v", p.name, r)
		}
	}
	if want := map[bool]int{true: 2}[p.j.w.root]; http != 4 || dns < 4 || udp != 6 || icmp != want {
		p.t.Errorf("%s: %d requests, %d name queries, %d datagrams, %d echoes", p.name, http, dns, udp, icmp)
	}
}

func (p *wireguardPeer) checkHTTP(r row) {
	p.t.Helper()
	for _, e := range p.entries() {
		if e.method == r.Request.Method && e.path == r.Request.Path && strings.HasSuffix(r.Request.Path, "?"+p.name) &&
			e.reqHash == r.Request.SHA256 && e.respHash == r.Response.SHA256 && r.Conn.Decrypted && r.State == "complete" {
			return
		}
	}
	p.t.Errorf("%s: the server's log has no %+v, %+v, %s", p.name, r.Request, r.Response, r.State)
}
