// Package store keeps recorded flows on disk and lets readers follow a run
// that is still being written.
//
//	s, err := store.Create(store.Path(dir, session), session, store.Options{Redact: r})
//	s.Append(event) // from the road, any goroutine
//	ended, err := s.Finish(exit, time.Now())
//
//	r, err := store.Open(path)
//	flows, err := r.Flows(store.Query{Limit: 200})
//	err = r.Follow(ctx, true, func(c store.Change) error { … })
//
// It knows nothing of what a flow means: calls to language models and their
// cost are worked out by those who read, and may be kept beside the flow
// (annotate.go).
//
// # Theory of operation
//
// A session is one SQLite file (schema.go). One goroutine, the writer, is the
// only one of this process to write it.
//
// Append copies an event into a queue of at most 8 MB and returns; when the
// queue is full it waits, and so does the road. The writer takes the whole
// queue every 10 ms, or at once when a live event is in it, and folds the
// events into rows (fold.go): every open flow is held as the exchange that it
// will be. Heads, bodies, events and messages pass the redaction gate
// (gate.go) here and nowhere else. Bodies are cut into content-defined chunks
// (chunk.go); chunks not met before are compressed together in packs
// (pack.go); a body is a recipe of chunk ids. All this happens outside of any
// transaction. Then one BEGIN IMMEDIATE … COMMIT writes what came of it
// (commit.go). Committed means safe against SIGKILL of this process, not
// against power loss.
//
// Events of the event streams of both sides (stream.go), and messages of a
// websocket (message.go), are written to the table tail as they come, and moved
// to body in segments of 256 KB and at the end, in one transaction each: a
// reader sees every event once, in tail or in body. The events of both sides
// have one row of indexes, in the order in which they came.
// The end of an event that may be the beginning of a secret is held back: its
// row is partial, and a later row of the same index replaces it. When too much
// waits behind such an event, it is decided as it stands. The hash of a
// message is written once redaction has left all of it as it was.
//
// The wire form (raw.go) is kept only where secrets are. It goes the way of
// bodies, so that what it has in common with them is there once.
//
// Bodies which redaction must see whole (JSON, forms) are gathered in memory
// up to 64 MB each and 128 MB in all; others stream through it, and are
// committed every 2 MB, or after a second of silence.
//
// When a transaction fails for want of space or by an I/O error, recording
// stops: what was being written is kept in memory and tried again every
// second, new events are counted and dropped, and nobody on the road waits.
// When it succeeds a gap mark says what is missing. The flows that were open
// go on, those that began meanwhile are lost.
//
// Others write too, in transactions of their own: a person names a moment of a
// running session (marks.go), flows are sent again and recorded (reopen.go),
// flows are deleted from a session that is over, and with them the chunks that
// only they had (clear.go).
//
// A session can be made again elsewhere while it is being written: a Feed
// (feed.go) reads the rows that bursts wrote, as a follower does, and a Copy
// (copy.go) writes them into a file of its own and remembers in the same
// transaction how far it is. What passed the gate once does not pass it again.
//
// Search (search.go) goes through the recipes of bodies and looks at each chunk
// once, together with what stands before and behind it: the same neighbours have
// the same matches, in whichever body.
//
// A reader of a session that was recorded with its secrets can have all that it
// hands out pass the gate then (redacted.go): the same text comes out as if it had
// been recorded without them.
//
// Readers (reader.go) open the file themselves, read-only, and take one read
// transaction per question. Every burst has a number, which is left in the
// rows that it changed: followers (follow.go) ask for the rows of later
// bursts. A session that has no end, and whose writer's lock is free, has
// crashed; its open flows are shown as failed.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"trace/flow"
	"trace/redact"
)

// defaultQueue is the size of the queue, in bytes, where Options has none.
const defaultQueue = 8 << 20

// Options says how a session is recorded. The zero value works, and redacts
// nothing.
type Options struct {
	Redact *redact.Redactor     // nil: secrets are kept
	Queue  int                  // bytes that wait at most before Append does; 0: 8 MiB
	Log    func(string, ...any) // diagnostics; nil: silent
}

// A Store records one session. Its methods are safe for concurrent use.
type Store struct {
	path     string // "" once unlinked
	session  flow.Session
	queue    *queue
	writer   *writer
	done     chan struct{} // closed when the writer goroutine has ended
	lock     *os.File      // held while the session runs; nil if unlinked
	shared   *connections  // readers' connections of an unlinked file
	commits  atomic.Int64  // bursts committed, for readers in this process
	ended    atomic.Bool
	readers  atomic.Int32 // of this process, of a file that has a name
	finished atomic.Bool
	joined   bool // the session is another's: see Reopen
}

