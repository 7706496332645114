package nonblock

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read is read(2) on fd. It returns EAGAIN where it would have to wait, and 0
// at the end of the file.
func Read(fd uintptr, p []byte) (int, error) {
	return call(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p))
}

// Write is write(2) on fd. It may write less than p.
func Write(fd uintptr, p []byte) (int, error) {
	return call(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p))
}

// maxVectors is how many pieces one system call is given.
const maxVectors = 16

// vectors describe slices to the kernel.
type vectors [maxVectors]unix.Iovec

func (v *vectors) set(ps [][]byte) (n int, ok bool) {
	for _, p := range ps {
		if len(p) == 0 {
			continue
		}
		if n == maxVectors {
			return n, false
		}
		v[n].Base = unsafe.SliceData(p)
		v[n].SetLen(len(p))
		n++
	}
	return n, true
}

// Readv is readv(2) on fd. It takes 16 pieces at most, else EINVAL.
func Readv(fd uintptr, ps ...[]byte) (int, error) {
	var v vectors
	n, ok := v.set(ps)
	if !ok {
		return 0, unix.EINVAL
	}
	return call(unix.SYS_READV, fd, unsafe.Pointer(&v), n)
}

// Writev is writev(2) on fd. It takes any number of pieces, and joins them if
// they are more than 16: to a device they are one packet.
func Writev(fd uintptr, ps ...[]byte) (int, error) {
	var v vectors
	n, ok := v.set(ps)
	if !ok {
		return Write(fd, bytes.Join(ps, nil))
	}
	return call(unix.SYS_WRITEV, fd, unsafe.Pointer(&v), n)
}

// call makes a system call until no signal interrupts it.
func call(nr, fd uintptr, p unsafe.Pointer, n int) (int, error) {
	for {
		r, _, errno := unix.RawSyscall(nr, fd, uintptr(p), uintptr(n))
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}
