package netns

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"ahead"
)

// procStat holds the fields of /proc/PID/stat that matter here.
type procStat struct {
	state     byte
	parent    int
	pgrp, tty int
	start     uint64 // clock ticks since boot: with the pid a name for the process
}

func readStat(pid int) (s procStat, err error) {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	i := bytes.LastIndexByte(p, ')') // the name before it may hold anything
	f := bytes.Fields(p[i+1:])
	if i < 0 || len(f) < 20 {
		return s, os.ErrInvalid
	}
	s.state = f[0][0]
	s.parent, _ = strconv.Atoi(string(f[1]))
	s.pgrp, _ = strconv.Atoi(string(f[2]))
	s.tty, _ = strconv.Atoi(string(f[4]))
	s.start, _ = strconv.ParseUint(string(f[19]), 10, 64)
	return s, nil
}

// children lists the processes whose parent is one thread of a process, the dead ones too.
func children(pid, tid int) (pids []int) {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, tid))
	if err != nil {
		return nil
	}
	for _, f := range bytes.Fields(p) {
		if n, err := strconv.Atoi(string(f)); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// threads lists the threads of a process.
func threads(pid int) (tids []int) {
	d, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			tids = append(tids, n)
		}
	}
	return tids
}

func nsInode(pid, kind string) uint64 { return ahead.NamespaceID(pid, kind) }
