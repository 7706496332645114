package main

import (
	"context"
	"fmt"
	"io"

	"trace/flow"
	"trace/store"
)

// A sieve lets those changes of a session through that are of flows which a
// selection wants. A flow of which that cannot be known yet (--status before
// the answer, --jq before the end) is held back, and told when it is.
type sieve struct {
	sel *selection
	// pass is given what comes through.
	pass func(store.Change) error
	// late is given a flow whose beginning was held back until its end; nil:
	// pass is given its end.
	late func(ctx context.Context, id int64) error
	// values is given what --jq makes of a flow; nil: nobody wants it.
	values func([]any) error
	stderr io.Writer

	state  map[int64]sieved
	conns  map[int64]bool // with flows that came through
	failed bool           // a filter erred, which was said
}

// sieved is what is known of a flow.
type sieved uint8

const (
	undecided sieved = iota
	heldBack         // undecided, and something of it was not passed on
	wanted
	unwanted
)

// follow passes on what happens in the session of r until it is over.
func (s *sieve) follow(ctx context.Context, r *store.Reader) error {
	s.state, s.conns = map[int64]sieved{}, map[int64]bool{}
	if err := s.sel.begin(r); err != nil {
		return err
	}
	err := r.Follow(ctx, true, func(c store.Change) error { return s.change(ctx, c) })
	if err == nil && s.failed {
		return exitError{Code: 1}
	}
	return err
}

func (s *sieve) change(ctx context.Context, c store.Change) error {
	if c.Flow == nil {
		if c.Conn != nil && c.Step == store.ConnEnded {
			defer delete(s.conns, c.Conn.ID)
			if !s.conns[c.Conn.ID] && !s.sel.unfiltered() {
				return nil
			}
		}
		if q := &s.sel.query; c.Step == store.SessionNoted && (c.Note.At.Before(q.From) || !q.To.IsZero() && !c.Note.At.Before(q.To)) {
			return nil
		}
		return s.pass(c)
	}
	id, over := c.Flow.ID, c.Step == store.Done
	if over {
		defer delete(s.state, id)
	}
	switch s.state[id] {
	case unwanted:
		return nil
	case wanted:
		return s.pass(c)
	}
	fits, sure := s.sel.fits(c.Flow)
	switch {
	case sure && !fits || over && !fits:
		s.state[id] = unwanted
	case over:
		return s.decide(ctx, c)
	case fits && sure && len(s.sel.filters) == 0 && (s.state[id] != heldBack || s.late == nil):
		s.state[id] = wanted
		s.conns[c.Flow.Conn.ID] = true
		return s.pass(c)
	case c.Step == store.Streamed:
		s.state[id] = heldBack
	}
	return nil
}

// decide tells a flow that has ended, if --jq lets it through.
func (s *sieve) decide(ctx context.Context, c store.Change) error {
	if len(s.sel.filters) > 0 {
		outs, err := s.filter(ctx, c.Flow)
		if err != nil {
			s.failed = true
			_, err = fmt.Fprintf(s.stderr, "trace: flow %d: %v\n", c.Flow.ID, err)
			return err
		}
		if list, ok := gathered(outs).([]any); ok && len(list) == 0 {
			return nil
		}
		if s.values != nil {
			return s.values(outs)
		}
	}
	s.conns[c.Flow.Conn.ID] = true
	if s.late != nil {
		return s.late(ctx, c.Flow.ID)
	}
	return s.pass(c)
}

// filter passes the array of this one flow through --jq.
func (s *sieve) filter(ctx context.Context, x *flow.Exchange) ([]any, error) {
	text, err := flowsJSON([]*flow.Exchange{x})
	if err != nil {
		return nil, err
	}
	return s.sel.filter(ctx, text)
}
