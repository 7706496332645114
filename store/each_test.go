package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"trace/flow"
)

// TestPieces: one at a time they are what Events and Messages return, while
// the flow runs and after.
func TestPieces(t *testing.T) {
	now := time.Now()
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Create(path, flow.Session{ID: NewID(now), Started: now}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := &flow.Head{Method: "POST", Streaming: true, Framing: flow.FramingGRPC}
	s.Append(flow.Event{Kind: flow.Request, Conn: 1, Flow: 1, At: now, Head: head})
	s.Append(flow.Event{Kind: flow.Response, Conn: 1, Flow: 1, At: now, Side: flow.Server, Head: head})
	s.Append(flow.Event{Kind: flow.Opaque, Conn: 2, Flow: 1, At: now})
	const n = 4000
	for i := range n {
		e := flow.Event{Kind: flow.StreamEvent, Conn: 1, Flow: 1, Side: flow.Side(i / 3 % 2), At: now.Add(time.Duration(i) * time.Microsecond), Data: fmt.Appendf(nil, "%0200d", i)}
		s.Append(e)
		if i%7 == 0 {
			e.Kind, e.Data = flow.Body, []byte(", ") // between events
			s.Append(e)
		}
		e.Kind, e.Conn, e.Size = flow.Message, 2, 300
		s.Append(e)
	}
	compare := func(when string) {
		t.Helper()
		for id, all := range map[int64]func(int64) ([]flow.Piece, error){1: r.Events, 2: r.Messages} {
			want, err := all(id)
			if err != nil || len(want) != n {
				t.Fatalf("%s: flow %d: %d pieces, %v", when, id, len(want), err)
			}
			var got []flow.Piece
			if err := r.Pieces(id, func(p flow.Piece) error { got = append(got, p); return nil }); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: flow %d: %d pieces one at a time, %v, want %d", when, id, len(got), err, n)
			}
			for _, from := range []int{1, n / 2, n - 1, n, n + 5} {
				got = nil
				if err := r.PiecesFrom(id, from, func(p flow.Piece) error { got = append(got, p); return nil }); err != nil || len(got) != max(0, n-from) || len(got) > 0 && !reflect.DeepEqual(got, want[from:]) {
					t.Errorf("%s: flow %d: %d pieces from %d, %v", when, id, len(got), from, err)
				}
			}
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	compare("running")
	if _, err := s.Finish(0, now); err != nil {
		t.Fatal(err)
	}
	compare("ended")
	seen, enough := 0, errors.New("enough")
	if err := r.Pieces(1, func(flow.Piece) error { seen++; return enough }); err != enough || seen != 1 {
		t.Errorf("an error of fn: %v after %d", err, seen)
	}
	if err := r.Pieces(9, func(flow.Piece) error { return nil }); !errors.Is(err, ErrNoFlow) {
		t.Errorf("flow 9: %v", err)
	}
}
