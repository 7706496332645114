package store

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// asNobody runs fn without root's right to read and write everything.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		fn()
		return
	}
	// The raw system call changes one thread only.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocks: the thread ends with it
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); e != 0 {
			t.Error(e)
			return
		}
		fn()
	}()
	<-done
}

func TestReadOnlyPlaces(t *testing.T) {
	path := finished(t)
	dir := filepath.Dir(path)
	wal := filepath.Join(dir, "wal.db") // ended while a reader of another process hung on to it
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p[18], p[19] = 2, 2 // file format: WAL
	if err := os.WriteFile(wal, p, 0o644); err != nil {
		t.Fatal(err)
	}
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		t.Cleanup(func() { os.Chmod(d, 0o755) }) // so that it can be removed
		if err := os.Chmod(d, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	if os.Geteuid() == 0 { // else the file is ours
		asNobody(t, func() {
			if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("a file of mode 0600 of somebody else: %v", err)
			}
		})
	}
	if err := os.Chmod(path, 0o444); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, wal} {
		asNobody(t, func() {
			r, err := Open(p)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if xs, err := r.Flows(Query{}); err != nil || len(xs) != 30 {
				t.Errorf("%d flows, %v", len(xs), err)
			}
			if b, err := r.Body(1, flow.Client); err != nil || len(b) != 3000 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*-*")); len(left) > 0 {
		t.Errorf("reading left %v", left)
	}
}
