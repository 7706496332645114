package tcpstack

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// refusal is a way to say no.
type refusal uint8

const (
	reset refusal = iota
	silence
	netUnreachable
	hostUnreachable
	portUnreachable
	prohibited
)

// refusalOf chooses the answer that makes a connect fail as ours did with err.
func refusalOf(err error) refusal {
	var dns *net.DNSError
	switch {
	case err == nil, errors.Is(err, syscall.ECONNREFUSED):
		return reset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN), errors.Is(err, errNoNetwork):
		return hostUnreachable
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ENETDOWN), errors.Is(err, syscall.EADDRNOTAVAIL),
		errors.Is(err, syscall.EAFNOSUPPORT):
		return netUnreachable
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return prohibited
	case errors.As(err, &dns):
		return hostUnreachable
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return silence
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return silence
	}
	return reset
}

// code4 and code6 are the codes of ICMP type 3 (RFC 792, RFC 1812 section
// 5.2.7.1) and of ICMPv6 type 1 (RFC 4443 section 3.1) for a refusal.
func (r refusal) code4() header.ICMPv4Code {
	switch r {
	case hostUnreachable:
		return header.ICMPv4HostUnreachable
	case portUnreachable:
		return header.ICMPv4PortUnreachable
	case prohibited:
		return header.ICMPv4AdminProhibited
	}
	return header.ICMPv4NetUnreachable
}

func (r refusal) code6() header.ICMPv6Code {
	switch r {
	case hostUnreachable:
		return header.ICMPv6AddressUnreachable
	case portUnreachable:
		return header.ICMPv6PortUnreachable
	case prohibited:
		return header.ICMPv6Prohibited
	}
	return header.ICMPv6NetworkUnreachable
}

// unreachable sends the ICMP error of a refusal to the child, in the name of
// the destination itself.
func (s *Stack) unreachable(kind refusal, id stack.TransportEndpointID, quoted []byte) {
	if id.RemoteAddress.Len() == header.IPv6AddressSize {
		s.icmpError(id.LocalAddress, id.RemoteAddress, uint8(header.ICMPv6DstUnreachable), uint8(kind.code6()), quoted)
		return
	}
	s.icmpError(id.LocalAddress, id.RemoteAddress, uint8(header.ICMPv4DstUnreachable), uint8(kind.code4()), quoted)
}

// icmpError sends an ICMP error to the child. quoted is the start of the
// packet that it is about, its network header first. gVisor's own errors are
// limited in rate and know no codes but its own.
func (s *Stack) icmpError(from, to tcpip.Address, typ, code uint8, quoted []byte) {
	proto := tcpip.NetworkProtocolNumber(header.IPv4ProtocolNumber)
	limit := header.IPv4MinimumProcessableDatagramSize - header.IPv4MinimumSize - header.ICMPv4MinimumSize
	if to.Len() == header.IPv6AddressSize {
		proto = header.IPv6ProtocolNumber
		limit = header.IPv6MinimumMTU - header.IPv6MinimumSize - header.ICMPv6DstUnreachableMinimumSize
	}
	if len(quoted) > limit {
		quoted = quoted[:limit]
	}
	r, err := s.ns.FindRoute(nicID, from, to, proto, false)
	if err != nil {
		return
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()) + header.ICMPv6DstUnreachableMinimumSize,
		Payload:            buffer.MakeWithView(buffer.NewViewWithData(quoted)),
	})
	defer pkt.DecRef()
	params := stack.NetworkHeaderParams{TTL: r.DefaultTTL()}
	if proto == header.IPv4ProtocolNumber {
		params.Protocol = header.ICMPv4ProtocolNumber
		h := header.ICMPv4(pkt.TransportHeader().Push(header.ICMPv4MinimumSize))
		clear(h)
		h.SetType(header.ICMPv4Type(typ))
		h.SetCode(header.ICMPv4Code(code))
		h.SetChecksum(header.ICMPv4Checksum(h, pkt.Data().Checksum()))
	} else {
		params.Protocol = header.ICMPv6ProtocolNumber
		h := header.ICMPv6(pkt.TransportHeader().Push(header.ICMPv6DstUnreachableMinimumSize))
		clear(h)
		h.SetType(header.ICMPv6Type(typ))
		h.SetCode(header.ICMPv6Code(code))
		h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
			Header:      h,
			Src:         from,
			Dst:         to,
			PayloadCsum: pkt.Data().Checksum(),
			PayloadLen:  pkt.Data().Size(),
		}))
	}
	pkt.TransportProtocolNumber = params.Protocol
	r.WritePacket(params, pkt) // lost ones are asked for again by the next packet of the child
}
