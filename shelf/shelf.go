// Package shelf keeps open what takes longer to open than to ask: a few
// things that nobody uses just now, and all that somebody does.
package shelf

import (
	"errors"
	"io"
	"sync"
	"time"
)

// ErrShut is the answer to those who come after Shut or Close.
var ErrShut = errors.New("server: it is being closed")

// A Shelf holds what is open, by its id. Its methods may be called
// concurrently.
type Shelf[T io.Closer] struct {
	spare int
	open  func(id string) (T, error)
	held  sync.WaitGroup

	mu    sync.Mutex
	items map[string]*Item[T]
	shut  bool
}

// An Item is a thing on a shelf that somebody has taken.
type Item[T io.Closer] struct {
	ID    string // as Take was asked for it
	Value T      // closed by the shelf

	shelf *Shelf[T]
	refs  int
	used  time.Time
}

// New returns a shelf that opens things with open, one at a time, and closes
// the one that was not used for longest while more than spare are open.
func New[T io.Closer](spare int, open func(id string) (T, error)) *Shelf[T] {
	return &Shelf[T]{spare: spare, open: open, items: map[string]*Item[T]{}}
}

// Take returns the item id, opened if it is not open. The caller releases it.
// The error is open's, or ErrShut.
func (s *Shelf[T]) Take(id string) (*Item[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return nil, ErrShut
	}
	it := s.items[id]
	if it == nil {
		v, err := s.open(id)
		if err != nil {
			return nil, err
		}
		it = &Item[T]{Value: v, shelf: s, ID: id}
		s.items[id] = it
	}
	it.hold()
	return it, nil
}

// Share counts one more who uses an item that the caller holds, and who
// releases it too. It returns false, and counts nobody, once the shelf is shut.
func (it *Item[T]) Share() bool {
	s := it.shelf
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shut {
		it.hold()
	}
	return !s.shut
}

func (it *Item[T]) hold() {
	it.refs++
	it.used = time.Now()
	it.shelf.held.Add(1)
}

// Release gives the item back. Once the shelf is shut, the last one closes it.
func (it *Item[T]) Release() {
	s := it.shelf
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.held.Done()
	it.refs--
	it.used = time.Now()
	if s.shut && it.refs == 0 {
		delete(s.items, it.ID)
		it.Value.Close()
	}
	for len(s.items) > s.spare {
		var oldest *Item[T]
		for _, it := range s.items {
			if it.refs == 0 && (oldest == nil || it.used.Before(oldest.used)) {
				oldest = it
			}
		}
		if oldest == nil {
			return
		}
		delete(s.items, oldest.ID)
		oldest.Value.Close()
	}
}

// Each calls fn for everything that is open, with the shelf locked: fn calls
// none of its methods.
func (s *Shelf[T]) Each(fn func(T)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.items {
		fn(it.Value)
	}
}

// Shut has nothing taken any more.
func (s *Shelf[T]) Shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
}

// Wait waits until everything is given back. It is called after Shut.
func (s *Shelf[T]) Wait() { s.held.Wait() }

// Close shuts the shelf and closes what nobody uses; the rest closes when it
// is given back.
func (s *Shelf[T]) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	var errs []error
	for id, it := range s.items {
		if it.refs == 0 {
			delete(s.items, id)
			errs = append(errs, it.Value.Close())
		}
	}
	return errors.Join(errs...)
}
