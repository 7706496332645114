package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"trace/control"
	"trace/store"
)

// How long a serve waits for a run whose connection was lost, before its session
// counts as crashed: a run waits up to 30 s between two attempts. Of one whose
// process is gone nothing more is expected. Variables for tests.
var (
	attachGrace = 75 * time.Second
	attachCheck = time.Second // how often it is asked whether the process lives
)

// A receiver keeps the sessions that runs send to a serve (control.Receiver), each
// in a file of the directory of sessions.
type receiver struct {
	dir string
	log func(format string, args ...any)

	mu       sync.Mutex
	sessions map[string]*received
	closed   bool
}

// newReceiver makes a receiver. log may be nil.
func newReceiver(dir string, log func(format string, args ...any)) *receiver {
	if log == nil {
		log = func(string, ...any) {}
	}
	return &receiver{dir: dir, log: log, sessions: map[string]*received{}}
}

// received is one session that is being sent.
type received struct {
	busy  sync.Mutex // held while something is done to it
	copy  *store.Copy
	calls *summariser
	over  bool

	mu     sync.Mutex // guards what follows
	told   control.Attached
	silent *time.Timer // running while no run is connected
}

// Open implements control.Receiver.
func (r *receiver) Open(id string, h control.Hello) (control.Position, error) {
	s, err := r.enter(id)
	if err != nil {
		return "", err
	}
	defer s.busy.Unlock()
	s.heard(0)
	if s.copy == nil || s.over {
		if err := s.begin(r, id, h); err != nil {
			r.forget(id, s)
			return "", receiverError(err)
		}
	}
	return control.Position(s.copy.Position()), nil
}

// begin opens the file.
func (s *received) begin(r *receiver, id string, h control.Hello) error {
	if err := store.MakeDir(r.dir); err != nil {
		return err
	}
	c, err := store.NewCopy(r.dir, h.Session, h.Format)
	if err != nil {
		return err
	}
	if got := c.Session().ID; got != id {
		return errors.Join(fmt.Errorf("%w: it is called %s, not %s", store.ErrUncopied, got, id), c.Close(""))
	}
	s.copy, s.over = c, false
	s.calls = newSummariser(c, r.log)
	s.calls.saw()
	session := c.Session()
	s.mu.Lock()
	s.told.ID, s.told.Name, s.told.PID, s.told.File, s.told.Flows = id, session.Name, session.PID, c.Path(), c.Flows()
	s.mu.Unlock()
	return nil
}

// enter returns the session of that id, new if it is not known, for the caller
// alone.
func (r *receiver) enter(id string) (*received, error) {
	for {
		s, err := r.get(id)
		if err != nil {
			return nil, err
		}
		s.busy.Lock()
		if r.find(id) == s {
			return s, nil
		}
		s.busy.Unlock() // it was ended meanwhile
	}
}

// get returns the session of that id, new if it is not known.
func (r *receiver) get(id string) (*received, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("trace serve is ending")
	}
	s := r.sessions[id]
	if s == nil {
		s = &received{told: control.Attached{Since: control.Time{Time: time.Now()}}}
		r.sessions[id] = s
	}
	return s, nil
}

func (r *receiver) find(id string) *received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[id]
}

func (r *receiver) forget(id string, s *received) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[id] == s {
		delete(r.sessions, id)
	}
}

// heard notes that the run lives.
func (s *received) heard(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told.State, s.told.Seen = "attached", control.Time{Time: time.Now()}
	s.told.Bytes += int64(bytes)
	if s.silent != nil {
		s.silent.Stop()
		s.silent = nil
	}
}

// took notes what is there now.
func (s *received) took() {
	flows := s.copy.Flows()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told.Flows = flows
}

// Take implements control.Receiver.
func (r *receiver) Take(id string, from control.Position, batch []byte) (control.Position, error) {
	s := r.find(id)
	if s == nil {
		return "", control.ErrPosition
	}
	s.busy.Lock()
	defer s.busy.Unlock()
	if s.copy == nil || s.over {
		return "", control.ErrPosition
	}
	s.heard(len(batch))
	if err := s.copy.Apply(string(from), batch); err != nil {
		return "", receiverError(err)
	}
	s.took()
	return control.Position(s.copy.Position()), nil
}

// End implements control.Receiver.
func (r *receiver) End(id string, e control.End) (control.Kept, error) {
	s := r.find(id)
	if s == nil {
		return control.Kept{}, control.ErrPosition
	}
	s.busy.Lock()
	defer s.busy.Unlock()
	if s.copy == nil || s.over {
		return control.Kept{}, control.ErrPosition
	}
	s.heard(0)
	s.calls.close()
	s.over = true
	if err := s.copy.Complete(e.Ended.Time, e.Exit); err != nil {
		s.copy.Close("")
		r.forget(id, s)
		return control.Kept{}, err
	}
	r.forget(id, s)
	return control.Kept{File: s.copy.Path()}, nil
}

// Lost implements control.Receiver.
func (r *receiver) Lost(id string) {
	s := r.find(id)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent == nil {
		s.told.State = "lost"
		s.silent = time.AfterFunc(attachCheck, func() { r.miss(id, s) })
	}
}

// miss closes a session whose run does not come back.
func (r *receiver) miss(id string, s *received) {
	s.mu.Lock()
	if s.silent == nil { // it came back just now
		s.mu.Unlock()
		return
	}
	seen := s.told.Seen.Time
	if time.Since(seen) < attachGrace && processLives(s.told.PID) {
		s.silent.Reset(attachCheck)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.busy.Lock()
	defer s.busy.Unlock()
	s.mu.Lock()
	back := s.silent == nil
	s.mu.Unlock()
	if back { // meanwhile
		return
	}
	s.end(fmt.Sprintf("the run was not heard of again after %s: what it recorded since is not here", seen.UTC().Format(time.RFC3339)), r)
	r.forget(id, s)
}

// processLives tells whether there is a process of that number.
func processLives(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) != syscall.ESRCH }

// end closes the file, once. s.busy is held.
func (s *received) end(missing string, r *receiver) {
	if s.over || s.copy == nil {
		return
	}
	s.over = true
	s.calls.close()
	if err := s.copy.Close(missing); err != nil {
		r.log("attached session %s: %v", s.copy.Path(), err)
	}
}

// close leaves all sessions as they are: their runs find the next serve.
func (r *receiver) close() {
	r.mu.Lock()
	r.closed = true
	sessions := r.sessions
	r.sessions = map[string]*received{}
	r.mu.Unlock()
	for _, s := range sessions {
		s.busy.Lock()
		s.heard(0) // stops the timer
		s.end("", r)
		s.busy.Unlock()
	}
}

// attached tells who sends, by their start. It waits for nobody.
func (r *receiver) attached() []control.Attached {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []control.Attached{}
	for _, s := range r.sessions {
		s.mu.Lock()
		if s.told.File != "" {
			list = append(list, s.told)
		}
		s.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b control.Attached) int { return a.Since.Compare(b.Since.Time) })
	return list
}

// receiverError says to the run what an error means to it.
func receiverError(err error) error {
	switch {
	case errors.Is(err, store.ErrPosition):
		return control.ErrPosition
	case errors.Is(err, store.ErrUncopied), errors.Is(err, store.ErrEnded):
		return &control.RefusedError{Reason: err.Error()}
	}
	return err
}
