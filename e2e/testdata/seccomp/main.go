// Seccomp runs a command under a filter that forbids namespaces as Docker's
// default profile does: clone with flags of namespaces, unshare and setns are
// EPERM, clone3 (whose flags a filter cannot see) is ENOSYS.
//
//	seccomp COMMAND [ARG...]
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { runtime.LockOSThread() } // a filter is a thread's

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		os.Exit(99)
	}
}

func run(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	if os.Getuid() != 0 { // root needs no such promise, and setuid programs stay what they are
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	program := filter()
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0); err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}

// Offsets in struct seccomp_data; the low half of an argument comes first on
// the machines that we know.
const (
	numberAt    = 0
	firstArgsAt = 16
)

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

func filter() []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		any    = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: load, K: numberAt},
		{Code: equal, K: unix.SYS_CLONE3, Jt: 6},
		{Code: equal, K: unix.SYS_UNSHARE, Jt: 4},
		{Code: equal, K: unix.SYS_SETNS, Jt: 3},
		{Code: equal, K: unix.SYS_CLONE, Jf: 4},
		{Code: load, K: firstArgsAt},
		{Code: any, K: namespaces, Jf: 2},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}
}
