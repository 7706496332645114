package ahead

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Entering. The kernel lets no process with several threads into another user namespace, and every Go program has several. So
// the process that goes in is forked without an execve, has one thread and does nothing but system calls until it executes this
// program, which then is the stage that runEnter is.

// Namespaces are descriptors of what a process is to go into; -1 leaves it where it is.
type Namespaces struct {
	User, Net, Mount int
	Root             int // the root directory there
}

// An EnterError says what the kernel refused to a process on its way in.
type EnterError struct {
	Step string // userns, netns, mntns, root, exec
	Err  error
}

// Error names the step.
func (e *EnterError) Error() string { return fmt.Sprintf("enter %s: %v", e.Step, e.Err) }

// Unwrap leads to the errno.
func (e *EnterError) Unwrap() error { return e.Err }

// Entry is the first message to what entered: a Command follows.
type Entry struct {
	UserNS   bool   // it came into a user namespace and has to give up the rights that this gave it
	Dir      []byte // working directory
	Dev, Ino uint64 // what lies there outside
}

// Enter makes a child in namespaces that exist. It has what this process's children have by themselves, and behind that a socket.
func Enter(ns Namespaces) (*Child, error) {
	e := &entering{steps: [...]int{ns.User, ns.Net, ns.Mount, ns.Root}, parent: uintptr(os.Getpid())}
	var err error
	if e.limit, err = fileLimit(); err != nil {
		return nil, fmt.Errorf("limit of open files: %w", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[1])
	c := &Child{Control: pair[0], PIDFD: -1, thread: make(chan func(), 1)}
	if err = e.prepare(pair[1]); err == nil {
		done := make(chan error)
		go c.enter(e, done)
		err = <-done
	}
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	return c, nil
}

// enter is the life of the child's thread, as clone is.
func (c *Child) enter(e *entering, done chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := e.fork()
	if err == nil {
		c.PID = e.pid
		if fd, err := unix.PidfdOpen(e.pid, 0); err == nil {
			c.PIDFD = fd
		}
	}
	done <- err
	if err == nil {
		(<-c.thread)()
	}
}

// fileLimit returns the limit of open files that this process was started with. Go has raised the soft one since, to one below the
// hard one, and keeps to itself what it was; children get it back. So a child that need not live tells: traced, it stops at its
// first instruction, before its own Go raises the limit. Where tracing is forbidden it may be too late.
func fileLimit() (limit unix.Rlimit, err error) {
	if err = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur+1 < limit.Max || limit.Cur == 0 {
		return limit, err
	}
	sys := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Ptrace: true}
	pid, err := syscall.ForkExec(SelfExe, []string{EnterName}, &syscall.ProcAttr{Sys: sys})
	if err == nil {
		wait(pid)
	} else {
		sys.Ptrace = false
		if pid, err = syscall.ForkExec(SelfExe, []string{EnterName}, &syscall.ProcAttr{Sys: sys}); err != nil {
			return limit, err
		}
	}
	err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit)
	unix.Kill(pid, unix.SIGKILL)
	wait(pid)
	return limit, err
}

