package wg

import (
	"bytes"
	"encoding/binary"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// TestLeaveChecksum completes what was left as a kernel does, and checks the
// packet as a receiver does.
func TestLeaveChecksum(t *testing.T) {
	for _, version := range []byte{4, 6} {
		for _, proto := range []byte{protoTCP, protoUDP} {
			for _, size := range []int{68, 69, 1500} {
				p := tcpPacket(version, size)
				ip := ip6Size
				if version == 4 {
					ip, p[9] = ip4Size, proto
				} else {
					p[6] = proto
				}
				head := make([]byte, vnetSize)
				leaveChecksum(head, 0, p)
				start := int(binary.NativeEndian.Uint16(head[6:]))
				at := start + int(binary.NativeEndian.Uint16(head[8:]))
				if head[0] != vnetNeedsCsum || start != ip {
					t.Fatalf("IPv%d %d: % x", version, proto, head)
				}
				binary.BigEndian.PutUint16(p[at:], ^checksum.Checksum(p[start:], 0))
				src, dst := header.IPv6(p).SourceAddress(), header.IPv6(p).DestinationAddress()
				if version == 4 {
					src, dst = header.IPv4(p).SourceAddress(), header.IPv4(p).DestinationAddress()
				}
				sum := header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(proto), src, dst, uint16(len(p)-ip))
				if got := checksum.Checksum(p[ip:], sum); got != 0xffff {
					t.Errorf("IPv%d, protocol %d, %d bytes: sum %#x", version, proto, size, got)
				}
			}
		}
	}
	fragment := tcpPacket(4, 100)
	fragment[6] = 0x20 // more fragments
	for _, p := range [][]byte{nil, {0x45}, make([]byte, 60), tcpPacket(4, 30), tcpPacket(6, 50), fragment} {
		want, head := bytes.Clone(p), make([]byte, vnetSize)
		if leaveChecksum(head, 0, p); head[0] != 0 || !bytes.Equal(p, want) {
			t.Errorf("% x: header % x", p, head)
		}
	}
}

func FuzzSegments(f *testing.F) {
	udp := tcpPacket(4, 500)
	udp[9] = protoUDP
	f.Add(udp, 100)
	udp6 := tcpPacket(6, 500)
	udp6[6] = protoUDP
	f.Add(udp6, 7)
	f.Fuzz(func(t *testing.T, p []byte, size int) {
		if size < 0 || len(p) > 2000 {
			return
		}
		offset, _, _, ok := transport(p)
		var whole []byte
		for _, s := range segments(p, size) {
			if len(s) > offset+udpSize+size {
				t.Fatalf("%d bytes, allowed %d", len(s), offset+udpSize+size)
			}
			whole = append(whole, s[offset+udpSize:]...)
		}
		if ok && whole != nil && !bytes.Equal(whole, p[offset+udpSize:]) {
			t.Fatal("payload changed")
		}
		leaveChecksum(make([]byte, vnetSize), 0, p)
	})
}
