package anchor

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names in the directory.
const (
	keyFile    = "key.pem"
	certFile   = "ca.pem"
	recordFile = "installed.json"
	lockFile   = "lock"
	tempPrefix = ".new-"
)

// maxFile is the size of the largest file that is ours.
const maxFile = 1 << 20

// oldName is the name of the file of a certificate that was rotated away; of
// nil, a pattern of all such.
func oldName(cert *x509.Certificate) string {
	if cert == nil {
		return "ca-*.pem"
	}
	return "ca-" + ID(cert) + ".pem"
}

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// escapeGlob makes a pattern that a path alone matches.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// read reads key.pem, which alone says whether there is an authority.
func (d Dir) read() (*keyPair, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	name := d.path(keyFile)
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w in %s", ErrNone, string(d))
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("refused key %s: it is a symbolic link", name)
	case err != nil:
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := private("key", name, fi, 0o600); err != nil {
		return nil, err
	}
	data, err := readAll(f, fi)
	if err != nil {
		return nil, err
	}
	k, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", name, err)
	}
	return k, nil
}

// check refuses a directory in which others could change something.
func (d Dir) check() error {
	fi, err := os.Stat(string(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w in %s", ErrNone, string(d))
	case err != nil:
		return err
	case !fi.IsDir():
		return fmt.Errorf("%s: not a directory", string(d))
	}
	return private("directory", string(d), fi, 0o700)
}

// private refuses what is not the user's own, or open to others, with the
// command that mends it.
func private(what, name string, fi fs.FileInfo, most fs.FileMode) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("refused %s %s: it belongs to user %d, and this is user %d: run trace as that user, or, if it is to be yours: chown %d %s",
			what, name, st.Uid, os.Geteuid(), os.Geteuid(), quote(name))
	}
	if !fi.IsDir() && !fi.Mode().IsRegular() {
		return fmt.Errorf("refused %s %s: it is no regular file", what, name)
	}
	if mode := fi.Mode().Perm(); mode&^most != 0 {
		return fmt.Errorf("refused %s %s: its mode %04o lets others at it: chmod %o %s (and trace ca rotate, if somebody may have read the key)",
			what, name, mode, most, quote(name))
	}
	return nil
}

// readFile reads a file of ours that is no secret.
func readFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readAll(f, fi)
}

func readAll(f *os.File, fi fs.FileInfo) ([]byte, error) {
	switch {
	case !fi.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: errors.New("not a regular file")}
	case fi.Size() > maxFile:
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: unix.EFBIG}
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// locked calls do while nobody else changes anything. The directory is made
// if need be.
func (d Dir) locked(do func() error) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	if err := d.check(); err != nil {
		return err
	}
	f, err := os.OpenFile(d.path(lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // which unlocks
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
	if stale, err := filepath.Glob(filepath.Join(escapeGlob(string(d)), tempPrefix+"*")); err == nil {
		for _, name := range stale { // of somebody who was killed: the lock is ours
			os.Remove(name)
		}
	}
	return do()
}

// write replaces a file, all at once and lastingly. The lock is held.
func (d Dir) write(name string, mode fs.FileMode, data []byte) (err error) {
	f, err := os.OpenFile(d.path(tempPrefix+name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), d.path(name)); err != nil {
		return err
	}
	dir, err := os.Open(string(d))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // not all file systems know this of directories
		return err
	}
	return nil
}
