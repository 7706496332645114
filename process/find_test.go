package process

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKinds finds the holder of every kind of socket.
func TestKinds(t *testing.T) {
	both(t, func(t *testing.T) {
		for _, c := range []struct{ kind, addr string }{
			{"tcp", "192.0.2.1:443"}, {"tcp", "[2001:db8:ffff::1]:443"}, {"mapped", "192.0.2.1:443"},
			{"bound", "192.0.2.1:443"}, {"bound", "[2001:db8:ffff::1]:443"}, {"mptcp", "192.0.2.1:443"},
			{"udp", "192.0.2.1:123"}, {"udp", "[2001:db8:ffff::1]:123"}, {"datagram", "192.0.2.1:123"},
			{"datagram", "[2001:db8:ffff::1]:123"}, {"mapped-udp", "192.0.2.1:123"}, {"bound-udp", "192.0.2.1:123"},
		} {
			t.Run(c.kind+" "+c.addr, func(t *testing.T) {
				if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP); err == nil {
					unix.Close(fd)
				} else if c.kind == "mptcp" {
					skip(t, "multipath TCP: %v", err)
				}
				w := newWorld(t, "connect", c.kind, c.addr)
				p := w.next()
				if p.dst.String() != c.addr {
					t.Fatalf("%v → %v", p.src, p.dst)
				}
				got := w.find(p)
				exe, _ := os.Executable()
				if got.PID != w.ns.PID() || got.Exe != exe || len(got.Parents) != 0 || !slices.Equal(got.Argv, []string{exe, c.kind, c.addr}) {
					t.Errorf("%+v, want %d %s", got, w.ns.PID(), exe)
				}
			})
		}
	})
}

