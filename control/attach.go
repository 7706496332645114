package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
)

// MaxBatch bounds a batch, in bytes.
const MaxBatch = 256 << 20

// maxHello bounds the other bodies of requests.
const maxHello = 4 << 20

// A Receiver keeps the sessions that runs send, each under its id. Its methods
// are called by many goroutines, those for one session by one at a time as long
// as only one run sends it. What an error says is told to the run: ErrPosition
// and a *RefusedError as such, others as something that may pass.
type Receiver interface {
	// Open begins a session, or goes on with one that was begun, and returns the
	// position from which on it is wanted.
	Open(id string, h Hello) (Position, error)
	// Take keeps what happened from a position on and returns the next. When it
	// returns, it is committed.
	Take(id string, from Position, batch []byte) (Position, error)
	// End says that the session is complete.
	End(id string, e End) (Kept, error)
	// Lost says that the run is not connected any more. It may come back.
	Lost(id string)
}

// A Hello begins or resumes a session.
type Hello struct {
	Format  int    `json:"format"`  // of rows
	Session []byte `json:"session"` // who and what, as a row
}

// A Position says how far a session is kept. Only the ends know how to read it.
type Position string

// An End is the end of a session.
type End struct {
	Ended Time `json:"ended"` // zero: it crashed
	Exit  int  `json:"exit"`
}

// Kept says where a session lies now.
type Kept struct {
	File string `json:"file"`
}

// ErrPosition says that a batch does not begin where the one before it ended.
var ErrPosition = errors.New("another position is wanted")

// A RefusedError says that a session is not taken, now or later.
type RefusedError struct{ Reason string }

// Error returns the reason.
func (e *RefusedError) Error() string { return e.Reason }

// positionHeader carries the position from which on a batch is.
const positionHeader = "Trace-Position"

// positioned is the answer that says which position is next.
type positioned struct {
	Position Position `json:"position"`
}

// said makes a handler of what runs say about a session, in most bytes at most. What
// take returns is the answer.
func (s *Server) said(most int64, take func(r *http.Request, id string, body []byte) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("session")
		if !isID(id) {
			refuse(w, http.StatusUnprocessableEntity, fmt.Errorf("session %q: not an id", id))
			return
		}
		p, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
		if err != nil {
			s.fail(w, id, &RefusedError{fmt.Sprintf("body: %v", err)})
			return
		}
		v, err := take(r, id, p)
		if err != nil {
			s.fail(w, id, err)
			return
		}
		answer(w, v)
	}
}

func isID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// read reads a body of JSON.
func read(id string, body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return &RefusedError{fmt.Sprintf("session %s: %v", id, err)}
	}
	return nil
}

func (s *Server) open(r *http.Request, id string, body []byte) (any, error) {
	var h Hello
	if err := read(id, body, &h); err != nil {
		return nil, err
	}
	s.join(callerOf(r), id) // before, so that the end of an older connection does not count
	pos, err := s.Attach.Open(id, h)
	return positioned{pos}, err
}

func (s *Server) batch(r *http.Request, id string, body []byte) (any, error) {
	pos, err := s.Attach.Take(id, Position(r.Header.Get(positionHeader)), body)
	return positioned{pos}, err
}

func (s *Server) end(r *http.Request, id string, body []byte) (any, error) {
	var e End
	if err := read(id, body, &e); err != nil {
		return nil, err
	}
	kept, err := s.Attach.End(id, e)
	if err == nil {
		s.leave(callerOf(r), id)
	}
	return kept, err
}

// join notes that a session comes over a connection.
func (s *Server) join(c *caller, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.attached[id] {
		return
	}
	if s.lines == nil {
		s.lines = map[string]int{}
	}
	if c.attached == nil {
		c.attached = map[string]bool{}
	}
	c.attached[id] = true
	s.lines[id]++
}

// leave notes that it does not any more, and tells whether another connection
// has it.
func (s *Server) leave(c *caller, id string) (others bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.attached[id] {
		delete(c.attached, id)
		s.lines[id]--
	}
	if s.lines[id] > 0 {
		return true
	}
	delete(s.lines, id)
	return false
}

// gone tells that a connection is closed.
func (s *Server) gone(c *caller) {
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(c.attached))
	s.mu.Unlock()
	for _, id := range ids {
		if !s.leave(c, id) {
			s.Attach.Lost(id)
		}
	}
}

// fail tells a run what is the matter with its session.
func (s *Server) fail(w http.ResponseWriter, id string, err error) {
	s.note("attach %s: %v", id, err)
	var refused *RefusedError
	switch {
	case errors.Is(err, ErrPosition):
		refuse(w, http.StatusConflict, err)
	case errors.As(err, &refused):
		refuse(w, http.StatusUnprocessableEntity, err)
	default:
		refuse(w, http.StatusServiceUnavailable, err)
	}
}
