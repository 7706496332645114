package pcap

import "encoding/binary"

const (
	protoTCP, tcpSize, tcpSum = 6, 20, 16 // protocol number, least header, offset of the checksum
	protoUDP, udpSize, udpSum = 17, 8, 6
	ip4Size, ip6Size          = 20, 40
)

// complete fills in the checksums of all packets in whole blocks that need it,
// and returns how many packets there are.
func complete(blocks []byte) (n uint64) {
	for len(blocks) > 0 {
		completePacket(dataOf(blocks))
		blocks = blocks[lengthOf(blocks):]
		n++
	}
	return n
}

// completePacket fills in a transport checksum that was left to the device:
// Linux leaves the sum of the pseudo header in its place, gVisor 0 where it
// knows of the tunnel. Other checksums are as the sender meant them.
func completePacket(p []byte) {
	offset, proto, addrs := transport(p)
	var at int
	switch {
	case proto == protoTCP && len(p) >= offset+tcpSize:
		at = offset + tcpSum
	case proto == protoUDP && len(p) >= offset+udpSize:
		at = offset + udpSum
	default:
		return
	}
	pseudo := sum(uint64(proto)+uint64(len(p)-offset), addrs)
	there := binary.BigEndian.Uint16(p[at:])
	if there != pseudo && (there != 0 || proto != protoTCP) {
		return
	}
	binary.BigEndian.PutUint16(p[at:], 0)
	check := ^sum(uint64(pseudo), p[offset:])
	if check == 0 && proto == protoUDP {
		check = 0xffff // RFC 768: 0 means that there is none
	}
	binary.BigEndian.PutUint16(p[at:], check)
}

// transport finds the transport header of an IP packet, its protocol, and the
// addresses for its checksum. The protocol is 0 for packets that are no whole
// ones, and for fragments and IPv6 extension headers: their checksums are
// complete.
func transport(p []byte) (offset int, proto byte, addrs []byte) {
	switch {
	case len(p) >= ip4Size && p[0]>>4 == 4:
		offset = int(p[0]&15) * 4
		whole := int(binary.BigEndian.Uint16(p[2:])) == len(p)
		fragment := binary.BigEndian.Uint16(p[6:])&0x3fff != 0 // more fragments, or an offset
		if offset >= ip4Size && whole && !fragment {
			return offset, p[9], p[12:20]
		}
	case len(p) >= ip6Size && p[0]>>4 == 6:
		if ip6Size+int(binary.BigEndian.Uint16(p[4:])) == len(p) {
			return ip6Size, p[6], p[8:40]
		}
	}
	return 0, 0, nil
}

// sum adds p to the ones' complement sum of start (RFC 1071), eight bytes at
// a time.
func sum(start uint64, p []byte) uint16 {
	s := start
	for len(p) >= 8 {
		v := binary.BigEndian.Uint64(p)
		s += v
		if s < v {
			s++ // the carry comes in again
		}
		p = p[8:]
	}
	var tail uint64
	for i, b := range p {
		tail |= uint64(b) << (56 - 8*i)
	}
	s += tail
	if s < tail {
		s++
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
