package mirror

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestOriginalGone: a connection that the mirror took for a service that is no
// longer there is reset, and the next one refused.
func TestOriginalGone(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		host := serveHost(t, "tcp4", "127.0.0.1:0")
		w := newWorld(t, &Mirror{Interval: 500 * time.Millisecond}, host)
		w.must("ok x", "ask %v x", host.Addr())
		host.Close()
		w.must("ECONNRESET", "ask %v x", host.Addr())
		eventually(t, "refused", func() bool { return w.do("ask %v x", host.Addr()) == "ECONNREFUSED" })
	})
}

// TestHelperKilled: nothing new is mirrored, the rest goes on.
func TestHelperKilled(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		host := serveHost(t, "tcp4", "127.0.0.1:0")
		w := newWorld(t, &Mirror{}, host)
		addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		w.must("ok", "listen tcp4 %s", addr)
		eventually(t, "reachable", func() bool { return ask(addr, "x") == "ok x" })
		held, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		if got := say(held, "before"); got != "ok before" {
			t.Fatal(got)
		}
		unix.Kill(w.ns.HelperPID(), unix.SIGKILL)
		eventually(t, "refused outside", func() bool { return ask(addr, "x") == "ECONNREFUSED" })
		if got := say(held, "after"); got != "ok after" {
			t.Error(got)
		}
		w.must("ok x", "ask %v x", host.Addr())
		late := foreign(t, serveHost(t, "tcp4", "127.0.0.1:0"))
		w.must("ok", "listen tcp4 127.0.0.1:0")
		host.Close()
		eventually(t, "refused inside", func() bool { return w.do("ask %v x", host.Addr()) == "ECONNREFUSED" })
		w.must("ECONNREFUSED", "ask %v x", late.Addr())
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.notes) != 1 || w.notes[0].Kind != HelperGone {
			t.Errorf("%v", w.notes)
		}
	})
}

// TestHelperStopped: a helper that does not answer delays mirrors and no more.
func TestHelperStopped(t *testing.T) {
	w := newWorld(t, &Mirror{})
	unix.Kill(w.ns.HelperPID(), unix.SIGSTOP)
	host := foreign(t, serveHost(t, "tcp4", "127.0.0.1:0"))
	if got := w.do("ask %v x", host.Addr()); got != "ECONNREFUSED" {
		t.Error(got)
	}
	unix.Kill(w.ns.HelperPID(), unix.SIGCONT)
	eventually(t, "reachable", func() bool { return w.do("ask %v x", host.Addr()) == "ok x" })
}

// TestFlood: listeners by the thousand cost the child its own mirrors only.
func TestFlood(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		host := serveHost(t, "tcp4", "127.0.0.2:0") // an address that the flood leaves alone
		w := newWorld(t, &Mirror{Log: func(string, ...any) {}}, host)
		w.must("ok", "flood 3000")
		eventually(t, "limit", func() bool { return len(w.noted(Limit)) > 0 })
		if n := mirrorsOutside(t); n > maxOutside {
			t.Errorf("%d mirrors", n)
		}
		w.must("ok x", "ask %v x", host.Addr())
		late := foreign(t, serveHost(t, "tcp4", "127.0.0.2:0"))
		eventually(t, "a new service", func() bool { return w.do("ask %v x", late.Addr()) == "ok x" })
		if ns := w.noted(Limit); len(ns) != 1 || !ns[0].Child {
			t.Errorf("%v", ns)
		}
	})
}

// mirrorsOutside counts the listeners of this process.
func mirrorsOutside(t *testing.T) (n int) {
	t.Helper()
	d, err := diagHere()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if _, _, err := d.look(nil); err != nil {
		t.Fatal(err)
	}
	own, err := ownSockets()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range d.list {
		if own[l.inode] {
			n++
		}
	}
	return n
}

// TestSwarm: connections beyond the limit wait until there is room.
func TestSwarm(t *testing.T) {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); limit.Cur < 3*maxConns {
		skip(t, "%d descriptors are too few", limit.Cur)
	}
	l := mustListen(t)
	taken := make(chan net.Conn, 2*maxConns)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taken <- c
		}
	}()
	w := newWorld(t, &Mirror{}, l)
	w.must("ok", "swarm %v %d", l.Addr(), maxConns+100)
	for range maxConns {
		(<-taken).Close() // the agent does not close its end: the slot stays taken
	}
	select {
	case <-taken:
		t.Error("one too many")
	case <-time.After(100 * time.Millisecond):
	}
	w.in.Close() // the agent ends
	for range 100 {
		select {
		case c := <-taken:
			c.Close()
		case <-time.After(5 * time.Second):
			t.Fatal("those that waited were not carried")
		}
	}
}

// TestClose leaves no goroutine, descriptor or listener, whatever was going on.
func TestClose(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		once := func() {
			host := serveHost(t, "tcp4", "127.0.0.1:0")
			defer host.Close()
			w := newWorld(t, &Mirror{}, host)
			addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			w.must("ok", "listen tcp4 %s", addr)
			eventually(t, "reachable", func() bool { return ask(addr, "x") == "ok x" })
			w.must("ok", "hold %v", host.Addr())
			w.must("ok x", "say x")
			held, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			say(held, "x")
			if err := w.m.Close(); err != nil {
				t.Error(err)
			}
			if got := ask(addr, "x"); got != "ECONNREFUSED" {
				t.Error(got)
			}
			w.must("ECONNREFUSED", "ask %v x", host.Addr())
			w.must("ECONNRESET", "say x")
			held.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.ReadAll(held); name(err) != "ECONNRESET" {
				t.Error(err)
			}
			w.in.Close()
			w.ns.Wait()
			w.ns.Close()
		}
		once()
		before := goleak.IgnoreCurrent()
		once()
		goleak.VerifyNone(t, before)
	})
}

// TestNoDiag: a side that cannot be looked at is an error of Start.
func TestNoDiag(t *testing.T) {
	w := prepare(t, &Mirror{}, "agent")
	if err := w.ns.Go(); err != nil { // before, others make sockets too
		t.Fatal(err)
	}
	unix.Kill(w.ns.HelperPID(), unix.SIGKILL)
	<-w.ns.HelperDone()
	err := w.m.Start(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "mirror localhost: ") {
		t.Errorf("%v", err)
	}
	if err := w.m.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := &Mirror{Inside: noInside{}}
	if err := m.Start(ctx); err == nil {
		t.Error("started though cancelled")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := new(Mirror).Close(); err != nil {
		t.Errorf("never started: %v", err)
	}
}

// noInside has this process's own namespace inside, where nothing can be made.
type noInside struct{}

func (noInside) Listen(ctx context.Context, _, _ string) (*net.TCPListener, error) {
	return nil, unix.EACCES
}
func (noInside) Dial(ctx context.Context, _, _ string) (net.Conn, error) { return nil, unix.EACCES }
func (noInside) HelperDone() <-chan struct{}                             { return nil }
func (noInside) Diag(context.Context) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	return os.NewFile(uintptr(fd), "diag"), err
}
