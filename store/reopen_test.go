package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"trace/flow"
	"trace/redact"
)

// grain is a body that shares no chunk with another.
func grain(seed uint64, n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// exchange records a whole one with a body each way.
func (c *script) exchange(path string, req, resp []byte) {
	c.flow++
	c.request("POST", path, "application/octet-stream", req)
	c.response(200, "application/octet-stream", false)
	c.body(flow.Server, resp)
	c.ended(flow.Server, resp, 0)
	c.end(nil)
}

// reopen adds to a file.
func reopen(t *testing.T, path string, o Options) (*Store, int64) {
	t.Helper()
	s, conn, err := Reopen(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return s, conn
}

// keepsAll checks that the bodies of the flows by their paths are those.
func keepsAll(t *testing.T, r *Reader, want map[string][]byte) {
	t.Helper()
	xs, err := r.Flows(Query{Heads: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(xs) != len(want) {
		t.Errorf("%d flows, want %d", len(xs), len(want))
	}
	for _, x := range xs {
		p, err := r.Body(x.ID, flow.Server)
		if err != nil || !bytes.Equal(p, want[x.Request.Head.Path]) || x.State != flow.StateComplete {
			t.Errorf("flow %d %s: %d bytes, %v, %s", x.ID, x.Request.Head.Path, len(p), err, x.State)
		}
	}
}

// TestReopenEnded adds to a session whose run has ended, twice, and leaves what
// it says of its run, and one file.
func TestReopenEnded(t *testing.T) {
	s, path := create(t, Options{})
	want := map[string][]byte{"/own": grain(1, 60000)}
	c := &script{s: s, conn: 1}
	c.open()
	c.exchange("/own", grain(2, 100), want["/own"])
	c.close(nil)
	before := finish(t, s)
	for i := range 2 {
		s, conn := reopen(t, path, Options{})
		if conn != int64(i+2) {
			t.Errorf("connection %d", conn)
		}
		name := fmt.Sprintf("/again%d", i)
		want[name] = grain(uint64(10+i), 60000)
		c := &script{s: s, conn: conn, now: 100 + i}
		c.open()
		c.exchange(name, grain(3, 100), want[name])
		c.close(nil)
		if _, _, err := Clear(path, []int64{1}); !errors.Is(err, ErrRunning) {
			t.Errorf("cleared meanwhile: %v", err)
		}
		if after, err := s.Finish(0, at(99999)); err != nil || after.State != stateEnded || !after.Ended.Equal(before.Ended) || after.Flows != int64(i+2) {
			t.Errorf("%+v %v", after, err)
		}
	}
	keepsAll(t, open(t, path), want)
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	if p, err := os.ReadFile(path); err != nil || p[18] != 1 {
		t.Errorf("the file is left in WAL mode: %v", err)
	}
}

// TestReopenRunning: the run and a second writer record at the same time, both
// with bodies, and followers see all of it once.
func TestReopenRunning(t *testing.T) {
	run, path := create(t, Options{})
	r, err := run.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	told := map[string]int{}
	var follow sync.WaitGroup
	follow.Go(func() {
		err := r.Follow(context.Background(), true, func(c Change) error {
			if c.Step == Done {
				told[c.Flow.Request.Head.Path]++
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	want := map[string][]byte{}
	const each = 30
	for i := range each {
		want[fmt.Sprintf("/run%d", i)], want[fmt.Sprintf("/other%d", i)] = grain(uint64(100+i), 20000), grain(uint64(200+i), 20000)
	}
	other, conn := reopen(t, path, Options{})
	if conn != foreignConns {
		t.Errorf("connection %d", conn)
	}
	var both sync.WaitGroup
	write := func(s *Store, conn int64, name string) {
		c := &script{s: s, conn: conn}
		c.open()
		for i := range each {
			p := fmt.Sprint(name, i)
			c.exchange(p, nil, want[p])
			if err := s.Flush(); err != nil {
				t.Error(err)
			}
		}
		c.close(nil)
	}
	both.Go(func() { write(run, 1, "/run") })
	both.Go(func() { write(other, conn, "/other") })
	both.Wait()
	if s, err := other.Finish(0, at(1)); err != nil || s.State != stateRunning {
		t.Errorf("%+v %v", s, err)
	}
	if s, err := open(t, path).Session(); err != nil || s.State != stateRunning {
		t.Errorf("the run has ended: %+v %v", s, err)
	}
	finish(t, run)
	follow.Wait()
	keepsAll(t, open(t, path), want)
	if len(told) != 2*each {
		t.Errorf("told of %d flows", len(told))
	}
	for p, n := range told {
		if n != 1 {
			t.Errorf("%s was told %d times", p, n)
		}
	}
}

// TestReopenSecrets: the gate is that of the session.
func TestReopenSecrets(t *testing.T) {
	const secret = "sk-ant-api03-abcdefghijklmnopqrstuvwx"
	gate := func() *redact.Redactor { return redact.New([32]byte{1}) }
	for _, kept := range []bool{false, true} {
		o := Options{Redact: gate()}
		if kept {
			o.Redact = nil
		}
		s, path := create(t, o)
		finish(t, s)
		s, conn := reopen(t, path, Options{Redact: gate()})
		c := &script{s: s, conn: conn}
		c.open()
		c.exchange("/x", nil, []byte(secret))
		if _, err := s.Finish(0, at(1)); err != nil {
			t.Fatal(err)
		}
		p, err := open(t, path).Body(1, flow.Server)
		if err != nil || bytes.Contains(p, []byte(secret)) != kept {
			t.Errorf("kept %v: %q %v", kept, p, err)
		}
	}
}

// TestReopenRefuses says why nothing can be added.
func TestReopenRefuses(t *testing.T) {
	s, path := create(t, Options{})
	finish(t, s)
	d, err := dial(path, map[string][]string{"mode": {"rw"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.script("PRAGMA user_version=1"); err != nil {
		t.Fatal(err)
	}
	d.close()
	for _, p := range []string{path, filepath.Join(t.TempDir(), "none.db")} {
		var fe *FileError
		if _, _, err := Reopen(p, Options{}); !errors.As(err, &fe) {
			t.Errorf("%s: %v", p, err)
		}
	}
}
