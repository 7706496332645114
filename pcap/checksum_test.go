package pcap

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// packet makes an IP packet with a TCP or UDP segment of n bytes of data, and
// returns where its checksum stands, the pseudo header's sum and the checksum
// that it should have, by gVisor's arithmetic.
func packet(version int, proto tcpip.TransportProtocolNumber, data []byte) (p []byte, at int, pseudo, want uint16) {
	size, field := header.TCPMinimumSize, tcpSum
	if proto == header.UDPProtocolNumber {
		size, field = header.UDPMinimumSize, udpSum
	}
	length := uint16(size + len(data))
	var src, dst tcpip.Address
	if version == 4 {
		src, dst = tcpip.AddrFrom4([4]byte{198, 19, 255, 2}), tcpip.AddrFrom4([4]byte{203, 0, 113, 7})
		p = make([]byte, header.IPv4MinimumSize)
		header.IPv4(p).Encode(&header.IPv4Fields{TotalLength: uint16(len(p)) + length, Protocol: uint8(proto), SrcAddr: src, DstAddr: dst})
	} else {
		src, dst = tcpip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 1}), tcpip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 2})
		p = make([]byte, header.IPv6MinimumSize)
		header.IPv6(p).Encode(&header.IPv6Fields{PayloadLength: length, TransportProtocol: proto, SrcAddr: src, DstAddr: dst})
	}
	at = len(p) + field
	segment := append(make([]byte, size), data...)
	binary.BigEndian.PutUint16(segment, 443)
	pseudo = header.PseudoHeaderChecksum(proto, src, dst, length)
	want = ^checksum.Checksum(segment, pseudo)
	return append(p, segment...), at, pseudo, want
}

func TestChecksums(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, proto := range []tcpip.TransportProtocolNumber{header.TCPProtocolNumber, header.UDPProtocolNumber} {
		for _, version := range []int{4, 6} {
			for n := range 2000 {
				data := make([]byte, n)
				for i := range data {
					data[i] = byte(rng.Uint32())
				}
				p, at, pseudo, want := packet(version, proto, data)
				left := []uint16{pseudo, want}
				if proto == header.TCPProtocolNumber {
					left = append(left, 0)
				}
				for _, v := range left {
					got := slices.Clone(p)
					binary.BigEndian.PutUint16(got[at:], v)
					completePacket(got)
					if sum := binary.BigEndian.Uint16(got[at:]); sum != want {
						t.Fatalf("protocol %d, version %d, %d bytes: %#x became %#x, want %#x", proto, version, n, v, sum, want)
					}
				}
				wrong := slices.Clone(p)
				binary.BigEndian.PutUint16(wrong[at:], want^0x5555)
				if binary.BigEndian.Uint16(wrong[at:]) != pseudo && binary.BigEndian.Uint16(wrong[at:]) != 0 {
					before := slices.Clone(wrong)
					if completePacket(wrong); !bytes.Equal(wrong, before) {
						t.Fatal("a wrong checksum was mended")
					}
				}
			}
		}
	}
}

// TestNoChecksum: UDP without one, fragments and what is no whole packet stay
// as they are.
func TestNoChecksum(t *testing.T) {
	udp, _, _, _ := packet(4, header.UDPProtocolNumber, []byte("data"))
	fragment, at, pseudo, _ := packet(4, header.UDPProtocolNumber, []byte("data"))
	binary.BigEndian.PutUint16(fragment[6:], 0x2000)
	binary.BigEndian.PutUint16(fragment[at:], pseudo)
	long, _, _, _ := packet(6, header.TCPProtocolNumber, []byte("data"))
	long = append(long, 0)
	for _, p := range [][]byte{udp, fragment, long, {}, {0x45}, {0x60, 0}, long[:40], bytes.Repeat([]byte{0x4f}, 40), bytes.Repeat([]byte{0xff}, 60)} {
		before := slices.Clone(p)
		if completePacket(p); !bytes.Equal(p, before) {
			t.Errorf("% x became % x", before, p)
		}
	}
}

// FuzzComplete: no packet is too odd, and nothing but a checksum changes.
func FuzzComplete(f *testing.F) {
	for _, version := range []int{4, 6} {
		p, _, _, _ := packet(version, header.TCPProtocolNumber, []byte("data"))
		f.Add(p)
		p, _, _, _ = packet(version, header.UDPProtocolNumber, nil)
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		got := slices.Clone(p)
		completePacket(got)
		changed := 0
		for i := range p {
			if p[i] != got[i] {
				changed++
			}
		}
		again := slices.Clone(got)
		if completePacket(again); changed > 2 || !bytes.Equal(again, got) {
			t.Errorf("% x became % x, then % x", p, got, again)
		}
	})
}

// FuzzCutLines: lines are cut whole and none is lost.
func FuzzCutLines(f *testing.F) {
	f.Add([]byte("CLIENT_RANDOM 00 11\nSECRET 1 2\n"), 12)
	f.Add([]byte("\n\n\n"), 1)
	f.Fuzz(func(t *testing.T, lines []byte, most int) {
		most = max(1, most&0xff)
		for rest := lines; len(rest) > 0; {
			n := cutLines(rest, most)
			if n <= 0 || n > len(rest) || n < len(rest) && rest[n-1] != '\n' {
				t.Fatalf("%d of %q, most %d", n, rest, most)
			}
			if n > most && bytes.IndexByte(rest[:n-1], '\n') >= 0 {
				t.Fatalf("%d of %q in one, most %d", n, rest, most)
			}
			rest = rest[n:]
		}
	})
}
