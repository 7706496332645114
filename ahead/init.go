package ahead

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// builder is the init stage: it has all capabilities in its own namespaces and nothing yet runs there but itself.
type builder struct {
	control int
	setup   Setup
	ready   Ready
	out     []int // descriptors that go with ready, in its order
	device  int
	helper  [2]int // the helper's socket: the parent's end, and its own
	link    *link
	notes   []Note
	noted   int // bytes of them
}

// A stage that ended without having been able to say why exits with one of these.
const (
	// ExitStage is where something of ours went wrong.
	ExitStage = 125
	exitExec  = 126
)

func runInit(control int) int {
	b := &builder{control: control, device: -1}
	if _, err := Receive(control, &b.setup, 0, 0); err != nil {
		return b.fail("init", err)
	}
	steps := []struct {
		name string
		run  func() error
	}{
		{"lo", b.loopback}, {"device", b.makeDevice}, {"offload", b.setOffload}, {"address", b.addAddress},
		{"ipv6", b.addAddress6}, {"route", b.addRoutes}, {"sysctl", b.writeSysctls}, {"dns-sockets", b.bindDNS},
		{"mounts", b.mount},
	}
	for _, s := range steps {
		began := time.Now()
		if err := s.run(); err != nil {
			return b.fail(s.name, err)
		}
		if err := Send(control, &Report{Step: s.name, Took: time.Since(began)}); err != nil {
			return ExitStage // the parent is gone
		}
	}
	b.awaitAddress6()
	if err := b.present(); err != nil {
		return b.fail("ready", err)
	}
	// The execve of this binary takes as long as all other steps together. So it runs beside what the parent does now, and this
	// process makes its sockets until then.
	if err := b.forkHelper(); err != nil {
		return b.fail("helper", err)
	}
	b.serve()
	return b.execute()
}

// present hands over what was built.
func (b *builder) present() (err error) {
	if b.helper, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	b.ready.NetNS = NamespaceID("thread-self", "net")
	b.ready.UserNS = NamespaceID("thread-self", "user")
	b.makeSpares()
	fds := append([]int{b.device, b.helper[0]}, b.out...)
	if err := Send(b.control, &Report{Step: "ready", Notes: b.notes, Ready: &b.ready}, fds...); err != nil {
		return err
	}
	CloseAll(fds[1:]) // or the helper would never see the end of its socket
	return nil
}

// makeSpares makes the sockets that every parent asks for before it says go.
func (b *builder) makeSpares() {
	for range Diags {
		if fd, err := openDiag(); err == nil {
			b.out = append(b.out, fd)
			b.ready.Diags++
		}
	}
	if fd, err := openSocket([]byte{0, 0, 0, 0}, 0, unix.SOCK_DGRAM); err == nil {
		b.out = append(b.out, fd)
		b.ready.UDPs++
	}
}

func (b *builder) fail(step string, err error) int {
	Send(b.control, &Report{Step: step, Fault: newFault(err), Notes: b.notes})
	return ExitStage
}

// note adds a note, as long as there is room for all of them in one message.
func (b *builder) note(step, object string, err error) {
	n := Note{step, object, *newFault(err)}
	size := len(Encode(&Report{Notes: []Note{n}}))
	if len(b.notes) < maxNotes && b.noted+size <= maxNoted {
		b.notes = append(b.notes, n)
		b.noted += size
	}
}

// forkHelper starts the helper as our sibling and says so. Its duplicate of the device is the only one left here.
func (b *builder) forkHelper() error {
	began := time.Now()
	pid, err := b.execHelper(b.helper[1])
	unix.Close(b.device)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	return Send(b.control, &Report{Step: "helper", Took: time.Since(began), PID: pid})
}

// serve answers requests beside the helper, which is still starting, until the parent says go or ends. No request is left
// half done, and none that the helper has taken is waited for.
func (b *builder) serve() {
	h := newHelper(b.helper[1])
	for {
		fds := []unix.PollFd{{Fd: int32(b.control), Events: unix.POLLIN}, {Fd: int32(h.control), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || fds[0].Revents != 0:
			return
		}
		var r Request
		got, err := Receive(h.control, &r, 0, unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			CloseAll(got)
			h.serve(r)
		case !IsErrno(err, unix.EAGAIN):
			return // the parent is gone: execute will see that too
		}
	}
}

// execHelper gives the helper its socket and a duplicate of the device. It must hold nothing of the user's: a pipe whose writer it
// kept would never end.
func (b *builder) execHelper(control int) (pid int, err error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(null)
	n := uintptr(null)
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   stageEnv(3, "GOGC=20"),
		Files: []uintptr{n, n, n, uintptr(control), uintptr(b.device)},
		Sys:   &syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT, Setsid: true},
	}
	// What the parent inherited from the user reached init for the target's sake, and must end there.
	for fd := len(attr.Files); fd < b.control; fd++ {
		attr.Files = append(attr.Files, ^uintptr(0))
	}
	if b.setup.UserNS {
		attr.Sys.AmbientCaps = ambient
	}
	return syscall.ForkExec(SelfExe, []string{HelperName}, attr)
}

// execute waits for the parent's go and becomes the target.
func (b *builder) execute() int {
	var c Command
	if _, err := receivePayload(b.control, &c); err != nil {
		return ExitStage // the parent gave up or died
	}
	if len(c.Dir) > 0 {
		if err := os.Chdir(string(c.Dir)); err != nil {
			return b.fail("chdir", err)
		}
	}
	if b.setup.UserNS {
		if err := dropCapabilities(); err != nil {
			return b.fail("capabilities", err)
		}
	}
	if !b.keepDeathSignal() {
		return ExitStage
	}
	ignoreSignals(c.Ignored)
	b.fail("exec", execute(string(c.Path), toStrings(c.Args), toStrings(c.Env)))
	return exitExec
}

// keepDeathSignal sets the death signal again: it is a thread's, and this thread need not be the first one. False means
// that the parent died before it was set.
func (b *builder) keepDeathSignal() bool {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return true // it was only a courtesy: without the parent the target has no network anyway
	}
	var p [1]byte
	n, _, err := unix.Recvfrom(b.control, p[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == unix.EAGAIN || err == nil && n > 0
}

// dropCapabilities empties the permitted, effective, inheritable and ambient sets of this thread, which must be locked.
// The bounding set stays: files with capabilities (ping) may give some that count in this user namespace only.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_CAP_AMBIENT", err)
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return os.NewSyscallError("capset", unix.Capset(&hdr, &none[0]))
}

// Inherited lists the descriptors above 2 that an execve would pass on. All of Go's are close-on-exec, so these
// came with this process.
func Inherited() (fds []int) {
	const dir = "/proc/self/fd"
	d, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(d)
	var names []string
	for buf := make([]byte, 4096); ; {
		n, err := unix.ReadDirent(d, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd < 3 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}
