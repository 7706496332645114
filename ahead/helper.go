package ahead

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// HelperLinger is how long the helper outlives the parent.
	HelperLinger  = 200 * time.Millisecond
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
	os.WriteFile("/proc/self/comm", []byte(HelperName), 0) // instead of "exe", for ps and for the doctor's reader
	for {
		var r Request
		fds, err := Receive(control, &r, 0, 0)
		if err != nil {
			break // the parent ended or let go of us
		}
		CloseAll(fds)
		if r.Op == OpStarted {
			time.AfterFunc(helperSettles, func() { Trim() }) // now the command starts, and the processor is its
			continue
		}
		h.slots <- struct{}{}
		go func() {
			defer func() { <-h.slots }()
			h.serve(r)
		}()
	}
	sever()
	<-time.After(HelperLinger)
	return 0
}

// serve answers one request. It ends with the process at the latest.
func (h *helper) serve(r Request) {
	var err error
	switch r.Op {
	case OpListen:
		err = h.listen(r)
	case OpDial:
		err = h.dial(r)
	case OpDiag:
		err = h.diag(r)
	default:
		err = fmt.Errorf("request %q: %w", r.Op, unix.ENOSYS)
	}
	if err != nil {
		h.reply(&Reply{ID: r.ID, Fault: newFault(err)})
	}
}

func (h *helper) reply(r *Reply, fds ...int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Send(h.control, r, fds...)
}

// hand passes a socket out and closes it here.
func (h *helper) hand(id uint64, fd int, err error) error {
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return h.reply(&Reply{ID: id}, fd)
}

func (h *helper) listen(r Request) error {
	fd, err := openSocket(r.IP, r.Port, r.kind())
	return h.hand(r.ID, fd, err)
}

func (r Request) kind() int {
	if r.UDP {
		return unix.SOCK_DGRAM
	}
	return unix.SOCK_STREAM
}

func (h *helper) dial(r Request) error {
	fd, err := connect(r.IP, r.Port, r.kind())
	return h.hand(r.ID, fd, err)
}

// diag makes a socket that dumps the sockets of this network namespace wherever it is used; reading needs no privilege.
func (h *helper) diag(r Request) error {
	fd, err := openDiag()
	return h.hand(r.ID, fd, err)
}

func openDiag() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	return fd, os.NewSyscallError("socket sock_diag", err)
}
