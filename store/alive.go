package store

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// The states of a session.
const (
	stateRunning    = "running"
	stateEnded      = "ended"
	stateCrashed    = "crashed"
	stateUnreadable = "unreadable"
)

// lockSuffix names the file whose flock(2) says that a session is being
// written. It stands beside the session and not on it: closing any descriptor
// of the session file would drop the POSIX locks of SQLite in this process.
const lockSuffix = "-lock"

// lockRunning takes the lock of a new session. It is released when the file is
// closed, at the latest when the process dies.
func lockRunning(path string) (*os.File, error) {
	f, err := os.OpenFile(path+lockSuffix, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return f, nil
}

// isRunning reports whether a session without an end is still being written.
// Where the lock cannot be looked at it asks for the process instead.
func isRunning(path string, pid int, start int64) bool {
	f, err := os.OpenFile(path+lockSuffix, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		return start != 0 && startTime(pid) == start
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return errors.Is(err, unix.EWOULDBLOCK)
}

// Here reports whether the session's PID is, on this machine and in this
// container, the process that started to write it.
func (r *Reader) Here() (here bool, err error) {
	err = r.with(func(d *db) error {
		row, err := d.one("SELECT pid,pid_start FROM session")
		if err == nil && row != nil {
			pid := int(row.int(0))
			start := startTime(pid)
			// A process that hides from others (hidepid) can still be asked for.
			here = start != 0 && start == row.int(1) || start == 0 && pid > 0 && unix.Kill(pid, 0) != unix.ESRCH
		}
		return err
	})
	return here, err
}
