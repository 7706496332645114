package store

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSmallTmpfs is the same on a real file system that is full.
func TestSmallTmpfs(t *testing.T) {
	quicken(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		skip(t, "mounting a tmpfs needs root: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 300_000), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.db")
	s, err := Create(path, testSession(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &script{s: s, conn: 1}
	c.open()
	n := fill(t, s, c)
	c.request("GET", "/lost", "", nil)
	c.end(nil)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	waitRecording(t, s)
	c.request("GET", "/after", "", nil)
	c.end(nil)
	fs := finish(t, s)
	if fs.Gaps != 1 || fs.Flows < int64(n)+1 || fs.State != "ended" {
		t.Errorf("session %+v after %d flows", fs, n)
	}
	if xs, err := open(t, path).Flows(Query{Limit: 1}); err != nil || xs[0].Request.Head.Path != "/after" {
		t.Errorf("newest: %v, %v", xs, err)
	}
}
