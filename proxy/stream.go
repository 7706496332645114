package proxy

import (
	"io"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An item is a header section or a piece of data that came on a stream.
type item struct {
	fields []hpack.HeaderField // nil: data
	data   []byte
	end    bool // it is the last
}

// A stream is one end of a stream. What comes waits in its inbox, as much as the
// window lets in. The lock of its link guards it.
type stream struct {
	l       *link
	id      uint32
	broken  chan struct{} // closed with err
	arrived sync.Cond
	inbox   []item
	over    bool  // the last item came
	sent    bool  // the last was sent
	window  int64 // bytes that may be sent
	may     int64 // bytes that may still come
	taken   int64 // bytes that may come again, but were not told so
	err     error // it was broken off
}

// came puts an item into the inbox. The lock is held.
func (s *stream) came(it item) {
	if s.over || s.err != nil {
		s.l.credit(int64(len(it.data)))
		return
	}
	s.inbox = append(s.inbox, it)
	if s.over = it.end; s.over && s.sent {
		s.l.forget(s)
	}
	s.arrived.Broadcast()
}

// breakOff ends the stream. The lock is held.
func (s *stream) breakOff(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	close(s.broken)
	s.arrived.Broadcast()
	s.l.room.Broadcast()
}

// next waits for what comes next. After the last item it returns io.EOF.
func (s *stream) next() (item, error) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	for {
		switch {
		case len(s.inbox) > 0:
			it := s.inbox[0]
			s.inbox = s.inbox[1:]
			return it, nil
		case s.over:
			return item{}, io.EOF
		case s.err != nil:
			return item{}, s.err
		}
		s.arrived.Wait()
	}
}

// took says that n bytes of what came are on their way.
func (s *stream) took(n int) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.credit(int64(n))
}

// credit lets the other end send n bytes more. The lock is held.
func (s *stream) credit(n int64) {
	s.l.credit(n)
	if s.taken += n; s.taken < streamWindow/4 || s.over || s.err != nil {
		return
	}
	more := uint32(s.taken)
	s.may, s.taken = s.may+s.taken, 0
	s.l.ordered(func() error { return s.l.fr.WriteWindowUpdate(s.id, more) })
}

// problem returns why nothing can be sent, nil if it can.
func (s *stream) problem() error {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if s.err == nil && s.l.err != nil {
		return &goneError{s.l.err}
	}
	return s.err
}

// headers sends a header section.
func (s *stream) headers(fields []hpack.HeaderField, end bool) error {
	s.l.wmu.Lock()
	defer s.l.wmu.Unlock()
	if err := s.problem(); err != nil {
		return err
	}
	return s.l.writeHeaders(s, fields, end)
}

// write sends data, as the windows let it.
func (s *stream) write(p []byte, end bool) error {
	for {
		n, err := s.reserve(len(p))
		if err != nil {
			return err
		}
		if err := s.frame(p[:n], end && n == len(p)); err != nil {
			return err
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
	}
}

func (s *stream) frame(p []byte, end bool) error {
	s.l.wmu.Lock()
	defer s.l.wmu.Unlock()
	if err := s.problem(); err != nil {
		return err
	}
	return s.l.wrote(s, end, s.l.fr.WriteData(s.id, end, p))
}

// reserve waits until some of n bytes may be sent.
func (s *stream) reserve(n int) (int, error) {
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch room := min(l.window, s.window, int64(l.frame), int64(n)); {
		case s.err != nil:
			return 0, s.err
		case l.err != nil:
			return 0, &goneError{l.err}
		case n == 0:
			return 0, nil
		case room > 0:
			l.window -= room
			s.window -= room
			return int(room), nil
		}
		l.room.Wait()
	}
}

// reset breaks the stream off, unless it is over.
func (s *stream) reset(code http2.ErrCode) {
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	left := int64(0)
	for _, it := range s.inbox {
		left += int64(len(it.data))
	}
	s.inbox = nil
	l.credit(left)
	if s.err != nil || s.over && s.sent {
		return
	}
	s.breakOff(&resetError{code: code})
	l.forget(s)
	l.ordered(func() error { return l.fr.WriteRSTStream(s.id, code) })
}
