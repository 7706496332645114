package main

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"trace/flow"
	"trace/process"
)

// closeMemory keeps other programs of the user, and core dumps, from the keys in our memory.
func closeMemory() { unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// programs finds the programs of this machine behind connections to us.
type programs struct {
	diag   *os.File
	finder *process.Finder
}

// findPrograms prepares the lookup of processes that descend from root. Without it flows
// name none, which is no reason not to run.
func findPrograms(root int, log func(format string, args ...any)) *programs {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		log("processes will not be named: %v", err)
		return nil
	}
	diag := os.NewFile(uintptr(fd), "sock_diag")
	return &programs{diag, &process.Finder{Diag: diag, Root: root, NetNS: ownNetwork()}}
}

// ownNetwork returns the inode of this process's network namespace.
func ownNetwork() uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return 0
	}
	return st.Ino
}

// find names the program whose end of a connection is src, and ours dst.
func (p *programs) find(src, dst netip.AddrPort) *flow.Process {
	if p == nil || !src.Addr().IsLoopback() {
		return nil
	}
	return p.finder.Find(src, dst, "tcp")
}

func (p *programs) close() {
	if p != nil {
		p.diag.Close()
	}
}
