//go:build !linux

package nonblock

import "syscall"

// Read is read(2) on fd. It returns EAGAIN where it would have to wait, and 0
// at the end of the file.
func Read(fd uintptr, p []byte) (int, error) { return again(syscall.Read, fd, p) }

// Write is write(2) on fd. It may write less than p.
func Write(fd uintptr, p []byte) (int, error) { return again(syscall.Write, fd, p) }

// again makes a system call until no signal interrupts it.
func again(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
