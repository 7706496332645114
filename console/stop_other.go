//go:build !linux

package console

import "golang.org/x/sys/unix"

// stopSelf stops this process. SIGSTOP is not what was sent, but os/signal keeps its
// handler for SIGTSTP for good.
func stopSelf() { _ = unix.Kill(unix.Getpid(), unix.SIGSTOP) }
