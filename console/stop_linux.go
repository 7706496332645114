package console

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// stopSelf stops this process as SIGTSTP does where nobody catches it: not at all
// if nobody could let it go on. os/signal leaves its handler in place when it is
// reset, so the action is changed past it. All zero is the default action, in
// whatever order a machine's sigaction has its fields.
func stopSelf() {
	var standard, old [64]byte
	const maskSize = 8
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTSTP), uintptr(unsafe.Pointer(&standard)), uintptr(unsafe.Pointer(&old)), maskSize, 0, 0)
	_ = unix.Kill(unix.Getpid(), unix.SIGTSTP)
	if e == 0 {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTSTP), uintptr(unsafe.Pointer(&old)), 0, maskSize, 0, 0)
	}
}
