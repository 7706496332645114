package process

import (
	"cmp"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	lookLimit    = 200_000 // descriptors read in one lookup
	knownLimit   = 1024    // processes remembered; others are found by walking the tree
	treeLimit    = 8192    // processes of one walk
	seenLimit    = 16384   // sockets remembered
	openLimit    = 4096    // descriptor numbers remembered of a process
	recentLimit  = 4       // of these, the ones that sockets were found under
	smallProcess = 64      // descriptors that are read rather than guessed at
	strayLimit   = 8       // high numbers apart from the others, as shells and supervisors leave them open
	guessLimit   = 4       // free numbers tried in a row
	rangeLimit   = 2048    // process numbers looked at one by one; if more were given out the tree is walked
	forking      = 8       // numbers given out this lately may be of processes that cannot be seen yet
	bufferSize   = 64 << 10
)

// view is what is remembered of the processes of a namespace, and how to look at them. It never
// proves anything: see the package's theory of operation. Not safe for concurrent use.
type view struct {
	root, helper int
	netNS        uint64
	sockets      string // mount id of all sockets, as fdinfo shows it

	last    int                // process number given out last when known was brought up to date
	known   []*candidate       // those found lately and newcomers first
	pids    map[int]*candidate // known by number
	came    int                // newcomers since the dead were last swept out
	seen    map[uint64]holder  // where scans saw sockets
	strays  int                // high numbers in use, apart from the others, that processes here inherit from each other
	cleared int                // lookup that last forgot what was seen
	tree    []int              // processes of the last walk, parents first
	look    int                // counts lookups, from 1
	left    int                // descriptors that this lookup may still read
	buf     []byte             // of what is read
	list    []byte             // of a directory whose entries are read meanwhile
}

// candidate is a process that may hold sockets.
type candidate struct {
	pid    int
	base   string // /proc/PID, or /proc/PID/task/TID if the first thread is dead
	door   door
	came   int    // lookup that noticed it
	look   int    // lookup that scanned it last; 0: none yet
	size   int64  // how many descriptors it had when last asked
	asked  bool   // it was
	open   []bool // numbers in use when last looked at
	recent []int  // numbers that sockets were found under, last first
}

// door says how the descriptors of a process can be read.
type door int

const (
	links door = iota // readlink /proc/PID/fd/N
	infos             // read /proc/PID/fdinfo/N
	closed
)

// dir is the directory below /proc/PID that the descriptors are read in, with a slash.
func (d door) dir() string {
	if d == infos {
		return "fdinfo/"
	}
	return "fd/"
}

// holder is a process and the number that it has the socket under.
type holder struct {
	*candidate
	fd    int
	since int // lookup after which the socket came there; 0: not known
}

func newView(root, helper int, ns uint64) view {
	v := view{
		root: root, helper: helper, netNS: ns, last: max(0, root-1),
		pids: map[int]*candidate{}, seen: map[uint64]holder{},
		buf: make([]byte, bufferSize), list: make([]byte, bufferSize),
	}
	if ns == 0 {
		v.netNS, _ = netNS(root, v.buf)
	}
	v.sockets = socketMount(v.buf)
	return v
}

// socketMount returns the mount id of the kernel's file system of sockets.
func socketMount(buf []byte) string {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	n, _ := readFile(unix.AT_FDCWD, "/proc/self/fdinfo/"+strconv.Itoa(fd), buf)
	return string(line(buf[:n], "mnt_id:"))
}

// holder finds the process that holds a socket.
func (v *view) holder(inode uint64) (h holder, ok bool) {
	v.look++
	v.refresh()
	for _, search := range []func(uint64) (holder, bool){v.remembered, v.guess, v.guessAgain, v.scanKnown, v.scanTree} {
		if h, ok = search(inode); ok {
			h = v.deepest(h, inode)
			v.prefer(h)
			return h, true
		}
	}
	return h, false
}

