package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSessionsPrune(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	var all []*script
	for _, name := range []string{"one", "two", "three"} {
		r := scripted(t, name)
		r.at = time.Now().Add(-48*time.Hour - time.Minute) // it ends a minute later
		if name == "three" {
			r.at = time.Now().Add(-time.Hour)
		}
		r.finish()
		all = append(all, r)
	}
	running := scripted(t, "running")
	broken := filepath.Join(filepath.Dir(running.path), "01AAAAAAAAAAAAAAAAAAAAAAAA.db")
	if err := os.WriteFile(broken, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"", "--keep N or --older"},
		{"--keep 1 --older 3d", "--keep N or --older"},
		{"--keep -1", "-1"},
		{"--older soon", "soon"},
		{"--older -3d", "-3d"},
		{"--keep x", "x"},
		{"--keep 1 more", "more"},
	} {
		stdout, stderr, code := runCLI(t, append([]string{"sessions", "prune"}, strings.Fields(c.args)...)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("prune %s: exit %d, %q, %q", c.args, code, stdout, stderr)
		}
	}
	lines := func(rs ...*script) (s string) {
		for _, r := range rs {
			s += r.id + "\n"
		}
		return s
	}
	for _, c := range []struct{ args, want, left string }{
		{"--keep 3", "", "one two three running"},
		{"--keep 1 --dry-run", lines(all[0], all[1]), "one two three running"},
		{"--older 3d", "", "one two three running"},
		{"--older 2d --dry-run", lines(all[0], all[1]), "one two three running"},
		{"--keep 2", lines(all[0]), "two three running"},
		{"--older 90m", lines(all[1]), "three running"},
		{"--keep 0", lines(all[2]), "running"},
		{"--older 0s", "", "running"},
	} {
		stdout, stderr, code := runCLI(t, append([]string{"sessions", "prune"}, strings.Fields(c.args)...)...)
		if code != 0 || stdout != c.want || strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, "left alone") {
			t.Errorf("prune %s: exit %d, %q, want %q, %q", c.args, code, stdout, c.want, stderr)
		}
		list, _, _ := runCLI(t, "sessions", "list")
		var left []string
		for _, name := range []string{"one", "two", "three", "running"} {
			if strings.Contains(list, "  "+name+"  ") {
				left = append(left, name)
			}
		}
		if strings.Join(left, " ") != c.left {
			t.Errorf("prune %s leaves %v, want %s\n%s", c.args, left, c.left, list)
		}
	}
	if _, err := os.Stat(broken); err != nil {
		t.Error(err)
	}
}
