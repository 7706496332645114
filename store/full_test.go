package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// quicken makes attempts to recover frequent for one test.
func quicken(t *testing.T) {
	t.Helper()
	was := retryEvery
	retryEvery = 5 * time.Millisecond
	t.Cleanup(func() { retryEvery = was })
}

// fill records until recording stops and returns the count of flows that were
// committed before.
func fill(t *testing.T, s *Store, c *script) (n int) {
	t.Helper()
	for ; n < 10_000; n++ {
		c.request("POST", fmt.Sprint("/", n), "application/octet-stream", noise(n, 20_000))
		c.end(nil)
		if s.Flush() != nil {
			return n
		}
	}
	t.Fatal("the disk does not fill")
	return 0
}

// noise returns n bytes that compress badly and are different for each seed.
func noise(seed, n int) []byte {
	p := make([]byte, n)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x >> 24)
	}
	return p
}

// setter returns a function by which the writer of s, just made, runs SQL
// between two transactions: the connection is its own.
func setter(s *Store) func(sql string) {
	limit := make(chan string)
	s.writer.probe = func(d *db) {
		select {
		case sql := <-limit:
			d.script(sql)
		default:
		}
	}
	return func(sql string) {
		go s.Append(flow.Event{}) // wakes the writer
		limit <- sql
	}
}

// TestFullDiskStopsRecordingOnly goes through all of it: the stop, the child
// that goes on, the gap mark, and the flow that was open meanwhile. The
// writer's page limit stands for the disk.
func TestFullDiskStopsRecordingOnly(t *testing.T) {
	quicken(t)
	s, path := create(t, Options{})
	set := setter(s)
	slow := &script{s: s, conn: 1}
	slow.open()
	slow.request("GET", "/stream", "", nil)
	slow.response(200, "text/event-stream", true)
	slow.event("before")
	flush(t, s)
	set("PRAGMA max_page_count=200")
	c := &script{s: s, conn: 2}
	c.open()
	n := fill(t, s, c)
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("Err() = %v", err)
	}
	slow.event("lost")
	for i := range 3000 { // more than the queue holds: nobody may wait
		c.request("POST", fmt.Sprint("/lost", i), "application/octet-stream", noise(i, 20_000))
		c.end(nil)
	}
	r := open(t, path)
	if xs, err := r.Flows(Query{}); err != nil || len(xs) < n+1 {
		t.Errorf("%d flows can be read of %d, %v", len(xs), n+1, err)
	}
	set("PRAGMA max_page_count=1000000")
	waitRecording(t, s)
	slow.event("after")
	slow.end(nil)
	c.request("GET", "/after", "", nil)
	c.end(nil)
	fs := finish(t, s)
	if fs.Gaps != 1 {
		t.Errorf("%d gaps", fs.Gaps)
	}
	verifyGap(t, r, n)
}

func waitRecording(t *testing.T, s *Store) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.Flush() != nil; {
		if time.Now().After(deadline) {
			t.Fatal("recording does not go on")
		}
	}
}

func verifyGap(t *testing.T, r *Reader, before int) {
	t.Helper()
	notes, err := r.Notes()
	if err != nil || len(notes) != 1 || notes[0].Error.Code != flow.CodeGap || !strings.Contains(notes[0].Error.Message, "events") {
		t.Errorf("notes: %v, %v", notes, err)
	} else {
		t.Log(notes[0].Error.Message)
	}
	xs, err := r.Flows(Query{Heads: true})
	if err != nil {
		t.Fatal(err)
	}
	after := 0
	for _, x := range xs {
		if x.State == flow.StateOpen {
			t.Errorf("flow %d is still open", x.ID)
		}
		if x.Request.Head.Path == "/after" {
			after++
		}
	}
	if after != 1 || len(xs) < before+2 {
		t.Errorf("%d flows, %d after the gap", len(xs), after)
	}
	ps, err := r.Events(xs[0].ID)
	if err != nil || len(ps) != 2 || !strings.Contains(string(ps[1].Data), "after") {
		t.Errorf("events of the open flow: %v, %v", ps, err)
	}
	if m := xs[0].Marks; len(m) != 1 || m[0].Error.Code != flow.CodeGap {
		t.Errorf("marks of the open flow: %v", m)
	}
}

// TestDiskFullToTheEnd leaves what was committed readable.
func TestDiskFullToTheEnd(t *testing.T) {
	quicken(t)
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/kept", "", nil)
	c.end(nil)
	flush(t, s)
	if err := s.writer.db.script("PRAGMA max_page_count=1"); err != nil {
		t.Fatal(err)
	}
	fill(t, s, c)
	fs, err := s.Finish(1, at(100))
	if err == nil || fs.State != "crashed" || fs.Flows < 1 {
		t.Errorf("Finish: %+v, %v", fs, err)
	}
	xs, err := open(t, path).Flows(Query{})
	if err != nil || len(xs) == 0 || xs[0].Request.Head.Path != "/kept" {
		t.Errorf("flows: %v, %v", xs, err)
	}
}

// skip ends a test that this machine cannot run, unless none may be skipped.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("TRACE_NO_SKIP") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func TestOfferDropsAndSaysSo(t *testing.T) {
	s, path := create(t, Options{Queue: 1 << 12})
	hold := make(chan struct{})
	held := make(chan struct{}, 100)
	s.writer.probe = func(*db) {
		held <- struct{}{}
		<-hold
	}
	s.Append(flow.Event{Kind: flow.Mark, Error: &flow.Error{Message: "first"}})
	<-held // the writer is busy; the queue fills
	dropped := 0
	for range 100 {
		if !s.Offer(flow.Event{Kind: flow.Query, At: at(1), DNS: &flow.DNS{Name: "example.org"}}) {
			dropped++
		}
	}
	waited := make(chan struct{})
	go func() {
		s.Append(flow.Event{Kind: flow.Mark, Error: &flow.Error{Message: "waits"}})
		close(waited)
	}()
	select {
	case <-waited:
		t.Error("Append did not wait for room")
	case <-time.After(20 * time.Millisecond):
	}
	close(hold)
	<-waited
	fs := finish(t, s)
	if dropped == 0 || dropped == 100 || fs.Gaps != 1 || fs.Flows != int64(100-dropped) {
		t.Errorf("%d dropped, session %+v", dropped, fs)
	}
	r := open(t, path)
	notes, err := r.Notes()
	if err != nil || len(notes) != 3 {
		t.Errorf("%v, %v", notes, err)
	}
	if _, err := s.Finish(0, at(1)); err == nil || errors.Is(err, ErrRunning) {
		t.Errorf("second Finish: %v", err)
	}
}
