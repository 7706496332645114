//go:build !linux && !darwin

package control

import (
	"errors"
	"net"
)

// credentials cannot be asked for here.
func credentials(*net.UnixConn) (uid, pid int, err error) { return 0, 0, errors.ErrUnsupported }
