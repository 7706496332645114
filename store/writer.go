package store

import (
	"fmt"
	"net/url"
	"time"

	"trace/flow"
)

// retryEvery is the distance of attempts to write again after recording
// stopped. A variable for tests.
var retryEvery = time.Second

// slowEvery is how long part of a body may lie in memory while nothing more of
// it comes. A variable for tests.
var slowEvery = time.Second

// writer is the state of the goroutine that writes. Only that goroutine uses
// it, until it has ended.
type writer struct {
	db      *db
	gate    gate
	chunks  *chunks
	session flow.Session
	log     func(string, ...any)

	conns map[int64]*connState
	dns   int64 // connections that have no number get negative ones
	whole int   // bytes of bodies gathered in memory
	slow  map[*live]bool
	ops   ops
	doc   []byte // used again for each document
	coder docCoder
	small [][]byte // rooms of small bodies that are over
	spare []*live
	room  []byte // of a body that is over, for the next
	rev   int64  // number of the last burst
	base  int64  // chunks below it are committed

	blank   bool      // nothing was recorded when the run ended
	failing error     // why recording stands still
	stopped time.Time // since when
	tried   time.Time // last attempt
	lost    lost
	probe   func(*db) // for tests: called before each transaction
}

// lost counts what was not recorded since the last commit.
type lost struct {
	events, bytes int64
	since         time.Time
	why           string
}

func newWriter(path string, s flow.Session, o Options) (*writer, error) {
	d, err := dial(path, url.Values{"mode": {"rw"}})
	if err != nil {
		return nil, err
	}
	w := &writer{db: d, gate: gate{r: o.Redact}, log: o.Log, conns: map[int64]*connState{}, slow: map[*live]bool{}, base: 1}
	if w.log == nil {
		w.log = func(string, ...any) {}
	}
	s.Secrets = o.Redact == nil
	s.State, s.Ended = stateRunning, time.Time{}
	s.Argv, s.Name = w.gate.argv(s.Argv), w.gate.text(s.Name)
	w.session = s
	if w.chunks, err = newChunks(); err == nil {
		err = w.lay(path)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return w, nil
}

// lay creates the tables and the session's row.
func (w *writer) lay(path string) error {
	why, err := lay(w.db, path, func() error { return insertSession(w.db, &w.session) })
	if err != nil {
		return err
	}
	if why != "" {
		w.log("session %s: no write-ahead log: %s; readers and the writer wait for each other", path, why)
	}
	return nil
}

func (w *writer) close() error {
	w.chunks.enc.Close()
	return w.db.close()
}

// run is the writer goroutine.
func (s *Store) run() {
	defer close(s.done)
	w, q := s.writer, s.queue
	last := time.Now()
	for {
		w.await(q, last)
		b, closed := q.take()
		w.lose(q.turnedAway(), 0)
		for i := range b.events {
			w.apply(&b.events[i])
		}
		w.settleSlow(time.Now())
		w.commit(closed)
		if w.failing == nil {
			s.commits.Add(1)
		}
		last = time.Now()
		q.settle(b, w.failing)
		if closed {
			return
		}
	}
}

// await returns when a burst is due: enough has gathered, an attempt to
// recover is due, or bodies lie around.
func (w *writer) await(q *queue, last time.Time) {
	for {
		wait, ok := q.due(last)
		if !ok {
			wait = time.Hour
			if w.failing != nil {
				wait = time.Until(w.tried.Add(retryEvery))
			} else if len(w.slow) > 0 {
				wait = slowEvery
			}
		}
		if wait <= 0 {
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
			return
		case <-q.wake:
			t.Stop()
		}
	}
}

// commit writes what the burst left to do. If that fails, recording stops;
// the work is kept and tried again later. must asks for an attempt at once.
func (w *writer) commit(must bool) {
	if w.failing != nil && !must && time.Since(w.tried) < retryEvery {
		return
	}
	err := w.transact()
	for n := 0; isBusy(err) && n < 3; n++ {
		err = w.transact() // someone else writes: that is a slow disk, not a broken one
	}
	if err == nil {
		if w.failing != nil {
			w.log("recording goes on")
		}
		w.failing = nil
		return
	}
	w.tried = time.Now()
	if w.failing == nil {
		w.log("recording stopped: %v", err)
		w.stopped = w.tried
	}
	w.failing = fmt.Errorf("recording stopped: %w", err)
}

// note returns the mark that says what was lost.
func (l *lost) note() note {
	n := "1 event"
	if l.events != 1 {
		n = fmt.Sprint(l.events, " events")
	}
	return note{l.since, true, &flow.Error{Where: flow.AtCapture, Code: flow.CodeGap,
		Message: fmt.Sprintf("%s (%d bytes of data) were not recorded: %s", n, l.bytes, l.why)}}
}

// lose counts events as lost.
func (w *writer) lose(events, bytes int64) {
	if events == 0 {
		return
	}
	if w.lost.events == 0 {
		w.lost.since, w.lost.why = time.Now(), "the queue was full"
		if w.failing != nil {
			w.lost.since, w.lost.why = w.stopped, w.failing.Error()
		}
	}
	w.lost.events += events
	w.lost.bytes += bytes
}
