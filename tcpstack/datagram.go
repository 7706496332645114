package tcpstack

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Datagram is one UDP datagram of the child. It may be kept; its methods may
// be called concurrently, until the stack is closed.
type Datagram struct{ packet }

// Go runs f in a goroutine that Stack.Close waits for. When too many run, or
// the stack is closing, f is not run: the datagram is lost, as datagrams are.
func (d *Datagram) Go(f func()) {
	s := d.stack
	if s.datagrams.Add(1) > maxDatagrams || !s.enter() {
		s.datagrams.Add(-1)
		s.counters.datagramsDropped.Add(1)
		return
	}
	go s.run(f)
}

func (s *Stack) run(f func()) {
	defer s.handlers.Done()
	defer s.datagrams.Add(-1)
	f()
}

// Reply sends p to the child, from where it had sent the datagram to. It may
// be called any number of times. A p that exceeds the link's MTU is sent in
// fragments; the limit is that of UDP (65507 bytes over IPv4).
func (d *Datagram) Reply(p []byte) error {
	if err := d.stack.sendDatagram(d.id, p); err != nil {
		return fmt.Errorf("reply %v to %v: %w", d.Dst(), d.Src(), err)
	}
	return nil
}

// Refuse answers a datagram that was taken as err tells (see the package
// doc), with port unreachable for ECONNREFUSED and nil.
func (d *Datagram) Refuse(err error) {
	d.refuse(err, portUnreachable, &d.stack.counters.datagramsRefused)
}

// handleDatagram sees each UDP datagram, on the packet path.
func (s *Stack) handleDatagram(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.UDP(pkt.TransportHeader().Slice())
	size := pkt.Data().Size()
	if len(h) < header.UDPMinimumSize || int(h.Length()) < header.UDPMinimumSize ||
		int(h.Length())-header.UDPMinimumSize > size {
		s.counters.malformed.Add(1)
		return true
	}
	network := pkt.Network()
	if _, valid := header.UDPValid(h, pkt.Data().Checksum, uint16(size), pkt.NetworkProtocolNumber,
		network.SourceAddress(), network.DestinationAddress(), !s.verify); !valid {
		s.counters.malformed.Add(1)
		return true
	}
	size = int(h.Length()) - header.UDPMinimumSize
	data := pkt.Data().AsRange().ToSlice()[:size]
	d := &Datagram{s.packet(id, pkt, data)}
	if s.opt.Datagram != nil && s.opt.Datagram(d) {
		s.counters.datagrams.Add(1)
		return true
	}
	d.Refuse(nil)
	return true
}

// sendDatagram sends one datagram from id's local to its remote end.
func (s *Stack) sendDatagram(id stack.TransportEndpointID, p []byte) error {
	const most = maxPacket - header.UDPMinimumSize
	limit, proto := most-header.IPv4MinimumSize, tcpip.NetworkProtocolNumber(header.IPv4ProtocolNumber)
	if id.RemoteAddress.Len() == header.IPv6AddressSize {
		limit, proto = most, header.IPv6ProtocolNumber
	}
	if len(p) > limit {
		return errno(&tcpip.ErrMessageTooLong{})
	}
	r, err := s.ns.FindRoute(nicID, id.LocalAddress, id.RemoteAddress, proto, false)
	if err != nil {
		return errno(err)
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()) + header.UDPMinimumSize,
		Payload:            buffer.MakeWithData(p),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = header.UDPProtocolNumber
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	h.Encode(&header.UDPFields{SrcPort: id.LocalPort, DstPort: id.RemotePort, Length: uint16(pkt.Size())})
	// Always complete: where the packet has to be cut, nobody downstream can
	// fill it in.
	sum := checksum.Combine(
		header.PseudoHeaderChecksum(header.UDPProtocolNumber, id.LocalAddress, id.RemoteAddress, uint16(pkt.Size())),
		pkt.Data().Checksum())
	if sum = h.CalculateChecksum(sum); sum != 0xffff { // RFC 768: 0 means none
		sum = ^sum
	}
	h.SetChecksum(sum)
	params := stack.NetworkHeaderParams{Protocol: header.UDPProtocolNumber, TTL: r.DefaultTTL()}
	if err := r.WritePacket(params, pkt); err != nil {
		return errno(err)
	}
	return nil
}
