package tcpstack_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/nettest"

	"trace/tcpstack"
)

// TestConn runs the tests that every net.Conn has to pass.
func TestConn(t *testing.T) {
	conns := make(chan net.Conn)
	opt := tcpstack.Options{Accept: func(in *tcpstack.Incoming) {
		c, err := in.Accept()
		if err != nil {
			t.Error(err)
		}
		conns <- c
	}}
	r := newRoad(t, "direct", "tun", opt)
	nettest.TestConn(t, func() (ours, theirs net.Conn, stop func(), err error) {
		theirs, err = r.dial("tcp", dst["tcp4"])
		if err != nil {
			return nil, nil, nil, err
		}
		ours = <-conns
		return ours, theirs, func() { ours.Close(); theirs.Close() }, nil
	})
}

// TestWaitRead waits for data, for the end, and for a deadline.
func TestWaitRead(t *testing.T) {
	done := make(chan struct{})
	waiting := make(chan struct{}, 3)
	opt := tcpstack.Options{Accept: accept(t, func(c *tcpstack.Conn) {
		defer close(done)
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if err := c.WaitRead(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		c.SetReadDeadline(time.Time{})
		waiting <- struct{}{}
		if err := c.WaitRead(); err != nil {
			t.Error(err)
		}
		buf := make([]byte, 100)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "data" {
			t.Errorf("%q, %v", buf[:n], err)
		}
		waiting <- struct{}{}
		if err := c.WaitRead(); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(buf); err != io.EOF {
			t.Errorf("%v, want EOF", err)
		}
	})}
	r := newRoad(t, "wireguard", "tun", opt)
	c, err := r.dial("tcp", dst["tcp6"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-waiting
	c.Write([]byte("data"))
	<-waiting
	closeWrite(t, c)
	<-done
}

// TestDeviceGone closes the device under a stack.
func TestDeviceGone(t *testing.T) {
	bad := []tcpstack.DeviceOptions{{MTU: 100}, {MTU: 70000}, {MTU: 1500, Ethernet: true}}
	for _, opt := range bad {
		opt.File = os.Stdin
		if _, err := tcpstack.NewDevice(opt); err == nil {
			t.Errorf("%+v: no error", opt)
		}
	}
	file, err := os.CreateTemp(t.TempDir(), "blocking")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := tcpstack.NewDevice(tcpstack.DeviceOptions{File: file, MTU: 1500}); err == nil {
		t.Error("a file that cannot be polled is taken")
	}
	s := newSpace(t)
	n := s.tun(t, 1500, 0)
	dev, err := tcpstack.NewDevice(tcpstack.DeviceOptions{File: n.file, MTU: 1500})
	if err != nil {
		t.Fatal(err)
	}
	down := make(chan error, 1)
	stack, err := tcpstack.New(tcpstack.Options{Link: dev, LinkDown: func(err error) { down <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer stack.Close()
	s.remove(t, "trace0")
	select {
	case err := <-down:
		t.Log(err)
	case <-time.After(5 * time.Second):
		t.Error("LinkDown is not called")
	}
}

// TestKeepAlive ends a connection whose other end does not answer any more,
// and none that only is silent.
func TestKeepAlive(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	r := newRoad(t, "wireguard", "tun", tcpstack.Options{KeepAlive: 20 * time.Millisecond, Accept: accept(t, func(c *tcpstack.Conn) {
		close(began)
		_, err := c.Read(make([]byte, 1))
		ended <- err
	})})
	err := r.space.do(func() error { // a kernel answers such questions twice a second, but for this
		return os.WriteFile("/proc/sys/net/ipv4/tcp_invalid_ratelimit", []byte("0"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.dial("tcp", dst["tcp4"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-began
	select {
	case err := <-ended:
		t.Fatalf("ended although the other end answers: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	err = r.space.do(func() error {
		l, err := netlink.LinkByName("trace0")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("%v, want ETIMEDOUT", err)
	}
}
