package datagram_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"trace/datagram"
	"trace/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A sent is a packet of a child that is not there.
type sent struct {
	src, dst netip.AddrPort
	payload  []byte
	seq      uint16
	ttl      int

	replies chan []byte
	ttls    chan int
	refused chan error
	failed  chan failure
}

type failure struct {
	from      netip.Addr
	typ, code uint8
}

func newSent(src, dst string, p []byte) *sent {
	return &sent{src: netip.MustParseAddrPort(src), dst: netip.MustParseAddrPort(dst), payload: p, ttl: 64,
		replies: make(chan []byte, 64), ttls: make(chan int, 100), refused: make(chan error, 32), failed: make(chan failure, 32)}
}

func (s *sent) Src() netip.AddrPort { return s.src }
func (s *sent) Dst() netip.AddrPort { return s.dst }
func (s *sent) TTL() int            { return s.ttl }
func (s *sent) Payload() []byte     { return s.payload }
func (s *sent) Forget()             { s.payload = nil }
func (s *sent) Refuse(err error) {
	select {
	case s.refused <- err:
	default:
	}
}
func (s *sent) Fail(from netip.Addr, typ, code uint8) {
	select {
	case s.failed <- failure{from, typ, code}:
	default:
	}
}
func (s *sent) Reply(p []byte) error {
	s.replies <- slices.Clone(p)
	return nil
}

// again is the same packet with another payload; its answers come together
// with those of s.
func (s *sent) again(p []byte) *sent {
	c := *s
	c.payload = p
	return &c
}

// A ping is an echo request of a child that is not there.
type ping struct{ *sent }

func (p ping) Seq() uint16 { return p.seq }
func (p ping) Reply(b []byte, ttl int) error {
	p.replies <- slices.Clone(b)
	p.ttls <- ttl
	return nil
}

// A record keeps events.
type record struct {
	mu     sync.Mutex
	events []flow.Event
}

func (r *record) add(e flow.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Data = slices.Clone(e.Data)
	r.events = append(r.events, e)
}

func (r *record) of(kind flow.Kind) []flow.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.events), func(e flow.Event) bool { return e.Kind != kind })
}

// newRelay makes a relay that is closed with the test.
func newRelay(t *testing.T, change func(*datagram.Relay)) (*datagram.Relay, *record) {
	t.Helper()
	rec := &record{}
	var id atomic.Int64
	r := &datagram.Relay{Record: rec.add, NextID: func() int64 { return id.Add(1) }}
	if change != nil {
		change(r)
	}
	t.Cleanup(func() { r.Close() })
	return r, rec
}

// serve runs a UDP server on a loopback address and returns its address. It
// answers with what f makes of a datagram, unless that is nil.
func serve(t *testing.T, host string, f func(p []byte, from netip.AddrPort) []byte) string {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadBuffer(4 << 20)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if p := f(buf[:n], from); err == nil && p != nil {
				c.WriteToUDPAddrPort(p, from)
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return c.LocalAddr().String()
}

func same(p []byte, _ netip.AddrPort) []byte { return p }

// closedPort returns an address that nobody listens on.
func closedPort(t *testing.T, host string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

func get[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(5 * time.Second):
		t.Fatalf("no %s", what)
	}
	return v
}

// until waits for what other goroutines bring about.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// skip ends a test that this machine cannot run; where machines are made to
// run them all, it fails.
func skip(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("TRACE_NO_SKIP") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// mayPing reports whether this process may make any socket for echo requests.
func mayPing() bool {
	for _, typ := range []int{unix.SOCK_DGRAM, unix.SOCK_RAW} {
		if fd, err := unix.Socket(unix.AF_INET, typ, unix.IPPROTO_ICMP); err == nil {
			unix.Close(fd)
			return true
		}
	}
	return false
}
