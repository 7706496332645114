package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"trace/flow"
	"trace/redact"
)

// carrier brings a session from a feed to copies in dir, as attached runs do.
type carrier struct {
	t     *testing.T
	dir   string
	feed  *Feed
	copy  *Copy
	row   []byte
	form  int
	every int // batches after which the copy's process ends; 0: never
}

func newCarrier(t *testing.T, r *Reader, dir string) *carrier {
	t.Helper()
	f, err := r.Feed()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	c := &carrier{t: t, dir: dir, feed: f}
	if c.row, c.form, err = f.Session(); err != nil {
		t.Fatal(err)
	}
	c.begin()
	return c
}

// begin opens the copy and goes to where it ends.
func (c *carrier) begin() {
	c.t.Helper()
	var err error
	if c.copy, err = NewCopy(c.dir, c.row, c.form); err != nil {
		c.t.Fatal(err)
	}
	if err := c.feed.Seek(c.copy.Position()); err != nil {
		c.t.Fatal(err)
	}
}

// carry copies until the session is over, and ends the copy as that ended.
func (c *carrier) carry(ctx context.Context) error {
	for n := 1; ; n++ {
		from := c.feed.Position()
		batch, err := c.feed.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if c.every > 0 && n%c.every == 0 { // the batch is lost on its way
			if err := c.copy.Close("the run is gone"); err != nil {
				return err
			}
			c.begin()
			continue
		}
		if err := c.copy.Apply(from, batch); err != nil {
			return err
		}
		if err := c.copy.Apply(from, batch); !errors.Is(err, ErrPosition) && from != c.feed.Position() {
			return fmt.Errorf("batch that came twice: %w", err)
		}
	}
	s, err := c.feed.Run()
	if err != nil {
		return err
	}
	return c.copy.Complete(s.Ended, s.Exit)
}

// equal compares all rows of two sessions but for the numbers of bursts.
func equal(t *testing.T, want, got string) {
	t.Helper()
	a, b := open(t, want), open(t, got)
	for _, table := range []string{
		"session", "conn", "pack", "body", "detail", "tail", "call", "sqlite_sequence",
	} {
		sameRows(t, a, b, table, "SELECT * FROM "+table)
	}
	sameRows(t, a, b, "flow", `SELECT id,conn,ordinal,kind,state,started,ended,method,scheme,host,port,path,status,type,streaming,sent,received,events,
		opaque,redacted,error FROM flow ORDER BY id`)
	sameRows(t, a, b, "note", "SELECT id,at,gap,error FROM note ORDER BY id")
}

