package mitm

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// tcpClosed is TCP_CLOSE of the kernel's tcp_states.h.
const tcpClosed = 7

// unsent returns how many bytes of a TCP socket have not been acknowledged
// (SIOCOUTQ, tcp(7)); 0 if its connection is gone.
func unsent(c syscall.RawConn) (n int, err error) {
	ctl := c.Control(func(fd uintptr) {
		info, failed := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if failed != nil || info.State == tcpClosed {
			err = failed
			return
		}
		n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	})
	if ctl != nil {
		err = ctl
	}
	return n, err
}
