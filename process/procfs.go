package process

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// readFile reads up to len(buf) bytes of a file below dir; a file of /proc is told in one read if
// the buffer is large enough, and argv need not be.
func readFile(dir int, name string, buf []byte) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// numbers calls f with each entry of a directory that is a number.
func numbers(fd int, buf []byte, f func(n int) bool) error {
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		for p := buf[:n]; len(p) > direntName; {
			size := int(binary.NativeEndian.Uint16(p[direntSize:]))
			if size <= direntName || size > len(p) {
				return unix.EBADMSG
			}
			if k, ok := number(p[direntName:size]); ok && !f(k) {
				return nil
			}
			p = p[size:]
		}
	}
}

// Offsets in struct linux_dirent64.
const (
	direntSize = 16
	direntName = 19
)

// number parses decimal digits that end with p or at a NUL.
func number(p []byte) (n int, ok bool) {
	for i, c := range p {
		if c == 0 {
			return n, i > 0
		}
		if c < '0' || c > '9' || n > 1<<40 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(p) > 0
}

// socketInode parses the target of a link in /proc/PID/fd; 0 means that it is no socket.
func socketInode(link []byte) uint64 {
	rest, ok := bytes.CutPrefix(link, []byte("socket:["))
	if !ok {
		return 0
	}
	n, ok := number(bytes.TrimSuffix(rest, []byte("]")))
	if !ok {
		return 0
	}
	return uint64(n)
}

// netNS returns the inode of the network namespace of a process.
func netNS(pid int, buf []byte) (uint64, error) {
	n, err := unix.Readlink(procPath(pid)+"/ns/net", buf)
	if err != nil {
		return 0, err
	}
	rest, _ := bytes.CutPrefix(buf[:n], []byte("net:["))
	k, ok := number(bytes.TrimSuffix(rest, []byte("]")))
	if !ok {
		return 0, unix.EBADMSG
	}
	return uint64(k), nil
}

func procPath(pid int) string { return "/proc/" + strconv.Itoa(pid) }

// lastPID returns the process number that was given out last, to a process or a thread; 0 if the
// kernel does not tell. /proc/loadavg tells it as well, but containers have it replaced.
func lastPID(buf []byte) int {
	n, err := readFile(unix.AT_FDCWD, "/proc/sys/kernel/ns_last_pid", buf)
	p := buf[:n]
	if err != nil {
		n, _ = readFile(unix.AT_FDCWD, "/proc/loadavg", buf)
		p = buf[bytes.LastIndexByte(buf[:n], ' ')+1 : n]
	}
	last, _ := number(bytes.TrimSpace(p))
	return last
}

// isProcess reports that pid is a process, no thread of one and not nothing.
func isProcess(pid int, buf []byte) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	switch err {
	case nil:
		unix.Close(fd)
		return true
	case unix.ESRCH, unix.EINVAL, unix.ENOENT:
		return false
	}
	// Not before Linux 5.3, nor under some seccomp filters.
	n, err := readFile(unix.AT_FDCWD, procPath(pid)+"/status", buf)
	group, ok := number(line(buf[:n], "Tgid:"))
	return err == nil && ok && group == pid
}

// stat is what /proc/PID/stat tells.
type stat struct {
	parent int
	start  uint64 // clock ticks since boot
}

func readStat(dir int, name string, buf []byte) (s stat, err error) {
	n, err := readFile(dir, name, buf)
	if err != nil {
		return s, err
	}
	i := bytes.LastIndexByte(buf[:n], ')') // the name before it may hold anything
	if i < 0 {
		return s, unix.EBADMSG
	}
	field := 2
	for f := range bytes.FieldsSeq(buf[i+1 : n]) {
		field++
		switch field {
		case 4:
			s.parent, _ = number(f)
		case 22:
			s.start, err = strconv.ParseUint(string(f), 10, 64)
			return s, err
		}
	}
	return s, unix.EBADMSG
}

// children appends the processes whose parent is the given thread. The kernel may leave some out if
// others end at the same time.
func children(pid, tid int, pids []int, buf []byte) []int {
	n, _ := readFile(unix.AT_FDCWD, procPath(pid)+"/task/"+strconv.Itoa(tid)+"/children", buf)
	for f := range bytes.FieldsSeq(buf[:n]) {
		if pid, ok := number(f); ok {
			pids = append(pids, pid)
		}
	}
	return pids
}

// threads appends the threads of a process.
func threads(pid int, tids []int, buf []byte) []int {
	fd, err := unix.Open(procPath(pid)+"/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return tids
	}
	defer unix.Close(fd)
	numbers(fd, buf, func(tid int) bool {
		tids = append(tids, tid)
		return true
	})
	return tids
}

// closedDoor reports an error that a process which exists can cause.
func closedDoor(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
