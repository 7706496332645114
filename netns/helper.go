package netns

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	helperLinger  = 200 * time.Millisecond // the helper outlives the parent by this
	helperDialing = 10 * time.Second       // for a listener inside whose backlog is full
	helperAtOnce  = 64                     // requests being worked on
	helperSettles = 300 * time.Millisecond // after go it gives back what starting took
)

// helper is the third stage.
type helper struct {
	control int
	slots   chan struct{}

	mu sync.Mutex // one reply at a time
}

func newHelper(control int) *helper {
	return &helper{control: control, slots: make(chan struct{}, helperAtOnce)}
}

func runHelper(control int) int {
	h := newHelper(control)
	os.WriteFile("/proc/self/comm", []byte(stageChild), 0) // instead of "exe", for ps and for the doctor's reader
	for {
		var r request
		fds, err := receivePacket(control, &r, 0, 0)
		if err != nil {
			break // the parent ended or let go of us
		}
		closeAll(fds)
		if r.Op == opStarted {
			time.AfterFunc(helperSettles, settle) // now the command starts, and the processor is its
			continue
		}
		h.slots <- struct{}{}
		go func() {
			defer func() { <-h.slots }()
			h.serve(r)
		}()
	}
	sever()
	<-time.After(helperLinger)
	return 0
}

// settle makes the helper small.
func settle() {
	debug.SetGCPercent(20)
	Trim() // what cannot be given back is kept
	debug.FreeOSMemory()
}

// serve answers one request. It ends with the process at the latest.
func (h *helper) serve(r request) {
	var err error
	switch r.Op {
	case opListen:
		err = h.listen(r)
	case opDial:
		err = h.dial(r)
	case opDiag:
		err = h.diag(r)
	default:
		err = fmt.Errorf("request %q: %w", r.Op, unix.ENOSYS)
	}
	if err != nil {
		h.reply(reply{ID: r.ID, Fault: newFault(err)})
	}
}

func (h *helper) reply(r reply, fds ...int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return sendPacket(h.control, r, fds...)
}

// hand passes a socket out.
func (h *helper) hand(id uint64, c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = h.reply(reply{ID: id}, int(fd)) })
	if err != nil {
		return err
	}
	return sent
}

func (h *helper) listen(r request) error {
	if network := r.Network; network == "udp4" || network == "udp6" {
		c, err := net.ListenPacket(network, r.Address)
		if err != nil {
			return err
		}
		defer c.Close()
		return h.hand(r.ID, c.(*net.UDPConn))
	}
	l, err := net.Listen(r.Network, r.Address)
	if err != nil {
		return err
	}
	defer l.Close()
	t, ok := l.(*net.TCPListener)
	if !ok {
		return unix.EAFNOSUPPORT
	}
	return h.hand(r.ID, t)
}

func (h *helper) dial(r request) error {
	ctx, cancel := context.WithTimeout(context.Background(), helperDialing)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, r.Network, r.Address)
	if err != nil {
		return err
	}
	defer c.Close()
	s, ok := c.(syscall.Conn)
	if !ok {
		return unix.EAFNOSUPPORT
	}
	return h.hand(r.ID, s)
}

// diag makes a socket that dumps the sockets of this network namespace wherever it is used; reading needs no privilege.
func (h *helper) diag(r request) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("socket sock_diag: %w", err)
	}
	defer unix.Close(fd)
	return h.reply(reply{ID: r.ID}, fd)
}
