package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"trace/flow"
	"trace/store"
)

// The limits of what `trace top` looks at, and its rhythm.
const (
	topRows     = 20000 // flows that are held; older ones are let go
	topSessions = 100   // followed at once, the newest
	topBatch    = 300   // flows that are read between two looks at the keys
	topEvery    = 200 * time.Millisecond
	topAlive    = 2 * time.Second // looks whether a run still lives though its file does not change
	topSummary  = 2 * time.Second // waits so long for the summary of a call before it reads the call
)

// A topRow is one flow as top needs it. Its texts are escaped.
type topRow struct {
	key            string // its name among those of all sessions
	session, file  string
	name           string // of the session
	id             int64
	rev            int64 // of the burst that touched it last
	started, ended time.Time
	f              rowFacts
	kind           string
	open           bool
	program        string
	sent, received int64
	call           *callSummary
	text           string // all of it in lower case, for the filter
}

// rowKey names a flow among those of all sessions.
func rowKey(session string, id int64) string { return session + "/" + strconv.FormatInt(id, 10) }

// A topSession is a session that is followed.
type topSession struct {
	flow.Session
	r       *store.Reader // nil: it is over, and all of it was read
	rev     int64
	seen    fileState
	checked time.Time
	waiting map[int64]time.Time // calls that have ended and have no summary yet, since when
}

// fileState changes when a session is written to.
type fileState struct {
	size, wal         int64
	written, walWrite time.Time
}

func stateOfFile(path string) (f fileState) {
	if fi, err := os.Stat(path); err == nil {
		f.size, f.written = fi.Size(), fi.ModTime()
	}
	if fi, err := os.Stat(path + "-wal"); err == nil {
		f.wal, f.walWrite = fi.Size(), fi.ModTime()
	}
	return f
}

// A topSource follows sessions and holds their newest flows. It works in steps, in
// the goroutine of its caller.
type topSource struct {
	dir  string
	live bool // sessions that begin are followed, too

	sessions []*topSession
	standIn  *topSession // is shown until one begins
	rows     []*topRow   // by their start
	byKey    map[string]*topRow
	dropped  int64 // flows that were let go
	left     int   // running sessions that are not followed
	gen      int   // grows with every change
	looked   time.Time
}

// newTopSource follows the session that ref means; for "" all that run or will, and
// where none does, the newest of those that have ended.
func newTopSource(ref string) (*topSource, error) {
	dir, err := sessionsDir()
	if err != nil {
		return nil, err
	}
	t := &topSource{dir: dir, live: ref == "", byKey: map[string]*topRow{}}
	if t.live {
		if err := t.discover(time.Now()); err != nil {
			return nil, err
		}
		if len(t.sessions) > 0 {
			return t, nil
		}
	}
	r, err := openSession(ref)
	if err != nil {
		if t.live { // there is none at all: one may come
			return t, nil
		}
		return nil, err
	}
	s, err := r.Run()
	if err != nil {
		closing(r)
		return nil, err
	}
	t.sessions = append(t.sessions, newTopSession(s, r))
	if t.live && s.State != "running" {
		t.standIn = t.sessions[0]
	}
	return t, nil
}

func newTopSession(s flow.Session, r *store.Reader) *topSession {
	return &topSession{Session: s, r: r, waiting: map[int64]time.Time{}}
}

func (t *topSource) close() {
	for _, s := range t.sessions {
		s.close()
	}
}

func (s *topSession) close() {
	if s.r != nil {
		closing(s.r)
		s.r = nil
	}
}

// discover looks for sessions that have begun.
func (t *topSource) discover(now time.Time) error {
	fi, err := os.Stat(t.dir)
	if err != nil {
		return nil // it comes with the first session
	}
	// A session that begins or ends changes the directory. Its time is that of the
	// kernel's clock tick: what has just been changed may change again unnoticed.
	if !fi.ModTime().After(t.looked.Add(-time.Second)) {
		return nil
	}
	t.looked = now
	running, err := store.ListRunning(t.dir)
	if err != nil {
		return err
	}
	t.left = 0
	open := 0
	for _, s := range t.sessions {
		if s.r != nil {
			open++
		}
	}
	for _, s := range slices.Backward(running) {
		if slices.ContainsFunc(t.sessions, func(o *topSession) bool { return o.ID == s.ID }) {
			continue
		}
		if open >= topSessions {
			t.left++
			continue
		}
		r, err := store.Open(s.File)
		if err != nil { // it has ended just now, or is not there yet
			continue
		}
		open++
		t.gen++
		t.dismiss()
		t.sessions = append(t.sessions, newTopSession(s, r))
	}
	slices.SortStableFunc(t.sessions, func(a, b *topSession) int { return a.Started.Compare(b.Started) })
	return nil
}

// dismiss takes away the session that was shown while none was running.
func (t *topSource) dismiss() {
	if t.standIn == nil {
		return
	}
	t.standIn.close()
	t.standIn = nil
	t.sessions, t.rows, t.dropped = nil, nil, 0
	clear(t.byKey)
}

