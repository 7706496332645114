package ahead

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A stage is told to this binary by three things at once, so that no environment that a user or the target brings along can
// start one: argv[0], this variable, and a descriptor of the right kind.
const (
	stageVar = "_TRACE_NETNS_FD"
	// InitName, HelperName and EnterName are argv[0] of the stages.
	InitName   = "trace-init"
	HelperName = "trace-helper"
	EnterName  = "trace-enter"
	// SelfExe is this program's file.
	SelfExe = "/proc/self/exe"
)

// IgnoredAtStart are the signals that this process found ignored. Go's runtime has taken over all but SIGHUP and SIGINT of them
// before any code of ours runs; for those (nohup, background jobs of a script) the choice of the user must reach the target
// although signal.Notify overrides it here.
var IgnoredAtStart uint64

func stageSocket() (int, bool) {
	v, ok := os.LookupEnv(stageVar)
	if !ok || len(os.Args) != 1 {
		return 0, false
	}
	switch os.Args[0] {
	case InitName, HelperName, EnterName:
	default:
		return 0, false
	}
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return 0, false
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return 0, false
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return fd, err == nil && domain == unix.AF_UNIX
}

func stageEnv(fd int, more ...string) []string {
	// The limits of a cgroup do not matter to a process with one processor.
	return append([]string{stageVar + "=" + strconv.Itoa(fd), "GOMAXPROCS=1", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"}, more...)
}

// kernelSigaction is long enough for any architecture's struct; the handler comes first in all of them.
type kernelSigaction struct {
	handler uintptr
	_       [15]uint64
}

const (
	sigIgnore     = 1
	kernelSigsets = 8 // bytes of the kernel's sigset_t
	lastSignal    = 64
)

// IgnoredSignals are those that this process ignores now: bit n-1 for signal n.
func IgnoredSignals() (set uint64) {
	for sig := 1; sig <= lastSignal; sig++ {
		var old kernelSigaction
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&old)), kernelSigsets, 0, 0)
		if errno == 0 && old.handler == sigIgnore {
			set |= 1 << (sig - 1)
		}
	}
	return set
}

// ignoreSignals leaves exactly the signals of set ignored over the coming execve. Those that Go handles get their default back
// by the execve itself.
func ignoreSignals(set uint64) {
	now := IgnoredSignals()
	for sig := 1; sig <= lastSignal; sig++ {
		want, is := set>>(sig-1)&1, now>>(sig-1)&1
		if want == is {
			continue
		}
		act := kernelSigaction{handler: uintptr(want) * sigIgnore}
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, kernelSigsets, 0, 0)
	}
}

// Rights says which of the three ways this process can build namespaces.
type Rights int

const (
	OrdinaryUser  Rights = iota // a user namespace with one uid and one gid
	Root                        // no user namespace
	ContainerRoot               // a user namespace with all of this one's ids
)

// String says it for people.
func (r Rights) String() string {
	return [...]string{"ordinary user", "root", "root without CAP_SYS_ADMIN"}[r]
}

// CurrentRights tells what Start would do in this process.
func CurrentRights() Rights {
	if os.Geteuid() != 0 {
		return OrdinaryUser
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&need == need {
		return Root
	}
	return ContainerRoot
}

// ambient capabilities carry init and the helper over their execve in a user namespace.
//
// An overlay's maker works in a directory of mode 0 (overlay.go): hence init's one more. It counts for the files of ids that the
// user namespace has.
var ambient = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW}

// CloneAttr fills in the namespaces and maps for r.
func CloneAttr(r Rights) (*syscall.SysProcAttr, error) {
	a := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	switch r {
	case Root:
		return a, nil
	case OrdinaryUser:
		uid, gid := os.Geteuid(), os.Getegid()
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	case ContainerRoot:
		var err error
		if a.UidMappings, err = identityMap("/proc/self/uid_map"); err != nil {
			return nil, err
		}
		if a.GidMappings, err = identityMap("/proc/self/gid_map"); err != nil {
			return nil, err
		}
		a.GidMappingsEnableSetgroups = true
	}
	a.Cloneflags |= unix.CLONE_NEWUSER
	a.AmbientCaps = append([]uintptr{unix.CAP_DAC_OVERRIDE}, ambient...)
	return a, nil
}

// identityMap maps each range of ids that this user namespace has to itself.
func identityMap(file string) (m []syscall.SysProcIDMap, err error) {
	p, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for rest := string(p); rest != ""; {
		var inside, outside, size int
		n, err := fmt.Sscanf(rest, "%d %d %d\n", &inside, &outside, &size)
		if err != nil || n != 3 {
			return nil, fmt.Errorf("read %s: %w", file, unix.EINVAL)
		}
		m = append(m, syscall.SysProcIDMap{ContainerID: inside, HostID: inside, Size: size})
		_, rest, _ = strings.Cut(rest, "\n")
	}
	return m, nil
}

// NamespaceID is the number of a namespace of a process, 0 if it cannot be read. The user namespace of a dead process that was not
// waited for yet can be read, its others cannot.
func NamespaceID(pid, kind string) uint64 {
	s, err := os.Readlink("/proc/" + pid + "/ns/" + kind)
	if err != nil {
		return 0
	}
	_, s, _ = strings.Cut(s, "[")
	n, _ := strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 64)
	return n
}
