package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	errNoInit = errors.New("netns.Init was not called first")
	errEnded  = errors.New("the process in the namespace ended")
)

// Start builds everything around the command but does not start it. Until ctx is done; it does not matter afterwards. On error,
// a *StepError (or a mistake in cfg), nothing is left.
//
// It makes this process the reaper of orphans (PR_SET_CHILD_SUBREAPER) and, once cloned, undumpable (PR_SET_DUMPABLE 0): what it
// holds of the child's secrets shall be in no core file and open to no debugger. uid_map could not be written were it so before.
func Start(ctx context.Context, cfg *Config) (*Namespace, error) {
	c := *cfg
	if err := c.complete(); err != nil {
		return nil, err
	}
	n := takeAhead()
	if n == nil || c.Stdin != nil || c.Stdout != nil || c.Stderr != nil {
		n.abandon()
		n = &Namespace{rights: CurrentRights(), done: make(chan struct{}), events: make(chan unix.WaitStatus, 16)}
	}
	n.config = c
	if err := n.clone(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { n.control.SetDeadline(time.Unix(1, 0)) })
	err := n.construct()
	if !stop() && err != nil {
		err = &StepError{errStep(err), context.Cause(ctx)}
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func errStep(err error) string {
	var s *StepError
	if errors.As(err, &s) {
		return s.Step
	}
	return "init"
}

// complete puts the defaults in.
func (c *Config) complete() error {
	switch {
	case !stagesReady:
		return errNoInit
	case c.Path == "":
		return fmt.Errorf("command: %w", unix.EINVAL)
	case !c.Addr4.IsValid() && !c.Addr6.IsValid():
		return fmt.Errorf("addresses: %w", unix.EINVAL)
	case c.Addr4.IsValid() && !c.Addr4.Addr().Is4() || c.Addr6.IsValid() && !c.Addr6.Addr().Is6():
		return fmt.Errorf("addresses %v, %v: %w", c.Addr4, c.Addr6, unix.EAFNOSUPPORT)
	case c.MTU < 0 || c.MTU > maxMTU:
		return fmt.Errorf("MTU %d: %w", c.MTU, unix.EINVAL)
	}
	switch c.Device {
	case "":
		c.Device = Auto
	case Auto, TUN, Veth:
	default:
		return fmt.Errorf("device %q: %w", c.Device, unix.EINVAL)
	}
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	if len(c.Args) == 0 {
		c.Args = []string{c.Path}
	}
	if c.Env == nil {
		c.Env = os.Environ()
	}
	if c.Routes == nil {
		if c.Addr4.IsValid() {
			c.Routes = append(c.Routes, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
		}
		if c.Addr6.IsValid() {
			c.Routes = append(c.Routes, netip.PrefixFrom(netip.IPv6Unspecified(), 0))
		}
	}
	for _, a := range c.ListenDNS {
		if !a.IsLoopback() {
			return fmt.Errorf("nameserver %v: %w", a, unix.EADDRNOTAVAIL)
		}
	}
	return nil
}

func (n *Namespace) step(name string, took time.Duration, err error) {
	if n.config.Step != nil {
		n.config.Step(Step{name, took, err})
	}
}

// cloneSteps are the names of what one clone makes, in the order in which the kernel does.
func cloneSteps(r Rights) []string {
	if r == Root {
		return []string{"netns", "mntns"}
	}
	return []string{"userns", "netns", "mntns"}
}

// clone starts init. Its steps are one system call: the time is written to the first.
func (n *Namespace) clone() error {
	began := time.Now()
	if n.control != nil {
		return nil // ahead
	}
	attr, err := cloneAttr(n.rights)
	if err != nil {
		return &StepError{cloneSteps(n.rights)[0], err}
	}
	if err = n.fork(attr); err != nil {
		step := blame(n.rights, attr)
		n.step(step, time.Since(began), err)
		return &StepError{step, err}
	}
	took := time.Since(began)
	for _, name := range cloneSteps(n.rights) {
		n.step(name, took, nil)
		took = 0
	}
	return nil
}

// blame finds out which namespace the kernel refused, by asking for one after the other.
func blame(r Rights, attr *syscall.SysProcAttr) string {
	flags := map[string]uintptr{"userns": unix.CLONE_NEWUSER, "netns": unix.CLONE_NEWNET, "mntns": unix.CLONE_NEWNS}
	steps := cloneSteps(r)
	some := *attr
	some.Cloneflags = 0
	for _, name := range steps {
		some.Cloneflags |= flags[name]
		probe := &Namespace{done: make(chan struct{}), events: make(chan unix.WaitStatus, 1)}
		if err := probe.fork(&some); err != nil {
			return name
		}
		probe.control.Close() // which ends the stage
		<-probe.done
		probe.closePidfd()
	}
	return steps[0]
}

// forking is held while processes are made and while orphans are looked for, so that the two know each other's.
var (
	forking sync.Mutex
	ours    = map[int]bool{} // pids of init processes that their keeper waits for
)

// fork makes the control connection and starts init and the goroutine that keeps it.
func (n *Namespace) fork(sys *syscall.SysProcAttr) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[1])
	if n.control, err = unixConn(pair[0]); err != nil {
		return err
	}
	n.pidfd = -1
	sys.PidFD = &n.pidfd
	started := make(chan error)
	go n.keep(pair[1], sys, started)
	if err := <-started; err != nil {
		n.control.Close()
		return err
	}
	return nil
}

func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, unix.ENOTSOCK
	}
	return u, nil
}

