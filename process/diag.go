package process

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Layout of linux/sock_diag.h and linux/inet_diag.h; the fields are in host byte order, addresses and
// ports as on the wire.
const (
	sockDiagByFamily = 20

	requestLen = 72 // nlmsghdr 16, inet_diag_req_v2 56
	familyAt   = 16
	protocolAt = 17
	statesAt   = 20
	idAt       = 24 // inet_diag_sockid: sport 2, dport 2, src 16, dst 16, if 4, cookie 8
	deviceAt   = idAt + 36
	cookieAt   = idAt + 40

	replyLen = 88 // nlmsghdr 16, inet_diag_msg 72
	stateAt  = 17
	uidAt    = 80
	inodeAt  = 84

	stateListen = 10 // TCP_LISTEN
)

// boundDevices is how many interfaces are tried for sockets that are bound to one (SO_BINDTODEVICE):
// those are found under its index only. A namespace of ours has few, numbered from 1.
const boundDevices = 8

// endpoint is what the kernel says of a socket.
type endpoint struct {
	inode uint64
	uid   uint32 // of its maker
}

// socket asks for the socket with these addresses.
func (f *Finder) socket(src, dst netip.AddrPort, network string) (s endpoint, ok bool) {
	raw, err := f.Diag.SyscallConn()
	if err != nil {
		return s, false
	}
	raw.Control(func(fd uintptr) {
		for device := uint32(0); device <= boundDevices && !ok; device++ {
			f.seq++
			var again bool
			s, ok, again = ask(int(fd), request(src, dst, network, device, f.seq), f.seq)
			if !again {
				return
			}
		}
	})
	return s, ok
}

// request builds an exact lookup. What UDP calls source is the peer: the request is answered as an
// arriving datagram would be.
func request(src, dst netip.AddrPort, network string, device, seq uint32) []byte {
	protocol, from, to := byte(unix.IPPROTO_TCP), src, dst
	if network == "udp" {
		protocol, from, to = unix.IPPROTO_UDP, dst, src
	}
	fromAddr, toAddr := from.Addr().Unmap(), to.Addr().Unmap()
	family := byte(unix.AF_INET)
	if fromAddr.Is6() {
		family = unix.AF_INET6
	}
	host, wire := binary.NativeEndian, binary.BigEndian
	p := make([]byte, requestLen)
	host.PutUint32(p, requestLen)
	host.PutUint16(p[4:], sockDiagByFamily)
	host.PutUint16(p[6:], unix.NLM_F_REQUEST)
	host.PutUint32(p[8:], seq)
	p[familyAt], p[protocolAt] = family, protocol
	host.PutUint32(p[statesAt:], ^uint32(0))
	wire.PutUint16(p[idAt:], from.Port())
	wire.PutUint16(p[idAt+2:], to.Port())
	copy(p[idAt+4:], fromAddr.AsSlice())
	copy(p[idAt+20:], toAddr.AsSlice())
	host.PutUint32(p[deviceAt:], device)
	host.PutUint64(p[cookieAt:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return p
}

// ask makes one request. The kernel has answered by the time that it took the request. again says
// that there is no such socket under this device.
func ask(fd int, p []byte, seq uint32) (s endpoint, ok, again bool) {
	if err := unix.Sendto(fd, p, unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return s, false, false
	}
	var buf [4096]byte
	for {
		n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return s, false, false
		}
		p := buf[:n]
		if len(p) < 20 || binary.NativeEndian.Uint32(p[8:]) != seq {
			continue // the answer to a request that was given up
		}
		if binary.NativeEndian.Uint16(p[4:]) != sockDiagByFamily || len(p) < replyLen {
			return s, false, unix.Errno(-int32(binary.NativeEndian.Uint32(p[16:]))) == unix.ENOENT
		}
		s.uid = binary.NativeEndian.Uint32(p[uidAt:])
		s.inode = uint64(binary.NativeEndian.Uint32(p[inodeAt:]))
		if p[stateAt] == stateListen {
			return s, false, true
		}
		return s, s.inode != 0, false // 0: closed by its process, or not accepted yet
	}
}