// Create makes a new session file at path, which must not exist, and starts
// recording into it. The directory must exist. s.ID should come from NewID.
func Create(path string, s flow.Session, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := touch(path); err != nil {
		return nil, err
	}
	st := &Store{path: path}
	if st.lock, err = lockRunning(path); err == nil {
		err = st.start(path, s, o)
	}
	if err != nil {
		removeAll(path)
		return nil, fmt.Errorf("session %s: %w", path, err)
	}
	return st, nil
}

// touch creates the empty file: exclusively, and never through a symbolic link
// that somebody has put there. SQLite opens it by name later; by then the
// name is ours.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return &FileError{Path: path, Problem: err.Error(), Err: err}
	}
	// This close comes before SQLite has the file open: a later one would
	// drop its POSIX locks.
	return f.Close()
}

// CreateUnlinked is Create for a session that leaves nothing: its file lies in
// dir, or on a tmpfs if dir is "", and has no name any more when
// CreateUnlinked returns. Only Reader can read it.
func CreateUnlinked(dir string, s flow.Session, o Options) (*Store, error) {
	if dir == "" {
		dir = tmpfs()
	}
	path := filepath.Join(dir, ".trace-"+NewID(time.Now()))
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := touch(path); err != nil {
		return nil, err
	}
	defer removeAll(path)
	st := &Store{}
	if err := st.start(path, s, o); err != nil {
		return nil, fmt.Errorf("session %s: %w", path, err)
	}
	// The write-ahead log is opened by name too: every connection that will
	// ever be needed is opened, and has read, before the name goes.
	if st.shared, err = openShared(path); err != nil {
		st.queue.close()
		<-st.done
		st.writer.close()
		return nil, fmt.Errorf("session %s: %w", path, err)
	}
	return st, nil
}

// start lays the schema out and starts the writer.
func (s *Store) start(path string, session flow.Session, o Options) error {
	limit := o.Queue
	if limit <= 0 {
		limit = defaultQueue
	}
	w, err := newWriter(path, session, o)
	if err != nil {
		return err
	}
	s.session = w.session
	s.writer, s.queue, s.done = w, newQueue(limit), make(chan struct{})
	go s.run()
	return nil
}

// Append records a copy of e. It waits only while the queue is full, which is
// when the disk is slower than the road; it never fails. Events after Finish
// are ignored.
func (s *Store) Append(e flow.Event) { s.queue.put(e, true) }

// Offer is Append for the packet path: if the queue is full, the event is
// dropped and counted in a gap mark, and Offer returns false.
func (s *Store) Offer(e flow.Event) bool { return s.queue.put(e, false) }

// Flush waits until everything appended so far is committed, and returns why
// it could not be.
func (s *Store) Flush() error { return s.queue.flush() }

// Err returns why recording stands still (the disk is full, say), nil while
// it works.
func (s *Store) Err() error { return s.queue.stopped() }

// Session returns the session as it was created, its command line redacted.
func (s *Store) Session() flow.Session { return s.session }

// Finish commits what is queued, ends flows still open as failed, marks the
// session ended with the child's exit code and leaves one file. The session
// is returned also with an error. Later calls do nothing.
func (s *Store) Finish(exit int, at time.Time) (flow.Session, error) {
	if s.finished.Swap(true) {
		return s.session, errors.New("session is finished already")
	}
	s.queue.close()
	<-s.done
	w := s.writer
	var err error
	if s.joined {
		w.abandonAll(at)
		err = w.leave()
	} else {
		err = w.finish(exit, at)
	}
	session := w.summary()
	if s.joined {
		session.State = s.session.State
	}
	s.commits.Add(1)
	s.ended.Store(true)
	if err == nil && !s.joined {
		w.oneFile(s.shared != nil || s.readers.Load() > 0)
	}
	if e := w.close(); err == nil {
		err = e
	}
	if s.path != "" && w.blank && s.readers.Load() == 0 {
		syncFile(s.path) // that it is gone is told below
	}
	if s.shared != nil {
		s.shared.release()
	}
	if s.lock != nil {
		os.Remove(s.lock.Name())
		s.lock.Close()
	}
	session.File = s.path
	if s.path != "" {
		fi, e := os.Stat(s.path)
		if e == nil {
			session.Bytes = fi.Size()
		} else if err == nil {
			err = fmt.Errorf("the file was removed during the run: %w", e)
		}
	}
	if err != nil {
		err = fmt.Errorf("session %s: %w", s.path, err)
	}
	return session, err
}
