//go:build !linux

package nonblock

import (
	"bytes"
	"syscall"
)

// Read is read(2) on fd. It returns EAGAIN where it would have to wait, and 0
// at the end of the file.
func Read(fd uintptr, p []byte) (int, error) { return again(syscall.Read, fd, p) }

// Write is write(2) on fd. It may write less than p.
func Write(fd uintptr, p []byte) (int, error) { return again(syscall.Write, fd, p) }

// Readv is read(2) on fd into pieces, 16 at most, else EINVAL.
func Readv(fd uintptr, ps ...[]byte) (int, error) {
	size, n := 0, 0
	for _, p := range ps {
		if size += len(p); len(p) > 0 {
			n++
		}
	}
	if n > 16 {
		return 0, syscall.EINVAL
	}
	whole := make([]byte, size)
	n, err := Read(fd, whole)
	rest := whole[:n]
	for _, p := range ps {
		rest = rest[copy(p, rest):]
	}
	return n, err
}

// Writev is write(2) of any number of pieces, joined, to fd.
func Writev(fd uintptr, ps ...[]byte) (int, error) { return Write(fd, bytes.Join(ps, nil)) }

// again makes a system call until no signal interrupts it.
func again(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
