package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"ahead"

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
	n := newNamespace()
	n.config = c
	child := ahead.Take()
	stale := child != nil && !slices.Equal(child.Files, ahead.Inherited()) // one that it has was marked as ours since
	if stale || c.Stdin != nil || c.Stdout != nil || c.Stderr != nil {
		abandon(child)
		child = nil
	}
	if err := n.clone(child); err != nil {
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

func newNamespace() *Namespace {
	return &Namespace{rights: CurrentRights(), done: make(chan struct{}), events: make(chan unix.WaitStatus, 16)}
}

// clone starts init, unless it was begun. Its steps are one system call: the time is written to the first.
func (n *Namespace) clone(child *ahead.Child) error {
	if child != nil {
		return n.adopt(child)
	}
	began := time.Now()
	attr, err := ahead.CloneAttr(n.rights)
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
		probe := newNamespace()
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

// fork starts init.
func (n *Namespace) fork(sys *syscall.SysProcAttr) error {
	std := [3]uintptr{0, 1, 2}
	for i, f := range [...]*os.File{n.config.Stdin, n.config.Stdout, n.config.Stderr} {
		if f != nil {
			std[i] = f.Fd()
		}
	}
	forking.Lock()
	child, err := ahead.Clone(sys, std)
	if err == nil {
		ours[child.PID] = true
	}
	forking.Unlock()
	if err != nil {
		return err
	}
	child.Rights = n.rights
	return n.adopt(child)
}

// adopt makes a child this namespace's init, and has its thread wait for it.
func (n *Namespace) adopt(c *ahead.Child) (err error) {
	forking.Lock()
	ours[c.PID] = true
	forking.Unlock()
	n.rights, n.pid, n.pidfd = c.Rights, c.PID, c.PIDFD
	c.Keep(n.keep)
	if n.control, err = unixConn(c.Control); err != nil {
		unix.Kill(c.PID, unix.SIGKILL)
		<-n.done
		n.closePidfd()
	}
	return err
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

// keep waits for init, and for the command that it becomes, on the thread whose child it is.
func (n *Namespace) keep() {
	defer close(n.done)
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(n.pid, &ws, unix.WUNTRACED|unix.WCONTINUED, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || ws.Exited() || ws.Signaled():
			n.status = statusOf(ws, err)
			forking.Lock()
			delete(ours, n.pid)
			forking.Unlock()
			return
		}
		select {
		case n.events <- ws:
		default: // nobody Waits; stops are of interest only as they happen
		}
	}
}

// initPatience is for init as a whole: a hanging network file system under a cover, say.
const initPatience = 30 * time.Second

// construct tells init what to build and collects what it built.
func (n *Namespace) construct() error {
	n.control.SetDeadline(time.Now().Add(initPatience))
	c := &n.config
	s := ahead.Setup{UserNS: n.rights != Root, Device: c.Device, MTU: c.MTU, Offload: c.Offload, GSOMaxSize: c.GSOMaxSize,
		Addr4: prefix(c.Addr4), Addr6: prefix(c.Addr6), Sysctls: plannedSysctls(n.rights, c.Sysctls)}
	for _, r := range c.Routes {
		s.Routes = append(s.Routes, prefix(r.Masked()))
	}
	for _, a := range c.ListenDNS {
		s.ListenDNS = append(s.ListenDNS, ahead.Prefix{IP: a.AsSlice(), Text: a.String()})
	}
	_, _, sendErr := n.control.WriteMsgUnix(ahead.Encode(&s), nil, nil)
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

func prefix(p netip.Prefix) ahead.Prefix {
	if !p.IsValid() {
		return ahead.Prefix{}
	}
	return ahead.Prefix{IP: p.Addr().AsSlice(), Bits: p.Bits(), Text: p.String()}
}

// send passes a payload on.
func send(c *net.UnixConn, p *ahead.Payload, m ahead.Message) error {
	f, err := p.File(m)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = c.WriteMsgUnix(ahead.Passing(), unix.UnixRights(int(f.Fd())), nil)
	return err
}

// receiveFrom is ahead.Receive on a connection, which obeys deadlines.
func receiveFrom(c *net.UnixConn, m ahead.Message, max int) ([]int, error) {
	p := make([]byte, ahead.MaxMessage)
	oob := make([]byte, unix.CmsgSpace(4*ahead.MaxFDs))
	n, oobn, flags, _, err := c.ReadMsgUnix(p, oob)
	if err != nil {
		return nil, err
	}
	return ahead.Open(p[:n], oob[:oobn], flags, m, max)
}

func isErrno(err error, errno ...syscall.Errno) bool { return ahead.IsErrno(err, errno...) }

func closeAll(fds []int) { ahead.CloseAll(fds) }

func (n *Namespace) sendCovers() error {
	covers := n.config.Covers
	if n.config.CoversFunc != nil {
		var err error
		if covers, err = n.config.CoversFunc(); err != nil {
			return &StepError{"mounts", err}
		}
	}
	var large ahead.Payload
	message := covers.message(&large)
	return send(n.control, &large, &message)
}

// collect reads init's reports until all stands.
func (n *Namespace) collect() error {
	for {
		var r ahead.Report
		most := 2 + 2*len(n.config.ListenDNS) + ahead.Diags + 1
		fds, err := receiveFrom(n.control, &r, most)
		if isErrno(err, unix.ECONNRESET) {
			// Init ended with a message of ours unread. The kernel says so
			// once, ahead of what init had said.
			fds, err = receiveFrom(n.control, &r, most)
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
func (n *Namespace) take(r *ahead.Ready, fds []int) error {
	dns := 2 + 2*len(r.DNS)
	if r.Diags < 0 || r.UDPs < 0 || len(fds) != dns+r.Diags+r.UDPs {
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
	for _, fd := range fds[dns : dns+r.Diags] {
		n.spareDiags = append(n.spareDiags, os.NewFile(uintptr(fd), ahead.OpDiag))
	}
	for _, fd := range fds[dns+r.Diags:] {
		n.spareUDPs = append(n.spareUDPs, os.NewFile(uintptr(fd), "udp"))
	}
	fds = fds[:dns]
	for i, which := range r.DNS {
		if which < 0 || which >= len(n.config.ListenDNS) {
			closeAll(fds[2+2*i:])
			return &StepError{"dns-sockets", unix.EBADMSG}
		}
		addr := n.config.ListenDNS[which]
		s, err := newDNSSocket(addr, fds[2+2*i], fds[3+2*i])
		if err != nil {
			closeAll(fds[4+2*i:])
			return &StepError{"dns-sockets", err}
		}
		n.dns = append(n.dns, s)
	}
	return nil
}
