package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"trace/flow"
)

// Step says what a Change tells.
type Step uint8

// The steps. Those of one flow come in this order: Opened, RequestDone,
// Responded, Streamed and Noted, Done; events of a request may also come
// before its end and its answer. Opened and Done come once for every
// flow, also if its run crashed. RequestDone is left out if the answer began
// before the request had ended; Responded if there was no answer.
const (
	Opened       Step = iota + 1 // the head of a request, or the first bytes of an opaque connection
	RequestDone                  // the whole request is there
	Responded                    // the head of the answer
	Streamed                     // an event or a message: Piece is set
	Noted                        // a mark: Note is set
	Done                         // the flow is complete or failed
	ConnOpened                   // a connection: Conn is set
	ConnEnded                    // its end: Conn is set
	SessionNoted                 // a mark on the run, such as a gap: Note is set
	SessionEnded                 // the run has ended or crashed; nothing follows
)

// A Change is something new in a session. What its pointers show is shared
// between changes and must not be modified.
type Change struct {
	Step  Step
	Flow  *flow.Exchange // with heads, as it is now: it may know more than Step says
	Piece *flow.Piece    // Streamed
	Conn  *flow.Conn     // ConnOpened, ConnEnded
	Note  *flow.Note     // Noted, SessionNoted
	// Rev is the number of a burst that this tells of, or of a later one: those
	// before it have been told when a Change with a higher number comes. It is
	// what Reader.Changed counts by.
	Rev int64
}

// The rhythm of followers.
const (
	pollEvery  = 5 * time.Millisecond
	aliveEvery = 200 * time.Millisecond // how often a quiet run is asked whether it lives
	passFlows  = 500                    // rows a pass reads, about
	passBytes  = 8 << 20                // of events a pass reads, about
)

// Follow calls fn for everything that happens in the session, from its start
// or from now on, and returns nil when the session has ended or crashed and
// everything was told. It misses nothing, however slow fn is: what was
// streamed meanwhile is read from where it lies now. An error of fn, or the
// end of ctx, ends it with that error.
func (r *Reader) Follow(ctx context.Context, fromStart bool, fn func(Change) error) error {
	return r.follow(ctx, &follower{r: r, skip: !fromStart}, fn)
}

// FollowNow is Follow from now on. began is called first, once, with the number of
// the last burst of what is there already and is not told.
func (r *Reader) FollowNow(ctx context.Context, began func(rev int64), fn func(Change) error) error {
	return r.follow(ctx, &follower{r: r, skip: true, began: began}, fn)
}

// FollowFlow is Follow for one flow, from its start. It returns nil after Done
// and ErrNoFlow if there is no such flow.
func (r *Reader) FollowFlow(ctx context.Context, id int64, fn func(Change) error) error {
	err := r.with(func(d *db) error { return exists(d, id) })
	if err != nil {
		return err
	}
	return r.follow(ctx, &follower{r: r, only: id}, fn)
}

// follower is the state of one Follow.
type follower struct {
	r    *Reader
	only int64 // the one flow that is wanted
	skip bool  // what is there at first is not told
	// began is called when that is known; nil: nobody asks.
	began func(rev int64)

	rev   int64               // bursts up to this one were looked at
	flows map[int64]*followed // those not Done
	late  []int64             // of them, those with more to read
	conns map[int64]bool      // open ones that were told
	note  int64               // the last one told
	over  bool                // the one flow is Done

	out []Change
}

// followed is how far a flow was told.
type followed struct {
	x       *flow.Exchange
	changed int64 // burst that x stems from
	step    Step
	late    bool // more of its pieces is to be read
	notes   int
	logs    [3]followedLog // by part: events of the request and the answer, messages
}

type followedLog struct {
	seq     int64 // last row of tail seen
	next    int64 // lowest index never told
	partial map[int64]bool
}

