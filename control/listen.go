package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockSuffix names the file whose flock(2) says that the serve of a socket lives.
// It holds its process id. Who has the lock may unlink it, so who gets it makes
// sure that it is still there.
const lockSuffix = ".lock"

// A Listen is the socket of a serve, taken by this process.
type Listen struct {
	*net.UnixListener
	path string // as asked for
	lock *os.File
}

// NewListen takes the socket at path, or where a serve has it by default if path
// is "". One that was left behind by a serve that is gone is replaced; a
// *RunningError says that it is not gone.
func NewListen(path string) (*Listen, error) {
	var err error
	if path == "" {
		if path, err = Path(); err != nil {
			return nil, err
		}
	}
	l, err := listen(path)
	var running *RunningError
	if err != nil && !errors.As(err, &running) {
		err = fmt.Errorf("control socket %s: %w", path, err)
	}
	return l, err
}

func listen(path string) (*Listen, error) {
	name, err := short(path)
	if err != nil {
		return nil, err
	}
	if err := makeDir(filepath.Dir(name)); err != nil {
		return nil, err
	}
	lock, err := takeLock(name)
	if err != nil {
		return nil, err
	}
	l := &Listen{path: path, lock: lock}
	if l.path, err = filepath.Abs(path); err == nil {
		err = l.bind(name)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return l, nil
}

// takeLock takes the lock beside a socket and writes our process id there.
func takeLock(name string) (*os.File, error) {
	for {
		f, err := os.OpenFile(name+lockSuffix, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer f.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
			}
			var b [32]byte
			n, _ := f.ReadAt(b[:], 0)
			pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n]))) // 0: it is just beginning
			return nil, &RunningError{Path: name, PID: pid}
		}
		if ours, err := f.Stat(); err == nil {
			if there, err := os.Lstat(f.Name()); err == nil && os.SameFile(ours, there) {
				f.Truncate(0)
				fmt.Fprintln(f, os.Getpid())
				return f, nil
			}
		}
		f.Close() // its owner ended just now
	}
}

// bind makes the socket. Nobody has the lock, so one that answers all the same
// is of a serve whose lock was deleted; one that does not is left behind.
func (l *Listen) bind(name string) error {
	fi, err := os.Lstat(name)
	if err == nil {
		if fi.Mode().Type() != os.ModeSocket {
			return errors.New("there is a file of that name that is no socket")
		}
		if c, err := net.Dial("unix", name); err == nil {
			defer c.Close()
			_, pid, _ := credentials(c.(*net.UnixConn))
			return &RunningError{Path: name, PID: pid}
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		u.Close()
		return err
	}
	l.UnixListener = u
	return nil
}

// Path returns where the socket lies.
func (l *Listen) Path() string { return l.Addr().String() }

// Close removes the socket.
func (l *Listen) Close() error {
	err := l.UnixListener.Close()
	if l.lock != nil {
		os.Remove(l.lock.Name())
		l.lock.Close()
		if dir := filepath.Dir(l.lock.Name()); dir != filepath.Dir(l.path) {
			os.Remove(dir) // one of ours in /tmp
		}
		l.lock = nil
	}
	return err
}

// connect opens the socket at path and makes sure of who listens there.
func connect(ctx context.Context, path string) (*net.UnixConn, int, error) {
	name, err := short(path)
	if err != nil {
		return nil, 0, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", name)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
			err = fmt.Errorf("%w at %s", ErrNoServe, path)
		}
		return nil, 0, err
	}
	u := c.(*net.UnixConn)
	uid, pid, err := credentials(u)
	if err == nil && !trusted(uid) {
		err = fmt.Errorf("control socket %s: it belongs to another user (uid %d)", path, uid)
	}
	if err != nil {
		c.Close()
		return nil, 0, err
	}
	return u, pid, nil
}

// trusted reports whether we talk to a user: to ourselves and root.
func trusted(uid int) bool { return uid == os.Geteuid() || uid == 0 }
