package console

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// escapeTime is how long the rest of a key's sequence may take: over ssh, what one
// key sends comes in one packet.
const escapeTime = 50 * time.Millisecond

// readKeys tells of keys until Close, or until the terminal is gone.
func (s *Screen) readKeys() {
	defer s.Restore() // matters where this panics: else the screen is at its end
	var d decoder
	buf := make([]byte, 1024)
	for {
		ready, ended := s.readable(len(d.rest) > 0)
		if ended {
			return
		}
		keys := d.flush
		if ready {
			n, err := unix.Read(s.fd, buf)
			switch {
			case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
				continue
			case err != nil || n <= 0:
				s.ending.Store(true)
				s.tell(Event{Gone: true})
				return
			}
			keys = func() []Key { return d.write(buf[:n]) }
		}
		for _, k := range keys() {
			s.tell(Event{Key: k})
		}
	}
}

// readable waits until there is something to read, not for long if a key has begun.
// ended tells that Close was called.
func (s *Screen) readable(begun bool) (ready, ended bool) {
	for {
		var set unix.FdSet
		set.Set(s.fd)
		set.Set(s.wake[0])
		var wait *unix.Timeval
		if begun {
			wait = new(unix.NsecToTimeval(int64(escapeTime)))
		}
		switch _, err := unix.Select(max(s.fd, s.wake[0])+1, &set, nil, nil, wait); {
		case err == nil:
			return set.IsSet(s.fd), set.IsSet(s.wake[0])
		case !errors.Is(err, unix.EINTR):
			return true, false // reading will tell
		}
	}
}
