package ahead

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// HelperDialing is how long a connection inside may take: for a listener whose backlog is full.
const HelperDialing = 10 * time.Second

// listenBacklog is cut by the kernel to net.core.somaxconn.
const listenBacklog = 4096

// newSocket makes a socket of the kind (SOCK_STREAM, SOCK_DGRAM) for an address of this family. One for IPv6 serves that alone.
func newSocket(ip []byte, kind int) (fd int, err error) {
	family := unix.AF_INET
	switch len(ip) {
	case 4:
	case 16:
		family = unix.AF_INET6
	default:
		return -1, unix.EAFNOSUPPORT
	}
	if fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET6 {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	return fd, nil
}

func sockaddr(ip []byte, port uint16) unix.Sockaddr {
	if len(ip) == 4 {
		return &unix.SockaddrInet4{Port: int(port), Addr: [4]byte(ip)}
	}
	return &unix.SockaddrInet6{Port: int(port), Addr: [16]byte(ip)}
}

// openSocket makes a bound socket, which listens if it is of TCP.
func openSocket(ip []byte, port uint16, kind int) (int, error) {
	fd, err := newSocket(ip, kind)
	if err != nil {
		return -1, err
	}
	if kind == unix.SOCK_STREAM {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // as net does
	}
	err = os.NewSyscallError("bind", unix.Bind(fd, sockaddr(ip, port)))
	if err == nil && kind == unix.SOCK_STREAM {
		err = os.NewSyscallError("listen", unix.Listen(fd, listenBacklog))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// selfConnects is how often a connection to nobody may meet itself: a port without a listener may be the one that the kernel
// chose for our end.
const selfConnects = 3

// connect makes a connected socket.
func connect(ip []byte, port uint16, kind int) (fd int, err error) {
	for range selfConnects {
		if fd, err = newSocket(ip, kind); err != nil {
			return -1, err
		}
		if err = await(fd, unix.Connect(fd, sockaddr(ip, port))); err != nil {
			unix.Close(fd)
			return -1, os.NewSyscallError("connect", err)
		}
		if !meetsItself(fd, port) {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, os.NewSyscallError("connect", unix.ECONNREFUSED)
}

// meetsItself tells whether a socket is connected to itself: on loopback, both ends having one port.
func meetsItself(fd int, port uint16) bool {
	own, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return false
	}
	switch own := own.(type) {
	case *unix.SockaddrInet4:
		peer, ok := peer.(*unix.SockaddrInet4)
		return ok && own.Port == int(port) && own.Addr == peer.Addr
	case *unix.SockaddrInet6:
		peer, ok := peer.(*unix.SockaddrInet6)
		return ok && own.Port == int(port) && own.Addr == peer.Addr
	}
	return false
}

// await returns how a connect that answered err ended.
func await(fd int, err error) error {
	if err != unix.EINPROGRESS {
		return err
	}
	for end := time.Now().Add(HelperDialing); ; {
		left := time.Until(end)
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 {
			break
		}
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return err
}
