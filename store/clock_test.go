package store

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"trace/flow"
)

// jumps are what a clock may do between two events, in milliseconds: an hour
// back, ten years on, and before the epoch.
var jumps = []int{-3_600_000, 315_360_000_000, -2_000_000_000_000}

// TestClockJumps: whatever the clocks of the events say, flows are numbered and
// followed, and their events kept, in the order in which they came, and nothing
// is missing. (Lists of flows go by the clock.)
func TestClockJumps(t *testing.T) {
	s, path := create(t, Options{})
	r := open(t, path)
	a := newAccount(t, "live")
	followed := make(chan error, 1)
	go func() { followed <- r.Follow(context.Background(), true, a.change) }()
	rnd := rand.New(rand.NewPCG(1, 2))
	c := &script{s: s, conn: 1}
	jump := func() { c.now += jumps[rnd.IntN(len(jumps))] }
	c.open()
	const flows, events = 60, 5
	for n := range flows {
		jump()
		c.request("POST", fmt.Sprint("/", n), "text/plain", []byte("question"))
		jump()
		c.response(200, "text/event-stream", true)
		var whole []byte
		for i := range events {
			jump()
			whole = append(whole, c.event(fmt.Sprint(n, ".", i))...)
		}
		jump()
		c.ended(flow.Server, whole, events)
		c.end(nil)
	}
	jump()
	c.close(nil)
	fs, err := s.Finish(0, began.Add(-24*time.Hour)) // before it began
	if err != nil || fs.State != "ended" || fs.Flows != flows || fs.Gaps != 0 {
		t.Errorf("session %+v, %v", fs, err)
	}
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	a.compare(r)
	xs, err := r.Flows(Query{Heads: true})
	if err != nil || len(xs) != flows {
		t.Fatalf("%d flows, %v", len(xs), err)
	}
	slices.SortFunc(xs, func(a, b *flow.Exchange) int { return cmp.Compare(a.ID, b.ID) })
	for n, x := range xs {
		if x.State != flow.StateComplete || x.Request.Head.Path != fmt.Sprint("/", n) || x.Duration() < 0 {
			t.Errorf("flow %d: %s %s, %v", x.ID, x.State, x.Request.Head.Path, x.Duration())
		}
		ps, err := r.Events(x.ID)
		if err != nil || len(ps) != events {
			t.Errorf("flow %d: %d events, %v", x.ID, len(ps), err)
			continue
		}
		for i, p := range ps {
			if want := fmt.Sprintf("event: delta\ndata: %d.%d\n\n", n, i); string(p.Data) != want {
				t.Errorf("flow %d: event %d is %q, want %q", x.ID, i, p.Data, want)
			}
		}
	}
	if got, err := r.Session(); err != nil || got.State != "ended" {
		t.Errorf("session %+v, %v", got, err)
	}
}
