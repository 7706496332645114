package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

func TestNewID(t *testing.T) {
	base := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var ids []string
	for i := range 2000 {
		ids = append(ids, NewID(base.Add(time.Duration(i)*time.Microsecond)))
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by time")
	}
	if len(ids[0]) != 26 || timeOf(ids[0]) != base {
		t.Errorf("id %s is of %v", ids[0], timeOf(ids[0]))
	}
	if one, two := NewID(base), NewID(base); one == two {
		t.Error("two ids of one moment are the same")
	}
	for _, bad := range []string{"", "x", strings.Repeat("I", 26)} {
		if !timeOf(bad).IsZero() {
			t.Errorf("timeOf(%q) = %v", bad, timeOf(bad))
		}
	}
}

func TestDir(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/state")
	if d, err := Dir(); err != nil || d != "/state/trace/sessions" {
		t.Errorf("%s, %v", d, err)
	}
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", "/home/u")
	if d, err := Dir(); err != nil || d != "/home/u/.local/state/trace/sessions" {
		t.Errorf("%s, %v", d, err)
	}
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := MakeDir(dir); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

// record makes a session of that name in dir.
func record(t *testing.T, dir, name string, started time.Time, end bool) (*Store, string) {
	t.Helper()
	fs := testSession()
	fs.ID, fs.Name, fs.Started = NewID(started), name, started
	s, err := Create(Path(dir, fs), fs, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if end {
		finish(t, s)
	}
	return s, fs.ID
}

func TestListFindRemove(t *testing.T) {
	dir := t.TempDir()
	if l, err := List(filepath.Join(dir, "none")); err != nil || len(l) != 0 {
		t.Errorf("no directory: %v, %v", l, err)
	}
	if _, err := Find(dir, ""); !errors.Is(err, ErrNoSession) {
		t.Errorf("nothing recorded: %v", err)
	}
	_, first := record(t, dir, "curl", began, true)
	_, second := record(t, dir, "curl", began.Add(time.Hour), true)
	running, third := record(t, dir, "claude", began.Add(2*time.Hour), false)
	t.Cleanup(func() { running.Finish(0, time.Now()) })
	if err := os.WriteFile(filepath.Join(dir, "being-created.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Newest(dir, 2); err != nil || len(l) != 2 || l[1].ID != third || l[0].ID != second {
		t.Errorf("the newest two: %v, %v", l, err)
	}
	list, err := List(dir)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	for i, want := range []struct{ id, name, state string }{{first, "curl", "ended"}, {second, "curl", "ended"}, {third, "claude", "running"}} {
		if s := list[i]; s.ID != want.id || s.Name != want.name || s.State != want.state || s.File == "" || s.Bytes == 0 || s.PID != os.Getpid() {
			t.Errorf("session %d: %+v", i, s)
		}
	}
	file := Path(dir, list[0])
	for ref, want := range map[string]string{
		"": third, first: first, strings.ToLower(second): second, third[:25]: third,
		"curl": second, "claude": third, file: first,
	} {
		if p, err := Find(dir, ref); err != nil || p != filepath.Join(dir, want+".db") {
			t.Errorf("Find(%q) = %s, %v, want %s", ref, p, err, want)
		}
	}
	if _, err := Find(dir, first[:4]); err == nil || !strings.Contains(err.Error(), "sessions begin so") {
		t.Errorf("ambiguous: %v", err)
	}
	if _, err := Find(dir, "nothing"); !errors.Is(err, ErrNoSession) {
		t.Errorf("unknown: %v", err)
	}
	if err := Remove(dir, "claude"); !errors.Is(err, ErrRunning) {
		t.Errorf("remove running: %v", err)
	}
	if err := Remove(dir, "curl"); err != nil {
		t.Error(err)
	}
	if p, err := Find(dir, "curl"); err != nil || !strings.Contains(p, first) {
		t.Errorf("after removal: %s, %v", p, err)
	}
	other := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(other, bytes.Repeat([]byte("dear diary "), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Remove(dir, other); err == nil {
		t.Error("a file that is no session was removed")
	}
}

func TestUnreadableIsListed(t *testing.T) {
	dir := t.TempDir()
	_, id := record(t, dir, "curl", began, true)
	path := filepath.Join(dir, id+".db")
	p, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, p[:len(p)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := List(dir)
	if err != nil || len(list) != 1 || list[0].State != "unreadable" || list[0].ID != id || !list[0].Started.Equal(began.Truncate(time.Millisecond)) {
		t.Errorf("%+v, %v", list, err)
	}
	if err := Remove(dir, id); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestUnlinked(t *testing.T) {
	dir := t.TempDir()
	s, err := CreateUnlinked(dir, testSession(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(dir + "/.trace*"); len(left) != 0 {
		t.Errorf("the file has a name: %v", left)
	}
	r, err := s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	steps := make(chan Step, 10_000)
	done := make(chan error, 1)
	go func() {
		done <- r.Follow(t.Context(), true, func(c Change) error { steps <- c.Step; return nil })
	}()
	c := &script{s: s, conn: 1}
	c.open()
	for i := range 200 { // enough for checkpoints, which write the file itself
		c.request("POST", "/", "application/octet-stream", noise(i, 50_000))
		c.end(nil)
	}
	flush(t, s)
	if fs, err := r.Session(); err != nil || fs.State != "running" || fs.Flows != 200 {
		t.Errorf("%+v, %v", fs, err)
	}
	fs, err := s.Finish(0, at(1))
	if err != nil || fs.State != "ended" || fs.Flows != 200 {
		t.Errorf("%+v, %v", fs, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if b, err := r.Body(150, flow.Client); err != nil || !bytes.Equal(b, noise(149, 50_000)) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if n := len(steps); n != 1+200*3+1 {
		t.Errorf("%d steps", n)
	}
	r.Close()
	if _, err := s.Reader(); err == nil {
		t.Error("a reader of what is gone")
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
