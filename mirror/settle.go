package mirror

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpCloseWait is TCP_CLOSE_WAIT of the kernel's tcp_states.h.
const tcpCloseWait = 8

// Settle waits, for no longer than ctx, until what the child sent to services
// of the host has reached them: a program may send, hear nothing and end.
// Connections that somebody inside still holds open are not waited for, unless
// their service does not read. It comes before Close, which cuts short what is not over.
func (m *Mirror) Settle(ctx context.Context) {
	for wait := drainFirst; m.unsettled(); wait = min(2*wait, drainLater) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// unsettled tells whether there is a connection to a mirror inside that has not
// been accepted, or that the child has closed and that is not over. Where there is
// something to read the child may have closed it: the news come after.
func (m *Mirror) unsettled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.accepting {
		if backlog, _, _ := status(l); backlog > 0 {
			return true
		}
	}
	for c := range m.carrying {
		if _, state, unread := status(c); state == tcpCloseWait || unread > 0 {
			return true
		}
	}
	return false
}

// status returns what the kernel knows of a socket, nothing if it was closed.
func status(c syscall.Conn) (backlog uint32, state uint8, unread int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, 0
	}
	raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			backlog, state = info.Unacked, info.State // the former of a listener
		}
		unread, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	})
	return backlog, state, unread
}

// track has Settle look after a mirror or connection inside until the function that it
// returns is called.
func track[T comparable](m *Mirror, set *map[T]struct{}, member T) (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if *set == nil {
		*set = map[T]struct{}{}
	}
	(*set)[member] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(*set, member)
	}
}
