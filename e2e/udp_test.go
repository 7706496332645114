package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answer runs a UDP server on the public host that answers with what f makes
// of a datagram, unless that is nil.
func (n *internet) answer(addr string, f func(p []byte) []byte) {
	n.t.Helper()
	var c net.PacketConn
	err := inNetns("/var/run/netns/"+n.name+"p", func() (err error) {
		c, err = net.ListenPacket("udp", addr)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			k, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if p := f(buf[:k]); p != nil {
				c.WriteTo(p, from)
			}
		}
	}()
	n.t.Cleanup(func() {
		c.Close()
		<-done
	})
}

// sysctl sets a value on the laptop (l) or the public host (p).
func (n *internet) sysctl(where, name, value string) {
	n.t.Helper()
	path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	argv := []string{"netns", "exec", n.name + where, "sh", "-c", `printf %s "$1" > "$2"`, "sh", value, path}
	if out, err := exec.Command("ip", argv...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// udpWorlds are those that differ to datagrams.
func udpWorlds() []world {
	var all []world
	for _, w := range both() {
		for _, link := range []string{"wireguard", "direct"} {
			all = append(all, world{w.root, link, w.device})
		}
	}
	return all
}

// byDst returns the rows of one kind, by where they went.
func byDst(rows []row, kind string) map[string]row {
	m := map[string]row{}
	for _, r := range rows {
		if r.Kind == kind {
			m[r.Conn.Dst] = r
		}
	}
	return m
}

// TestUDP carries datagrams of all sizes, and keeps what the network says.
func TestUDP(t *testing.T) {
	need(t, "/usr/bin/python3")
	n := newInternet(t)
	n.answer("[::]:7", func(p []byte) []byte { return p })
	const py = `import socket,sys,time
for host in sys.argv[1:]:
  s=socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(10); s.connect((host,7))
  for n in (0,1,1400,9000,65507):
    s.send(b"x"*n); assert len(s.recv(70000))==n
  for port in (81,443):
    for i in range(1 if port==81 else 300):
      q=socket.socket(s.family,socket.SOCK_DGRAM); q.settimeout(5); q.connect((host,port)); t=time.time()
      try: q.send(b"hello"); q.recv(10); raise SystemExit("no error")
      except ConnectionRefusedError: print(port,time.time()-t)
`
	for _, w := range udpWorlds() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			out := j.must(j.onLaptop(n, nil, "/usr/bin/python3", "-c", py, publicAddr, publicAddr6), 0).stdout
			for line := range strings.Lines(out) {
				port, took, _ := strings.Cut(strings.TrimSpace(line), " ")
				if s, err := strconv.ParseFloat(took, 64); err != nil || s > 1 {
					t.Errorf("port %s was refused after %s s", port, took)
				}
			}
			rows := byDst(j.flows("--kind", "udp"), "udp")
			if len(rows) != 6 {
				t.Errorf("%d rows: %+v", len(rows), rows)
			}
			const total = 0 + 1 + 1400 + 9000 + 65507
			for _, host := range []string{publicAddr, publicAddr6} {
				echo, closed, quic := rows[net.JoinHostPort(host, "7")], rows[net.JoinHostPort(host, "81")], rows[net.JoinHostPort(host, "443")]
				if echo.State != "complete" || echo.Bytes == nil || echo.Bytes.Sent != total || echo.Bytes.Received != total || echo.Error != nil {
					t.Errorf("echo: %+v %+v", echo, echo.Bytes)
				}
				if closed.State != "failed" || closed.Error == nil || closed.Error.Code != "refused" || closed.Bytes.Sent != 5 {
					t.Errorf("closed port: %+v %+v", closed, closed.Error)
				}
				if quic.State != "failed" || quic.Error == nil || quic.Error.Code != "quic_refused" || quic.Error.Where != "capture" || quic.Bytes.Sent != 0 {
					t.Errorf("QUIC: %+v %+v", quic, quic.Error)
				}
			}
			if all := j.flows("--kind", "udp"); len(all) != 6 {
				t.Errorf("%d rows, want 6: refusals of one program are one", len(all))
			}
		})
	}
}

