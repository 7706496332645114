package store

import (
	"os"
	"strconv"
	"strings"
)

// startTime returns when a process started, in clock ticks after boot
// (proc_pid_stat(5) field 22), 0 if there is no such process. With the pid it
// names a process for good.
func startTime(pid int) int64 {
	p, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	s := string(p)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // the name may hold spaces
	if len(fields) < 20 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[19], 10, 64)
	return n
}
