package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"trace/flow"
	"trace/redact"
)

// account is what a follower was told, checked as it comes.
type account struct {
	t      *testing.T
	who    string
	steps  map[int64][]Step
	pieces map[int64]map[int]string // complete ones
	order  map[int64][]int
	conns  map[int64]int
	over   bool
}

func newAccount(t *testing.T, who string) *account {
	return &account{t: t, who: who, steps: map[int64][]Step{}, pieces: map[int64]map[int]string{}, order: map[int64][]int{}, conns: map[int64]int{}}
}

func (a *account) change(c Change) error {
	if a.over {
		a.t.Errorf("%s: told %d after the end", a.who, c.Step)
	}
	switch c.Step {
	case SessionEnded:
		a.over = true
		return nil
	case ConnOpened:
		a.conns[c.Conn.ID]++
		return nil
	case ConnEnded:
		a.conns[c.Conn.ID] += 10
		return nil
	case SessionNoted:
		return nil
	}
	id := c.Flow.ID
	was := a.steps[id]
	if n := len(was); n == 0 && c.Step != Opened || n > 0 && (was[n-1] > c.Step || was[n-1] == Done || was[n-1] == c.Step && c.Step < Streamed) {
		a.t.Errorf("%s: flow %d: %v then %d", a.who, id, was, c.Step)
	}
	a.steps[id] = append(was, c.Step)
	if c.Step == Streamed {
		m := a.pieces[id]
		if m == nil {
			m = map[int]string{}
			a.pieces[id] = m
		}
		if _, twice := m[c.Piece.Index]; twice {
			a.t.Errorf("%s: flow %d: event %d told after it was complete", a.who, id, c.Piece.Index)
		}
		if !c.Piece.Partial {
			m[c.Piece.Index] = string(c.Piece.Data)
		}
		a.order[id] = append(a.order[id], c.Piece.Index)
	}
	return nil
}

// compare checks the account against what the finished file holds.
func (a *account) compare(r *Reader) {
	a.t.Helper()
	xs, err := r.Flows(Query{Heads: true})
	if err != nil || !a.over || len(a.steps) != len(xs) {
		a.t.Fatalf("%s: %d flows of %d, over %v, %v", a.who, len(a.steps), len(xs), a.over, err)
	}
	for _, x := range xs {
		var want []flow.Piece
		for _, f := range []func(int64) ([]flow.Piece, error){r.Events, r.Messages} {
			ps, err := f(x.ID)
			if err != nil {
				a.t.Fatal(err)
			}
			want = append(want, ps...)
		}
		if len(want) != len(a.pieces[x.ID]) {
			a.t.Fatalf("%s: flow %d: %d events of %d", a.who, x.ID, len(a.pieces[x.ID]), len(want))
		}
		for _, p := range want {
			if got := a.pieces[x.ID][p.Index]; got != string(p.Data) {
				a.t.Fatalf("%s: flow %d event %d: %q, want %q", a.who, x.ID, p.Index, got, p.Data)
			}
		}
		if steps := a.steps[x.ID]; steps[len(steps)-1] != Done {
			a.t.Errorf("%s: flow %d is not done: %v", a.who, x.ID, steps)
		}
	}
	for id, n := range a.conns {
		if n != 11 {
			a.t.Errorf("%s: connection %d: %d", a.who, id, n)
		}
	}
}

// TestFollowersMissNothing lets followers of all kinds of slowness, in this
// process and by files of their own, start at any time.
func TestFollowersMissNothing(t *testing.T) {
	s, path := create(t, Options{Redact: redact.New([32]byte{})})
	var wg sync.WaitGroup
	var accounts []*account
	follow := func(who string, r *Reader, pause time.Duration) {
		a := newAccount(t, who)
		accounts = append(accounts, a)
		wg.Go(func() {
			n := 0
			err := r.Follow(t.Context(), true, func(c Change) error {
				if n++; pause > 0 && n%50 == 0 {
					time.Sleep(pause) // a slow reader is what is tested
				}
				return a.change(c)
			})
			if err != nil {
				t.Errorf("%s: %v", who, err)
			}
		})
	}
	near, err := s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	follow("near", near, 0)
	follow("slow", open(t, path), 3*time.Millisecond)
	randomRun(s, func(i int) {
		if i%700 == 699 {
			follow(fmt.Sprint("late ", i), open(t, path), 0)
		}
	})
	finish(t, s)
	follow("after", open(t, path), 0)
	wg.Wait()
	r := open(t, path)
	for _, a := range accounts {
		a.compare(r)
	}
}

