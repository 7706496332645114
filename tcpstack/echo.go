package tcpstack

import (
	"fmt"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// echoHeader is the size of an echo's header in both versions of ICMP.
const echoHeader = header.ICMPv4MinimumSize

// Echo is one ICMP echo request of the child. It may be kept; its methods
// may be called concurrently, until the stack is closed.
type Echo struct {
	packet
	seq uint16
}

// Seq returns the sequence number.
func (e *Echo) Seq() uint16 { return e.seq }

// Reply sends an echo reply that carries p, with the identifier and the
// sequence number of the request, from where that had been sent to. ttl is
// what is left of the reply's time to live; 0 means the usual.
func (e *Echo) Reply(p []byte, ttl int) error {
	if err := e.stack.sendEcho(e.id, e.seq, p, ttl); err != nil {
		return fmt.Errorf("echo reply %v to %v: %w", e.Dst().Addr(), e.Src().Addr(), err)
	}
	return nil
}

// Refuse answers as err tells (see the package doc), with administratively
// prohibited for nil and for what no ICMP error stands for.
func (e *Echo) Refuse(err error) {
	e.refuse(err, prohibited, &e.stack.counters.echoesRefused)
}

// handleEcho4 and handleEcho6 see each ICMP packet that gVisor has no use
// for, on the packet path. They take all: gVisor would forge an answer to an
// ICMPv6 echo request that is left to it.
func (s *Stack) handleEcho4(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.ICMPv4(pkt.TransportHeader().Slice())
	if s.verify && checksum.Checksum(h, pkt.Data().Checksum()) != 0xffff {
		s.counters.malformed.Add(1) // gVisor knows, and delivers it all the same
		return true
	}
	if len(h) >= echoHeader && h.Type() == header.ICMPv4Echo && h.Code() == 0 {
		s.handleEcho(id, h.Ident(), h.Sequence(), pkt)
	}
	return true
}

func (s *Stack) handleEcho6(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.ICMPv6(pkt.TransportHeader().Slice())
	if len(h) >= echoHeader && h.Type() == header.ICMPv6EchoRequest && h.Code() == 0 {
		s.handleEcho(id, h.Ident(), h.Sequence(), pkt)
	}
	return true
}

func (s *Stack) handleEcho(id stack.TransportEndpointID, ident, seq uint16, pkt *stack.PacketBuffer) {
	id.RemotePort, id.LocalPort = ident, 0
	e := &Echo{s.packet(id, pkt, pkt.Data().AsRange().ToSlice()), seq}
	if s.opt.Echo != nil && s.opt.Echo(e) {
		s.counters.echoes.Add(1)
		return
	}
	e.Refuse(nil)
}

// sendEcho sends an echo reply from id's local address to its remote one.
func (s *Stack) sendEcho(id stack.TransportEndpointID, seq uint16, p []byte, ttl int) error {
	proto, limit := tcpip.NetworkProtocolNumber(header.IPv4ProtocolNumber), maxPacket-header.IPv4MinimumSize-echoHeader
	if id.RemoteAddress.Len() == header.IPv6AddressSize {
		proto, limit = header.IPv6ProtocolNumber, maxPacket-echoHeader
	}
	if len(p) > limit {
		return syscall.EMSGSIZE
	}
	r, err := s.ns.FindRoute(nicID, id.LocalAddress, id.RemoteAddress, proto, false)
	if err != nil {
		return errno(err)
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()) + echoHeader,
		Payload:            buffer.MakeWithData(p),
	})
	defer pkt.DecRef()
	params := stack.NetworkHeaderParams{TTL: r.DefaultTTL()}
	if ttl > 0 && ttl < 256 {
		params.TTL = uint8(ttl)
	}
	b := pkt.TransportHeader().Push(echoHeader)
	clear(b)
	if proto == header.IPv4ProtocolNumber {
		params.Protocol = header.ICMPv4ProtocolNumber
		h := header.ICMPv4(b)
		h.SetType(header.ICMPv4EchoReply)
		h.SetIdent(id.RemotePort)
		h.SetSequence(seq)
		h.SetChecksum(^checksum.Checksum(h, pkt.Data().Checksum()))
	} else {
		params.Protocol = header.ICMPv6ProtocolNumber
		h := header.ICMPv6(b)
		h.SetType(header.ICMPv6EchoReply)
		h.SetIdent(id.RemotePort)
		h.SetSequence(seq)
		h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
			Header: h, Src: id.LocalAddress, Dst: id.RemoteAddress,
			PayloadCsum: pkt.Data().Checksum(), PayloadLen: pkt.Data().Size(),
		}))
	}
	pkt.TransportProtocolNumber = params.Protocol
	if err := r.WritePacket(params, pkt); err != nil {
		return errno(err)
	}
	return nil
}
