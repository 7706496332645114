package netns

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// orphanGrace is how long a dead child that might be another's (os/exec) is left to be waited for by that other.
const orphanGrace = 2 * time.Second

// reaper waits for the orphans that came to this process as their subreaper, and for no child that somebody else waits for. Orphans
// are children of the first thread. In a user namespace they are told by it even when dead; otherwise by the network
// namespace while they live, and those that die unseen by that nobody waited for them.
type reaper struct {
	userNS, netNS uint64
	alive         map[int]uint64    // orphans seen alive: pid → start
	dead          map[int]time.Time // dead children of unknown origin: since when
}

func newReaper() *reaper {
	return &reaper{userNS: nsInode("self", "user"), netNS: nsInode("self", "net"), alive: map[int]uint64{}, dead: map[int]time.Time{}}
}

// collect waits for the orphans that ended; true means that some child is to be looked at again later.
func (r *reaper) collect() (again bool) {
	forking.Lock()
	defer forking.Unlock()
	self := os.Getpid()
	now := time.Now()
	alive, dead := map[int]uint64{}, map[int]time.Time{}
	for _, pid := range children(self, self) {
		if ours[pid] {
			continue
		}
		st, err := readStat(pid)
		if err != nil {
			continue
		}
		if st.state != 'Z' && st.state != 'X' {
			if r.foreign(pid, "net", r.netNS) {
				alive[pid] = st.start
			}
			continue
		}
		since, seen := r.dead[pid]
		if !seen {
			since = now
		}
		if r.alive[pid] == st.start || r.foreign(pid, "user", r.userNS) || now.Sub(since) >= orphanGrace {
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
			continue
		}
		dead[pid] = since
		again = true
	}
	r.alive, r.dead = alive, dead
	return again
}

func (r *reaper) foreign(pid int, kind string, home uint64) bool {
	ns := nsInode(strconv.Itoa(pid), kind)
	return ns != 0 && ns != home
}

// Members lists the living processes of the namespace: the command, what came there by itself (Place.Enter), what they started, and
// what was left behind by any. The helper is not one. Processes that moved on into namespaces of their own count; an orphan among these is taken for this namespace's,
// so a process that carries several cannot tell theirs apart.
func (n *Namespace) Members() []int {
	return n.living(append(n.descendants(), n.entered()...))
}

// descendants lists this process's children who are in namespaces of their own.
func (n *Namespace) descendants() (queue []int) {
	home := nsInode("self", "net")
	self := os.Getpid()
	for _, pid := range children(self, self) {
		ns := nsInode(strconv.Itoa(pid), "net")
		if pid == n.pid || ns != 0 && ns != home {
			queue = append(queue, pid)
		}
	}
	return append(queue, n.pid) // a child of its keeper's thread
}

// entered lists the processes in the network namespace, whose children ever they are, as far as they may be looked at.
func (n *Namespace) entered() (pids []int) {
	for _, pid := range processes() {
		if n.holds(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (n *Namespace) holds(pid int) bool {
	return n.netNS != 0 && nsInode(strconv.Itoa(pid), "net") == n.netNS
}

// living lists the processes of queue, and what descends from them, that have not ended.
func (n *Namespace) living(queue []int) (pids []int) {
	seen := map[int]bool{n.helperPID: true}
	departedMu.Lock()
	for _, pid := range departed {
		seen[pid] = true
	}
	departedMu.Unlock()
	for len(queue) > 0 {
		pid := queue[0]
		queue = queue[1:]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		for _, tid := range threads(pid) {
			queue = append(queue, children(pid, tid)...)
		}
		if st, err := readStat(pid); err == nil && st.state != 'Z' && st.state != 'X' {
			pids = append(pids, pid)
		}
	}
	return pids
}
