package store

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// TestChanged: whoever asks with the number of the last answer misses no change and
// is told of none twice, while a run goes on and in another process's eyes; and who
// follows from there on goes on with the same numbers.
func TestChanged(t *testing.T) {
	now := time.Now()
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Create(path, flow.Session{ID: NewID(now), Started: now}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	say := func(kind flow.Kind, ordinal int64) {
		t.Helper()
		e := flow.Event{Kind: kind, Conn: 1, Flow: ordinal, At: now}
		if kind == flow.Request || kind == flow.Response {
			e.Head = &flow.Head{Method: "GET", Status: 200, Path: fmt.Sprintf("/%d", ordinal), Fields: []flow.Field{{Name: "A", Value: "b"}}}
		}
		if kind == flow.Response {
			e.Side = flow.Server
		}
		s.Append(e)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	after := int64(0)
	told := func(n int) string {
		t.Helper()
		var words []string
		for more := true; more; {
			var list []Revised
			was := after
			if list, after, more, err = r.Changed(after, n); err != nil {
				t.Fatal(err)
			}
			for _, x := range list {
				if x.Rev <= was || x.Rev > after || len(x.Request.Head.Fields) != 1 {
					t.Errorf("flow %d is of %d, between %d and %d; %+v", x.ID, x.Rev, was, after, x.Request.Head)
				}
				words = append(words, fmt.Sprint(x.ID, x.State))
			}
			if more {
				words = append(words, "|")
			}
		}
		return strings.Join(words, " ")
	}
	want := func(n int, want string) {
		t.Helper()
		if got := told(n); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	want(10, "")
	say(flow.Request, 1)
	say(flow.Request, 2)
	want(10, "1open 2open")
	want(10, "")
	say(flow.Response, 1)
	say(flow.Request, 3)
	say(flow.End, 1)
	want(1, "3open | 1complete")
	want(10, "")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began, changes := make(chan int64, 1), make(chan Change, 10)
	followed := make(chan error, 1)
	go func() {
		followed <- r.FollowNow(ctx, func(rev int64) { began <- rev }, func(c Change) error {
			changes <- c
			return nil
		})
	}()
	if rev := <-began; rev != after {
		t.Errorf("followed from %d, told up to %d", rev, after)
	}
	say(flow.End, 2)
	if c := <-changes; c.Step != Done || c.Flow.ID != 2 || c.Rev <= after {
		t.Errorf("%+v", c)
	} else if list, last, _, err := r.Changed(after, 10); err != nil || len(list) != 1 || list[0].Rev != c.Rev || last != c.Rev {
		t.Errorf("%+v, up to %d, %v; followed: %d", list, last, err, c.Rev)
	}
	after = 0
	if _, err := s.Finish(0, now); err != nil {
		t.Fatal(err)
	}
	if err := <-followed; err != nil {
		t.Error(err)
	}
	if got := told(1); !strings.HasSuffix(got, "2complete") && !strings.HasSuffix(got, "3failed") || !strings.HasPrefix(got, "1complete") {
		t.Errorf("from the beginning, when all is over: %q", got)
	}
	if again, _, _, err := r.Changed(1<<40, 5); err != nil || len(again) != 0 {
		t.Errorf("after a number that was never given: %v, %v", again, err)
	}
}
