package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A keyLog is the file of --keylog: TLS secrets in the format of
// SSLKEYLOGFILE, which other programs may append to as well.
type keyLog struct {
	file *os.File

	mu  sync.Mutex // guards err
	err error      // the first of writing
}

// A keyLogError says why a file gets no secrets, and what would mend it.
type keyLogError struct {
	err  error
	hint string
}

func (e *keyLogError) Error() string { return "--keylog: " + e.err.Error() }
func (e *keyLogError) Unwrap() error { return e.err }

// openKeyLog opens path to append to it. A file that is there already must be
// ours and closed to others.
func openKeyLog(path string) (*keyLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, &keyLogError{fmt.Errorf("open %s: it is a symbolic link", path), "name the file itself"}
	}
	if err != nil {
		return nil, &keyLogError{err, ""}
	}
	if err := private(f); err != nil {
		f.Close()
		return nil, err
	}
	return &keyLog{file: f}, nil
}

// private tells whether f is a file that only its owner, who we are, can read.
func private(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return &keyLogError{err, ""}
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return &keyLogError{fmt.Errorf("%s is no regular file", f.Name()), "name a file that only you can read, or one that does not exist yet"}
	case !ok || int(owner.Uid) != os.Geteuid():
		return &keyLogError{fmt.Errorf("%s belongs to somebody else: %w", f.Name(), fs.ErrPermission), "name a file that does not exist yet"}
	case info.Mode().Perm()&0o077 != 0:
		return &keyLogError{fmt.Errorf("%s can be read by others (mode %04o)", f.Name(), info.Mode().Perm()), "chmod 600 " + f.Name()}
	}
	return nil
}

// Write appends a line. It never fails: crypto/tls would break the handshake
// off.
func (k *keyLog) Write(line []byte) (int, error) {
	if _, err := k.file.Write(line); err != nil {
		k.mu.Lock()
		k.err = cmp.Or(k.err, err)
		k.mu.Unlock()
	}
	return len(line), nil
}

// close closes the file and returns what went wrong with it, if anything did.
func (k *keyLog) close() error {
	err := k.file.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err = cmp.Or(k.err, err); err != nil {
		return fmt.Errorf("--keylog: secrets are missing: %w", err)
	}
	return nil
}

// allOf writes to each of several writers; nil if there is none.
func allOf(ws ...io.Writer) io.Writer {
	switch len(ws) {
	case 0:
		return nil
	case 1:
		return ws[0]
	}
	return io.MultiWriter(ws...)
}
