package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"ahead"

	"golang.org/x/sys/unix"
)

// Namespace is a place where a command runs or is about to. Its methods may be called from any goroutine, Go and Wait once.
type Namespace struct {
	config  Config
	rights  Rights
	control *net.UnixConn
	pid     int
	pidfd   int // -1 where the kernel has none
	device  *Device
	dns     []DNSSocket
	notes   []Note
	helper  *helperClient
	netNS   uint64
	userNS  uint64

	forked    sync.Once // sets these two
	helperPID int
	helperErr error

	done   chan struct{} // closed by the keeper when the process ended
	status Status        // before done is closed the keeper's
	events chan unix.WaitStatus

	mu      sync.Mutex // guards what follows, and pidfd once Start returned
	started bool
	closed  bool

	spareDiags, spareUDPs []*os.File // made before they were asked for
}

// spare takes one of the sockets that were made before they were asked for, nil if there is none or no other could follow.
func (n *Namespace) spare(from *[]*os.File) (f *os.File) {
	select {
	case <-n.helper.gone:
		return nil
	default:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(*from) > 0 {
		f, *from = (*from)[0], (*from)[1:]
	}
	return f
}

// A DNSSocket is port 53 of a loopback address inside. The sockets belong to the caller; Close closes them too.
type DNSSocket struct {
	Addr netip.Addr
	UDP  *net.UDPConn
	TCP  *net.TCPListener
}

// Device is the outer end of the child's link. See there who owns it.
func (n *Namespace) Device() *Device { return n.device }

// DNS lists the sockets of Config.ListenDNS that could be had; an IPv6 address may be missing, with a Note.
func (n *Namespace) DNS() []DNSSocket { return n.dns }

// Notes lists what was not done as asked.
func (n *Namespace) Notes() []Note { return n.notes }

// Rights tells which kind of namespaces they are.
func (n *Namespace) Rights() Rights { return n.rights }

// PID is the process id of init and, after Go, of the command.
func (n *Namespace) PID() int { return n.pid }

// HelperPID is the process id of the helper, which starts when Start returns; 0 if it could not be started.
func (n *Namespace) HelperPID() int {
	n.awaitHelper()
	return n.helperPID
}

// awaitHelper is done when init has forked the helper, which it does at once after saying that all stands.
func (n *Namespace) awaitHelper() error {
	n.forked.Do(func() {
		if n.device == nil {
			n.helperErr = &StepError{"helper", errEnded} // it did not come to that
			return
		}
		n.control.SetReadDeadline(time.Now().Add(helperPatience))
		var r ahead.Report
		_, err := receiveFrom(n.control, &r, 0)
		switch {
		case err != nil:
			n.helperErr = &StepError{"helper", n.lost(err)}
			return
		case r.Fault != nil:
			n.helperErr = &StepError{r.Step, r.Fault}
		}
		n.helperPID = r.PID
		n.step(r.Step, r.Took, n.helperErr)
	})
	return n.helperErr
}

// NetNS is the inode number of the network namespace, as the links /proc/PID/ns/net show it.
func (n *Namespace) NetNS() uint64 { return n.netNS }

// SetEnv replaces Config.Env. It must come before Go.
func (n *Namespace) SetEnv(env []string) { n.config.Env = env }

func toBytes(ss []string) [][]byte {
	ps := make([][]byte, len(ss))
	for i, s := range ss {
		ps[i] = []byte(s)
	}
	return ps
}

// execPatience bounds what lies between go and the execve: a chdir and a search of PATH, on any file system.
const execPatience = 30 * time.Second

// Go starts the command. It returns when the command runs, or with an *ExecError or *StepError; then nothing of it has run, and
// Close is all that is left to do.
func (n *Namespace) Go() error {
	if err := n.awaitHelper(); err != nil {
		return err
	}
	if err := n.execute(); err != nil {
		return err
	}
	n.helper.started()
	return nil
}

// execute has the process become the command.
func (n *Namespace) execute() error {
	n.control.SetDeadline(time.Now().Add(execPatience))
	var p ahead.Payload
	c := ahead.Command{Path: []byte(n.config.Path), Args: toBytes(n.config.Args), Env: toBytes(n.config.Env), Dir: []byte(n.config.Dir), Ignored: ahead.IgnoredAtStart}
	if err := send(n.control, &p, &c); err != nil {
		return &StepError{"exec", n.lost(err)}
	}
	var r ahead.Report
	_, err := receiveFrom(n.control, &r, 0)
	switch {
	case err != nil && !isErrno(err, unix.EPIPE) && !isEOF(err):
		return &StepError{"exec", err}
	case err == nil && r.Step == "exec":
		return &ExecError{n.config.Path, r.Fault}
	case err == nil:
		return &StepError{r.Step, r.Fault}
	}
	n.mu.Lock()
	n.started = true
	n.mu.Unlock()
	return nil
}

// Signal sends sig to the command, unless it ended: then it is os.ErrProcessDone.
func (n *Namespace) Signal(sig syscall.Signal) error {
	select {
	case <-n.done:
		return os.ErrProcessDone
	default:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pidfd >= 0 {
		err := unix.PidfdSendSignal(n.pidfd, sig, nil, 0)
		if err == unix.ESRCH {
			return os.ErrProcessDone
		}
		if err != unix.ENOSYS && err != unix.EBADF {
			return os.NewSyscallError("pidfd_send_signal", err)
		}
	}
	return os.NewSyscallError("kill", unix.Kill(n.pid, sig))
}

// Close ends the command if it still runs, closes the device and lets go of the helper. Other processes of the namespace go on,
// without a network. After a command that ran it waits for nothing that takes the kernel long.
func (n *Namespace) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	started := n.started
	n.mu.Unlock()
	if !started {
		n.awaitHelper() // whom nobody else could wait for
	}
	n.Signal(unix.SIGKILL)
	n.control.Close()
	<-n.done
	if n.device != nil {
		n.device.File.Close()
	}
	for _, f := range append(n.spareDiags, n.spareUDPs...) {
		f.Close()
	}
	for _, s := range n.dns {
		s.UDP.Close()
		s.TCP.Close()
	}
	if n.helper != nil {
		n.helper.close()
	}
	n.closePidfd()
	n.dismissHelper(started)
	return nil
}

func (n *Namespace) closePidfd() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pidfd >= 0 {
		unix.Close(n.pidfd)
		n.pidfd = -1
	}
}

