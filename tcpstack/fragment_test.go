package tcpstack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// whole makes a UDP packet of size bytes.
func whole(version, size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	if version == 4 {
		h := header.IPv4(p)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(size), ID: 77, TTL: 64, Protocol: 17})
		h.SetChecksum(^h.CalculateChecksum())
	} else {
		header.IPv6(p).Encode(&header.IPv6Fields{PayloadLength: uint16(size - header.IPv6MinimumSize), TransportProtocol: 17, HopLimit: 64})
	}
	return p
}

// joined puts fragments together and returns their payload.
func joined(t *testing.T, version, mtu int, all [][]byte) []byte {
	t.Helper()
	var out []byte
	for i, p := range all {
		last := i == len(all)-1
		var offset int
		var more bool
		var data []byte
		if version == 4 {
			h := header.IPv4(p)
			if !h.IsChecksumValid() || int(h.TotalLength()) != len(p) || h.ID() != 77 {
				t.Errorf("fragment %d: header %x", i, p[:20])
			}
			offset, more, data = int(h.FragmentOffset()), h.More(), h.Payload()
		} else {
			h := header.IPv6(p)
			f := header.IPv6Fragment(h.Payload())
			if h.NextHeader() != header.IPv6FragmentHeader || int(h.PayloadLength())+40 != len(p) || f.NextHeader() != 17 ||
				!bytes.Equal(p[44:48], all[0][44:48]) {
				t.Errorf("fragment %d: header %x", i, p[:48])
			}
			at := binary.BigEndian.Uint16(p[42:])
			offset, more, data = int(at&^7), at&1 != 0, p[48:]
		}
		if len(p) > mtu || offset != len(out) || more == last {
			t.Errorf("fragment %d: %d bytes at %d of %d, more %v", i, len(p), offset, len(out), more)
		}
		out = append(out, data...)
	}
	return out
}

func TestFragments(t *testing.T) {
	for _, version := range []int{4, 6} {
		head := 20
		if version == 6 {
			head = 40
		}
		for _, size := range []int{1281, 1420, 1500, 9000, 65000} {
			p := whole(version, size)
			once := fragments(p, 1420)
			var twice [][]byte // as when gVisor cuts first
			for _, f := range once {
				twice = append(twice, fragments(f, 1280)...)
			}
			if len(once) == 1 {
				continue
			}
			if got := joined(t, version, 1280, twice); !bytes.Equal(got, p[head:]) {
				t.Errorf("version %d, %d bytes: cut twice, they are others", version, size)
			}
			if got := joined(t, version, 1420, once); !bytes.Equal(got, p[head:]) {
				t.Errorf("version %d, %d bytes: they are others", version, size)
			}
		}
		for _, uncut := range [][]byte{whole(version, 1280), nil, whole(version, 2000)[:10]} {
			if got := fragments(uncut, 1280); len(got) != 1 || !bytes.Equal(got[0], uncut) {
				t.Errorf("version %d: %d bytes became %d pieces", version, len(uncut), len(got))
			}
		}
		tcp := whole(version, 1400)
		tcp[map[int]int{4: 9, 6: 6}[version]] = 6
		if len(fragments(tcp, 1280)) != 1 {
			t.Errorf("version %d: TCP was cut", version)
		}
	}
}