// step reads what is new. more tells that there is more to read at once. What is
// wrong with one session keeps nobody from the others.
func (t *topSource) step(now time.Time) (more bool, err error) {
	if t.live {
		err = t.discover(now)
	}
	for _, s := range t.sessions {
		if s.r == nil {
			continue
		}
		again, wrong := t.read(s, now)
		if wrong != nil && err == nil {
			err = fmt.Errorf("session %s: %w", s.ID, wrong)
		}
		more = more || again && wrong == nil
	}
	return more, err
}

// read takes over what has changed in a session.
func (t *topSource) read(s *topSession, now time.Time) (more bool, err error) {
	state := stateOfFile(s.File)
	if state == s.seen && len(s.waiting) == 0 && now.Sub(s.checked) < topAlive {
		return false, nil
	}
	s.seen, s.checked = state, now
	run, err := s.r.Run()
	if err != nil {
		return false, err
	}
	if run.State != s.State {
		t.gen++
		if err := t.settle(s); err != nil {
			return false, err
		}
	}
	s.Session = run
	list, last, more, err := s.r.Changed(s.rev, topBatch)
	if err != nil {
		return false, err
	}
	s.rev = last
	for _, x := range list {
		t.take(s, x, now)
	}
	if more {
		s.seen = fileState{} // comes back at once
	}
	if err := t.summaries(s, now); err != nil {
		return more, err
	}
	if s.State != "running" && !more && len(list) == 0 && len(s.waiting) == 0 {
		s.close()
	}
	return more, nil
}

// settle looks again at the flows of a session that were under way, which it is not
// any more: where it was killed nothing has touched them.
func (t *topSource) settle(s *topSession) error {
	for _, row := range t.rows {
		if !row.open || row.file != s.File {
			continue
		}
		x, err := s.r.Flow(row.id)
		if err != nil {
			return err
		}
		t.take(s, store.Revised{Exchange: x, Rev: row.rev + 1}, time.Now()) // as if something had
	}
	return nil
}

// take makes or changes the row of a flow.
func (t *topSource) take(s *topSession, x store.Revised, now time.Time) {
	t.gen++
	key := rowKey(s.ID, x.ID)
	row := t.byKey[key]
	if row == nil {
		row = &topRow{key: key, session: printable(s.ID), file: s.File, name: printable(s.Name), id: x.ID}
		t.add(row, x.Started)
	}
	row.rev, row.started, row.ended, row.kind = x.Rev, x.Started, x.Ended, x.Kind
	row.open = !ended(x.Exchange)
	row.sent, row.received = payload(x.Exchange)
	f := factsOf(x.Exchange)
	f.method, f.host, f.path, f.process = printable(f.method), printable(f.host), printable(shorten(f.path, 500)), printable(f.process)
	f.status.text, f.note = printable(f.status.text), printable(shorten(f.note, 500))
	row.f = f
	row.program = cmp.Or(f.process, "?")
	if row.call == nil && recognised(x.Exchange) && ended(x.Exchange) {
		if _, ok := s.waiting[x.ID]; !ok {
			s.waiting[x.ID] = now
		}
	}
	row.index()
}

// index makes the text that a filter looks at.
func (r *topRow) index() {
	words := []string{fmt.Sprint(r.id), r.f.method, r.f.host + r.f.path, r.f.status.text, r.kind, r.f.process, r.name, r.f.note}
	if r.call != nil {
		words = append(words, printable(r.call.Model), printable(r.call.Provider))
	}
	r.text = strings.ToLower(strings.Join(words, " "))
}

// add puts a row where its start belongs, and lets the oldest go.
func (t *topSource) add(row *topRow, started time.Time) {
	at := len(t.rows)
	for at > 0 && t.rows[at-1].started.After(started) {
		at--
	}
	row.started = started
	t.rows = slices.Insert(t.rows, at, row)
	t.byKey[row.key] = row
	if len(t.rows) > topRows+topRows/10 {
		n := len(t.rows) - topRows
		for _, old := range t.rows[:n] {
			delete(t.byKey, old.key)
		}
		t.rows = append([]*topRow(nil), t.rows[n:]...)
		t.dropped += int64(n)
	}
}

// summaries asks for those of calls that have ended: from the file, where the
// process that records puts them, or, if they do not come, by reading one call.
func (t *topSource) summaries(s *topSession, now time.Time) error {
	if len(s.waiting) == 0 {
		return nil
	}
	first, last := int64(1<<62), int64(0)
	for id := range s.waiting {
		first, last = min(first, id), max(last, id)
	}
	docs, err := s.r.Annotations(first, last)
	if err != nil {
		return err
	}
	for id, since := range s.waiting {
		call, ok := decodeSummary(docs[id])
		switch {
		case ok:
			t.found(s, id, call)
		case (s.State != "running" || now.Sub(since) > topSummary) && time.Since(now) < topEvery/2: // else the next time
			call, _ := readSummary(s.r, id) // what cannot be read is shown as a flow
			t.found(s, id, call)
		}
	}
	return nil
}

// found says what a call was; nil: none.
func (t *topSource) found(s *topSession, id int64, call *callSummary) {
	delete(s.waiting, id)
	if row := t.byKey[rowKey(s.ID, id)]; row != nil && call != nil {
		row.call = call
		row.index()
		t.gen++
	}
}
