//go:build !linux

package mitm

import (
	"errors"
	"syscall"
)

// unsent cannot be asked here; what was written is left to the kernel.
func unsent(syscall.RawConn) (int, error) { return 0, errors.ErrUnsupported }
