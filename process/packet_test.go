package process

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"trace/netns"
)

// packet is the first one of a connection: a SYN, or a datagram.
type packet struct {
	network  string
	src, dst netip.AddrPort
	seq      uint32
}

// parse reads a packet from the device; nil if it begins nothing.
func parse(p []byte, header int) *packet {
	if len(p) < header+28 {
		return nil
	}
	p = p[header:]
	var src, dst netip.Addr
	var protocol byte
	switch p[0] >> 4 {
	case 4:
		protocol = p[9]
		src, _ = netip.AddrFromSlice(p[12:16])
		dst, _ = netip.AddrFromSlice(p[16:20])
		p = p[int(p[0]&15)*4:]
	case 6:
		if len(p) < 48 {
			return nil
		}
		protocol = p[6]
		src, _ = netip.AddrFromSlice(p[8:24])
		dst, _ = netip.AddrFromSlice(p[24:40])
		p = p[40:]
	}
	if dst.IsMulticast() || len(p) < 8 {
		return nil
	}
	q := &packet{src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(p)), dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(p[2:]))}
	switch {
	case protocol == unix.IPPROTO_UDP:
		q.network = "udp"
	case protocol == unix.IPPROTO_TCP && len(p) >= 20 && p[13] == 2:
		q.network, q.seq = "tcp", binary.BigEndian.Uint32(p[4:])
	default:
		return nil
	}
	return q
}

// refuse answers a SYN by RST.
func (w *world) refuse(p *packet) {
	w.t.Helper()
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, p.dst.Port())
	binary.BigEndian.PutUint16(tcp[2:], p.src.Port())
	binary.BigEndian.PutUint32(tcp[8:], p.seq+1)
	tcp[12], tcp[13] = 5<<4, 0x14 // RST, ACK
	src, dst := p.dst.Addr().AsSlice(), p.src.Addr().AsSlice()
	pseudo := append(append([]byte{}, src...), dst...)
	pseudo = append(pseudo, 0, unix.IPPROTO_TCP, 0, 20)
	binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))
	var ip []byte
	if p.src.Addr().Is4() {
		ip = append([]byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0}, append(src, dst...)...)
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	} else {
		ip = append([]byte{0x60, 0, 0, 0, 0, 20, unix.IPPROTO_TCP, 64}, append(src, dst...)...)
	}
	frame := make([]byte, 10) // virtio_net_hdr: nothing left to do
	if w.device.Kind == netns.Veth {
		frame = append(frame, w.device.ChildMAC[:]...)
		frame = append(frame, w.device.MAC[:]...)
		if p.src.Addr().Is4() {
			frame = append(frame, 0x08, 0)
		} else {
			frame = append(frame, 0x86, 0xdd)
		}
	}
	if _, err := w.device.File.Write(append(append(frame, ip...), tcp...)); err != nil {
		w.t.Error("device:", err)
	}
}

func checksum(p []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
