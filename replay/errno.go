package replay

import "syscall"

// The errors of sockets that mean something here.
const (
	errReset   = syscall.ECONNRESET
	errRefused = syscall.ECONNREFUSED
)
