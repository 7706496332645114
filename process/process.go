// Package process names the process that made a connection.
//
//	diag, err := ns.Diag(ctx) // a NETLINK_SOCK_DIAG socket made inside the namespace
//	f := &process.Finder{Diag: diag, Root: ns.PID(), Helper: ns.HelperPID(), NetNS: ns.NetNS()}
//	p := f.Find(src, dst, "tcp")
//
// It does not follow connections and keeps no record. The right moment to ask is before the
// connection is answered: a program that waits for connect to return cannot have ended yet.
// Nothing here prevents a program from ending before it is asked for, or from handing its socket on.
//
// # Theory of operation
//
// A lookup has three parts: the addresses lead to the socket's inode, the inode to its holder, the
// holder to its description.
//
// The inode. One exact SOCK_DIAG_BY_FAMILY request, no dump. The kernel looks an address pair up as
// it would for an arriving packet, so an IPv4 request finds IPv6 sockets that speak IPv4, and a UDP
// request finds sockets that were never connected. Listening sockets are not answers.
//
// The holder. Nothing tells who holds an inode but the links /proc/PID/fd/N, and reading all of
// them takes milliseconds where much is open. So what was seen before is used to look first where
// the socket probably is:
//
//  1. where an earlier scan saw this inode (one scan serves all connections that wait);
//  2. in processes that came since the last lookup, newest first: their numbers lie between the last
//     number that the kernel gave out then and the one it gave out now (ns_last_pid);
//  3. in the process found last, then in those that have another number of descriptors than when last
//     asked, then in the others: under the number found last, as it is used again, and under the lowest
//     free one, as the kernel gives that out next;
//  4. in known processes, everything;
//  5. in the tree of processes, walked by /proc/PID/task/TID/children from the child and from this
//     process, which inherits orphans if it is a subreaper.
//
// So a lookup usually costs a stat per process and a handful of links: 0.1 ms among 50 processes, however
// much they have open. 4 and 5 cost a few µs for each descriptor.
//
// What is remembered only says where to look. Every answer is a link that was read just now, and
// the process is described through an open directory of /proc, which never becomes that of another
// process; so neither an execve nor a process number used again can lead to a wrong name.
//
// Several holders. A socket that was inherited by fork stands under the same number in all holders,
// and the deepest in the tree is named, the younger of two. A child of vfork, which runs in its
// parent's memory until its execve, is not taken for a holder. A copy passed over a Unix socket
// counts when it is the first to be met, and is not searched for beyond that.
//
// Closed doors. The links of a process that is not dumpable are closed to an ordinary user even
// inside a user namespace of his own, but /proc/PID/fdinfo/N tells inodes too (Linux 5.14). A
// process whose program file its user may not read is opaque altogether. If everything else has been
// read and does not hold the socket, an opaque process with the socket's owner is named, the deepest
// if several descend from each other; if they do not, none is.
//
// Limits: lookups take turns, and one that has waited for turnPatience answers nil, as does one
// that has read lookLimit descriptors. Connections through io_uring's direct descriptors, and those of
// threads with a descriptor table of their own, belong to nobody.
package process

import (
	"net/netip"
	"sync"
	"syscall"
	"time"

	"trace/flow"
)

// turnPatience is how long a lookup waits for others: a connection is never held up for longer by
// not knowing who made it. On a machine with ten times the work that it can do, twenty that come at
// once take more than a quarter of it.
const turnPatience = time.Second

// Finder finds processes of one network namespace. Diag and Root are required. It may be used by
// several goroutines at once; its fields must not change then.
type Finder struct {
	// Diag is a non-blocking NETLINK_SOCK_DIAG socket of the namespace that nobody else uses. It
	// stays the caller's; once it is closed, Find returns nil.
	Diag syscall.Conn

	Root   int    // process id of the first process in the namespace
	Helper int    // process id of a process that is never named; 0: none
	NetNS  uint64 // inode of the namespace, as /proc/PID/ns/net shows it; 0: that of Root

	once sync.Once
	turn chan struct{} // holds one token while a lookup works with what follows
	seq  uint32
	view view
}

// Find names the process that holds the socket whose own address is src and whose peer is dst, for
// the network "tcp" or "udp". It returns nil if there is no such socket or no telling whose it is.
// The result is the caller's.
func (f *Finder) Find(src, dst netip.AddrPort, network string) *flow.Process {
	f.once.Do(f.init)
	if f.Diag == nil || !f.take() {
		return nil
	}
	defer func() { <-f.turn }()
	s, ok := f.socket(src, dst, network)
	if !ok {
		return nil
	}
	f.view.left = lookLimit
	if h, ok := f.view.holder(s.inode); ok {
		return f.view.describe(h, s.inode)
	}
	h, ok := f.view.opaque(s.uid)
	if !ok {
		return nil
	}
	// That was by exclusion: only true if the socket was there all the time.
	if again, ok := f.socket(src, dst, network); !ok || again != s {
		return nil
	}
	return f.view.describe(h, 0)
}

func (f *Finder) init() {
	f.turn = make(chan struct{}, 1)
	f.view = newView(f.Root, f.Helper, f.NetNS)
}

// take waits for the turn.
func (f *Finder) take() bool {
	select {
	case f.turn <- struct{}{}:
		return true
	default:
	}
	late := time.NewTimer(turnPatience)
	defer late.Stop()
	select {
	case f.turn <- struct{}{}:
		return true
	case <-late.C:
		return false
	}
}
