package store

import "golang.org/x/sys/unix"

// startTime returns when a process started, in microseconds since 1970 UTC, 0
// if there is no such process. With the pid it names a process for good.
func startTime(pid int) int64 {
	if pid <= 0 {
		return 0
	}
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return 0
	}
	at := p.Proc.P_starttime
	return at.Sec*1e6 + int64(at.Usec)
}
