package netns

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"ahead"

	"golang.org/x/sys/unix"
)

// A Place is where the command of another process's Namespace runs: other commands can be started there too.
type Place struct {
	ns     ahead.Namespaces
	inside bool // this process is there already
}

// Why there is no way into a namespace.
var (
	ErrNoPlace   = errors.New("no process is in its namespaces, or none that can be looked at")
	ErrOthers    = errors.New("its namespaces belong to another user")
	ErrGroup     = errors.New("it has not this process's group")
	ErrElsewhere = errors.New("its namespaces cannot be entered from these")
)

// OpenPlace finds the namespaces that the process pid made, which called Start. That pid is that process, and still is when this
// returns, has to be known by other means.
//
// The way leads over the processes there, the helper first: Start's own is closed to everybody (PR_SET_DUMPABLE), and the command
// may have become somebody else. Everything is looked at through an open directory of /proc, which never becomes another process's.
func OpenPlace(pid int) (*Place, error) {
	err := ErrNoPlace
	for _, candidate := range candidates(pid) {
		p, perr := openPlace(candidate, pid)
		switch {
		case perr == nil:
			return p, nil
		case errors.Is(perr, ErrOthers), errors.Is(perr, ErrGroup), errors.Is(perr, ErrElsewhere):
			err = perr
		case isErrno(perr, unix.EACCES, unix.EPERM) && err == ErrNoPlace:
			err = ErrElsewhere // it may be, to others
		}
	}
	return nil, fmt.Errorf("namespaces of process %d: %w", pid, err)
}

// candidates lists the processes that a Start made, and what descends from these. The helper comes first, while it lives.
func candidates(pid int) (pids []int) {
	for _, tid := range threads(pid) {
		pids = append(pids, children(pid, tid)...)
	}
	if len(pids) == 0 {
		pids = childrenOf(pid) // hidepid, or a kernel without lists of children
	}
	first := map[int]uint64{}
	for _, p := range pids {
		if st, err := readStat(p); err == nil {
			first[p] = st.start
		}
		if isHelper(p) {
			first[p] |= 1 << 63
		}
	}
	// The newest helper: one that was let go of lives for a while.
	slices.SortFunc(pids, func(a, b int) int { return cmp.Or(cmp.Compare(first[b], first[a]), cmp.Compare(b, a)) })
	for i := 0; i < len(pids); i++ {
		for _, tid := range threads(pids[i]) {
			for _, c := range children(pids[i], tid) {
				if !slices.Contains(pids, c) {
					pids = append(pids, c)
				}
			}
		}
	}
	return pids
}

func isHelper(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.TrimSpace(string(name)) == ahead.HelperName
}

// childrenOf asks every process for its parent.
func childrenOf(pid int) (pids []int) {
	for _, p := range processes() {
		if st, err := readStat(p); err == nil && st.parent == pid {
			pids = append(pids, p)
		}
	}
	return pids
}

// processes lists those that can be seen.
func processes() (pids []int) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// openPlace opens the namespaces of one process. maker is whose they must be.
func openPlace(pid, maker int) (*Place, error) {
	dir, err := unix.Open(fmt.Sprintf("/proc/%d", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	own, err := unix.Open("/proc/self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(own)
	if !descends(pid, maker) { // read after the directory was opened: it is this process's
		return nil, unix.ESRCH
	}
	p := &Place{ns: ahead.Namespaces{User: -1, Net: -1, Mount: -1, Root: -1}}
	for _, n := range []struct {
		name string
		fd   *int
	}{{"ns/user", &p.ns.User}, {"ns/net", &p.ns.Net}, {"ns/mnt", &p.ns.Mount}} {
		if *n.fd, err = openOther(dir, own, n.name); err != nil {
			p.Close()
			return nil, err
		}
	}
	if p.ns.Root, err = unix.Openat(dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		err = p.check(dir)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// openOther opens a namespace, unless it is this process's own: that is -1.
func openOther(dir, own int, name string) (int, error) {
	var theirs, ours unix.Stat_t
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Fstat(fd, &theirs); err == nil {
		err = unix.Fstatat(own, name, &ours, 0)
	}
	if err != nil || theirs.Ino == ours.Ino && theirs.Dev == ours.Dev {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// check refuses namespaces that would not take this process, or make it another's.
func (p *Place) check(dir int) error {
	if p.ns.Net < 0 {
		// A process of the maker's that never left home, unless we are where its device is.
		if p.inside = haveLink(); !p.inside {
			return ErrNoPlace
		}
	}
	if p.ns.User < 0 || p.inside {
		return nil
	}
	if owner, err := ownerOf(p.ns.User); err == nil && owner != os.Geteuid() || !mapped(dir, "uid_map", os.Geteuid()) {
		return ErrOthers
	}
	if !mapped(dir, "gid_map", os.Getegid()) {
		return ErrGroup
	}
	if !below(p.ns.User) {
		return ErrElsewhere
	}
	return nil
}

// haveLink tells whether the interface of a Namespace is in this process's network namespace.
func haveLink() bool {
	p, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(p) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte(ahead.NearName+":")) {
			return true
		}
	}
	return false
}

// ownerOf returns who made a user namespace.
func ownerOf(user int) (int, error) {
	var uid uint32
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(user), unix.NS_GET_OWNER_UID, uintptr(unsafe.Pointer(&uid)))
	if errno != 0 {
		return 0, errno
	}
	return int(uid), nil
}

// below tells whether a user namespace descends from this process's, which alone gives the right to enter it.
func below(user int) bool {
	var own unix.Stat_t
	if unix.Stat("/proc/self/ns/user", &own) != nil {
		return true // setns will tell
	}
	fd, err := unix.FcntlInt(uintptr(user), unix.F_DUPFD_CLOEXEC, 0)
	for err == nil {
		parent, perr := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		unix.Close(fd)
		if perr == unix.EPERM {
			return false // it lies outside of what this process can see
		}
		var st unix.Stat_t
		if fd, err = parent, perr; err == nil {
			if err = unix.Fstat(fd, &st); err == nil && st.Ino == own.Ino && st.Dev == own.Dev {
				unix.Close(fd)
				return true
			}
		}
	}
	return true
}

// mapped tells whether an id is the same in the user namespace of a process.
func mapped(dir int, name string, id int) bool {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true // setns will tell
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	p := make([]byte, 4096)
	n, _ := f.Read(p)
	for line := range bytes.Lines(p[:n]) {
		var inside, outside, size int
		if _, err := fmt.Sscan(string(line), &inside, &outside, &size); err == nil && id >= inside && id < inside+size && inside == outside {
			return true
		}
	}
	return false
}

// descends tells whether maker is a process, or an ancestor of it.
func descends(pid, maker int) bool {
	for range maxAncestors {
		if pid == maker {
			return true // which need not be visible (hidepid)
		}
		st, err := readStat(pid)
		if err != nil || pid <= 1 {
			return false
		}
		pid = st.parent
	}
	return false
}

// maxAncestors bounds chains of parents.
const maxAncestors = 1024

// Root is a path at which the files lie that a command there sees, for as long as the Place is open.
func (p *Place) Root() string { return fmt.Sprintf("/proc/self/fd/%d", p.ns.Root) }

// Inside tells whether this process is there already.
func (p *Place) Inside() bool { return p.inside }

// Close lets go of the place.
func (p *Place) Close() error {
	for _, fd := range []*int{&p.ns.User, &p.ns.Net, &p.ns.Mount, &p.ns.Root} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
	return nil
}
