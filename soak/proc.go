package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sizes are what trace takes of the machine.
type sizes struct {
	rss, hwm     int64 // bytes: resident now, and at most so far
	fds, threads int
}

// sizesOf reads them from /proc.
func sizesOf(pid int) (s sizes) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return s
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		switch key {
		case "VmRSS":
			s.rss = n << 10
		case "VmHWM":
			s.hwm = n << 10
		case "Threads":
			s.threads = int(n)
		}
	}
	s.fds = fdsOf(pid)
	return s
}

// fdsOf returns the number of descriptors of a process, -1 where that is not to
// be seen: trace does not let its user look into it, only root.
func fdsOf(pid int) int {
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	if err != nil {
		return -1
	}
	return len(entries)
}

// manyFDs are more descriptors than the load needs.
const manyFDs = 100

// whatFDs says what the descriptors of a process are, by kind.
func whatFDs(pid int) string {
	kinds := map[string]int{}
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		kind, _, _ := strings.Cut(name, ":")
		if strings.HasPrefix(kind, "/") {
			kind = strings.Map(func(r rune) rune {
				if r >= '0' && r <= '9' {
					return -1
				}
				return r
			}, kind)
		}
		kinds[kind]++
	}
	return fmt.Sprint(kinds)
}

func (s sizes) String() string {
	fds := fmt.Sprintf("%4d fds", s.fds)
	if s.fds < 0 {
		fds = "fds unknown (needs root)"
	}
	return fmt.Sprintf("%5.1f MB %s %3d threads", float64(s.rss)/1e6, fds, s.threads)
}

// watch notes the most that trace takes, until ctx is done.
func (p *play) watch(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s := sizesOf(p.cmd.Process.Pid)
		p.top.rss, p.top.hwm = max(p.top.rss, s.rss), max(p.top.hwm, s.hwm)
		if s.fds > manyFDs && s.fds > p.top.fds {
			p.many = whatFDs(p.cmd.Process.Pid)
		}
		p.top.fds, p.top.threads = max(p.top.fds, s.fds), max(p.top.threads, s.threads)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// What may be left over at the end, beyond the baseline: memory that Go's
// runtime has not given back yet, and threads, which it keeps.
const (
	spareMemory  = 48 << 20
	spareFDs     = 8
	spareThreads = 16
)

// settleWait is how long the load's remains may take to go.
const settleWait = 20 * time.Second

// settle waits until trace has let go of what the load took, and returns what
// is left. That is when nothing has changed for a second, or, with a baseline,
// as soon as it is near it.
func (p *play) settle(base *sizes) sizes {
	last, since := sizesOf(p.cmd.Process.Pid), time.Now()
	for end := since.Add(settleWait); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		s := sizesOf(p.cmd.Process.Pid)
		if s.fds != last.fds {
			since = time.Now()
		}
		last = s
		if time.Since(since) > time.Second && (base == nil || s.near(*base)) {
			break
		}
	}
	return last
}

// near reports whether s is back at a baseline.
func (s sizes) near(base sizes) bool {
	return s.rss <= base.rss+spareMemory && s.fds <= base.fds+spareFDs && s.threads <= base.threads+spareThreads
}