// departed are helpers that were let go of and end in a moment. They are waited for when there is an occasion.
var (
	departedMu sync.Mutex
	departed   []int
)

// dismissHelper ends a helper without a command and waits for it; one that had a command ends by itself, a little later.
func (n *Namespace) dismissHelper(stays bool) {
	departedMu.Lock()
	defer departedMu.Unlock()
	left := departed[:0]
	for _, pid := range departed {
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == 0 && err == nil {
			left = append(left, pid)
		}
	}
	departed = left
	switch {
	case n.helperPID == 0:
	case stays:
		departed = append(departed, n.helperPID)
	default:
		unix.Kill(n.helperPID, unix.SIGKILL)
		for {
			if _, err := unix.Wait4(n.helperPID, nil, 0, nil); err != unix.EINTR {
				return
			}
		}
	}
}

func newDNSSocket(addr netip.Addr, udp, tcp int) (s DNSSocket, err error) {
	s.Addr = addr
	uf, tf := os.NewFile(uintptr(udp), "udp"), os.NewFile(uintptr(tcp), "tcp")
	defer uf.Close()
	defer tf.Close()
	pc, err := net.FilePacketConn(uf)
	if err != nil {
		return s, err
	}
	l, err := net.FileListener(tf)
	if err != nil {
		pc.Close()
		return s, err
	}
	var ok1, ok2 bool
	s.UDP, ok1 = pc.(*net.UDPConn)
	s.TCP, ok2 = l.(*net.TCPListener)
	if !ok1 || !ok2 {
		pc.Close()
		l.Close()
		return s, fmt.Errorf("socket of %v: %w", addr, unix.EPROTOTYPE)
	}
	return s, nil
}