// TestDig asks a name server of the child's own choice: the query goes there.
func TestDig(t *testing.T) {
	need(t, "dig")
	n := newInternet(t)
	n.answer("[::]:53", func(p []byte) []byte { return answerDNS(p, true) })
	for _, w := range udpWorlds() {
		for _, server := range []string{publicAddr, publicAddr6} {
			j := newJob(t, w)
			r := j.must(j.onLaptop(n, nil, "dig", "@"+server, "+tries=1", "+time=5", "+short", "known.corp.example"), 0)
			if strings.TrimSpace(r.stdout) != "192.0.2.80" {
				t.Errorf("%s: %q", w, r.stdout)
			}
			rows, dst := j.flows(), net.JoinHostPort(server, "53")
			udp, query := byDst(rows, "udp")[dst], byDst(rows, "dns")[dst]
			if udp.State != "complete" || udp.Bytes == nil || udp.Bytes.Sent < 36 || udp.Bytes.Received < 50 {
				t.Errorf("%s: %+v %+v", w, udp, udp.Bytes)
			}
			if query.State != "complete" || query.Conn.ID != udp.Conn.ID || query.DNS == nil || query.DNS.Name != "known.corp.example" || query.DNS.Rcode != "NOERROR" || !slices.Equal(query.DNS.Answers, []string{"192.0.2.80"}) {
				t.Errorf("%s: %+v %+v", w, query, query.DNS)
			}
		}
	}
}

// TestPing: echo requests are answered by who was asked, or not at all.
func TestPing(t *testing.T) {
	need(t, "ping")
	n := newInternet(t)
	n.sysctl("l", "net.ipv4.ping_group_range", "0 2147483647")
	n.sysctl("p", "net.ipv4.ip_forward", "1")
	if out, err := exec.Command("ip", "-n", n.name+"p", "route", "add", "198.51.100.0/24", "dev", "veth0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, w := range udpWorlds() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			ping := func(code int, want string, args ...string) {
				t.Helper()
				r := j.must(j.onLaptop(n, nil, append([]string{"ping", "-n"}, args...)...), code)
				if !strings.Contains(r.stdout, want) {
					t.Errorf("ping %v: %s%s", args, r.stdout, r.stderr)
				}
			}
			for _, host := range []string{publicAddr, publicAddr6} {
				ping(0, "3 received", "-c", "3", "-i", "0.2", "-W", "10", host)
				rows := j.flows("--kind", "udp")
				if len(rows) != 1 || rows[0].Bytes.Sent != 3*56 || rows[0].Bytes.Received != 3*56 || rows[0].Conn.Dst != net.JoinHostPort(host, "0") || rows[0].State != "complete" {
					t.Errorf("%+v", rows)
				}
			}
			ping(0, "20008 bytes from "+publicAddr, "-c", "1", "-W", "10", "-s", "20000", publicAddr)
			ping(1, "From "+publicAddr+" icmp_seq=1 Time to live exceeded", "-c", "1", "-t", "1", "-W", "10", "198.51.100.1")
			checkError(t, j, "unreachable")
			if w.link != "wireguard" {
				return // the kernel takes 3 s to give a neighbour up
			}
			ping(1, "Host Unreachable", "-c", "1", "-W", "20", "203.0.113.99")
			checkError(t, j, "unreachable")
		})
	}
}

// TestPingForbidden: where trace may not send echo requests, ping hears so at
// once and the row says what would help.
func TestPingForbidden(t *testing.T) {
	need(t, "ping")
	n := newInternet(t)
	n.sysctl("l", "net.ipv4.ping_group_range", "1 0")
	j := newJob(t, world{false, "wireguard", "auto"})
	r := j.must(j.onLaptop(n, nil, "ping", "-n", "-c", "1", "-W", "20", publicAddr), 1)
	if !strings.Contains(r.stdout, "Packet filtered") || r.took > 10*time.Second {
		t.Errorf("after %v: %s%s", r.took, r.stdout, r.stderr)
	}
	rows := j.flows("--kind", "udp")
	if len(rows) != 1 || rows[0].Error == nil || rows[0].Error.Code != "icmp_not_permitted" || !strings.Contains(rows[0].Error.Hint, "ping_group_range") {
		t.Errorf("%+v", rows)
	}
}

