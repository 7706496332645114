package tcpstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// quotedPayload is how much of a packet's payload an ICMP error quotes at
// most.
const quotedPayload = 64

// packet is what a Datagram and an Echo have in common.
type packet struct {
	stack   *Stack
	id      stack.TransportEndpointID
	ttl     uint8
	payload []byte
	quoted  []byte // the start of the packet, for errors about it
}

// packet makes one of pkt, whose payload is data.
func (s *Stack) packet(id stack.TransportEndpointID, pkt *stack.PacketBuffer, data []byte) packet {
	network, transport := pkt.NetworkHeader().Slice(), pkt.TransportHeader().Slice()
	quoted := make([]byte, 0, len(network)+len(transport)+quotedPayload)
	quoted = append(append(quoted, network...), transport...)
	quoted = append(quoted, data[:min(len(data), quotedPayload)]...)
	p := packet{stack: s, id: id, payload: data, quoted: quoted}
	if id.RemoteAddress.Len() == header.IPv6AddressSize {
		p.ttl = header.IPv6(network).HopLimit()
	} else {
		p.ttl = header.IPv4(network).TTL()
	}
	return p
}

// Src returns the child's end. Of an Echo, the port is the identifier.
func (p *packet) Src() netip.AddrPort { return addrPort(p.id.RemoteAddress, p.id.RemotePort) }

// Dst returns where the child sent it. An Echo has no port there.
func (p *packet) Dst() netip.AddrPort { return addrPort(p.id.LocalAddress, p.id.LocalPort) }

// TTL returns the time to live, or hop limit, that it was sent with.
func (p *packet) TTL() int { return int(p.ttl) }

// Payload returns what was sent. It belongs to the receiver.
func (p *packet) Payload() []byte { return p.payload }

// Forget lets go of the payload. All but Payload works on; it must not run
// at the same time.
func (p *packet) Forget() { p.payload = nil }

// Fail answers with an ICMP error of this type and code, of the version of
// the packet, in the name of from: what somebody on the way had to say about
// the packet when it was sent on. An error about its size cannot be told.
func (p *packet) Fail(from netip.Addr, typ, code uint8) {
	if from = from.Unmap(); from.Is4() != p.Src().Addr().Is4() || !from.IsValid() {
		from = p.Dst().Addr()
	}
	p.stack.icmpError(tcpip.AddrFromSlice(from.AsSlice()), p.id.RemoteAddress, typ, code, p.quoted)
}
