package tcpstack

import (
	"encoding/binary"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// queueLength bounds the packets that wait between the stack and its link;
// beyond it the stack waits.
const queueLength = 256

// Link is what carries a stack's packets: a *Device or a *Tunnel.
type Link interface {
	endpoint() endpoint
}

// endpoint is gVisor's view of a link, and the order in which it lives: bind,
// start, stopReading, stop. Stopping one that never started is fine.
type endpoint interface {
	stack.LinkEndpoint
	bind(c *counters, down func(error), capture func(toChild bool, parts ...[]byte))
	start()
	stopReading() // no packet is delivered after it returns
	stop()        // after what was queued is written
}

// base holds what both links share: the queue towards the child and the
// methods of stack.LinkEndpoint that have one possible answer on a link
// without addresses of its own.
type base struct {
	mtu        uint32
	caps       stack.LinkEndpointCapabilities
	queue      chan *stack.PacketBuffer
	closed     chan struct{} // ends WritePackets
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	counters   *counters
	down       func(error)
	capture    func(toChild bool, parts ...[]byte) // nil: nobody looks
}

func (b *base) bind(c *counters, down func(error), capture func(toChild bool, parts ...[]byte)) {
	b.counters, b.down, b.capture = c, down, capture
}

// captured shows a packet to Options.Capture.
func (b *base) captured(toChild bool, packet []byte) {
	if b.capture != nil {
		b.capture(toChild, packet)
	}
}

func (b *base) MTU() uint32                                  { return b.mtu }
func (b *base) SetMTU(uint32)                                {}
func (b *base) MaxHeaderLength() uint16                      { return 0 }
func (b *base) LinkAddress() tcpip.LinkAddress               { return "" }
func (b *base) SetLinkAddress(tcpip.LinkAddress)             {}
func (b *base) Capabilities() stack.LinkEndpointCapabilities { return b.caps }
func (b *base) IsAttached() bool                             { return b.dispatcher.Load() != nil }
func (b *base) Wait()                                        {}
func (b *base) ARPHardwareType() header.ARPHardwareType      { return header.ARPHardwareNone }
func (b *base) AddHeader(*stack.PacketBuffer)                {}
func (b *base) ParseHeader(*stack.PacketBuffer) bool         { return true }
func (b *base) Close()                                       {}
func (b *base) SetOnCloseAction(func())                      {}

// Attach implements stack.LinkEndpoint; gVisor calls it with nil when the
// interface goes away.
func (b *base) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		b.dispatcher.Store(nil)
		return
	}
	b.dispatcher.Store(&d)
}

// WritePackets implements stack.LinkWriter: it queues the packets and waits
// for room. The queue gets clones, because TCP edits the headers of a packet
// that it sends again.
func (b *base) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	n := 0
	for _, pkt := range pkts.AsSlice() {
		c := pkt.Clone()
		select {
		case b.queue <- c:
			n++
		case <-b.closed:
			c.DecRef()
			return n, &tcpip.ErrClosedForSend{}
		}
	}
	return n, nil
}

// deliver hands one IP packet to the stack, which keeps a copy. It runs the
// stack's receive path in the caller's goroutine.
func (b *base) deliver(packet []byte) {
	b.captured(false, packet)
	proto, ok := b.admit(packet)
	if !ok {
		return
	}
	d := b.dispatcher.Load()
	if d == nil {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		Payload: buffer.MakeWithView(buffer.NewViewWithData(packet)),
	})
	(*d).DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// admit tells which protocol a packet is of, and whether the stack may see
// it: it must be whole, and between addresses that a conversation can have.
func (b *base) admit(p []byte) (tcpip.NetworkProtocolNumber, bool) {
	if len(p) == 0 {
		b.counters.malformed.Add(1)
		return 0, false
	}
	switch p[0] >> 4 {
	case header.IPv4Version:
		if len(p) < header.IPv4MinimumSize || int(p[0]&15)*4 < header.IPv4MinimumSize ||
			int(binary.BigEndian.Uint16(p[2:])) > len(p) {
			break
		}
		if !unicast4(p[12:16]) || !unicast4(p[16:20]) {
			b.counters.ignored.Add(1)
			return 0, false
		}
		return header.IPv4ProtocolNumber, true
	case header.IPv6Version:
		if len(p) < header.IPv6MinimumSize ||
			header.IPv6MinimumSize+int(binary.BigEndian.Uint16(p[4:])) > len(p) {
			break
		}
		if !unicast6(p[8:24]) || !unicast6(p[24:40]) {
			b.counters.ignored.Add(1)
			return 0, false
		}
		return header.IPv6ProtocolNumber, true
	}
	b.counters.malformed.Add(1)
	return 0, false
}

// unicast4 reports whether a is an address that one host on a network may
// have: not 0/8, 127/8, 224/4 or 255.255.255.255.
func unicast4(a []byte) bool {
	switch {
	case a[0] == 0, a[0] == 127, a[0]&0xf0 == 0xe0:
		return false
	}
	return binary.BigEndian.Uint32(a) != 0xffffffff
}

// unicast6 reports whether a is an address that one host on a network may
// have: not ::/96 (unspecified, loopback), ::ffff:0:0/96 (IPv4-mapped) or
// ff00::/8.
func unicast6(a []byte) bool {
	if a[0] == 0xff {
		return false
	}
	if binary.BigEndian.Uint64(a) != 0 {
		return true
	}
	hi := binary.BigEndian.Uint32(a[8:])
	return hi != 0 && hi != 0xffff
}