func sameRows(t *testing.T, a, b *Reader, table, sql string) {
	t.Helper()
	var rows [2][]string
	for i, r := range []*Reader{a, b} {
		err := r.with(func(d *db) error {
			return d.each(sql, nil, func(row row) error {
				if table == "conn" {
					row[1] = nil // the burst
				}
				rows[i] = append(rows[i], fmt.Sprintf("%#v", row))
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(rows[i])
	}
	if len(rows[0]) != len(rows[1]) {
		t.Fatalf("%s: %d rows, want %d", table, len(rows[1]), len(rows[0]))
	}
	for i := range rows[0] {
		if rows[0][i] != rows[1][i] {
			t.Fatalf("%s: row %d is\n%s\nwant\n%s", table, i, rows[1][i], rows[0][i])
		}
	}
}

// TestCopyIsEqual copies a run while it happens, over a line that breaks, and
// lets followers of the copy see what those of the run see.
func TestCopyIsEqual(t *testing.T) {
	s, path := create(t, Options{Redact: redact.New([32]byte{})})
	dir := t.TempDir()
	near, err := s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	steady := newCarrier(t, near, dir)
	broken := newCarrier(t, open(t, path), t.TempDir())
	broken.every = 3
	told := newAccount(t, "follower of the copy")
	var wg sync.WaitGroup
	for _, c := range []*carrier{steady, broken} {
		wg.Go(func() {
			if err := c.carry(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		r := open(t, steady.copy.Path())
		defer r.Close()
		if err := r.Follow(t.Context(), true, told.change); err != nil {
			t.Error(err)
		}
	})
	randomRun(s, func(i int) {
		if i == 1000 {
			if _, err := AddMark(path, "half", at(i), nil); err != nil {
				t.Error(err)
			}
			other, conn, err := Reopen(path, Options{Redact: redact.New([32]byte{})})
			if err != nil {
				t.Error(err)
				return
			}
			c := &script{s: other, conn: conn, now: i}
			c.exchange("/again", []byte("sent again"), grain(9, 200_000))
			c.close(nil)
			if _, err := other.Finish(0, at(i)); err != nil {
				t.Error(err)
			}
		}
	})
	for id := range int64(20) {
		s.Annotate(3*id, fmt.Append(nil, "call ", id))
	}
	finish(t, s)
	wg.Wait()
	if t.Failed() {
		return
	}
	if _, err := os.Stat(steady.copy.Path() + "-wal"); err == nil {
		t.Error("a complete copy is more than one file")
	}
	equal(t, path, steady.copy.Path())
	equal(t, path, broken.copy.Path())
	told.compare(open(t, path))
}

// TestCopyInBatches copies what is more than a batch holds.
func TestCopyInBatches(t *testing.T) {
	s, path := create(t, Options{})
	want := map[string][]byte{}
	for i := range 2 {
		c := &script{s: s, conn: int64(i + 1)}
		c.open()
		p := grain(uint64(i), 3<<20)
		want[fmt.Sprint("/", i)] = p
		c.exchange(fmt.Sprint("/", i), nil, p)
		c.close(nil)
	}
	flush(t, s)
	c := newCarrier(t, open(t, path), t.TempDir())
	batches := 0
	for f := c.feed; ; batches++ {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		from := f.Position()
		b, err := f.Next(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 2*feedBytes {
			t.Errorf("batch of %d bytes", len(b))
		}
		if err := c.copy.Apply(from, b); err != nil {
			t.Fatal(err)
		}
	}
	if batches < 2 {
		t.Errorf("%d batches", batches)
	}
	keepsAll(t, open(t, c.copy.Path()), want)
	finish(t, s)
	if err := c.carry(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, path, c.copy.Path())
}

// TestCopyBeside puts the copy beside its original: it is not listed as long as
// that is there, and found by the same id after.
func TestCopyBeside(t *testing.T) {
	dir := t.TempDir()
	session := testSession()
	path := Path(dir, session)
	s, err := Create(path, session, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sc := &script{s: s, conn: 1}
	sc.open()
	sc.request("GET", "/", "", nil)
	flush(t, s)
	r := open(t, path)
	c := newCarrier(t, r, dir)
	if c.copy.Path() == path {
		t.Fatal("the copy is where its original is")
	}
	if _, err := NewCopy(dir, c.row, c.form); !errors.Is(err, ErrRunning) {
		t.Errorf("second copy: %v", err)
	}
	if _, err := AddMark(c.copy.Path(), "x", at(1), nil); !errors.Is(err, ErrCopy) {
		t.Errorf("mark in a copy: %v", err)
	}
	if _, _, err := Reopen(c.copy.Path(), Options{}); !errors.Is(err, ErrCopy) {
		t.Errorf("more flows in a copy: %v", err)
	}
	c.copy.Annotate(1, []byte("{}")) // of a flow that is not there yet
	list, err := List(dir)
	if err != nil || len(list) != 1 || list[0].File != path {
		t.Errorf("listed: %+v, %v", list, err)
	}
	sc.end(nil)
	finish(t, s)
	if err := c.carry(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.begin() // what said that it is complete was lost
	if err := c.copy.Apply(c.copy.Position(), nil); !errors.Is(err, ErrEnded) {
		t.Errorf("more in a complete copy: %v", err)
	}
	if err := c.carry(t.Context()); err != nil {
		t.Errorf("complete twice: %v", err)
	}
	equal(t, path, c.copy.Path())
	r.Close()
	if err := Remove(dir, path); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"", session.ID, session.Name} {
		if got, err := Find(dir, ref); err != nil || got != c.copy.Path() {
			t.Errorf("Find(%q) = %s, %v", ref, got, err)
		}
	}
	if s2, conn, err := Reopen(c.copy.Path(), Options{}); err != nil || conn != 2 {
		t.Errorf("more flows in a complete copy: connection %d, %v", conn, err)
	} else {
		s2.Finish(0, at(1))
	}
}

func TestCopyOfCrash(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/", "", nil)
	flush(t, s)
	car := newCarrier(t, open(t, path), t.TempDir())
	batch, err := car.feed.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := car.copy.Apply("0.0.0", batch); err != nil {
		t.Fatal(err)
	}
	if err := car.copy.Close("not heard of again"); err != nil {
		t.Fatal(err)
	}
	r := open(t, car.copy.Path())
	fs, err := r.Session()
	if err != nil || fs.State != stateCrashed || fs.Gaps != 1 {
		t.Errorf("session is %+v, %v", fs, err)
	}
	if xs := flows(t, r, Query{}); len(xs) != 1 || xs[0].State == flow.StateOpen {
		t.Errorf("flows are %+v", xs)
	}
	r.Close()
	car.begin()
	if fs, err := open(t, car.copy.Path()).Session(); err != nil || fs.State != stateRunning || fs.Gaps != 0 {
		t.Errorf("session that goes on is %+v, %v", fs, err)
	}
	if err := car.copy.Complete(at(5), 3); err != nil {
		t.Fatal(err)
	}
	if fs, err := open(t, car.copy.Path()).Session(); err != nil || fs.State != stateEnded || fs.Gaps != 0 || fs.Exit != 3 {
		t.Errorf("session that ended is %+v, %v", fs, err)
	}
}

func TestCopyRefuses(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/", "", nil)
	c.end(nil)
	flush(t, s)
	car := newCarrier(t, open(t, path), t.TempDir())
	batch, err := car.feed.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch = bytes.Clone(batch)
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 { // damaged ones are taken whole or not at all, and nothing panics
		b := slices.Clone(batch)
		switch r.IntN(2) {
		case 0:
			b = b[:r.IntN(len(b))]
		default:
			b = append(b[:r.IntN(len(b))], 0xff, 0xff, byte(r.IntN(256)))
		}
		before := car.copy.Flows()
		if err := car.copy.Apply(car.copy.Position(), b); err != nil && car.copy.Flows() != before {
			t.Fatalf("part of a damaged batch was taken: %v", err)
		}
	}
	for _, row := range [][]byte{nil, car.row[:5], append(slices.Clone(car.row), 0)} {
		if _, err := NewCopy(car.dir, row, car.form); err == nil {
			t.Errorf("session row %q was taken", row)
		}
	}
	if _, err := NewCopy(car.dir, car.row, car.form+1); err == nil {
		t.Error("session of another format was taken")
	}
	evil := testSession()
	evil.ID = "../../" + evil.ID[:20]
	p := filepath.Join(t.TempDir(), "e.db")
	e, err := Create(p, evil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Finish(0, at(1))
	f, err := open(t, p).Feed()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	row, form, err := f.Session()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewCopy(car.dir, row, form); err == nil {
		t.Error("an id that is a path was taken")
	}
}
