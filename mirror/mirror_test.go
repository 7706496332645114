package mirror

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mapped listens on an IPv4-mapped address by an IPv6 socket, as Java does.
func mapped(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	sa := &unix.SockaddrInet6{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}}
	if err := unix.Bind(fd, sa); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		t.Fatal(err)
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			p := make([]byte, 100)
			n, _ := unix.Read(c, p)
			unix.Write(c, p[:n])
			unix.Close(c)
		}
	}()
	return got.(*unix.SockaddrInet6).Port
}

// TestHostServices: what listens on the host is there from the first
// instruction, at the addresses that lead to it on the host and at no others.
func TestHostServices(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		var services []*net.TCPListener
		serve := func(network, addr string) int {
			l := serveHost(t, network, addr)
			services = append(services, l)
			return portOf(l)
		}
		plain := serve("tcp4", "127.0.0.1:0")
		six := serve("tcp6", "[::1]:0")
		second := serve("tcp4", "127.0.0.2:0")
		any4 := serve("tcp4", "0.0.0.0:0")
		any6 := serve("tcp6", "[::]:0")
		dual := serve("tcp", "[::]:0")
		own := portOf(serveHost(t, "tcp4", "127.0.0.1:0"))
		w := newWorld(t, &Mirror{Exclude: func(port uint16) bool { return int(port) == any6 }}, services...)
		for _, c := range []struct {
			host string
			port int
			want string
		}{
			{"127.0.0.1", plain, "ok x"}, {"[::1]", plain, "ECONNREFUSED"}, {"127.0.0.2", plain, "ECONNREFUSED"},
			{"127.0.0.1", six, "ECONNREFUSED"}, {"[::1]", six, "ok x"},
			{"127.0.0.1", second, "ECONNREFUSED"}, {"127.0.0.2", second, "ok x"},
			{"127.0.0.1", any4, "ok x"}, {"[::1]", any4, "ECONNREFUSED"}, {"127.3.2.1", any4, "ok x"},
			{"198.19.255.2", any4, "ok x"}, // its own address
			{"127.0.0.1", dual, "ok x"}, {"[::1]", dual, "ok x"}, {"[2001:db8:1:2::2]", dual, "ok x"},
			{"127.0.0.1", any6, "ECONNREFUSED"}, {"[::1]", any6, "ECONNREFUSED"}, // excluded
			{"127.0.0.1", own, "ECONNREFUSED"},
			{"127.0.0.1", freePort(t), "ECONNREFUSED"},
		} {
			w.must(c.want, "ask %s:%d x", c.host, c.port)
		}
		for _, c := range []struct {
			network, host string
			port          int
			want          string
		}{
			{"tcp4", "127.0.0.1", plain, "EADDRINUSE"}, {"tcp4", "0.0.0.0", plain, "EADDRINUSE"}, {"tcp", "[::]", plain, "EADDRINUSE"},
			{"tcp6", "[::1]", plain, "ok"}, {"tcp4", "127.0.0.7", any4, "EADDRINUSE"}, {"tcp4", "198.19.255.2", any4, "EADDRINUSE"},
			{"tcp6", "[::1]", six, "EADDRINUSE"}, {"tcp6", "[::1]", dual, "EADDRINUSE"}, {"tcp4", "127.0.0.1", dual, "EADDRINUSE"},
		} {
			w.must(c.want, "listen %s %s:%d", c.network, c.host, c.port)
		}
		java := mapped(t)
		foreignAll(t, java)
		eventually(t, "IPv4-mapped", func() bool { return w.do("ask 127.0.0.1:%d x", java) == "ok x" })
		if len(w.notes) > 0 {
			t.Errorf("%v", w.notes)
		}
	})
}

// foreignAll is foreign for whatever of this process listens on a port.
func foreignAll(t testing.TB, port int) {
	t.Helper()
	for fd := range 1024 {
		sa, err := unix.Getsockname(fd)
		if sa6, ok := sa.(*unix.SockaddrInet6); err == nil && ok && sa6.Port == port {
			unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		}
	}
}

// TestServiceComesAndGoes follows a service of the host.
func TestServiceComesAndGoes(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		w := newWorld(t, &Mirror{})
		port := freePort(t)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		for _, at := range []string{addr, fmt.Sprintf(":%d", port), addr} {
			w.must("ECONNREFUSED", "ask %s x", addr)
			l := foreign(t, serveHost(t, "tcp4", at))
			eventually(t, "reachable inside", func() bool { return w.do("ask %s x", addr) == "ok x" })
			w.must("ok", "hold %s", addr)
			w.must("ok before", "say before")
			w.must("EADDRINUSE", "listen tcp4 %s", addr)
			l.Close()
			eventually(t, "refused inside", func() bool { return w.do("ask %s x", addr) == "ECONNREFUSED" })
			w.must("ok goes-on", "say goes-on")
		}
		// Now it is the child's, and after that the host's again.
		w.must("ok", "listen tcp4 %s", addr)
		eventually(t, "reachable outside", func() bool { return ask(addr, "x") == "ok x" })
		w.must("ok", "close %s", addr)
		eventually(t, "refused outside", func() bool { return ask(addr, "x") == "ECONNREFUSED" })
		l := foreign(t, serveHost(t, "tcp4", addr))
		eventually(t, "reachable inside", func() bool { return w.do("ask %s x", addr) == "ok x" })
		// A change from one address to another at once.
		l.Close()
		foreign(t, serveHost(t, "tcp4", fmt.Sprintf("0.0.0.0:%d", port)))
		eventually(t, "wildcard inside", func() bool { return w.do("ask 127.0.0.9:%d x", port) == "ok x" })
		if len(w.notes) > 0 {
			t.Errorf("%v", w.notes)
		}
	})
}

