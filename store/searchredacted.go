package store

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"trace/flow"
)

// searchWindow is how much of a redacted body is searched at once.
const searchWindow = 1 << 20

// searchRedacted is Search in what redaction lets through: nothing of that is
// stored, so every body is read.
func (r *Reader) searchRedacted(ctx context.Context, ids []int64, f Finder, most int, fn func(Found) error) error {
	for _, id := range slices.Sorted(slices.Values(ids)) {
		for part := partRequest; part <= partMessages; part++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			found := Found{Flow: id, Side: flow.Side(part & 1), Messages: part == partMessages}
			err := r.searchPart(id, part, f, most, &found)
			if errors.Is(err, ErrNoFlow) { // deleted meanwhile
				continue
			}
			if err == nil && found.Total > 0 {
				err = fn(found)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Reader) searchPart(id int64, part int, f Finder, most int, found *Found) error {
	s := &searcher{r: r, f: f, most: most}
	piece := func(p *piece) error {
		s.piece(found, p)
		return nil
	}
	if found.Messages {
		found.Side = flow.Client
		x, err := r.Flow(id)
		if err != nil {
			return err
		}
		return r.redactedPieces(x, []int{part}, piece)
	}
	w := &searchedBody{s: s, found: found}
	b := &redactedBody{g: r.gate, w: w}
	err := r.redactedPart(id, found.Side, func(contentType string, p []byte, last bool) error {
		if err := b.write(contentType, p, last); err != nil || !last {
			return err
		}
		w.scan(true)
		return nil
	}, piece)
	return err
}

// A searchedBody looks for matches in a body that is written to it.
type searchedBody struct {
	s     *searcher
	found *Found
	base  int64 // offset of buf in the body
	from  int   // where in buf the next match may begin
	buf   []byte
}

// Write takes the next part of the body.
func (w *searchedBody) Write(p []byte) (int, error) {
	if w.buf = append(w.buf, p...); len(w.buf) >= searchWindow {
		w.scan(false)
	}
	return len(p), nil
}

// scan looks for the matches of which all is there.
func (w *searchedBody) scan(last bool) {
	limit := len(w.buf)
	if !last {
		limit = max(w.from, limit-w.s.f.Reach-excerptBytes)
	}
	for _, m := range w.s.f.All(w.buf) {
		if m[0] < w.from {
			continue
		}
		if m[0] >= limit {
			break
		}
		w.from = m[1]
		if w.found.Total++; len(w.found.Matches) < w.s.most {
			w.found.Matches = append(w.found.Matches, Match{Offset: w.base + int64(m[0]), Index: -1, Side: w.found.Side,
				Before: bytes.Clone(w.buf[max(0, m[0]-excerptBytes):m[0]]), Text: bytes.Clone(w.buf[m[0]:m[1]]),
				After: bytes.Clone(w.buf[m[1]:min(len(w.buf), m[1]+excerptBytes)])})
		}
	}
	w.from = max(w.from, limit)
	if gone := w.from - excerptBytes - w.s.f.Sight; gone > 0 {
		w.buf = append(w.buf[:0], w.buf[gone:]...)
		w.base += int64(gone)
		w.from -= gone
	}
}
