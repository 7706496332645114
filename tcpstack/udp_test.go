package tcpstack_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"trace/tcpstack"
)

// TestDatagram answers datagrams to port 53, small ones and ones that have to
// be cut, and refuses others at once.
func TestDatagram(t *testing.T) {
	opt := tcpstack.Options{Datagram: func(d *tcpstack.Datagram) bool {
		if d.Dst().Port() != 53 {
			return false
		}
		d.Go(func() {
			if err := d.Reply(append([]byte(d.Dst().String()+" "), d.Payload()...)); err != nil {
				t.Error(err)
			}
		})
		return true
	}}
	each(t, opt, func(t *testing.T, r *road) {
		for _, host := range []string{"192.0.2.53", "2001:db8:1::53"} {
			addr := net.JoinHostPort(host, "53")
			c, err := r.dial("udp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			buf := make([]byte, 1<<16)
			for _, size := range []int{0, 1, 511, 1400, 4096, 20000} {
				msg, _ := io.ReadAll(noise(9, int64(size)))
				if _, err := c.Write(msg); err != nil {
					t.Fatalf("%s, %d bytes: %v", addr, size, err)
				}
				n, err := c.Read(buf)
				if want := append([]byte(addr+" "), msg...); err != nil || !bytes.Equal(buf[:n], want) {
					t.Errorf("%s, %d bytes: answer of %d bytes, %v", addr, size, n, err)
				}
			}

			c, err = r.dial("udp", net.JoinHostPort(host, "443"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for range 100 { // no limit on the rate
				start := time.Now()
				c.SetDeadline(start.Add(time.Second))
				c.Write([]byte("QUIC, please"))
				if _, err := c.Read(buf); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Fatalf("%s: %v after %v, want ECONNREFUSED", host, err, time.Since(start))
				}
			}
		}
		if s := r.stack.Stats(); s.Datagrams != 12 || s.DatagramsRefused != 200 || s.Malformed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestDatagramSegments sends datagrams that the kernel may leave uncut.
func TestDatagramSegments(t *testing.T) {
	var mu sync.Mutex
	var got [][]byte
	all := make(chan struct{})
	opt := tcpstack.Options{Datagram: func(d *tcpstack.Datagram) bool {
		mu.Lock()
		defer mu.Unlock()
		if got = append(got, d.Payload()); len(got) == 5 {
			close(all)
		}
		return true
	}}
	each(t, opt, func(t *testing.T, r *road) {
		for _, host := range []string{"192.0.2.53:53", "[2001:db8:1::53]:53"} {
			mu.Lock()
			got, all = nil, make(chan struct{})
			mu.Unlock()
			c, err := r.dial("udp", host)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			raw, _ := c.(*net.UDPConn).SyscallConn()
			raw.Control(func(fd uintptr) {
				const udpSegment = 103
				if err := syscall.SetsockoptInt(int(fd), syscall.IPPROTO_UDP, udpSegment, 1000); err != nil {
					t.Fatal(err)
				}
			})
			msg, _ := io.ReadAll(noise(5, 4321))
			if _, err := c.Write(msg); err != nil {
				t.Fatal(err)
			}
			wait(t, all, "all datagrams")
			mu.Lock()
			for i, p := range got {
				if want := msg[i*1000 : min(len(msg), (i+1)*1000)]; !bytes.Equal(p, want) {
					t.Errorf("%s: datagram %d: %d bytes, want %d", host, i, len(p), len(want))
				}
			}
			mu.Unlock()
		}
	})
}

// TestDatagramFlood has more datagrams than goroutines are allowed.
func TestDatagramFlood(t *testing.T) {
	const n = 1500
	release := make(chan struct{})
	opt := tcpstack.Options{Datagram: func(d *tcpstack.Datagram) bool {
		d.Go(func() { <-release })
		return true
	}}
	r := newRoad(t, "direct", "tun", opt)
	c, err := r.dial("udp", "192.0.2.53:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range uint64(n) {
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		// One at a time, or the child's kernel drops some by itself.
		for deadline := time.Now().Add(5 * time.Second); r.stack.Stats().Datagrams <= i; {
			if time.Now().After(deadline) {
				t.Fatalf("datagram %d did not come: %+v", i, r.stack.Stats())
			}
			runtime.Gosched()
		}
	}
	if s := r.stack.Stats(); s.Datagrams != n || s.DatagramsDropped != n-1024 {
		t.Errorf("%+v", s)
	}
	close(release)
}
