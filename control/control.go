// Package control lets commands talk to a serve that runs, over a socket in the
// state directory.
//
//	l, err := control.NewListen("")
//	s := &control.Server{Status: status, PeersChanged: reload, Attach: sessions}
//	err = s.Serve(ctx, l)
//
//	c, err := control.Dial(ctx, "")
//	serve, err := c.Status(ctx)
//
// It knows nothing of what a session is: runs that attach (attach.go) hand over
// bytes that only both ends understand.
//
// # Theory of operation
//
// The socket is serve.sock in the directory trace of $XDG_RUNTIME_DIR or, where
// there is no such directory of ours, of the state directory. Over it goes
// HTTP/1.1, with JSON but for the batches of runs:
//
//	GET  /status               Serve
//	POST /peers/changed        the list of WireGuard peers is to be read again
//	POST /attach/SESSION       Hello; answered by the Position from which on the run sends
//	POST /attach/SESSION/batch rows; answered by the Position up to which they are kept
//	POST /attach/SESSION/end   End; answered by Kept
//
// An answer other than 200 is {"error":"operation object: cause"}.
//
// The directory is the owner's alone, and so is the socket. Whoever connects is
// asked for his credentials by the kernel, and so is who listens: both must be
// the same user, or root. A lock beside the socket says whether its serve lives,
// so that a socket left behind by one that was killed is replaced, and one that
// stands still is not.
//
// The name of a socket has room for about a hundred bytes. Where a directory is
// deeper, the socket lies in a directory of /tmp whose name is made of the uid and
// of the path that it stands for, so that both ends find it (short).
package control

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// socketName is the name of the socket in its directory.
const socketName = "serve.sock"

// ErrNoServe is returned by Dial where no serve runs.
var ErrNoServe = errors.New("no trace serve runs")

// A RunningError says that another serve has the socket.
type RunningError struct {
	Path string
	PID  int // 0: not known
}

// Error names the process.
func (e *RunningError) Error() string {
	if e.PID > 0 {
		return fmt.Sprintf("control socket %s: another trace serve runs, process %d", e.Path, e.PID)
	}
	return fmt.Sprintf("control socket %s: another trace serve runs", e.Path)
}

// Path returns where a serve puts its socket.
func Path() (string, error) {
	paths, err := paths()
	if err != nil {
		return "", err
	}
	return paths[0], nil
}

// paths returns where the socket of a serve may be. The first is where one of
// this environment would put it; a service may have been started with another.
func paths() ([]string, error) {
	var list []string
	user := fmt.Sprint("/run/user/", os.Getuid())
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	if filepath.IsAbs(runtime) && isOurs(runtime) {
		list = append(list, filepath.Join(runtime, "trace", socketName))
	}
	state, err := stateDir()
	switch {
	case err == nil:
		list = append(list, filepath.Join(state, socketName))
	case len(list) == 0:
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if runtime == "" && isOurs(user) {
		list = append(list, filepath.Join(user, "trace", socketName))
	}
	return list, nil
}

// stateDir returns the directory of trace's state (XDG Base Directory
// Specification, which tells to ignore relative paths).
func stateDir() (string, error) {
	if base := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "trace"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "trace"), nil
}

// isOurs reports whether a directory is there and belongs to this user.
func isOurs(dir string) bool {
	fi, err := os.Lstat(dir)
	if err != nil || !fi.IsDir() {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// maxPath is what every system that we know takes as the name of a socket: 104
// bytes with the zero behind it on darwin, 108 on Linux (unix(7)).
const maxPath = 103

// short returns the name under which the socket called path lies: path, or where
// that is too long, another that follows from it.
func short(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if len(path) <= maxPath {
		return path, nil
	}
	sum := sha256.Sum256([]byte(path))
	return fmt.Sprintf("/tmp/trace-%d-%x/%s", os.Geteuid(), sum[:8], socketName), nil
}

// makeDir makes the directory of a socket, or checks that nobody else can put
// anything there.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !isOurs(dir) {
		return &fs.PathError{Op: "use", Path: dir, Err: errors.New("it is not a directory of this user")}
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return &fs.PathError{Op: "use", Path: dir, Err: errors.New("others may write there")}
	}
	return nil
}