// refresh makes known what came since the last time.
func (v *view) refresh() {
	last := lastPID(v.buf)
	switch n := last - v.last; {
	case n == 0 && last != 0:
		return
	case last == 0 || n < 0 || n > rangeLimit:
		v.walk()
		for _, pid := range v.tree {
			v.add(pid)
		}
	default:
		for pid := max(1, v.last+1-forking); pid <= last; pid++ {
			if c := v.pids[pid]; c != nil && pid > v.last {
				v.drop(c) // its number was given out again
			}
			if v.pids[pid] == nil && isProcess(pid, v.buf) && v.inside(pid) {
				v.add(pid)
			}
		}
	}
	v.last = last
	if v.came > max(16, len(v.known)/2) {
		v.sweep()
	}
}

// inside reports that a process is in the namespace.
func (v *view) inside(pid int) bool {
	ns, err := netNS(pid, v.buf)
	return err == nil && ns == v.netNS
}

// add puts a process in front of the known ones.
func (v *view) add(pid int) *candidate {
	if c := v.pids[pid]; c != nil {
		return c
	}
	if pid == v.helper || pid == 0 {
		return nil
	}
	c := &candidate{pid: pid, base: procPath(pid), came: v.look}
	v.pids[pid] = c
	v.known = slices.Insert(v.known, 0, c)
	v.came++
	if len(v.known) > knownLimit {
		v.drop(v.known[knownLimit])
	}
	return c
}

// prefer makes the process that was found the first to be looked at, and the number under which it has the
// socket the first to be guessed. A process that connects more than once is worth a scan.
func (v *view) prefer(h holder) {
	if h.look == 0 && len(h.recent) > 0 {
		v.scan(h.candidate, 0)
	}
	if i := slices.Index(v.known, h.candidate); i > 0 {
		copy(v.known[1:], v.known[:i])
		v.known[0] = h.candidate
	}
	h.use(h.fd)
	if i := slices.Index(h.recent, h.fd); i >= 0 {
		h.recent = slices.Delete(h.recent, i, i+1)
	}
	h.recent = slices.Insert(h.recent, 0, h.fd)
	h.recent = h.recent[:min(len(h.recent), recentLimit)]
	if n := int(h.size) - 1 - h.fd; n >= 0 && n <= strayLimit {
		v.strays = n
	}
}

// drop forgets a process. What seen says of it is refuted when it is looked at.
func (v *view) drop(c *candidate) {
	if v.pids[c.pid] == c {
		delete(v.pids, c.pid)
	}
	if i := slices.Index(v.known, c); i >= 0 {
		v.known = slices.Delete(v.known, i, i+1)
	}
}

// sweep forgets the processes that ended.
func (v *view) sweep() {
	v.came = 0
	v.known = slices.DeleteFunc(v.known, func(c *candidate) bool {
		var st unix.Stat_t
		if unix.Stat(c.base, &st) == nil {
			return false
		}
		delete(v.pids, c.pid)
		return true
	})
}

// remembered looks where a scan saw the socket.
func (v *view) remembered(inode uint64) (holder, bool) {
	h, ok := v.seen[inode]
	return h, ok && v.pids[h.pid] == h.candidate && v.read(h.candidate, h.fd) == inode
}

// guess looks where each process is most likely to have put its newest socket: first in newcomers, all of
// which is read where it is little, and in the process found last; then in those that have more or fewer descriptors than
// when last looked at; then in the others.
func (v *view) guess(inode uint64) (h holder, ok bool) {
	var small, same []*candidate
	known := slices.Clone(v.known)
	for i, c := range known {
		if i > 0 && c.asked {
			continue
		}
		v.resized(c)
		if h, ok = v.guessIn(c, inode); ok {
			return h, true
		}
		if c.look == 0 && c.size <= smallProcess {
			small = append(small, c)
		}
	}
	for _, c := range small {
		if h, ok = v.scan(c, inode); ok {
			return h, true
		}
	}
	for _, c := range known[min(1, len(known)):] {
		if !v.resized(c) {
			same = append(same, c)
		} else if h, ok = v.guessIn(c, inode); ok {
			return h, true
		}
	}
	for _, c := range same {
		if h, ok = v.guessIn(c, inode); ok {
			return h, true
		}
	}
	return h, false
}

