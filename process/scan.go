package process

import (
	"bytes"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// other stands for what is open but no socket.
const other = ^uint64(0)

// read returns what a process has under a number now: the inode of a socket, other, or 0 for
// nothing.
func (v *view) read(c *candidate, fd int) uint64 {
	name := strconv.Itoa(fd)
	s, err := v.readAt(unix.AT_FDCWD, c.door, c.base+"/"+c.door.dir()+name)
	if closedDoor(err) && c.door == links {
		c.door = infos
		s, err = v.readAt(unix.AT_FDCWD, c.door, c.base+"/"+c.door.dir()+name)
	}
	if closedDoor(err) {
		c.door = closed
	}
	return s
}

// readAt reads one descriptor by the name that its link or its fdinfo has.
func (v *view) readAt(dir int, d door, name string) (uint64, error) {
	v.left--
	if d == infos {
		n, err := readFile(dir, name, v.buf)
		return v.infoInode(v.buf[:n], err), err
	}
	n, err := unix.Readlinkat(dir, name, v.buf)
	return linkInode(v.buf[:max(n, 0)], err), err
}

func linkInode(link []byte, err error) uint64 {
	if err != nil {
		return 0
	}
	if inode := socketInode(link); inode != 0 {
		return inode
	}
	return other
}

func (v *view) infoInode(info []byte, err error) uint64 {
	if err != nil {
		return 0
	}
	if string(line(info, "mnt_id:")) != v.sockets {
		return other
	}
	inode, ok := number(line(info, "ino:"))
	if !ok {
		return other
	}
	return uint64(inode)
}

// line returns what follows name in the line that begins with it.
func line(p []byte, name string) []byte {
	for l := range bytes.Lines(p) {
		if rest, ok := bytes.CutPrefix(l, []byte(name)); ok {
			return bytes.TrimSpace(rest)
		}
	}
	return nil
}

// scan reads all descriptors of a process and remembers them.
func (v *view) scan(c *candidate, inode uint64) (h holder, ok bool) {
	c.look = v.look
	c.open = c.open[:0]
	c.base = procPath(c.pid)
	n, fd := v.scanBase(c, inode)
	if n == 0 {
		// A process whose first thread ended has its descriptors in the others.
		for _, tid := range threads(c.pid, nil, v.buf) {
			c.base = procPath(c.pid) + "/task/" + strconv.Itoa(tid)
			if n, fd = v.scanBase(c, inode); n != 0 {
				break
			}
		}
	}
	if n < 0 {
		v.drop(c)
	}
	return holder{c, fd, 0}, fd >= 0
}

// scanBase reads the descriptors below c.base. It returns how many there are, -1 if there is no such
// process (any more), and the number of the socket or -1.
func (v *view) scanBase(c *candidate, inode uint64) (n, found int) {
	dir, err := v.enter(c)
	if err != nil {
		if closedDoor(err) {
			c.door = closed
			return 1, -1
		}
		return -1, -1
	}
	defer unix.Close(dir)
	found = -1
	numbers(dir, v.list, func(fd int) bool {
		n++
		c.use(fd)
		s, _ := v.readAt(dir, c.door, strconv.Itoa(fd))
		if s == inode {
			found = fd
		}
		if s != 0 && s != other {
			v.remember(s, holder{c, fd, 0})
		}
		return v.left > 0
	})
	return n, found
}

// enter opens the directory of the descriptors of c, through whichever door is open.
func (v *view) enter(c *candidate) (dir int, err error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	c.door = links
	dir, err = unix.Open(c.base+"/fd", flags, 0)
	if closedDoor(err) {
		c.door = infos
		dir, err = unix.Open(c.base+"/fdinfo", flags, 0)
	}
	return dir, err
}

func (v *view) remember(inode uint64, h holder) {
	if len(v.seen) >= seenLimit {
		clear(v.seen)
		v.cleared = v.look
	}
	v.seen[inode] = h
}

// walk lists the processes that descend from the child or were inherited by this process, parents
// first, and those that entered the namespace from outside.
func (v *view) walk() {
	self := os.Getpid()
	v.tree = append(v.tree[:0], v.root)
	v.tree = children(self, self, v.tree, v.buf) // orphans come to the first thread
	done := map[int]bool{v.helper: true}
	v.descend(0, done)
	n := len(v.tree)
	v.tree = v.entered(v.tree, done)
	v.descend(n, done)
	done = map[int]bool{v.helper: true, 0: true}
	v.tree = slices.DeleteFunc(v.tree, func(pid int) bool {
		dup := done[pid]
		done[pid] = true
		return dup
	})
}

// descend appends what descends from the processes of the tree from the nth on.
func (v *view) descend(n int, done map[int]bool) {
	var tids []int
	for i := n; i < len(v.tree) && i < treeLimit; i++ {
		pid := v.tree[i]
		if done[pid] {
			continue
		}
		done[pid] = true
		tids = threads(pid, tids[:0], v.buf)
		for _, tid := range tids {
			v.tree = children(pid, tid, v.tree, v.buf)
		}
	}
}

// entered appends the other processes in the namespace, as far as they may be looked at: their parents are anybody.
func (v *view) entered(pids []int, done map[int]bool) []int {
	dir, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return pids
	}
	defer unix.Close(dir)
	numbers(dir, v.list, func(pid int) bool {
		if !done[pid] && v.inside(pid) {
			pids = append(pids, pid)
		}
		return len(pids) < treeLimit
	})
	return pids
}
