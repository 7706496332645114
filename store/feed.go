package store

import (
	"context"
	"io"

	"trace/flow"
)

// feedBytes is what a batch has before it is handed out, about. A burst of the
// recording is never cut.
const feedBytes = 4 << 20

// A Feed reads a session, also while it is being written, as batches of which a
// Copy makes the same session elsewhere: the same rows, so that nothing that a
// reader sees differs. What was found out about calls (Annotate) comes last, when
// the session has ended. A Feed is a reader as any other, and keeps nothing but where it is in the
// flows that are open. Not safe for concurrent use.
type Feed struct {
	r    *Reader
	w    *watcher
	at   feedPosition
	goal feedPosition // packs up to it are sent before the flows up to it
	call int64        // the last flow whose annotation was handed out
	open map[int64]*fedFlow
	buf  []byte
}

// fedFlow is how far a flow that is open was handed out.
type fedFlow struct {
	tail     int64 // the last row of tail
	segments [parts]int64
}

// Feed returns a feed from the session's start. It must be closed before r is.
func (r *Reader) Feed() (*Feed, error) {
	if r.gate != nil {
		return nil, errRedacted
	}
	w, err := r.watch()
	if err != nil {
		return nil, err
	}
	f := &Feed{r: r, w: w, open: map[int64]*fedFlow{}}
	return f, nil
}

// Close frees the feed.
func (f *Feed) Close() { f.w.close() }

// Session returns the session's own row, as NewCopy wants it, and its format.
func (f *Feed) Session() (row []byte, format int, err error) {
	err = f.w.with(func(d *db) error {
		r, err := d.one("SELECT * FROM session")
		if err != nil {
			return err
		}
		v, err := d.number("PRAGMA user_version")
		row, format = appendRow(nil, rowSession, r), int(v)
		return err
	})
	return row, format, err
}

// Run returns the session, but for what must be counted.
func (f *Feed) Run() (flow.Session, error) { return f.r.Run() }

// Seek goes to a position that a Copy of this session told; "" is the start.
func (f *Feed) Seek(position string) (err error) {
	at := feedPosition{}
	if position != "" {
		if at, err = parsePosition(position); err != nil {
			return err
		}
	}
	f.at, f.goal, f.call = at, feedPosition{}, 0
	clear(f.open)
	return nil
}

// Position returns where the feed is.
func (f *Feed) Position() string { return f.at.String() }

// Left returns how many flows were not handed out before a position, or not
// whole.
func (f *Feed) Left(position string) (n int64, err error) {
	p := feedPosition{}
	if position != "" {
		if p, err = parsePosition(position); err != nil {
			return 0, err
		}
	}
	err = f.w.with(func(d *db) error {
		n, err = d.number("SELECT count(*) FROM flow WHERE rev>?", p.rev)
		return err
	})
	return n, err
}