func (r *Reader) follow(ctx context.Context, f *follower, fn func(Change) error) error {
	if r.gate != nil {
		return errRedacted
	}
	f.flows, f.conns = map[int64]*followed{}, map[int64]bool{}
	w, err := r.watch()
	if err != nil {
		return err
	}
	defer w.close()
	for {
		// Asked before the pass: a run that was over then writes no more.
		state, err := w.state()
		if err != nil {
			return err
		}
		for more := true; more; {
			if err := w.with(func(d *db) (err error) {
				more, err = f.pass(d, state == stateCrashed)
				return err
			}); err != nil {
				return err
			}
			if err := f.tell(ctx, fn); err != nil {
				return err
			}
		}
		if f.over {
			return nil
		}
		if state != stateRunning {
			return fn(Change{Step: SessionEnded})
		}
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
}

// tell hands out what a pass found, outside of any transaction.
func (f *follower) tell(ctx context.Context, fn func(Change) error) error {
	for i := range f.out {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(f.out[i]); err != nil {
			return err
		}
	}
	clear(f.out)
	f.out = f.out[:0]
	return nil
}

// pass reads what is new in one transaction. more asks for another pass at
// once.
func (f *follower) pass(d *db, crashed bool) (more bool, err error) {
	err = d.snapshot(func() error {
		if f.skip {
			f.skip = false
			err := f.prime(d)
			if err == nil && f.began != nil {
				f.began(f.rev)
			}
			return err
		}
		upto, err := f.horizon(d)
		if err != nil {
			return err
		}
		budget := passBytes
		for _, step := range []func() error{
			func() error { return f.news(d, upto) },
			func() error { return f.changes(d, upto, &budget) },
			func() error { return f.notes(d, upto) },
			func() error { return f.ends(d, upto) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		last, err := lastRev(d)
		f.rev = upto
		if more = upto < last || len(f.late) > 0; crashed && !more && err == nil {
			err = f.mourn(d)
		}
		for i := range f.out {
			f.out[i].Rev = upto
		}
		return err
	})
	return more, err
}

// lastRev returns the number of the last burst.
func lastRev(d *db) (last int64, err error) {
	for _, table := range []string{"flow", "conn", "note"} {
		n, err := d.number("SELECT max(rev) FROM " + table)
		if err != nil {
			return 0, err
		}
		last = max(last, n)
	}
	return last, nil
}

// horizon chooses up to which burst a pass looks, so that it stays small.
func (f *follower) horizon(d *db) (int64, error) {
	last, err := lastRev(d)
	if err != nil || f.only != 0 {
		return last, err
	}
	far, err := d.number("SELECT rev FROM flow WHERE rev>? ORDER BY rev LIMIT 1 OFFSET ?", f.rev, passFlows)
	if far > 0 {
		last = far
	}
	if err != nil {
		return last, err
	}
	// A mark on the run is told between what came before it and after.
	note, err := d.number("SELECT rev FROM note WHERE id>? AND rev<? ORDER BY id LIMIT 1", f.note, last)
	if note > 0 {
		last = max(note, f.rev)
	}
	return last, err
}

// news tells of new connections.
func (f *follower) news(d *db, upto int64) error {
	if f.only != 0 {
		return nil
	}
	return d.each("SELECT id,facts FROM conn WHERE rev>? AND rev<=? ORDER BY rev,id", []any{f.rev, upto}, func(r row) error {
		if id := r.int(0); !f.conns[id] {
			f.conns[id] = true
			return f.conn(ConnOpened, r)
		}
		return nil
	})
}

// notes tells of marks on the run.
func (f *follower) notes(d *db, upto int64) error {
	if f.only != 0 {
		return nil
	}
	return d.each("SELECT at,error,id FROM note WHERE id>? AND rev<=? ORDER BY id", []any{f.note, upto}, func(r row) error {
		n := toNote(r.int(0), r.blob(1))
		f.out = append(f.out, Change{Step: SessionNoted, Note: &n})
		f.note = r.int(2)
		return nil
	})
}

// ends tells of connections that are over.
func (f *follower) ends(d *db, upto int64) error {
	if f.only != 0 {
		return nil
	}
	return d.each("SELECT id,facts FROM conn WHERE rev>? AND rev<=? AND ended IS NOT NULL ORDER BY rev,id", []any{f.rev, upto}, func(r row) error {
		delete(f.conns, r.int(0)) // it does not change any more
		return f.conn(ConnEnded, r)
	})
}

func (f *follower) conn(s Step, r row) error {
	c, _, err := decodeConn(r.blob(1))
	c.ID = max(c.ID, 0)
	f.out = append(f.out, Change{Step: s, Conn: &c})
	return err
}

// changes advances the flows of which there was more to read, and those that
// the bursts up to upto touched.
func (f *follower) changes(d *db, upto int64, budget *int) error {
	sql, args := "SELECT id FROM flow WHERE rev>? AND rev<=? ORDER BY rev,id", []any{f.rev, upto}
	if f.only != 0 {
		sql, args = "SELECT id FROM flow WHERE rev>? AND id=?", []any{f.rev, f.only}
	}
	ids := f.late
	f.late = nil
	err := d.each(sql, args, func(r row) error {
		id := r.int(0)
		st := f.flows[id]
		if st == nil {
			st = &followed{}
			f.flows[id] = st
		}
		if !st.late {
			ids = append(ids, id)
		}
		return nil
	})
	for _, id := range ids {
		if err != nil {
			break
		}
		err = f.advance(d, id, budget)
	}
	return err
}

// advance tells what is new of one flow.
func (f *follower) advance(d *db, id int64, budget *int) error {
	st := f.flows[id]
	if st == nil {
		return nil
	}
	fresh, err := f.load(d, id, st)
	if err != nil || st.x == nil {
		return err
	}
	x := st.x
	f.heads(st)
	if st.late, err = f.streams(d, id, st, fresh, budget); err != nil {
		return err
	}
	if st.late {
		f.late = append(f.late, id)
		return nil
	}
	for ; st.notes < len(x.Marks); st.notes++ {
		f.out = append(f.out, Change{Step: Noted, Flow: x, Note: &x.Marks[st.notes]})
	}
	if x.State != flow.StateOpen {
		f.done(id, x)
	}
	return nil
}

// heads tells the steps before the first event.
func (f *follower) heads(st *followed) {
	x := st.x
	tell := func(s Step, due bool) {
		if due && st.step < s {
			st.step = s
			f.out = append(f.out, Change{Step: s, Flow: x})
		}
	}
	tell(Opened, true)
	tell(RequestDone, !x.RequestEnded.IsZero())
	tell(Responded, x.Response != nil && x.Response.Head != nil)
}

func (f *follower) done(id int64, x *flow.Exchange) {
	f.out = append(f.out, Change{Step: Done, Flow: x})
	delete(f.flows, id)
	f.over = f.only != 0
}

// load brings st.x up to date. fresh tells that there may be new segments.
func (f *follower) load(d *db, id int64, st *followed) (fresh bool, err error) {
	now, err := d.number("SELECT changed FROM flow WHERE id=?", id)
	if err != nil {
		return false, err
	}
	if now == st.changed && st.x != nil {
		return st.late, nil
	}
	row, err := d.one(selectFull+" WHERE f.id=?", id)
	if err != nil {
		return false, err
	}
	if row == nil { // deleted meanwhile
		delete(f.flows, id)
		st.x = nil
		return false, nil
	}
	st.changed = now
	st.x, err = f.r.folder(d, stateRunning).exchange(row)
	return true, err
}

// mourn ends the flows that a crashed run left open.
func (f *follower) mourn(d *db) error {
	ids := slices.Sorted(maps.Keys(f.flows))
	folder := f.r.folder(d, stateCrashed)
	for _, id := range ids {
		row, err := d.one(selectFull+" WHERE f.id=?", id)
		if err != nil {
			return err
		}
		if row == nil {
			continue
		}
		x, err := folder.exchange(row)
		if err != nil {
			return err
		}
		f.done(id, x)
	}
	return nil
}

// prime takes what is there as told.
func (f *follower) prime(d *db) (err error) {
	if f.rev, err = lastRev(d); err != nil {
		return err
	}
	if f.note, err = d.number("SELECT max(id) FROM note"); err != nil {
		return err
	}
	err = d.each("SELECT id FROM conn WHERE ended IS NULL", nil, func(r row) error {
		f.conns[r.int(0)] = true
		return nil
	})
	if err != nil {
		return err
	}
	err = d.each("SELECT id FROM flow WHERE state='open'", nil, func(r row) error {
		f.flows[r.int(0)] = &followed{}
		return nil
	})
	for id, st := range f.flows {
		if err != nil {
			return err
		}
		budget := 1 << 62
		if _, err = f.load(d, id, st); err != nil {
			return err
		}
		f.heads(st)
		st.notes = len(st.x.Marks)
		if _, err = f.streams(d, id, st, true, &budget); err != nil {
			return err
		}
	}
	f.out = nil
	return err
}
