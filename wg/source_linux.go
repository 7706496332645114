package wg

import (
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"
)

// sourceSize is room for the one control message that is asked for.
const sourceSize = 64

// prepare asks the kernel to tell which address of ours a message came to, and
// lets routers cut messages that are too long for what is behind them: nobody
// would hear their complaint.
func prepare(c *net.UDPConn, six bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		if six {
			unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
			unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT)
		}
		// Of a socket of IPv6 for what it carries of IPv4.
		unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
		if !six {
			unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO, 1)
		}
	})
}

// sourceOf makes of what came with a message the control message that sends
// the answer from the address that the message was sent to. Empty: the kernel
// chooses. The interface is left open: routes may change, addresses are what
// the peer knows.
func sourceOf(oob []byte) []byte {
	if len(oob) < unix.CmsgLen(0) {
		return nil
	}
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range list {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			var p unix.Inet4Pktinfo
			copy(p.Spec_dst[:], m.Data[4:8])
			return unix.PktInfo4(&p)
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			var p unix.Inet6Pktinfo
			copy(p.Addr[:], m.Data[:16])
			if p.Addr[0] == 0xfe && p.Addr[1]&0xc0 == 0x80 { // link-local: it is the link's
				p.Ifindex = binary.NativeEndian.Uint32(m.Data[16:20])
			}
			return unix.PktInfo6(&p)
		}
	}
	return nil
}