// keep forks init and waits for it, as the child of one thread that must not end before it: its death signal would fire.
func (n *Namespace) keep(control int, sys *syscall.SysProcAttr, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr := n.procAttr(control)
	attr.Sys = sys
	forking.Lock()
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	pid, err := syscall.ForkExec(selfExe, []string{stageInit}, attr)
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if err == nil {
		n.pid = pid
		ours[pid] = true
	}
	forking.Unlock()
	started <- err
	if err != nil {
		return
	}
	defer close(n.done)
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(pid, &ws, unix.WUNTRACED|unix.WCONTINUED, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || ws.Exited() || ws.Signaled():
			n.status = statusOf(ws, err)
			forking.Lock()
			delete(ours, pid)
			forking.Unlock()
			return
		}
		select {
		case n.events <- ws:
		default: // nobody Waits; stops are of interest only as they happen
		}
	}
}

// procAttr gives init the descriptors that this process inherited, under their numbers, and its socket behind them.
func (n *Namespace) procAttr(control int) *syscall.ProcAttr {
	std := [...]*os.File{n.config.Stdin, n.config.Stdout, n.config.Stderr}
	files := []uintptr{0, 1, 2}
	for i, f := range std {
		if f != nil {
			files[i] = f.Fd()
		}
	}
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	for _, fd := range inherited() {
		if uint64(fd)+2 >= limit.Cur && limit.Cur > 0 {
			continue // opened before the limit was lowered: it can be given to nobody under its number
		}
		for len(files) < fd {
			files = append(files, ^uintptr(0))
		}
		files = append(files, uintptr(fd))
	}
	files = append(files, uintptr(control))
	return &syscall.ProcAttr{Env: stageEnv(len(files)-1, "GOGC=off", "GOMAXPROCS=1"), Files: files}
}

// construct tells init what to build and collects what it built.
func (n *Namespace) construct() error {
	n.control.SetDeadline(time.Now().Add(initPatience))
	c := &n.config
	s := setup{UserNS: n.rights != Root, Device: c.Device, MTU: c.MTU, Offload: c.Offload, GSOMaxSize: c.GSOMaxSize,
		Addr4: c.Addr4, Addr6: c.Addr6, Routes: c.Routes, ListenDNS: c.ListenDNS, Sysctls: plannedSysctls(n.rights, c.Sysctls)}
	var small payload
	sendErr := small.send(n.control, s)
	if sendErr == nil {
		sendErr = n.sendCovers()
	}
	var stepErr *StepError
	if errors.As(sendErr, &stepErr) {
		return sendErr
	}
	// An init that failed does not listen: what it said counts for more than that.
	err := n.collect()
	if err == nil && sendErr != nil {
		err = &StepError{"init", sendErr}
	}
	return err
}

func (n *Namespace) sendCovers() error {
	covers := n.config.Covers
	if n.config.CoversFunc != nil {
		var err error
		if covers, err = n.config.CoversFunc(); err != nil {
			return &StepError{"mounts", err}
		}
	}
	var large payload
	message := covers.message(&large)
	return large.send(n.control, message)
}

// collect reads init's reports until all stands.
func (n *Namespace) collect() error {
	for {
		var r report
		fds, err := receiveFrom(n.control, &r, 2+2*len(n.config.ListenDNS))
		if isErrno(err, unix.ECONNRESET) {
			// Init ended with a message of ours unread. The kernel says so
			// once, ahead of what init had said.
			fds, err = receiveFrom(n.control, &r, 2+2*len(n.config.ListenDNS))
		}
		if err != nil {
			return &StepError{"init", n.lost(err)}
		}
		for _, m := range r.Notes {
			f := m.Fault
			n.notes = append(n.notes, Note{m.Step, m.Object, &f})
		}
		if r.Ready != nil {
			return n.take(r.Ready, fds)
		}
		closeAll(fds)
		if r.Fault != nil {
			n.step(r.Step, r.Took, r.Fault)
			return &StepError{r.Step, r.Fault}
		}
		n.step(r.Step, r.Took, nil)
	}
}

// lost explains why init's end of the connection is gone.
func (n *Namespace) lost(err error) error {
	if !errors.Is(err, io.EOF) && !isErrno(err, unix.EPIPE, unix.ECONNRESET) {
		return err
	}
	select {
	case <-n.done:
		return fmt.Errorf("%w: %v", errEnded, n.status)
	case <-time.After(time.Second):
		return err
	}
}

// take makes files and connections of the descriptors that came with ready.
func (n *Namespace) take(r *ready, fds []int) error {
	if len(fds) != 2+2*len(r.DNS) {
		closeAll(fds)
		return &StepError{"init", fmt.Errorf("%d descriptors: %w", len(fds), unix.EBADMSG)}
	}
	d := r.Device
	d.File = os.NewFile(uintptr(fds[0]), string(d.Kind))
	n.device, n.netNS, n.userNS = &d, r.NetNS, r.UserNS
	conn, err := unixConn(fds[1])
	if err != nil {
		closeAll(fds[2:])
		return &StepError{"helper", err}
	}
	n.helper = newHelperClient(conn)
	for i, addr := range r.DNS {
		s, err := newDNSSocket(addr, fds[2+2*i], fds[3+2*i])
		if err != nil {
			closeAll(fds[4+2*i:])
			return &StepError{"dns-sockets", err}
		}
		n.dns = append(n.dns, s)
	}
	return nil
}