// TestNobody asks for what no process of the namespace has.
func TestNobody(t *testing.T) {
	both(t, func(t *testing.T) {
		w := newWorld(t, "connect", "tcp", "192.0.2.1:443")
		p := w.next()
		forged := *p
		forged.src = netipPort(p.src, p.src.Port()+1)
		udp := *p
		udp.network = "udp"
		for name, q := range map[string]packet{"forged": forged, "udp": udp} {
			if got := w.finder.Find(q.src, q.dst, q.network); got != nil {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if got := w.find(p); got.PID != w.ns.PID() {
			t.Errorf("%+v", got)
		}
		w.refuse(p)
		<-w.ended
		if got := w.finder.Find(p.src, p.dst, "tcp"); got != nil {
			t.Errorf("ended: %+v", got)
		}
		if err := w.diag.Close(); err != nil {
			t.Fatal(err)
		}
		if got := w.finder.Find(p.src, p.dst, "tcp"); got != nil {
			t.Errorf("without sock_diag: %+v", got)
		}
		w = newWorld(t, "listen")
		listener := netip.AddrPortFrom(addr4.Addr(), uint16(w.hear("port")))
		if got := w.finder.Find(listener, p.dst, "tcp"); got != nil {
			t.Errorf("of a listener: %+v", got)
		}
	})
}

// TestParents tells the way up to the child, and what is left of it for an orphan.
func TestParents(t *testing.T) {
	both(t, func(t *testing.T) {
		w := newWorld(t, "tree", "3", "192.0.2.1:80")
		got := w.find(w.next())
		if len(got.Parents) != 2 || got.Parents[1] != w.ns.PID() || got.Argv[1] != "1" {
			t.Errorf("%+v below %d", got, w.ns.PID())
		}
		w = newWorld(t, "tree", "orphan", "192.0.2.1:80")
		p := w.next()
		<-w.ended
		got = w.find(p)
		if len(got.Parents) != 0 || got.PID == w.ns.PID() || got.Argv[1] != "tcp" {
			t.Errorf("orphan %+v of %d", got, w.ns.PID())
		}
		// It is found without having been noticed when it came, too.
		w.finder = &Finder{Diag: w.diag, Root: w.ns.PID(), NetNS: 1}
		if got := w.find(p); got.Argv[1] != "tcp" {
			t.Errorf("%+v", got)
		}
	})
}

// TestSeveralHolders names the deepest, unless it is a child of vfork that did not begin yet.
func TestSeveralHolders(t *testing.T) {
	both(t, func(t *testing.T) {
		w := newWorld(t, "hand", "2", "192.0.2.1:80", "0")
		p := w.next()
		deepest := w.hear("inherited")
		for range 2 {
			if got := w.find(p); got.PID != deepest || len(got.Parents) != 2 || got.Parents[1] != w.ns.PID() {
				t.Errorf("%+v, want %d", got, deepest)
			}
			slices.SortFunc(w.finder.view.known, func(a, b *candidate) int { return a.pid - b.pid }) // the least deep first
			clear(w.finder.view.seen)
		}
		w = newWorld(t, "vfork", "192.0.2.1:80", copyOf(t, 0o755))
		if got := w.find(w.next()); got.PID != w.ns.PID() {
			t.Errorf("%+v, want %d", got, w.ns.PID())
		}
	})
}

// TestExec describes the program that is there now.
func TestExec(t *testing.T) {
	both(t, func(t *testing.T) {
		w := newWorld(t, "become", "192.0.2.1:80")
		p := w.next()
		pid := w.hear("became")
		got := w.find(p)
		sh, _ := os.Readlink("/proc/self/root/bin/sh")
		if got.PID != pid || pid != w.ns.PID() || !slices.Equal(got.Argv, []string{"sh", "-c", "echo became $$; read x", "new name"}) ||
			!strings.HasSuffix(got.Exe, sh) {
			t.Errorf("%+v", got)
		}
	})
}

// TestHeadless finds a process by the threads that are left of it.
func TestHeadless(t *testing.T) {
	both(t, func(t *testing.T) {
		w := newWorld(t, "headless", "tcp", "192.0.2.1:80")
		got := w.find(w.next())
		exe, _ := os.Executable()
		if got.PID != w.ns.PID() || len(got.Argv) != 3 || got.Exe != exe {
			t.Errorf("%+v", got)
		}
	})
}

// TestClosedDoors finds processes whose descriptors are hidden from this user.
func TestClosedDoors(t *testing.T) {
	both(t, func(t *testing.T) {
		w := newWorld(t, "hide", "tcp", "192.0.2.1:80")
		p := w.next()
		got := w.find(p)
		if exe, _ := os.Executable(); got.PID != w.ns.PID() || got.Exe != exe || len(got.Argv) != 3 {
			t.Errorf("not dumpable: %+v", got)
		}
		sealed := os.Getenv("PROCESS_TEST_SEALED")
		if sealed == "" {
			return // root reads everything
		}
		w = runWorld(t, "connect", "sh", "-c", sealed+" tcp 192.0.2.1:80 & echo started $!; wait")
		p = w.next()
		pid := w.hear("started")
		got = w.find(p)
		if got.PID != pid || got.Exe != "" || !slices.Equal(got.Argv, []string{sealed, "tcp", "192.0.2.1:80"}) || len(got.Parents) != 1 {
			t.Errorf("sealed: %+v, want %d", got, pid)
		}
		// Two strangers: no telling whose it is.
		w = runWorld(t, "connect", "sh", "-c", sealed+" tcp 192.0.2.1:80 & "+sealed+" tcp 192.0.2.1:81 & wait")
		p, _ = w.next(), w.next()
		if got := w.finder.Find(p.src, p.dst, "tcp"); got != nil {
			t.Errorf("one of two strangers: %+v", got)
		}
	})
}

// TestSandbox finds processes in namespaces of their own.
func TestSandbox(t *testing.T) {
	both(t, func(t *testing.T) {
		if _, err := exec.LookPath("bwrap"); err != nil {
			skip(t, "%v", err)
		}
		exe, _ := os.Executable()
		for _, flags := range []string{"--unshare-user --unshare-pid", "--unshare-all --share-net --tmpfs /home --die-with-parent"} {
			argv := append([]string{"bwrap", "--dev-bind", "/", "/", "--proc", "/proc"}, strings.Fields(flags)...)
			w := runWorld(t, "tree", append(argv, exe, "2", "192.0.2.1:80")...)
			got := w.find(w.next())
			if got.PID == w.ns.PID() || got.Exe != exe || len(got.Argv) != 3 || got.Argv[1] != "1" ||
				len(got.Parents) < 2 || got.Parents[len(got.Parents)-1] != w.ns.PID() {
				t.Errorf("%s: %+v below %d", flags, got, w.ns.PID())
			}
		}
	})
}