// Next waits for news and returns them, valid until it is called again. io.EOF
// says that the session has ended, or crashed, and everything was handed out.
func (f *Feed) Next(ctx context.Context) (batch []byte, err error) {
	for {
		// Asked before the pass: a run that was over then writes no more.
		state, err := f.w.state()
		if err != nil {
			return nil, err
		}
		var to feedPosition
		err = f.w.with(func(d *db) error {
			return d.snapshot(func() (err error) {
				if to, err = f.pass(d); err == nil && to == f.at && state != stateRunning {
					err = f.calls(d)
				}
				return err
			})
		})
		if err != nil {
			return nil, err
		}
		if to != f.at || len(f.buf) > 0 {
			f.at = to
			return append(to.append(nil), f.buf...), nil
		}
		if state != stateRunning {
			return nil, io.EOF
		}
		if err := f.w.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// pass reads what comes next into buf and returns where that leads.
func (f *Feed) pass(d *db) (to feedPosition, err error) {
	f.buf, to = f.buf[:0], f.at
	if f.goal.rev <= f.at.rev && f.goal.pack <= f.at.pack {
		if f.goal.rev, err = lastRev(d); err != nil {
			return to, err
		}
		if f.goal.pack, err = d.number("SELECT max(first) FROM pack"); err != nil {
			return to, err
		}
	}
	if to.pack, err = f.packs(d); err != nil || to.pack < f.goal.pack {
		return to, err
	}
	if to.rev, err = f.flows(d); err != nil {
		return to, err
	}
	if err = f.rows(d, rowConn, "SELECT * FROM conn WHERE rev>? AND rev<=?", f.at.rev, to.rev); err != nil {
		return to, err
	}
	err = d.each("SELECT * FROM note WHERE id>? AND rev<=? ORDER BY id", []any{f.at.note, to.rev}, func(r row) error {
		f.buf = appendRow(f.buf, rowNote, r)
		to.note = r.int(0)
		return nil
	})
	return to, err
}

// rows reads the rows of a query.
func (f *Feed) rows(d *db, t rowTable, sql string, args ...any) error {
	return d.each(sql, args, func(r row) error {
		f.buf = appendRow(f.buf, t, r)
		return nil
	})
}

// packs reads chunks, up to a limit, and returns the last pack.
func (f *Feed) packs(d *db) (last int64, err error) {
	for last = f.at.pack; last < f.goal.pack && len(f.buf) < feedBytes; {
		r, err := d.one("SELECT * FROM pack WHERE first>? ORDER BY first LIMIT 1", last)
		if err != nil {
			return last, err
		}
		if r == nil { // deleted meanwhile
			return f.goal.pack, nil
		}
		f.buf = appendRow(f.buf, rowPack, r)
		last = r.int(0)
	}
	return last, nil
}

// flows reads the flows that bursts up to the goal touched, and returns the burst
// up to which it got.
func (f *Feed) flows(d *db) (upto int64, err error) {
	upto = f.goal.rev
	var touched []row
	far, err := d.number("SELECT rev FROM flow WHERE rev>? AND rev<=? ORDER BY rev LIMIT 1 OFFSET ?", f.at.rev, upto, passFlows)
	if err != nil {
		return 0, err
	}
	if far > 0 {
		upto = far
	}
	err = d.each("SELECT * FROM flow WHERE rev>? AND rev<=? ORDER BY rev,id", []any{f.at.rev, upto}, func(r row) error {
		touched = append(touched, append(row{}, r...))
		return nil
	})
	for i, r := range touched {
		if err != nil {
			return 0, err
		}
		if rev := r.int(1); len(f.buf) >= feedBytes && i > 0 && touched[i-1].int(1) != rev {
			return touched[i-1].int(1), nil
		}
		err = f.flow(d, r)
	}
	return upto, err
}

// flow reads one flow that was touched.
func (f *Feed) flow(d *db, r row) (err error) {
	id := r.int(0)
	st := f.open[id]
	fresh := st == nil
	if fresh {
		st = &fedFlow{}
	}
	if !fresh && r.int(2) <= f.at.rev { // nothing but more pieces
		f.buf = appendRow(f.buf, rowTouched, row{id})
		return f.tail(d, id, st)
	}
	f.buf = appendRow(f.buf, rowFlow, r)
	if err = f.rows(d, rowDetail, "SELECT * FROM detail WHERE flow=?", id); err != nil {
		return err
	}
	moved, err := f.segments(d, id, st, fresh)
	if err != nil {
		return err
	}
	over := r.text(6) != flow.StateOpen
	if fresh || moved || over {
		st.tail = 0
		f.buf = appendRow(f.buf, rowTail, row{id})
	}
	if over {
		delete(f.open, id)
	} else {
		f.open[id] = st
	}
	return f.tail(d, id, st)
}

// segments reads what came of the bodies of a flow, and tells whether anything
// did.
func (f *Feed) segments(d *db, id int64, st *fedFlow, fresh bool) (moved bool, err error) {
	take := func(r row) error {
		f.buf = appendRow(f.buf, rowBody, r)
		if part := r.int(1); part >= 0 && part < parts {
			st.segments[part] = r.int(2) + 1
		}
		moved = true
		return nil
	}
	if fresh {
		err = d.each("SELECT * FROM body WHERE flow=?", []any{id}, take)
		return moved, err
	}
	for part, seq := range st.segments {
		if err = d.each("SELECT * FROM body WHERE flow=? AND part=? AND seq>=?", []any{id, int64(part), seq}, take); err != nil {
			break
		}
	}
	return moved, err
}

// tail reads the pieces of a flow that came since.
func (f *Feed) tail(d *db, id int64, st *fedFlow) error {
	return d.each("SELECT * FROM tail WHERE flow=? AND seq>? ORDER BY seq", []any{id, st.tail}, func(r row) error {
		f.buf = appendRow(f.buf, rowTailPiece, r)
		st.tail = r.int(1)
		return nil
	})
}

// calls reads what was found out about calls.
func (f *Feed) calls(d *db) error {
	for len(f.buf) < feedBytes {
		r, err := d.one("SELECT * FROM call WHERE flow>? ORDER BY flow LIMIT 1", f.call)
		if err != nil || r == nil {
			return err
		}
		f.buf = appendRow(f.buf, rowCall, r)
		f.call = r.int(0)
	}
	return nil
}
