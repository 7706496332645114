// Package ahead starts the processes of package netns before the rest of the program is initialised.
//
// It is for netns alone, whose documentation tells what these processes are and what they say to each other (message.go).
//
// # Theory of operation
//
// A program of this size is initialised for milliseconds: tables of compressors, decoders, a database, a TCP stack. Init and
// helper are this program executed again and need none of it, and the program itself can have init cloned meanwhile. So their part
// is played by this package's init function. Packages are initialised in the order of their import paths as soon as what they
// import is (Go specification, Package initialization): hence the path of this one, which makes it a module of its own, and
// hence what it must not import, directly or not. Its imports come before it, and so does all that sorts before them: net, net/netip
// and whatever stands on them would put it at the end.
package ahead

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func init() {
	IgnoredAtStart = IgnoredSignals()
	fd, ok := stageSocket()
	if !ok {
		if isRun(os.Args) {
			Begin()
		}
		return
	}
	os.Unsetenv(stageVar)
	unix.CloseOnExec(fd)
	switch os.Args[0] {
	case InitName:
		runtime.LockOSThread() // capabilities and the death signal are a thread's
		os.Exit(runInit(fd))
	case HelperName:
		os.Exit(runHelper(fd))
	case EnterName:
		runtime.LockOSThread()
		os.Exit(runEnter(fd))
	}
}

// isRun reports whether a program with these arguments will start a command in a namespace, as far as can be told without
// parsing them.
func isRun(args []string) bool {
	if len(args) < 2 || args[1] != "run" {
		return false
	}
	for _, a := range args[2:] {
		switch a {
		case "--":
			return false
		case "--inspect", "--inspect=true":
			return true
		}
	}
	return false
}

// A Child is a process that was cloned to become init.
type Child struct {
	Rights  Rights
	PID     int
	PIDFD   int   // -1 where the kernel has none
	Control int   // our end of its socket
	Files   []int // what Inherited said then

	thread chan func()
}

// Keep has the thread whose child c is call f: its death signal fires when that thread ends, so f must not return before c ended.
// Without a call the thread waits for one.
func (c *Child) Keep(f func()) { c.thread <- f }

// begun is the child that Begin clones.
var begun struct {
	mu    sync.Mutex
	done  chan struct{} // nil: none was begun; closed when child is known
	child *Child        // nil: the kernel refused
}

// Begin clones what the next Take will return, and returns at once: the clone of init and init's own start take as long as
// much of what a program does before it can start a namespace. A child that nobody takes ends with this process.
func Begin() {
	begun.mu.Lock()
	defer begun.mu.Unlock()
	if begun.done == nil {
		begun.done = make(chan struct{})
		go begin(begun.done)
	}
}

func begin(done chan<- struct{}) {
	defer close(done)
	begun.child = nil
	r := CurrentRights()
	attr, err := CloneAttr(r)
	if err != nil {
		return // who needs it will try again, and say why
	}
	if c, err := Clone(attr, [3]uintptr{0, 1, 2}); err == nil {
		c.Rights = r
		begun.child = c
	}
}

// Begun waits for the child that was begun and leaves it where it is; nil if there is none.
func Begun() *Child {
	begun.mu.Lock()
	defer begun.mu.Unlock()
	if begun.done == nil {
		return nil
	}
	<-begun.done
	return begun.child
}

// Take returns the child that was begun, nil if there is none, and leaves none.
func Take() *Child {
	c := Begun()
	begun.mu.Lock()
	defer begun.mu.Unlock()
	begun.done = nil
	return c
}

// Clone makes a child in the namespaces that sys names. It gets the descriptors that this process inherited, under their numbers, std
// in place of the first three, and its socket behind them.
//
// This process becomes the reaper of orphans, and undumpable, which it could not be before: the child's uid_map would be unwritable.
func Clone(sys *syscall.SysProcAttr, std [3]uintptr) (*Child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[1])
	c := &Child{Control: pair[0], PIDFD: -1, thread: make(chan func(), 1)}
	sys.PidFD = &c.PIDFD
	done := make(chan error)
	go c.clone(sys, std, pair[1], done)
	if err := <-done; err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	return c, nil
}

// clone is the life of the child's thread.
func (c *Child) clone(sys *syscall.SysProcAttr, std [3]uintptr, control int, done chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	files := std[:]
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	c.Files = Inherited()
	for _, fd := range c.Files {
		if uint64(fd)+2 >= limit.Cur && limit.Cur > 0 {
			continue // opened before the limit was lowered: it can be given to nobody under its number
		}
		for len(files) < fd {
			files = append(files, ^uintptr(0))
		}
		files = append(files, uintptr(fd))
	}
	files = append(files, uintptr(control))
	attr := &syscall.ProcAttr{Env: stageEnv(len(files)-1, "GOGC=off"), Files: files, Sys: sys}
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	var err error
	c.PID, err = syscall.ForkExec(SelfExe, []string{InitName}, attr)
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	done <- err
	if err == nil {
		(<-c.thread)()
	}
}
