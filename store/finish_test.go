package store

import (
	"os"
	"strings"
	"testing"

	"trace/flow"
)

// TestFinishWithReadersAttached leaves one file in the end, whoever reads.
func TestFinishWithReadersAttached(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/", "", nil)
	c.end(nil)
	near, err := s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	far, err := Open(path) // to the writer, a reader like one in another process
	if err != nil {
		t.Fatal(err)
	}
	finish(t, s)
	for _, r := range []*Reader{near, far} {
		if xs, err := r.Flows(Query{}); err != nil || len(xs) != 1 {
			t.Errorf("%d flows, %v", len(xs), err)
		}
		r.Close()
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if p[18] != 1 || p[19] != 1 { // file format, section 1.3.3: 2 is WAL
		t.Errorf("the file is left in WAL mode: %d %d", p[18], p[19])
	}
	for _, side := range sidecars {
		if _, err := os.Stat(path + side); err == nil {
			t.Errorf("%s is left", side)
		}
	}
}

func TestRemovedDuringTheRun(t *testing.T) {
	s, path := create(t, Options{})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.Append(flow.Event{Kind: flow.ConnOpen, At: at(1), Conn: 1, Facts: conn(1)})
	if _, err := s.Finish(0, at(2)); err == nil || !strings.Contains(err.Error(), "removed during the run") {
		t.Errorf("Finish: %v", err)
	}
}

// TestFinishBlank: a run that recorded nothing leaves a sound file all the same.
func TestFinishBlank(t *testing.T) {
	s, path := create(t, Options{})
	if got := finish(t, s); got.State != stateEnded {
		t.Errorf("state %q", got.State)
	}
	d, err := dial(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	r, err := d.one("PRAGMA integrity_check")
	if err != nil || r.text(0) != "ok" {
		t.Errorf("integrity: %v, %v", r, err)
	}
	if r, err = d.one("PRAGMA journal_mode"); err != nil || r.text(0) != "delete" {
		t.Errorf("journal: %v, %v", r, err)
	}
	for _, side := range sidecars {
		if _, err := os.Stat(path + side); err == nil {
			t.Errorf("%s is left", side)
		}
	}
}
