package tcpstack_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trace/tcpstack"
)

// A pinger is a ping socket of the child.
type pinger struct {
	fd  int
	six bool
}

func newPinger(t *testing.T, s *space, host string) *pinger {
	t.Helper()
	addr := netip.MustParseAddr(host)
	p := &pinger{six: addr.Is6()}
	err := s.do(func() (err error) {
		if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err != nil {
			return err
		}
		domain, proto, level, opt := unix.AF_INET, unix.IPPROTO_ICMP, unix.SOL_IP, unix.IP_RECVERR
		to := unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(addr.AsSlice())})
		if p.six {
			domain, proto, level, opt = unix.AF_INET6, unix.IPPROTO_ICMPV6, unix.SOL_IPV6, unix.IPV6_RECVERR
			to = &unix.SockaddrInet6{Addr: addr.As16()}
		}
		if p.fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, proto); err != nil {
			return err
		}
		unix.SetsockoptInt(p.fd, level, opt, 1)
		unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
		return unix.Connect(p.fd, to)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// ping sends a request and returns the sequence number and the payload of
// what comes back.
func (p *pinger) ping(seq byte, payload []byte) (byte, []byte, error) {
	b := append([]byte{8, 0, 0, 0, 0, 0, 0, seq}, payload...)
	if p.six {
		b[0] = 128
	}
	if _, err := unix.Write(p.fd, b); err != nil {
		return 0, nil, err
	}
	buf := make([]byte, 1<<16)
	n, err := unix.Read(p.fd, buf)
	if err != nil {
		return 0, nil, err
	}
	return buf[7], buf[8:n], nil
}

// TestEcho answers some echo requests, refuses others, and passes on what a
// router had to say about a third kind. None is answered by itself.
func TestEcho(t *testing.T) {
	router4, router6 := netip.MustParseAddr("192.0.2.254"), netip.MustParseAddr("2001:db8:1::fe")
	opt := tcpstack.Options{Echo: func(e *tcpstack.Echo) bool {
		go func() {
			switch e.Seq() {
			case 1:
				if err := e.Reply(e.Payload(), e.TTL()-1); err != nil {
					t.Error(err)
				}
			case 2:
				e.Refuse(nil)
			case 3:
				if e.Dst().Addr().Is4() {
					e.Fail(router4, 11, 0)
				} else {
					e.Fail(router6, 3, 0)
				}
			}
		}()
		return e.Seq() != 4
	}}
	each(t, opt, func(t *testing.T, r *road) {
		for _, host := range []string{"192.0.2.53", "2001:db8:1::53"} {
			p := newPinger(t, r.space, host)
			for _, size := range []int64{0, 56, 1472, 20000, 65000} {
				msg, _ := io.ReadAll(noise(3, size))
				seq, got, err := p.ping(1, msg)
				if err != nil || seq != 1 || !bytes.Equal(got, msg) {
					t.Errorf("%s, %d bytes: %d bytes back, number %d, %v", host, size, len(got), seq, err)
				}
			}
			prohibited := syscall.EHOSTUNREACH
			if p.six {
				prohibited = syscall.EACCES
			}
			for seq, want := range map[byte]error{2: prohibited, 3: syscall.EHOSTUNREACH, 4: prohibited} {
				p := newPinger(t, r.space, host)
				start := time.Now()
				if _, _, err := p.ping(seq, []byte("hello")); !errors.Is(err, want) {
					t.Errorf("%s, request %d: %v after %v, want %v", host, seq, err, time.Since(start), want)
				}
			}
		}
		if s := r.stack.Stats(); s.Echoes != 14 || s.EchoesRefused != 4 || s.Malformed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestEchoNobody: without anybody to take it, an echo request is refused.
func TestEchoNobody(t *testing.T) {
	each(t, tcpstack.Options{}, func(t *testing.T, r *road) {
		for _, host := range []string{"192.0.2.53", "2001:db8:1::53"} {
			p := newPinger(t, r.space, host)
			if _, b, err := p.ping(1, []byte("hello")); !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.EACCES) {
				t.Errorf("%s: %q, %v", host, b, err)
			}
		}
	})
}
