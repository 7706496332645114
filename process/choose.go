package process

import (
	"bytes"
	"cmp"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// depthLimit bounds chains of parents.
const depthLimit = 256

// kcmpVM asks whether two processes share their memory (linux/kcmp.h, KCMP_VM).
const kcmpVM = 1

// parents lists the ancestors of a process, nearest first, up to the child. Those of an orphan end
// below this process, and those of a program that entered the namespace from outside within it.
func (v *view) parents(pid int) (pids []int) {
	self := os.Getpid()
	for pid != v.root && len(pids) < depthLimit {
		s, err := readStat(unix.AT_FDCWD, procPath(pid)+"/stat", v.buf)
		if err == nil && s.parent == self {
			return pids
		}
		if err != nil || s.parent <= 1 {
			return v.within(pids)
		}
		pid = s.parent
		pids = append(pids, pid)
	}
	return pids
}

// within cuts off the ancestors that are outside of the namespace.
func (v *view) within(pids []int) []int {
	for n := len(pids); n > 0; n-- {
		if v.inside(pids[n-1]) {
			return pids[:n]
		}
	}
	return nil
}

// deepest chooses among the processes that hold the socket under the same number as h does. Only a process
// that came after the socket did can have inherited it.
func (v *view) deepest(h holder, inode uint64) holder {
	all := []holder{h}
	for _, c := range v.known {
		if c != h.candidate && c.came > h.since && c.door != closed && v.read(c, h.fd) == inode {
			all = append(all, holder{c, h.fd, 0})
		}
	}
	if len(all) > 1 {
		h = v.lowest(all)
	}
	for range depthLimit {
		s, err := readStat(unix.AT_FDCWD, procPath(h.pid)+"/stat", v.buf)
		c := v.pids[s.parent]
		if err != nil || c == nil || !sameMemory(c.pid, h.pid) || v.read(c, h.fd) != inode {
			break
		}
		h.candidate = c
	}
	return h
}

// lowest returns the holder with the most ancestors, the youngest of several.
func (v *view) lowest(all []holder) holder {
	depth, start := map[int]int{}, map[int]uint64{}
	for _, h := range all {
		depth[h.pid] = len(v.parents(h.pid))
		s, _ := readStat(unix.AT_FDCWD, procPath(h.pid)+"/stat", v.buf)
		start[h.pid] = s.start
	}
	return slices.MaxFunc(all, func(a, b holder) int {
		return cmp.Or(cmp.Compare(depth[a.pid], depth[b.pid]), cmp.Compare(start[a.pid], start[b.pid]), cmp.Compare(a.pid, b.pid))
	})
}

// sameMemory reports that two processes share their memory, as parent and child do between vfork
// and execve.
func sameMemory(a, b int) bool {
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return errno == 0 && r == 0
}

// opaque chooses the holder of a socket that no readable process holds, after a search in vain: the
// only process with the owner's uid that cannot be read, or the deepest if they descend from each other.
func (v *view) opaque(uid uint32) (h holder, ok bool) {
	if v.left <= 0 {
		return h, false // not everything was read
	}
	var veiled []int
	for _, pid := range v.tree {
		c := v.pids[pid]
		if c == nil || c.door != closed || v.uid(pid) != int64(uid) {
			continue
		}
		chain := v.parents(pid)
		for _, earlier := range veiled {
			if !slices.Contains(chain, earlier) {
				return h, false
			}
		}
		veiled = append(veiled, pid)
		h, ok = holder{c, -1, 0}, true
	}
	return h, ok
}

// uid returns the effective user id of a process, -1 if it ended.
func (v *view) uid(pid int) int64 {
	n, err := readFile(unix.AT_FDCWD, procPath(pid)+"/status", v.buf)
	if err != nil {
		return -1
	}
	ids := bytes.Fields(line(v.buf[:n], "Uid:"))
	if len(ids) < 2 {
		return -1
	}
	id, ok := number(ids[1])
	if !ok {
		return -1
	}
	return int64(id)
}
