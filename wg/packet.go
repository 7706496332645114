package wg

import "encoding/binary"

const (
	// vnetSize is the length of struct virtio_net_hdr, which stands before
	// every packet of a device, in the machine's byte order.
	vnetSize      = 10
	vnetNeedsCsum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	vnetGSOUDPL4  = 5 // VIRTIO_NET_HDR_GSO_UDP_L4

	ip4Size = 20
	ip6Size = 40
	udpSize = 8

	protoTCP, tcpCsum = 6, 16 // protocol number, offset of the checksum
	protoUDP, udpCsum = 17, 6
)

// transport finds the transport header of an IP packet: its offset and
// protocol, and the addresses for its checksum. ok is false for packets that
// are malformed, and for fragments and IPv6 extension headers, whose
// checksums are complete.
func transport(p []byte) (offset int, proto byte, addrs []byte, ok bool) {
	if len(p) == 0 {
		return 0, 0, nil, false
	}
	switch p[0] >> 4 {
	case 4:
		if len(p) < ip4Size {
			break
		}
		offset = int(p[0]&15) * 4
		fragment := binary.BigEndian.Uint16(p[6:])&0x3fff != 0 // more fragments, or an offset
		return offset, p[9], p[12:20], !fragment && offset >= ip4Size && len(p) >= offset
	case 6:
		if len(p) < ip6Size {
			break
		}
		return ip6Size, p[6], p[8:40], true
	}
	return 0, 0, nil, false
}

// leaveChecksum marks a packet's transport checksum, which the far end has
// not filled in, as one that the kernel has to complete: the sum of the
// pseudo header (RFC 9293 section 3.1) stands in its place, and the struct
// virtio_net_hdr in head says where. link is the length of the link header.
func leaveChecksum(head []byte, link int, p []byte) {
	offset, proto, addrs, ok := transport(p)
	if !ok {
		return
	}
	var at int
	switch {
	case proto == protoTCP && len(p) >= offset+20:
		at = tcpCsum
	case proto == protoUDP && len(p) >= offset+udpSize:
		at = udpCsum
	default:
		return
	}
	binary.BigEndian.PutUint16(p[offset+at:], pseudoSum(proto, addrs, len(p)-offset))
	head[0] = vnetNeedsCsum
	binary.NativeEndian.PutUint16(head[6:], uint16(link+offset))
	binary.NativeEndian.PutUint16(head[8:], uint16(at))
}

// pseudoSum is the sum of the pseudo header of a segment of length bytes.
func pseudoSum(proto byte, addrs []byte, length int) uint16 {
	sum := uint32(proto) + uint32(length)
	for i := 0; i < len(addrs); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(addrs[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// segments cuts a UDP packet that the child's kernel left for us to cut
// (UDP_SEGMENT): its payload in pieces of size bytes, each with the headers
// of the packet.
func segments(p []byte, size int) [][]byte {
	offset, proto, addrs, ok := transport(p)
	if !ok || proto != protoUDP || size == 0 || len(p) < offset+udpSize {
		return nil
	}
	head, rest := p[:offset+udpSize], p[offset+udpSize:]
	var out [][]byte
	for len(rest) > 0 {
		n := min(size, len(rest))
		one := append(append(make([]byte, 0, len(head)+n), head...), rest[:n]...)
		rest = rest[n:]
		binary.BigEndian.PutUint16(one[offset+4:], uint16(udpSize+n))
		if one[0]>>4 == 4 {
			binary.BigEndian.PutUint16(one[2:], uint16(len(one)))
			headerChecksum(one[:offset])
		} else {
			binary.BigEndian.PutUint16(one[4:], uint16(len(one)-ip6Size))
		}
		// Not filled in yet; what stands there is of the longer packet.
		binary.BigEndian.PutUint16(one[offset+udpCsum:], pseudoSum(proto, addrs, udpSize+n))
		out = append(out, one)
	}
	return out
}

// headerChecksum fills in the checksum of an IPv4 header (RFC 791).
func headerChecksum(h []byte) {
	binary.BigEndian.PutUint16(h[10:], 0)
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
}
