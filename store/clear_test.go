package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"trace/flow"
)

// canaries are put into every place of a flow.
func canaries(n int) []string {
	var all []string
	for _, place := range []string{"path", "body", "answer", "event", "header", "message", "host"} {
		all = append(all, fmt.Sprintf("canary-%s-%d-%x", place, n, noise(n, 4)))
	}
	return all
}

// planted records n flows, each with its canaries on a connection of its own,
// and a conversation that all have a part in.
func plantCanaries(s *Store, n int) {
	talk := prose(rnd(5), 40_000)
	for i := range n {
		k := canaries(i)
		c := &script{s: s, conn: int64(i + 1)}
		facts := conn(c.conn)
		facts.Host = k[6]
		c.put(flow.Event{Kind: flow.ConnOpen, Facts: facts})
		c.request("POST", "/"+k[0], "application/x-"+k[4], slices.Concat(talk, []byte(k[1])))
		c.response(200, "text/event-stream", true)
		c.event(k[3])
		c.put(flow.Event{Kind: flow.BodyEnd, Side: flow.Server, Ended: &flow.Ended{}})
		c.end(nil)
		c.request("GET", "/second", "", nil)
		c.response(200, "text/plain", false)
		c.body(flow.Server, []byte(k[2]))
		c.put(flow.Event{Kind: flow.Message, Side: flow.Server, Data: []byte(k[5]), Size: 9})
		c.end(nil)
		c.close(nil)
		talk = append(talk, prose(rnd(uint64(i)), 9_000)...)
	}
}

// holds returns which of the canaries are in the file or beside it: as they
// are, or compressed in a pack or a document.
func holds(t *testing.T, path string, wanted []string) (found []string) {
	t.Helper()
	var all [][]byte
	for _, p := range append([]string{path}, func() (ps []string) {
		for _, s := range sidecars {
			ps = append(ps, path+s)
		}
		return ps
	}()...) {
		if b, err := os.ReadFile(p); err == nil {
			all = append(all, b)
		}
	}
	raw := bytes.Join(all, nil)
	dec, err := newDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	// Every zstd frame in the file, live or not, and what it holds.
	for at := 0; ; {
		i := bytes.Index(raw[at:], []byte{0x28, 0xb5, 0x2f, 0xfd})
		if i < 0 {
			break
		}
		at += i
		// Pages end within large frames: what decodes of the frame is enough.
		out, _ := dec.DecodeAll(raw[at:], nil)
		all = append(all, out)
		at++
	}
	r := open(t, path)
	err = r.with(func(d *db) error {
		return d.each("SELECT first,count,raw,idx,data FROM pack", nil, func(row row) error {
			out, err := dec.DecodeAll(row.blob(4), nil)
			all = append(all, out)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	for _, c := range wanted {
		if slices.ContainsFunc(all, func(p []byte) bool { return bytes.Contains(p, []byte(c)) }) {
			found = append(found, c)
		}
	}
	return found
}

func TestClear(t *testing.T) {
	s, path := create(t, Options{})
	plantCanaries(s, 6)
	flush(t, s)
	if _, _, err := Clear(path, []int64{1}); !errors.Is(err, ErrRunning) {
		t.Errorf("a running session: %v", err)
	}
	finish(t, s)
	want := map[int64][]byte{}
	r := open(t, path)
	for id := int64(1); id <= 12; id++ {
		d, err := r.Detail(id)
		if err != nil {
			t.Fatal(err)
		}
		want[id], _ = d.MarshalJSON()
	}
	r.Close()
	for _, step := range []struct {
		ids  []int64
		gone []int // recordings of which nothing is left
		only []string
	}{
		{[]int64{3, 4, 11, 12}, []int{1, 5}, nil},
		{[]int64{99}, nil, nil},
		{[]int64{5}, nil, []string{canaries(2)[0], canaries(2)[1], canaries(2)[3], canaries(2)[4]}}, // its connection stays
		{[]int64{1, 2, 6, 7, 8, 9, 10}, []int{0, 1, 2, 3, 4, 5}, nil},
	} {
		for _, n := range step.gone {
			if n != 1 && n != 5 && len(holds(t, path, canaries(n))) == 0 {
				t.Errorf("the canaries %d are not there before", n)
			}
		}
		before, after, err := Clear(path, step.ids)
		if err != nil || after > before+8<<10 { // packs that were split take more pages
			t.Fatalf("clear %v: %v, %d bytes, then %d", step.ids, err, before, after)
		}
		gone := step.only
		for _, n := range step.gone {
			gone = append(gone, canaries(n)...)
		}
		if found := holds(t, path, gone); len(found) > 0 {
			t.Errorf("clear %v left %v", step.ids, found)
		}
		for _, id := range step.ids {
			delete(want, id)
		}
		r := open(t, path)
		xs, err := r.Flows(Query{})
		if err != nil || len(xs) != len(want) {
			t.Errorf("%d flows, want %d: %v", len(xs), len(want), err)
		}
		for id, text := range want {
			d, err := r.Detail(id)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := d.MarshalJSON(); !bytes.Equal(got, text) {
				t.Errorf("flow %d has changed", id)
			}
		}
		r.Close()
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() > 100<<10 {
		t.Errorf("the empty session takes %d bytes", fi.Size())
	}
	if left, _ := filepath.Glob(path + "-*"); len(left) > 0 {
		t.Errorf("left beside it: %v", left)
	}
	// Numbers are not given twice, and what is recorded later is whole.
	more, _, err := Reopen(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	plantCanaries(more, 1)
	if _, err := more.Finish(0, at(1)); err != nil {
		t.Fatal(err)
	}
	if id, err := open(t, path).Last(); err != nil || id != 14 {
		t.Errorf("the next flow is %d, %v", id, err)
	}
}

// TestClearCrashed: the log of a run that was killed goes too, and a reader
// elsewhere is told of.
func TestClearCrashed(t *testing.T) {
	s, path := create(t, Options{})
	plantCanaries(s, 3)
	flush(t, s)
	copied := filepath.Join(t.TempDir(), "c.db")
	for _, end := range []string{"", "-wal"} {
		p, err := os.ReadFile(path + end)
		if err == nil {
			err = os.WriteFile(copied+end, p, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	gone := canaries(1)
	if len(holds(t, copied, gone)) == 0 {
		t.Fatal("nothing is there before")
	}
	other, err := openReader(copied)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.script("BEGIN; SELECT count(*) FROM flow"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Clear(copied, []int64{3}); !errors.Is(err, ErrRead) {
		t.Errorf("with a reader: %v", err)
	}
	other.close()
	if _, _, err := Clear(copied, []int64{3, 4}); err != nil {
		t.Fatal(err)
	}
	if found := holds(t, copied, gone); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
	if xs, err := open(t, copied).Flows(Query{}); err != nil || len(xs) != 4 {
		t.Errorf("%d flows, %v", len(xs), err)
	}
}

func rnd(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
