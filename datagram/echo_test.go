package datagram_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trace/datagram"
	"trace/flow"
)

func newPing(child, host string, seq uint16, p []byte) ping {
	s := newSent(child, net.JoinHostPort(host, "0"), p)
	s.seq = seq
	return ping{s}
}

// TestEcho: echo replies come back from outside, by whatever socket the host
// permits.
func TestEcho(t *testing.T) {
	if !mayPing() {
		skip(t, "this user may not send echo requests")
	}
	for _, way := range []struct {
		name   string
		refuse int // type of socket
	}{{"first choice", -1}, {"raw", unix.SOCK_DGRAM}} {
		for _, c := range []struct{ host, child string }{{"127.0.0.1", child4}, {"::1", child6}} {
			r, rec := newRelay(t, func(r *datagram.Relay) {
				r.Socket = func(domain, typ, proto int) (int, error) {
					if typ&0xf == way.refuse {
						return -1, syscall.EACCES
					}
					return unix.Socket(domain, typ, proto)
				}
			})
			for seq, n := range []int{0, 56, 1400, 20000} {
				p := bytes.Repeat([]byte{byte(seq + 1)}, n)
				e := newPing(c.child, c.host, uint16(seq+65534), p)
				if !r.TakeEcho(e) {
					t.Fatal("not taken")
				}
				select {
				case err := <-e.refused:
					if way.refuse >= 0 && errors.Is(err, syscall.EPERM) {
						skip(t, "this user may not make raw sockets")
					}
					t.Fatal(err)
				case got := <-e.replies:
					if !bytes.Equal(got, p) {
						t.Errorf("%s, %s: %d bytes came back as %d", way.name, c.host, n, len(got))
					}
				}
				if ttl := get(t, e.ttls, "time to live"); ttl < 1 || ttl > 255 {
					t.Errorf("time to live %d", ttl)
				}
			}
			r.Close()
			ends := rec.of(flow.ConnEnd)
			if len(ends) != 1 || ends[0].Facts.Sent != 21456 || ends[0].Facts.Received != 21456 || ends[0].Facts.Protocol != "icmp" || ends[0].Facts.Error != nil {
				t.Errorf("%s, %s: %+v", way.name, c.host, ends)
			}
		}
	}
}

// TestEchoTwo: requests under two identifiers to one host are kept apart.
func TestEchoTwo(t *testing.T) {
	if !mayPing() {
		skip(t, "this user may not send echo requests")
	}
	r, rec := newRelay(t, nil)
	a := newPing("198.19.255.2:1", "127.0.0.1", 1, []byte("from a"))
	b := newPing("198.19.255.2:2", "127.0.0.1", 1, []byte("from b"))
	r.TakeEcho(a)
	r.TakeEcho(b)
	if x, y := get(t, a.replies, "reply"), get(t, b.replies, "reply"); string(x) != "from a" || string(y) != "from b" {
		t.Errorf("%q, %q", x, y)
	}
	r.Close()
	if len(a.replies)+len(b.replies) != 0 || len(rec.of(flow.ConnOpen)) != 2 {
		t.Error("a reply went to both")
	}
}

// TestEchoForbidden: where no socket may be made, the request is refused and
// the row says what would help.
func TestEchoForbidden(t *testing.T) {
	r, rec := newRelay(t, func(r *datagram.Relay) {
		r.Socket = func(int, int, int) (int, error) { return -1, syscall.EPERM }
	})
	e := newPing(child4, "192.0.2.1", 1, []byte("x"))
	r.TakeEcho(e)
	if err := get(t, e.refused, "refusal"); !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
	r.Close()
	ends := rec.of(flow.End)
	if len(ends) != 1 || ends[0].Error == nil || ends[0].Error.Code != datagram.CodeNoICMP || ends[0].Error.Hint == "" {
		t.Errorf("%+v", ends)
	}
}

// TestEchoUnreachable: an error about an echo request is about that one.
func TestEchoUnreachable(t *testing.T) {
	if !mayPing() {
		skip(t, "this user may not send echo requests")
	}
	r, rec := newRelay(t, nil)
	e := newPing(child4, "127.0.0.1", 9, []byte("x"))
	e.dst = netip.MustParseAddrPort("240.0.0.1:0") // class E: nobody routes it
	r.TakeEcho(e)
	select {
	case <-e.failed:
	case err := <-e.refused:
		t.Logf("refused: %v", err)
	case <-e.replies:
		t.Error("240.0.0.1 answered")
	case <-time.After(10 * time.Second):
		t.Error("nothing was said")
	}
	r.Close()
	if ends := rec.of(flow.End); len(ends) != 1 || ends[0].Error == nil {
		t.Errorf("%+v", ends)
	}
}
