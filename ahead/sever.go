package ahead

import (
	"encoding/binary"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// What of linux/inet_diag.h and linux/sock_diag.h is needed.
const (
	sockDestroy   = 21 // SOCK_DESTROY
	diagIDLen     = 48 // struct inet_diag_sockid
	diagReqLen    = 8 + diagIDLen
	diagMsgLen    = 4 + diagIDLen + 20
	tcpListen     = 10
	diagAddrAt    = 4 // of the source address in the sockid
	maxSevered    = 1 << 20
	diagBufferLen = 64 << 10
)

// sever ends the TCP connections of this namespace, so that what is left of the child fails at once (ECONNABORTED) instead of
// waiting for answers that nobody carries any more. Those over loopback stay: they need no road. It is a courtesy: a kernel without
// CONFIG_INET_DIAG_DESTROY does nothing.
func sever() {
	if !inUse("/proc/self/net/sockstat", "TCP: inuse ") && !inUse("/proc/self/net/sockstat6", "TCP6: inuse ") {
		return // the kernel would look through a table for all of the machine
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		for _, id := range connected(fd, family) {
			diagRequest(fd, sockDestroy, 0, family, id)
		}
	}
}

// inUse tells whether a file of the kernel's counts any sockets after a word.
func inUse(file, word string) bool {
	p, err := os.ReadFile(file)
	if err != nil {
		return true // unknown
	}
	_, rest, found := strings.Cut(string(p), word)
	return found && !strings.HasPrefix(rest, "0")
}

// diagRequest sends one request. A nil id asks for all sockets but listeners.
func diagRequest(fd int, kind, flags uint16, family byte, id []byte) error {
	p := make([]byte, unix.SizeofNlMsghdr+diagReqLen)
	ne := binary.NativeEndian
	ne.PutUint32(p, uint32(len(p)))
	ne.PutUint16(p[4:], kind)
	ne.PutUint16(p[6:], unix.NLM_F_REQUEST|flags)
	req := p[unix.SizeofNlMsghdr:]
	req[0], req[1] = family, unix.IPPROTO_TCP
	ne.PutUint32(req[4:], ^uint32(1<<tcpListen))
	copy(req[8:], id)
	return unix.Sendto(fd, p, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// connected returns the socket ids of the connections that leave the namespace.
func connected(fd int, family byte) (ids [][]byte) {
	if diagRequest(fd, unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, family, nil) != nil {
		return nil
	}
	buf := make([]byte, diagBufferLen)
	for len(ids) < maxSevered {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return ids
		}
		for p := buf[:n]; len(p) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(p))
			kind := binary.NativeEndian.Uint16(p[4:])
			if size < unix.SizeofNlMsghdr || size > len(p) || kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR {
				return ids
			}
			if m := p[unix.SizeofNlMsghdr:size]; len(m) >= diagMsgLen && !overLoopback(family, m[4+diagAddrAt:]) {
				ids = append(ids, append([]byte(nil), m[4:4+diagIDLen]...))
			}
			p = p[min((size+3)&^3, len(p)):]
		}
	}
	return ids
}

// overLoopback tells whether an address is that of a loopback device.
func overLoopback(family byte, addr []byte) bool {
	if family == unix.AF_INET {
		return addr[0] == 127
	}
	for _, b := range addr[:15] {
		if b != 0 {
			return false
		}
	}
	return addr[15] == 1
}
