package store

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNetworkFileSystem records without a write-ahead log, while a reader
// looks on.
func TestNetworkFileSystem(t *testing.T) {
	was := statfs
	t.Cleanup(func() { statfs = was })
	statfs = func(path string, fs *unix.Statfs_t) error {
		fs.Type = unix.NFS_SUPER_MAGIC
		return nil
	}
	var said string
	s, path := create(t, Options{Log: func(f string, args ...any) { said = fmt.Sprintf(f, args...) }})
	if !strings.Contains(said, "it is on nfs") {
		t.Errorf("log: %q", said)
	}
	r := open(t, path)
	told := newAccount(t, "follower")
	done := make(chan error, 1)
	go func() { done <- r.Follow(t.Context(), true, told.change) }()
	c := &script{s: s, conn: 1}
	c.open()
	for i := range 20 {
		c.request("POST", fmt.Sprint("/", i), "text/plain", []byte("body"))
		c.end(nil)
		flush(t, s)
		if _, err := os.Stat(path + "-wal"); err == nil {
			t.Fatal("there is a write-ahead log")
		}
	}
	c.close(nil)
	finish(t, s)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	told.compare(r)
}
