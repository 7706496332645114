package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
)

// change lets f edit the list, a new one if there is none, and writes it if
// it is another then. Changes wait for each other.
func (b *Book) change(f func(*List) error) error {
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return fmt.Errorf("wireguard keys: %w", err)
	}
	unlock, err := b.lock()
	if err != nil {
		return fmt.Errorf("wireguard keys: %w", err)
	}
	defer unlock()
	l, err := b.Read()
	var before []Peer
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l, err = b.newList()
	case err == nil:
		before = append([]Peer{}, l.Peers...)
	}
	if err != nil {
		return err
	}
	if err := f(l); err != nil {
		return err
	}
	if before != nil && slices.EqualFunc(before, l.Peers, func(a, b Peer) bool { return reflect.DeepEqual(a, b) }) {
		return nil
	}
	if err := b.write(l); err != nil {
		return fmt.Errorf("wireguard keys: %w", err)
	}
	return nil
}

// lock waits until nobody else changes the list.
func (b *Book) lock() (unlock func(), err error) {
	dir, err := os.Lstat(b.Dir)
	if err != nil {
		return nil, err
	}
	if !dir.IsDir() || dir.Mode().Perm()&0o022 != 0 {
		return nil, &fs.PathError{Op: "use", Path: b.Dir, Err: fmt.Errorf("others may write there (mode %04o): chmod 700 it", dir.Mode().Perm())}
	}
	f, err := os.OpenFile(filepath.Join(b.Dir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return func() { f.Close() }, nil
}

// write puts a list in the place of the one before.
func (b *Book) write(l *List) (err error) {
	text, err := json.MarshalIndent(l, "", " ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(b.Dir, fileName+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(b.Dir, fileName))
}