// TestChildListeners: what listens inside is there for the host, on loopback only.
func TestChildListeners(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		w := newWorld(t, &Mirror{})
		other := otherAddress()
		for _, c := range []struct {
			network, host string
			four, six     bool
		}{
			{"tcp4", "127.0.0.1", true, false},
			{"tcp6", "[::1]", false, true},
			{"tcp4", "0.0.0.0", true, false},
			{"tcp6", "[::]", false, true},
			{"tcp", "[::]", true, true},
			{"tcp4", "198.19.255.2", false, false},
		} {
			port := freePort(t)
			w.must("ok", "listen %s %s:%d", c.network, c.host, port)
			addr4, addr6 := fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("[::1]:%d", port)
			check := func(addr string, there bool) {
				t.Helper()
				if !there {
					if got := ask(addr, "x"); got != "ECONNREFUSED" {
						t.Errorf("%s %s: %s: %s", c.network, c.host, addr, got)
					}
					return
				}
				eventually(t, c.network+" "+c.host+" on "+addr, func() bool { return ask(addr, "x") == "ok x" })
				if l, err := net.Listen("tcp", addr); name(err) != "EADDRINUSE" {
					t.Errorf("bind %s: %v", addr, err)
					l.Close()
				}
			}
			check(addr4, c.four)
			check(addr6, c.six)
			check(addr4, c.four) // nothing came up meanwhile
			if other != "" {
				check(net.JoinHostPort(other, fmt.Sprint(port)), false)
			}
			held, err := net.Dial("tcp", map[bool]string{true: addr4, false: addr6}[c.four])
			if err == nil {
				if got := say(held, "before"); got != "ok before" {
					t.Error(got)
				}
			}
			w.must("ok", "close %s:%d", c.host, port)
			if held != nil {
				eventually(t, "refused", func() bool { return ask(addr4, "x") == "ECONNREFUSED" && ask(addr6, "x") == "ECONNREFUSED" })
				if got := say(held, "after"); got != "ok after" {
					t.Errorf("a connection whose listener was closed: %s", got)
				}
				held.Close()
			}
		}
		if len(w.notes) > 0 {
			t.Errorf("%v", w.notes)
		}
	})
}

// otherAddress returns an address of this machine that others can reach.
func otherAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return ""
}

// TestBoth: a port that both sides came to hold is each one's own until one
// lets go.
func TestBoth(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		w := newWorld(t, &Mirror{Interval: 400 * time.Millisecond})
		port := freePort(t)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l := foreign(t, serveHost(t, "tcp", fmt.Sprintf("[::]:%d", port)))
		w.must("ok", "listen tcp [::]:%d", port)
		eventually(t, "note", func() bool { return len(w.noted(Both)) > 0 })
		w.must("ok inside", "ask %s inside", addr)
		if got := ask(addr, "outside"); got != "ok outside" {
			t.Error(got)
		}
		held, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		l.Close()
		eventually(t, "the child's, outside", func() bool { return ask(addr, "x") == "ok x" && ask(fmt.Sprintf("[::1]:%d", port), "x") == "ok x" })
		if ns := w.noted(Both); len(ns) != 1 || int(ns[0].Port) != port || !strings.Contains(ns[0].String(), fmt.Sprint(port)) {
			t.Errorf("%v", ns)
		}
	})
}

// TestDenied: a port that only root may bind is asked for once.
func TestDenied(t *testing.T) {
	if portMayBeBound() {
		asUser(t)
		return
	}
	w := prepare(t, &Mirror{}, "agent")
	l, err := w.ns.Listen(t.Context(), "tcp4", "127.0.0.1:443")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	foreign(t, l)
	w.start()
	port := freePort(t)
	for range 3 { // passes with something to do
		w.must("ok", "listen tcp4 127.0.0.1:%d", port)
		eventually(t, "reachable", func() bool { return ask(fmt.Sprintf("127.0.0.1:%d", port), "x") == "ok x" })
		w.must("ok", "close 127.0.0.1:%d", port)
		eventually(t, "refused", func() bool { return ask(fmt.Sprintf("127.0.0.1:%d", port), "x") == "ECONNREFUSED" })
	}
	if ns := w.noted(Denied); len(ns) != 1 || ns[0].Port != 443 || !ns[0].Child || ns[0].Err != unix.EACCES {
		t.Errorf("%v", w.notes)
	}
}

func portMayBeBound() bool {
	l, err := net.Listen("tcp4", "127.0.0.1:443")
	if err != nil {
		return name(err) == "EADDRINUSE"
	}
	l.Close()
	return true
}