// wait waits until the child pid ends, or stops for its tracer.
func wait(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

// entering is what the child needs on its way. Nothing can be allocated there.
type entering struct {
	steps        [4]int // descriptors, in the order of enterSteps
	control, exe int
	fault        [2]int // a pipe that ends with the execve, or brings which step failed, and its errno
	parent       uintptr
	limit        unix.Rlimit
	argv, envv   []*byte
	here, empty  *byte // names
	pid          int
	said         [2]int32
}

// enterSteps are the ways in; the user namespace, which gives the rights for the others, is the first.
var enterSteps = [...]string{"userns", "netns", "mntns", "root", "exec"}

var enterKinds = [...]uintptr{unix.CLONE_NEWUSER, unix.CLONE_NEWNET, unix.CLONE_NEWNS}

const (
	stepRoot = 3
	stepExec = 4
)

func (e *entering) prepare(control int) (err error) {
	e.control = control
	if e.exe, err = unix.Open(SelfExe, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
		return &os.PathError{Op: "open", Path: SelfExe, Err: err}
	}
	if err = unix.Pipe2(e.fault[:], unix.O_CLOEXEC); err != nil {
		unix.Close(e.exe)
		return os.NewSyscallError("pipe", err)
	}
	if e.argv, err = syscall.SlicePtrFromStrings([]string{EnterName}); err == nil {
		e.envv, err = syscall.SlicePtrFromStrings(stageEnv(control, "GOGC=off"))
	}
	var dot, none [2]byte
	dot[0] = '.'
	e.here, e.empty = &dot[0], &none[0]
	return err
}

// fork makes the child and waits until it has executed this program.
func (e *entering) fork() error {
	defer unix.Close(e.exe)
	defer unix.Close(e.fault[0])
	syscall.ForkLock.Lock() // what others open shall be close-on-exec before the child is there
	pid, errno := forkEnter(e)
	syscall.ForkLock.Unlock()
	unix.Close(e.fault[1])
	if errno != 0 {
		return &EnterError{"fork", errno}
	}
	e.pid = int(pid)
	var said [unsafe.Sizeof(e.said)]byte
	for {
		n, err := unix.Read(e.fault[0], said[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			return nil
		}
		wait(e.pid)
		if n != len(said) {
			return &EnterError{"exec", unix.EPIPE}
		}
		got := *(*[2]int32)(unsafe.Pointer(&said))
		return &EnterError{enterSteps[got[0]], syscall.Errno(got[1])}
	}
}

// What package syscall does around its own fork: see there.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// forkEnter returns in the parent only. The child has a copy of the memory, not the memory: its stack is its own.
//
//go:noinline
//go:norace
func forkEnter(e *entering) (pid uintptr, errno syscall.Errno) {
	beforeFork()
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return pid, errno
	}
	afterForkInChild()
	e.goIn()
	return 0, 0 // not reached
}

// goIn is the child. Other threads may have held any lock when it was forked: it must not allocate, grow its stack or call what
// does.
//
//go:nosplit
//go:norace
func (e *entering) goIn() {
	var step int
	var errno syscall.Errno
	for step = 0; step < stepRoot; step++ {
		if e.steps[step] < 0 {
			continue
		}
		if _, _, errno = syscall.RawSyscall(unix.SYS_SETNS, uintptr(e.steps[step]), enterKinds[step], 0); errno != 0 {
			goto refused
		}
	}
	if e.steps[stepRoot] >= 0 {
		if _, _, errno = syscall.RawSyscall(unix.SYS_FCHDIR, uintptr(e.steps[stepRoot]), 0, 0); errno != 0 {
			goto refused
		}
		if _, _, errno = syscall.RawSyscall(unix.SYS_CHROOT, uintptr(unsafe.Pointer(e.here)), 0, 0); errno != 0 {
			goto refused
		}
	}
	step = stepExec
	syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&e.limit)), 0, 0, 0)
	// Going into a user namespace cleared it.
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	if parent, _, _ := syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); parent != e.parent {
		goto out
	}
	syscall.RawSyscall(unix.SYS_FCNTL, uintptr(e.control), unix.F_SETFD, 0)
	_, _, errno = syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(e.exe), uintptr(unsafe.Pointer(e.empty)),
		uintptr(unsafe.Pointer(&e.argv[0])), uintptr(unsafe.Pointer(&e.envv[0])), unix.AT_EMPTY_PATH, 0)
refused:
	e.said[0], e.said[1] = int32(step), int32(errno)
	syscall.RawSyscall(unix.SYS_WRITE, uintptr(e.fault[1]), uintptr(unsafe.Pointer(&e.said)), unsafe.Sizeof(e.said))
out:
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, ExitStage, 0, 0)
	}
}

// runEnter is the stage in which a command comes into namespaces that exist. Everything is done by init's own means.
func runEnter(control int) int {
	b := &builder{control: control, device: -1}
	var e Entry
	if _, err := Receive(control, &e, 0, 0); err != nil {
		return b.fail("enter", err)
	}
	b.setup.UserNS = e.UserNS
	if err := e.changeDir(); err != nil {
		return b.fail("chdir", err)
	}
	if Send(control, &Report{Step: "enter"}) != nil {
		return ExitStage // the parent is gone
	}
	return b.execute()
}

// changeDir goes to where the caller is, if that is the same place here: a file system that was mounted outside since may be
// missing, and what it lies over is something else.
func (e *Entry) changeDir() error {
	if err := os.Chdir(string(e.Dir)); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(".", &st); err != nil {
		return &os.PathError{Op: "stat", Path: string(e.Dir), Err: err}
	}
	if uint64(st.Dev) != e.Dev || st.Ino != e.Ino {
		return &os.PathError{Op: "chdir", Path: string(e.Dir), Err: unix.ESTALE}
	}
	return nil
}
