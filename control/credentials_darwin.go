package control

import (
	"net"

	"golang.org/x/sys/unix"
)

// credentials returns whose process is at the other end (LOCAL_PEERCRED and
// LOCAL_PEERPID of unix(4)).
func credentials(c *net.UnixConn) (uid, pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Xucred
	e := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err == nil {
			pid, _ = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		}
	})
	if e != nil {
		err = e
	}
	if err != nil {
		return 0, 0, err
	}
	return int(cred.Uid), pid, nil
}
