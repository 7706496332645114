package wg

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

const (
	// batch is how many messages go over in one rendezvous. A receiver pins a
	// buffer of 64 kB for each.
	batch = 32

	// onlyEndpoint is where each end finds the other.
	onlyEndpoint = endpoint("memory")
)

// endpoint is the address of the other end; there is one.
type endpoint string

func (endpoint) ClearSrc()             {}
func (endpoint) SrcToString() string   { return "" }
func (e endpoint) DstToString() string { return string(e) }
func (e endpoint) DstToBytes() []byte  { return []byte(e) }
func (endpoint) DstIP() netip.Addr     { return netip.IPv6Loopback() }
func (endpoint) SrcIP() netip.Addr     { return netip.Addr{} }

// binds are the two ends of a wire in memory.
type binds struct {
	near, far *bind

	// established is closed when near has sent its first transport message.
	// It does so as soon as it has the far end's response, and far may send
	// only after it has received that.
	established chan struct{}

	// cut ends every Send for good. A bind's Close cannot: WireGuard holds
	// the lock that it needs to get there while it sends.
	cut chan struct{}
}

func newBinds() *binds {
	b := &binds{established: make(chan struct{}), cut: make(chan struct{})}
	toFar := make(chan *request)
	toNear := make(chan *request)
	b.near = &bind{in: toNear, out: toFar, cut: b.cut, transport: sync.OnceFunc(func() { close(b.established) })}
	b.far = &bind{in: toFar, out: toNear, cut: b.cut, transport: func() {}}
	return b
}

// request is an offer of buffers: a receiver posts it, a sender fills it.
type request struct {
	packets [][]byte
	sizes   []int
	filled  chan int // how many
}

// bind implements conn.Bind by rendezvous.
type bind struct {
	in, out   chan *request // offers of ours, offers of the other's
	cut       <-chan struct{}
	transport func() // a transport message was received by the other

	// mu guards closed, which Close closes and Open replaces.
	mu     sync.Mutex
	closed chan struct{}
}

// Open implements conn.Bind.
func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	b.closed = make(chan struct{})
	r := &receiver{offers: b.in, closed: b.closed, request: request{filled: make(chan int)}}
	return []conn.ReceiveFunc{r.receive}, port, nil
}

// Close implements conn.Bind.
func (b *bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		close(b.closed)
		b.closed = nil
	}
	return nil
}

// SetMark implements conn.Bind; there is no socket to mark.
func (b *bind) SetMark(uint32) error { return nil }

// BatchSize implements conn.Bind.
func (b *bind) BatchSize() int { return batch }

// ParseEndpoint implements conn.Bind.
func (b *bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	if s != string(onlyEndpoint) {
		return nil, errors.New("unknown endpoint " + s)
	}
	return onlyEndpoint, nil
}

// Send implements conn.Bind: it copies the messages into the buffers of the
// other end's next offers. One that is too long is left out, as by a network.
func (b *bind) Send(bufs [][]byte, _ conn.Endpoint) error {
	for len(bufs) > 0 {
		select {
		case r := <-b.out:
			n := min(len(bufs), len(r.packets))
			transport := false
			for i, p := range bufs[:n] {
				r.sizes[i] = 0
				if len(p) > 0 && len(p) <= len(r.packets[i]) {
					r.sizes[i] = copy(r.packets[i], p)
					transport = transport || p[0] == device.MessageTransportType
				}
			}
			r.filled <- n
			bufs = bufs[n:]
			if transport {
				b.transport()
			}
		case <-b.cut:
			return net.ErrClosed
		}
	}
	return nil
}

// receiver is one opening of a bind.
type receiver struct {
	offers  chan *request
	closed  <-chan struct{}
	request request
}

// receive implements conn.ReceiveFunc.
func (r *receiver) receive(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	r.request.packets, r.request.sizes = packets, sizes
	select {
	case r.offers <- &r.request:
	case <-r.closed:
		return 0, net.ErrClosed
	}
	n := <-r.request.filled // whoever took the offer fills it without waiting
	for i := range n {
		eps[i] = onlyEndpoint
	}
	return n, nil
}
