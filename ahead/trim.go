package ahead

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Trim gives back the pages of this program's file that start-up touched. They stay in the page cache, which the parent shares, and
// come back one by one when they are needed: a process at rest needs few of them. Only mappings that cannot be and were not written
// are dropped, or what was written would be lost.
func Trim() error {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	var start, end uintptr
	var file bool
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if first, _, _ := strings.Cut(line, " "); !strings.HasSuffix(first, ":") { // a mapping, not a field of it
			var perms string
			if n, _ := fmt.Sscanf(line, "%x-%x %s", &start, &end, &perms); n != 3 {
				return fmt.Errorf("read %s: %w", f.Name(), unix.EINVAL)
			}
			file = len(perms) == 4 && perms[0] == 'r' && perms[1] == '-' && strings.Contains(line, "/")
			continue
		}
		if kb, ok := strings.CutPrefix(line, "Anonymous:"); ok && file && strings.TrimSpace(kb) == "0 kB" {
			_, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
			if errno != 0 {
				return os.NewSyscallError("madvise", errno)
			}
		}
	}
	return lines.Err()
}
