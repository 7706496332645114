package main

import (
	"context"
	"io"

	"trace/export"
	"trace/flow"
	"trace/store"
)

// followJSONL writes the live event log of the session that r reads to w, one
// Write a line, from its first event until the session has ended or ctx is
// done. It is a reader like any other: what it writes has been committed, and
// the road never waits for it.
func followJSONL(ctx context.Context, r *store.Reader, w io.Writer) error {
	return followFlowJSONL(ctx, r, w, 0)
}

// followFlowJSONL writes the log of one flow, until that is over; of all for
// the flow 0.
func followFlowJSONL(ctx context.Context, r *store.Reader, w io.Writer, id int64) error {
	log, err := newEventLog(r, w)
	if err != nil {
		return err
	}
	return followFlow(ctx, r, id, func(c store.Change) error { return logChange(log, c) })
}

// newEventLog begins an event log of the session that r reads.
func newEventLog(r *store.Reader, w io.Writer) (*export.JSONL, error) {
	s, err := r.Session()
	if err != nil {
		return nil, err
	}
	log := &export.JSONL{W: w, Body: r.Body, Detail: r.Detail, Certificates: func(id int64) ([][]byte, error) {
		x, err := r.Flow(id)
		if err != nil {
			return nil, err
		}
		return x.Conn.Upstream.Chain, nil
	}}
	return log, log.Meta(s)
}

// logChange tells log what happened.
func logChange(log *export.JSONL, c store.Change) error {
	switch c.Step {
	case store.Opened:
		return log.Opened(c.Flow)
	case store.RequestDone:
		return log.Requested(c.Flow)
	case store.Responded:
		return log.Responded(c.Flow)
	case store.Streamed:
		return log.Streamed(c.Flow, *c.Piece)
	case store.Noted:
		return log.Noted(c.Flow)
	case store.Done:
		return log.Done(c.Flow)
	case store.ConnEnded:
		return log.ConnClosed(c.Conn)
	case store.SessionNoted:
		return log.SessionNoted(c.Note)
	}
	return nil
}

// followFlow calls fn with what happens to the flow id, until it is over; to
// all flows until the session is over for 0.
func followFlow(ctx context.Context, r *store.Reader, id int64, fn func(store.Change) error) error {
	if id == 0 {
		return r.Follow(ctx, true, fn)
	}
	return r.FollowFlow(ctx, id, fn)
}

// ended reports whether nothing more will come of x.
func ended(x *flow.Exchange) bool { return x.State != flow.StateOpen }
