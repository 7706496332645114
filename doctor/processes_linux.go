package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"trace/netns"
)

const (
	// roomNeeded is how many threads and processes trace, its helper and a
	// small command come to.
	roomNeeded = 32
	// roomCounted is the limit above which nobody is near it, and counting is
	// not worth its time.
	roomCounted = 4096
)

// Processes returns a netns.StepError where RLIMIT_NPROC leaves too little
// room for a run. This is foretold and not tried, as the only one: Go's
// runtime ends a program that gets no thread, and no code of ours could say
// anything.
func (h Host) Processes() error {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &limit) != nil || limit.Cur > roomCounted || os.Getuid() == 0 || h.exempt() {
		return nil
	}
	own, _ := strconv.Atoi(h.status("Threads"))
	used := h.tasks(os.Getuid()) - own
	if used+roomNeeded <= int(limit.Cur) {
		return nil
	}
	return &netns.StepError{Step: "processes", Err: fmt.Errorf("others have %d of %d processes and threads, a run needs %d: %w",
		used, limit.Cur, roomNeeded, syscall.EAGAIN)}
}

// exempt tells whether the limit does not count for this process: it has
// CAP_SYS_ADMIN or CAP_SYS_RESOURCE.
func (h Host) exempt() bool {
	caps, err := strconv.ParseUint(h.status("CapEff"), 16, 64)
	return err == nil && caps&(1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_SYS_RESOURCE) != 0
}

// tasks counts the threads of a user.
func (h Host) tasks(uid int) (n int) {
	names, err := filepath.Glob(filepath.Join(h.Root, "/proc/[0-9]*/status"))
	if err != nil {
		return 0
	}
	want := strconv.Itoa(uid)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it ended
		}
		_, ids, _ := strings.Cut(string(b), "\nUid:")
		_, threads, _ := strings.Cut(string(b), "\nThreads:")
		if f := strings.Fields(ids); len(f) == 0 || f[0] != want {
			continue
		}
		if f := strings.Fields(threads); len(f) > 0 {
			t, _ := strconv.Atoi(f[0])
			n += t
		}
	}
	return n
}