// randomRun records streams, opaque connections and plain answers that
// interleave.
func randomRun(s *Store, each func(i int)) {
	r := rand.New(rand.NewPCG(5, 5))
	var open []*script
	conns := int64(0)
	key := "sk-ant-" + "api03-" + strings.Repeat("x", 40)
	n := 3000
	if testing.Short() {
		n = 1500
	}
	for i := range n {
		each(i)
		if i%100 == 0 {
			s.Flush()
		}
		if len(open) < 10 {
			conns++
			c := &script{s: s, conn: conns, now: i}
			c.open()
			switch r.IntN(8) {
			case 0, 1:
				c.flow++
				c.speaks = "bytes"
				c.put(flow.Event{Kind: flow.Opaque, Reason: "not_http"})
			case 2, 3:
				c.speaks = "websocket"
				c.upgrade()
			case 4:
				c.speaks = "grpc"
				c.call(flow.FramingGRPC)
			default:
				c.request("GET", "/", "", nil)
				if r.IntN(3) > 0 {
					c.response(200, "text/event-stream", true)
				}
			}
			open = append(open, c)
		}
		k := r.IntN(len(open))
		c := open[k]
		switch n := r.IntN(30); {
		case n == 0:
			c.end(nil)
			c.close(nil)
			open = slices.Delete(open, k, k+1)
		case c.speaks == "websocket":
			cut := r.IntN(len(key))
			c.say(flow.Side(r.IntN(2)), 1, deltaMessage(fmt.Sprint(i, " ", key[:cut])))
			c.say(flow.Side(r.IntN(2)), 1, deltaMessage(key[cut:]+strings.Repeat(" more", r.IntN(2000))))
			c.say(flow.Server, 9, "")
		case c.speaks == "grpc":
			cut := r.IntN(len(key))
			c.eventOf(flow.Side(r.IntN(2)), grpcText(fmt.Sprint(i, " ", key[:cut])))
			c.eventOf(flow.Side(r.IntN(2)), grpcText(key[cut:]+strings.Repeat(" more", r.IntN(2000))))
		case c.speaks == "":
			cut := r.IntN(len(key))
			c.event(fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%d %s"}}`, i, key[:cut]))
			c.event(fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%q}}`, key[cut:]+strings.Repeat(" more", r.IntN(2000))))
		default:
			c.put(flow.Event{Kind: flow.Message, Side: flow.Side(r.IntN(2)), Data: noise(i, r.IntN(300)), Size: 300})
		}
	}
	for _, c := range open {
		c.close(nil)
	}
}

func TestFollowFromNow(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/done", "", nil)
	c.end(nil)
	c.request("GET", "/stream", "", nil)
	c.response(200, "text/event-stream", true)
	c.event("old")
	flush(t, s)
	f := &follower{r: open(t, path), skip: true, flows: map[int64]*followed{}, conns: map[int64]bool{}}
	look := func(want ...string) {
		t.Helper()
		var got []string
		err := f.r.with(func(d *db) error {
			_, err := f.pass(d, false)
			return err
		})
		for _, c := range f.out {
			got = append(got, name(c))
		}
		f.out = nil
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	look()
	c.event("new")
	flush(t, s)
	look("streamed2#1")
	look()
	c.end(nil)
	c.close(nil)
	c.conn++
	c.flow = 0
	c.request("GET", "/next", "", nil)
	flush(t, s)
	look("conn", "done2", "opened3", "request3", "connend")
}

func TestFollowFlow(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	for range 3 {
		c.request("GET", "/stream", "", nil)
		c.response(200, "text/event-stream", true)
		for range 3000 { // several segments
			c.event(strings.Repeat("x", 200))
		}
		c.put(flow.Event{Kind: flow.Mark, Error: &flow.Error{Where: flow.AtDecode, Code: flow.CodeMalformed}})
		c.end(nil)
	}
	flush(t, s)
	r := open(t, path)
	events, notes, last := 0, 0, Step(0)
	err := r.FollowFlow(t.Context(), 2, func(ch Change) error {
		if ch.Flow.ID != 2 {
			t.Errorf("told of flow %d", ch.Flow.ID)
		}
		switch ch.Step {
		case Streamed:
			events++
		case Noted:
			notes++
		}
		last = ch.Step
		return nil
	})
	if err != nil || events != 3000 || notes != 1 || last != Done {
		t.Errorf("%d events, %d notes, last %d, %v", events, notes, last, err)
	}
	if err := r.FollowFlow(t.Context(), 9, nil); !errors.Is(err, ErrNoFlow) {
		t.Errorf("no such flow: %v", err)
	}
	stop := errors.New("stop")
	if err := r.Follow(t.Context(), true, func(Change) error { return stop }); err != stop {
		t.Errorf("fn's error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Follow(ctx, true, func(c Change) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("ctx: %v", err)
	}
}

// TestPartialEvents follows an event whose end may begin a secret.
func TestPartialEvents(t *testing.T) {
	s, path := create(t, Options{Redact: redact.New([32]byte{})})
	r := open(t, path)
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/", "", nil)
	c.response(200, "text/event-stream", true)
	delta := func(text string) {
		c.event(fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%q}}`, text))
		flush(t, s)
	}
	delta("the key is sk-ant-")
	ps, err := r.Events(1)
	if err != nil || len(ps) != 1 || !ps[0].Partial || bytes.Contains(ps[0].Data, []byte("sk-")) || !bytes.Contains(ps[0].Data, []byte("the key is")) {
		t.Fatalf("held: %v, %v", ps, err)
	}
	delta("api03-" + strings.Repeat("A", 95))
	delta(" and more")
	ps, err = r.Events(1)
	if err != nil || len(ps) != 3 || ps[0].Partial || !bytes.Contains(ps[0].Data, []byte("[REDACTED:anthropic")) || bytes.Contains(ps[1].Data, []byte("AAAA")) {
		t.Fatalf("decided: %v, %v", ps, err)
	}
	c.end(nil)
	fs := finish(t, s)
	after, err := r.Events(1)
	if err != nil || len(after) != 3 || !bytes.Equal(after[0].Data, ps[0].Data) || fs.Secrets {
		t.Errorf("after: %v, %v", after, err)
	}
	if x, err := r.Flow(1); err != nil || x.Redacted != 1 {
		t.Errorf("redacted %d, %v", x.Redacted, err)
	}
}
