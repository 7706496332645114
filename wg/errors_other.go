//go:build !linux

package wg

import "golang.org/x/sys/unix"

// errDetached is what a device says that no interface stands behind any more.
const errDetached = unix.EBADF
