package console

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stopSelf stops this process as SIGTSTP does where nobody catches it: not at all
// if nobody could let it go on. os/signal leaves its handler in place when it is
// reset, so the action is changed past it. All zero is the default action, in
// whatever order a machine's sigaction has its fields. The signal goes to this very
// thread: it acts before the old action is back.
func stopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var standard, old [64]byte
	const maskSize = 8
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTSTP), uintptr(unsafe.Pointer(&standard)), uintptr(unsafe.Pointer(&old)), maskSize, 0, 0)
	if e != 0 {
		return
	}
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGTSTP)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTSTP), uintptr(unsafe.Pointer(&old)), 0, maskSize, 0, 0)
}
