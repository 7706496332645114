package mirror

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := listenPlain("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	a = c.(*net.TCPConn)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// joined returns the outer ends of two connections that join carries, and a
// channel that is closed when it is over.
func joined(t *testing.T) (a, b *net.TCPConn, over chan struct{}, cancel func()) {
	t.Helper()
	a, a2 := pair(t)
	b2, b := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	over = make(chan struct{})
	go func() { join(ctx, a2, b2); close(over) }()
	for _, c := range []net.Conn{a, b} {
		c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return a, b, over, cancel
}

// TestHalfClose: either end may go on after the other has ended its direction.
func TestHalfClose(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a, b, over, _ := joined(t)
	question, answer := make([]byte, 3<<20), make([]byte, 5<<20)
	rand.Read(question)
	rand.Read(answer)
	go func() { a.Write(question); a.CloseWrite() }()
	got, err := io.ReadAll(b)
	if !bytes.Equal(got, question) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	select {
	case <-over:
		t.Fatal("over after one direction")
	default:
	}
	go func() { b.Write(answer); b.Close() }()
	got, err = io.ReadAll(a)
	if !bytes.Equal(got, answer) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	<-over
}

// TestReset: what was sent before a reset arrives, then the reset.
func TestReset(t *testing.T) {
	for _, back := range []bool{false, true} {
		a, b, over, _ := joined(t)
		if back {
			a, b = b, a
		}
		data := make([]byte, 1<<20)
		rand.Read(data)
		read := make(chan error, 1)
		var got bytes.Buffer
		go func() {
			_, err := got.ReadFrom(b)
			read <- err
		}()
		a.Write(data)
		for e := (&end{conn: a, raw: rawOf(t, a)}); e.unsent() > 0; {
			time.Sleep(time.Millisecond) // a reset takes with it what the kernel has not sent
		}
		time.Sleep(50 * time.Millisecond) // nor read from the other socket
		reset(a)
		if err := <-read; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("ended with %v", err)
		}
		if !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d bytes of %d", got.Len(), len(data))
		}
		<-over
	}
}

func rawOf(t *testing.T, c *net.TCPConn) syscall.RawConn {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestResetWhileWriting: one end goes away while the other sends without pause.
func TestResetWhileWriting(t *testing.T) {
	a, b, over, _ := joined(t)
	written := make(chan error, 1)
	go func() {
		_, err := io.Copy(a, endless{})
		written <- err
	}()
	io.CopyN(io.Discard, b, 1<<20)
	reset(b)
	if err := <-written; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%v", err)
	}
	<-over
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestStop: Close resets what is open, also towards an end that does not read.
func TestStop(t *testing.T) {
	a, b, over, cancel := joined(t)
	go io.Copy(a, endless{})
	io.CopyN(io.Discard, b, 1<<20)
	cancel()
	<-over
	if _, err := io.Copy(io.Discard, b); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
}

// TestEndsCarried: a reset and a half-close go through real mirrors in both
// directions.
func TestEndsCarried(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		host := serveHost(t, "tcp4", "127.0.0.1:0")
		w := newWorld(t, &Mirror{}, host)
		w.must("ok half", "ask %v half", host.Addr())
		w.must("ECONNRESET", "ask %v abort", host.Addr())
		addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		w.must("ok", "listen tcp4 %s", addr)
		eventually(t, "reachable", func() bool { return ask(addr, "half") == "ok half" })
		if got := ask(addr, "abort"); got != "ECONNRESET" {
			t.Error(got)
		}
		// The client resets: its server gets to know.
		l := foreign(t, mustListen(t))
		eventually(t, "reachable", func() bool { return w.do("hold %v", l.Addr()) == "ok" })
		c, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w.must("ok", "abort")
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v", err)
		}
	})
}

func mustListen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := listenPlain("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestSettle: what a program sent before it ended arrives, and nobody waits for
// one that goes on.
func TestSettle(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		const size = 1 << 20
		l, echo := mustListen(t), serveHost(t, "tcp4", "127.0.0.1:0")
		w := newWorld(t, &Mirror{}, l, echo)
		received := make(chan int, 1)
		go func() {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			defer c.Close()
			time.Sleep(30 * time.Millisecond) // a service at work
			p, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("service: %v", err)
			}
			received <- len(p)
		}()
		w.must("ok", "hold %v", echo.Addr())
		w.must("ok x", "say x")
		w.must("ok", "blurt %v %d", l.Addr(), size)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		w.m.Settle(ctx)
		if err := ctx.Err(); err != nil {
			t.Error(err)
		}
		if err := w.m.Close(); err != nil {
			t.Error(err)
		}
		if n := <-received; n != size {
			t.Errorf("%d bytes of %d", n, size)
		}
	})
}
