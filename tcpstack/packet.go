package tcpstack

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
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
	completeChecksum(pkt.TransportProtocolNumber, id, quoted[len(network):], data)
	p := packet{stack: s, id: id, payload: data, quoted: quoted}
	if id.RemoteAddress.Len() == header.IPv6AddressSize {
		p.ttl = header.IPv6(network).HopLimit()
	} else {
		p.ttl = header.IPv4(network).TTL()
	}
	return p
}

// refuse answers as err tells and counts that. There is no RST for what is not
// TCP: instead stands for one.
func (p *packet) refuse(err error, instead refusal, count *atomic.Uint64) {
	kind := refusalOf(err)
	switch kind {
	case silence:
		return
	case reset:
		kind = instead
	}
	count.Add(1)
	p.stack.unreachable(kind, p.id, p.quoted)
}

// completeChecksum fills in the checksum of a TCP or UDP header if the child's
// kernel left that to the device: the sum of the pseudo header stands there
// then, and an ICMP error would quote it. data is what follows the header.
func completeChecksum(proto tcpip.TransportProtocolNumber, id stack.TransportEndpointID, head, data []byte) {
	size, at := header.UDPMinimumSize, 6
	if proto == header.TCPProtocolNumber {
		size, at = header.TCPMinimumSize, 16
		if len(head) >= size {
			size = int(header.TCP(head).DataOffset())
		}
	} else if proto != header.UDPProtocolNumber {
		return
	}
	if len(head) < size {
		return
	}
	pseudo := header.PseudoHeaderChecksum(proto, id.RemoteAddress, id.LocalAddress, uint16(size+len(data)))
	if binary.BigEndian.Uint16(head[at:]) != pseudo {
		return
	}
	binary.BigEndian.PutUint16(head[at:], 0)
	sum := ^checksum.Combine(checksum.Checksum(head[:size], pseudo), checksum.Checksum(data, 0))
	if sum == 0 && proto == header.UDPProtocolNumber {
		sum = 0xffff // RFC 768: 0 means none
	}
	binary.BigEndian.PutUint16(head[at:], sum)
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