// resized reports whether the number of a process's descriptors is another than last time. The kernel tells
// it since Linux 6.2, as the size of their directory. A process that ended is dropped.
func (v *view) resized(c *candidate) bool {
	var st unix.Stat_t
	if err := unix.Stat(c.base+"/fd", &st); err != nil {
		v.drop(c)
		return false
	}
	was := c.size
	c.size, c.asked = st.Size, true
	return was != c.size
}

// guessIn looks under the number found last, then under the lowest that is thought to be free; where that
// is taken by something else, under the next. Of a process that was never scanned it only knows how many
// numbers are in use: the newest is the highest if there are no gaps, but for strays.
func (v *view) guessIn(c *candidate, inode uint64) (holder, bool) {
	if c.door == closed || c.look == v.look {
		return holder{}, false
	}
	last := -1
	if len(c.recent) > 0 {
		last = c.recent[0]
		switch v.read(c, last) {
		case inode:
			return holder{c, last, v.since(c)}, true
		case 0:
			c.release(last)
		}
	}
	if c.look == 0 {
		for i, strays := range []int{v.strays, 0, 1, 2} {
			fd := int(c.size) - 1 - strays
			if fd < 0 || fd == last || i > 0 && strays == v.strays {
				continue
			}
			if v.read(c, fd) == inode {
				return holder{c, fd, v.since(c)}, true
			}
		}
		return holder{}, false
	}
	for range guessLimit {
		fd := slices.Index(c.open, false)
		if fd < 0 {
			fd = len(c.open)
		}
		if fd == last {
			break
		}
		switch v.read(c, fd) {
		case inode:
			return holder{c, fd, v.since(c)}, true
		case 0:
			return holder{}, false
		}
		c.use(fd)
	}
	return holder{}, false
}

// since returns the lookup after which a socket that no scan saw came to a process, or, if it was never scanned,
// after which the process came.
func (v *view) since(c *candidate) int {
	switch {
	case c.look == 0:
		return c.came - 1
	case c.look <= v.cleared:
		return 0
	}
	return c.look
}

// guessAgain looks under the other numbers that were found lately: a program that opened and closed several
// connections takes one of theirs.
func (v *view) guessAgain(inode uint64) (holder, bool) {
	for _, c := range v.known {
		if c.look == v.look || c.door == closed {
			continue
		}
		for _, fd := range c.recent[min(1, len(c.recent)):] {
			if v.read(c, fd) == inode {
				return holder{c, fd, 0}, true
			}
		}
	}
	return holder{}, false
}

// release notes that a number is free.
func (c *candidate) release(fd int) {
	if fd < len(c.open) {
		c.open[fd] = false
	}
}

// use notes that a number is not free.
func (c *candidate) use(fd int) {
	if fd >= openLimit {
		return
	}
	if fd >= len(c.open) {
		c.open = append(c.open, make([]bool, fd+1-len(c.open))...)
	}
	c.open[fd] = true
}

// scanKnown reads everything of all known processes, first of those where nothing was ever seen.
func (v *view) scanKnown(inode uint64) (holder, bool) {
	known := slices.Clone(v.known)
	slices.SortStableFunc(known, func(a, b *candidate) int { return cmp.Compare(min(a.look, 1), min(b.look, 1)) })
	for _, c := range known {
		if c.look == v.look {
			continue
		}
		if h, ok := v.scan(c, inode); ok {
			return h, true
		}
	}
	return holder{}, false
}

// scanTree reads everything of the processes that are not known. It goes about it twice: a walk
// can miss a process while others end.
func (v *view) scanTree(inode uint64) (holder, bool) {
	for range 2 {
		v.walk()
		for _, pid := range slices.Backward(v.tree) {
			if pid == v.helper {
				continue
			}
			c := v.pids[pid]
			if c == nil {
				c = v.add(pid)
			} else if c.look == v.look {
				continue
			}
			if h, ok := v.scan(c, inode); ok {
				return h, true
			}
		}
	}
	return holder{}, false
}
