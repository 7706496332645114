package tcpstack

import (
	"crypto/rand"
	"encoding/binary"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// fragments cuts an IP packet into pieces of at most mtu bytes. What is no
// packet, or may not be cut, comes back as it is; so does TCP, which keeps to
// what the other end takes by itself.
func fragments(packet []byte, mtu int) [][]byte {
	switch {
	case len(packet) <= mtu || len(packet) < header.IPv4MinimumSize:
	case packet[0]>>4 == header.IPv4Version:
		return fragments4(packet, mtu)
	case packet[0]>>4 == header.IPv6Version && len(packet) >= header.IPv6MinimumSize:
		return fragments6(packet, mtu)
	}
	return [][]byte{packet}
}

// fragments4 cuts a packet of IPv4 (RFC 791 section 3.2), which may be a
// fragment itself. We send no options.
func fragments4(packet []byte, mtu int) [][]byte {
	h := header.IPv4(packet)
	size := int(h.HeaderLength())
	if h.Flags()&header.IPv4FlagDontFragment != 0 || size >= len(packet) || h.Protocol() == uint8(header.TCPProtocolNumber) {
		return [][]byte{packet}
	}
	var all [][]byte
	offset, more := int(h.FragmentOffset()), h.Flags()&header.IPv4FlagMoreFragments != 0
	for rest := packet[size:]; len(rest) > 0; {
		n := pieceOf(len(rest), mtu-size)
		p := append(slices.Clone(packet[:size]), rest[:n]...)
		rest = rest[n:]
		f := header.IPv4(p)
		f.SetTotalLength(uint16(len(p)))
		var flags uint8
		if more || len(rest) > 0 {
			flags = header.IPv4FlagMoreFragments
		}
		f.SetFlagsFragmentOffset(flags, uint16(offset))
		f.SetChecksum(0)
		f.SetChecksum(^f.CalculateChecksum())
		offset += n
		all = append(all, p)
	}
	return all
}

// pieceOf returns how much of what is left goes into a fragment with room:
// all, or a multiple of eight bytes.
func pieceOf(left, room int) int {
	if left <= room {
		return left
	}
	return room &^ 7
}

// fragment6Size is the length of IPv6's fragment header.
const fragment6Size = header.IPv6FragmentHeaderSize

// fragments6 cuts a packet of IPv6 (RFC 8200 section 4.5), which may be a
// fragment itself. We send no other extension headers.
func fragments6(packet []byte, mtu int) [][]byte {
	const size = header.IPv6MinimumSize
	extension := make([]byte, fragment6Size)
	offset, more, rest := 0, false, packet[size:]
	next := header.IPv6(packet).NextHeader()
	switch {
	case next == uint8(header.TCPProtocolNumber):
		return [][]byte{packet}
	case next == header.IPv6FragmentHeader && len(rest) >= fragment6Size:
		copy(extension, rest)
		at := binary.BigEndian.Uint16(rest[2:])
		offset, more, rest = int(at&^7), at&1 != 0, rest[fragment6Size:]
	default:
		extension[0] = next
		rand.Read(extension[4:]) // the identification, which nobody shall guess (RFC 7739)
	}
	var all [][]byte
	for len(rest) > 0 {
		n := pieceOf(len(rest), mtu-size-fragment6Size)
		p := slices.Concat(packet[:size], extension, rest[:n])
		rest = rest[n:]
		f := header.IPv6(p)
		f.SetNextHeader(header.IPv6FragmentHeader)
		f.SetPayloadLength(uint16(len(p) - size))
		at := uint16(offset)
		if more || len(rest) > 0 {
			at |= 1
		}
		binary.BigEndian.PutUint16(p[size+2:], at)
		offset += n
		all = append(all, p)
	}
	return all
}