// TestUDPFlood: a child that sends to 10 000 ports, and 100 000 datagrams to
// one, does not bring trace down or make it grow, and what was refused or
// dropped is in the record.
func TestUDPFlood(t *testing.T) {
	need(t, "/usr/bin/python3")
	n := newInternet(t)
	n.answer("[::]:7", func(p []byte) []byte {
		if string(p) != "hello" {
			return nil
		}
		return p
	})
	py := fmt.Sprintf(`import socket,os
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
for port in range(10000,20000): s.sendto(b"x",(%[1]q,port))
for i in range(100000): s.sendto(b"x"*1200,(%[1]q,7))
s.settimeout(2)
for i in range(20):
  s.sendto(b"hello",(%[1]q,7))
  try: assert s.recv(100)==b"hello"; break
  except OSError: pass
else: raise SystemExit("no answer after the flood")
print(next(l.split()[1] for l in open("/proc/%%d/status"%%os.getppid()) if l.startswith("VmHWM")))
`, publicAddr)
	for _, w := range both() {
		j := newJob(t, w)
		r := j.must(j.onLaptop(n, nil, "/usr/bin/python3", "-c", py), 0)
		most, _ := strconv.Atoi(strings.TrimSpace(r.stdout))
		rows := j.flows("--kind", "udp")
		t.Logf("%s: %v, %d MB at most, %d rows", w, r.took, most>>10, len(rows))
		if most == 0 || most > 400<<10 {
			t.Errorf("%s: trace used %d kB", w, most)
		}
		said := slices.ContainsFunc(rows, func(r row) bool { return r.Error != nil && r.Error.Code == "limit" })
		if !said || len(rows) > 10010 {
			t.Errorf("%s: %d rows, the refusal of the rest among them: %v", w, len(rows), said)
		}
	}
}

// TestLastDatagram: a program that sends a datagram and ends at once has sent
// it.
func TestLastDatagram(t *testing.T) {
	need(t, "bash")
	n := newInternet(t)
	got := make(chan string, 100)
	n.answer("[::]:9", func(p []byte) []byte { got <- string(p); return nil })
	for _, w := range udpWorlds() {
		j := newJob(t, w)
		for i := range 6 {
			want := fmt.Sprintf("%s %d\n", w, i)
			j.must(j.onLaptop(n, nil, "bash", "-c", fmt.Sprintf("echo %q > /dev/udp/%s/9", strings.TrimSpace(want), publicAddr)), 0)
			select {
			case p := <-got:
				if p != want {
					t.Errorf("%q came, want %q", p, want)
				}
			case <-time.After(5 * time.Second):
				t.Errorf("%q was lost", want)
			}
			if rows := j.flows("--kind", "udp"); len(rows) != 1 || rows[0].Bytes.Sent != int64(len(want)) {
				t.Errorf("%q: %+v", want, rows)
			}
		}
	}
}

// TestForged: packets with sources and destinations that cannot be, sent by a
// child that may, do no harm.
func TestForged(t *testing.T) {
	need(t, "/usr/bin/python3")
	n := newInternet(t)
	n.answer("[::]:7", func(p []byte) []byte { return p })
	py := fmt.Sprintf(`import socket,struct,random
raw=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_RAW)
sent=0
for i in range(3000):
  src=random.choice(["10.9.9.9","127.0.0.1","224.0.0.1","0.0.0.0","255.255.255.255",%[1]q])
  dst=random.choice([%[1]q,"127.0.0.1","224.0.0.251","255.255.255.255","203.0.113.255","240.0.0.1"])
  proto=random.choice([1,2,6,17,47,58,132,255])
  body=random.randbytes(random.randrange(60))
  p=struct.pack("!BBHHHBBH4s4s",0x45,0,20+len(body),i,random.choice([0,0,0x2000,0x1fff]),64,proto,0,socket.inet_aton(src),socket.inet_aton(dst))+body
  try: raw.sendto(p,(dst,0)); sent+=1
  except OSError: pass
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(1); s.connect((%[1]q,7))
for i in range(20): # the queue of the device may be full
  try:
    s.send(b"hello"); assert s.recv(10)==b"hello"; break
  except TimeoutError: pass
else: raise SystemExit("no answer")
print(sent)
`, publicAddr)
	for _, link := range []string{"wireguard", "direct"} {
		j := newJob(t, world{true, link, "auto"})
		r := j.must(j.onLaptop(n, nil, "/usr/bin/python3", "-c", py), 0)
		if sent, _ := strconv.Atoi(strings.TrimSpace(r.stdout)); sent < 500 {
			t.Errorf("%s: only %d were sent", link, sent)
		}
		rows := j.flows("--kind", "udp")
		good := slices.ContainsFunc(rows, func(r row) bool {
			return r.Conn.Dst == publicAddr+":7" && r.Bytes.Sent >= 5 && r.Bytes.Received >= 5 && r.State == "complete"
		})
		if !good {
			t.Errorf("%s: the honest datagram is not among %d rows", link, len(rows))
		}
	}
}
