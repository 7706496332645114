package shelf_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"trace/shelf"
)

// A library opens books, and knows which are open.
type library struct {
	mu   sync.Mutex
	open []string
}

type book struct {
	of   *library
	name string
}

func (l *library) take(id string) (*book, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == "missing" {
		return nil, errors.New("no such book")
	}
	l.open = append(l.open, id)
	return &book{l, id}, nil
}

func (b *book) Close() error {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	i := slices.Index(b.of.open, b.name)
	if i < 0 {
		return fmt.Errorf("%s was closed before", b.name)
	}
	b.of.open = slices.Delete(b.of.open, i, i+1)
	return nil
}

// are wants these to be open.
func (l *library) are(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := slices.Sorted(slices.Values(l.open)); !slices.Equal(got, want) {
		t.Errorf("open are %q, want %q", got, want)
	}
}

func TestShelf(t *testing.T) {
	l := &library{}
	s := shelf.New(2, l.take)
	take := func(id string) *shelf.Item[*book] {
		t.Helper()
		it, err := s.Take(id)
		if err != nil || it.ID != id || it.Value.name != id {
			t.Fatalf("%s: %+v, %v", id, it, err)
		}
		return it
	}
	if it, err := s.Take("missing"); it != nil || err == nil {
		t.Errorf("%v, %v", it, err)
	}
	a, b, c := take("a"), take("b"), take("c")
	if again := take("a"); again != a {
		t.Error("a was opened twice")
	}
	l.are(t, "a", "b", "c") // one too many, but all are in use
	a.Release()
	b.Release()
	l.are(t, "a", "c") // a is still in use
	c.Release()
	take("d").Release()
	l.are(t, "a", "d")
	if !a.Share() {
		t.Error("cannot be shared")
	}
	s.Shut()
	if a.Share() {
		t.Error("shared after Shut")
	}
	if _, err := s.Take("a"); !errors.Is(err, shelf.ErrShut) {
		t.Errorf("taken after Shut: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	l.are(t, "a")
	a.Release()
	l.are(t, "a")
	s.Each(func(b *book) {
		if b.name != "a" {
			t.Errorf("%s is open", b.name)
		}
	})
	go a.Release()
	s.Wait()
	l.are(t)
}

func TestShelfBusy(t *testing.T) {
	l := &library{}
	s := shelf.New(1, l.take)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 200 {
				it, err := s.Take(string(rune('a' + (i+n)%4)))
				if err != nil {
					t.Error(err)
					return
				}
				it.Release()
			}
		})
	}
	all.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	l.are(t)
}
