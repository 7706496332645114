package wg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/conn"
)

const (
	// socketBatch is how many messages go through a socket in one call. A
	// receiver pins a buffer of 64 kB for each.
	socketBatch = 32

	// socketBuffer is what is asked of the kernel for each direction: a burst
	// should not be lost while another batch is being decrypted.
	socketBuffer = 4 << 20

	// portTries is how many free ports are tried until one is free for both
	// versions of IP.
	portTries = 50
)

// Listen makes the sockets of an Endpoint: one for an address, one for each
// version of IP where the host is empty. Port 0 is a free one.
func Listen(addr string) ([]*net.UDPConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen udp %q: %w", addr, err)
	}
	if host != "" {
		c, err := listen("udp", addr)
		if err != nil {
			return nil, err
		}
		return []*net.UDPConn{c}, nil
	}
	for try := 0; ; try++ {
		conns, err := listenBoth(port)
		if err == nil || port != "0" || try == portTries || !errors.Is(err, syscall.EADDRINUSE) {
			return conns, err
		}
	}
}

// listenBoth listens on a port of all addresses, of both versions if there
// are both.
func listenBoth(port string) ([]*net.UDPConn, error) {
	four, err := listen("udp4", "0.0.0.0:"+port)
	if err != nil && !errors.Is(err, syscall.EAFNOSUPPORT) {
		return nil, err
	}
	var conns []*net.UDPConn
	if four != nil {
		conns = append(conns, four)
		port = strconv.Itoa(four.LocalAddr().(*net.UDPAddr).Port)
	}
	six, err := listen("udp6", "[::]:"+port)
	switch {
	case err == nil:
		return append(conns, six), nil
	case four != nil && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)):
		return conns, nil
	case four != nil:
		four.Close()
	}
	return nil, err
}

func listen(network, addr string) (*net.UDPConn, error) {
	c, err := new(net.ListenConfig).ListenPacket(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// remote is where a peer is: its address, and through which socket and from
// which address of ours it is reached.
type remote struct {
	addr   netip.AddrPort
	socket *socket
	source atomic.Pointer[[]byte] // control message; nil: the kernel chooses
}

func (r *remote) ClearSrc()           { r.source.Store(nil) }
func (r *remote) SrcToString() string { return "" }
func (r *remote) DstToString() string { return r.addr.String() }
func (r *remote) DstIP() netip.Addr   { return r.addr.Addr() }
func (r *remote) SrcIP() netip.Addr   { return netip.Addr{} }

func (r *remote) DstToBytes() []byte {
	b, _ := r.addr.MarshalBinary() // never fails
	return b
}

// packetConn is what IPv4 and IPv6 have in common.
type packetConn interface {
	ReadBatch([]ipv4.Message, int) (int, error)
	WriteBatch([]ipv4.Message, int) (int, error)
}

// socket is one UDP socket of an Endpoint.
type socket struct {
	conn    *net.UDPConn
	packets packetConn
	six     bool // of family AF_INET6, which may carry IPv4 as well
	seen    func(message []byte, from netip.AddrPort)
	last    *remote // of the message before, and what came with it
	lastOOB []byte
	in      []ipv4.Message // of receive
}

func newSocket(c *net.UDPConn, seen func([]byte, netip.AddrPort)) *socket {
	s := &socket{conn: c, seen: seen, in: make([]ipv4.Message, socketBatch)}
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok && a.IP.To4() == nil {
		s.six = true
		s.packets = ipv6.NewPacketConn(c)
	} else {
		s.packets = ipv4.NewPacketConn(c)
	}
	for i := range s.in {
		s.in[i] = ipv4.Message{Buffers: make([][]byte, 1), OOB: make([]byte, sourceSize)}
	}
	// Without any of this it works all the same.
	c.SetReadBuffer(socketBuffer)
	c.SetWriteBuffer(socketBuffer)
	prepare(c, s.six)
	return s
}

// receive implements conn.ReceiveFunc.
func (s *socket) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	in := s.in[:min(len(bufs), len(s.in))]
	for i := range in {
		in[i].Buffers[0], in[i].OOB = bufs[i], in[i].OOB[:sourceSize]
	}
	n, err := s.packets.ReadBatch(in, 0)
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return 0, net.ErrClosed // closeReading
		}
		return 0, err
	}
	for i, m := range in[:n] {
		sizes[i] = m.N
		a, ok := m.Addr.(*net.UDPAddr)
		if !ok {
			sizes[i] = 0
			continue
		}
		r := s.from(unmapped(a.AddrPort()), m.OOB[:m.NN])
		eps[i] = r
		s.seen(bufs[i][:m.N], r.addr)
	}
	return n, nil
}

// from returns the endpoint for a message. Most messages come from where the
// one before came from.
func (s *socket) from(addr netip.AddrPort, oob []byte) *remote {
	if s.last != nil && s.last.addr == addr && bytes.Equal(oob, s.lastOOB) {
		return s.last
	}
	r := &remote{addr: addr, socket: s}
	if source := sourceOf(oob); len(source) > 0 {
		r.source.Store(&source)
	}
	s.last, s.lastOOB = r, append(s.lastOOB[:0], oob...)
	return r
}

// send sends messages to one place.
func (s *socket) send(bufs [][]byte, to *remote) error {
	dst := net.UDPAddrFromAddrPort(to.addr)
	var oob []byte
	if p := to.source.Load(); p != nil {
		oob = *p
	}
	out := make([]ipv4.Message, len(bufs))
	for i, b := range bufs {
		out[i] = ipv4.Message{Buffers: [][]byte{b}, Addr: dst, OOB: oob}
	}
	for len(out) > 0 {
		n, err := s.packets.WriteBatch(out, 0)
		switch {
		case err != nil && len(oob) > 0 && (errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EADDRNOTAVAIL)):
			to.ClearSrc() // that address of ours is gone
			oob = nil
			for i := range out {
				out[i].OOB = nil
			}
		case err != nil:
			return err
		default:
			out = out[n:]
		}
	}
	return nil
}

// bindSockets implements conn.Bind on sockets that are there already, and
// stay open when it is closed.
type bindSockets struct{ sockets []*socket }

// Open implements conn.Bind.
func (b *bindSockets) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	var fns []conn.ReceiveFunc
	for _, s := range b.sockets {
		if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
			return nil, 0, err
		}
		fns = append(fns, s.receive)
	}
	return fns, b.sockets[0].conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
}

// Close implements conn.Bind.
func (b *bindSockets) Close() error {
	for _, s := range b.sockets {
		s.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return nil
}

// SetMark implements conn.Bind; sockets are not marked.
func (b *bindSockets) SetMark(uint32) error { return nil }

// BatchSize implements conn.Bind.
func (b *bindSockets) BatchSize() int { return socketBatch }

// ParseEndpoint implements conn.Bind.
func (b *bindSockets) ParseEndpoint(s string) (conn.Endpoint, error) {
	addr, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	for _, s := range b.sockets {
		if s.six == addr.Addr().Is6() {
			return &remote{addr: addr, socket: s}, nil
		}
	}
	return &remote{addr: addr, socket: b.sockets[0]}, nil
}

// Send implements conn.Bind.
func (b *bindSockets) Send(bufs [][]byte, ep conn.Endpoint) error {
	r, ok := ep.(*remote)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	return r.socket.send(bufs, r)
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
