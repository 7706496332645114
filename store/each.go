package store

import (
	"fmt"

	"trace/flow"
)

// Pieces calls fn for the events of both sides of a flow, or for its messages,
// in the order of Events and Messages. It holds a segment of them at a time,
// however many there are, and stops at the first error of fn.
func (r *Reader) Pieces(id int64, fn func(flow.Piece) error) error { return r.PiecesFrom(id, 0, fn) }

// PiecesFrom is Pieces from the event or message with that index on. What lies
// before is not read.
func (r *Reader) PiecesFrom(id int64, index int, fn func(flow.Piece) error) error {
	if r.gate != nil {
		x, err := r.Flow(id)
		if err != nil {
			return err
		}
		return r.redactedPieces(x, []int{partRequest, partResponse, partMessages}, func(p *piece) error {
			if p.flags&isPlain != 0 || p.idx < int64(index) {
				return nil
			}
			return fn(p.public())
		})
	}
	if err := r.with(func(d *db) error { return exists(d, id) }); err != nil {
		return err
	}
	cursors := []cursor{{part: partRequest}, {part: partResponse}, {part: partMessages}}
	for i := range cursors {
		cursors[i].from = int64(index)
	}
	return r.merge(id, cursors, func(p *piece) error { return fn(p.public()) })
}

// merge calls fn for what cursors yield, in the order of the indexes.
func (r *Reader) merge(id int64, cursors []cursor, fn func(*piece) error) error {
	for {
		var first *cursor
		for i := range cursors {
			c := &cursors[i]
			if err := r.fill(id, c); err != nil {
				return err
			}
			if len(c.ps) > 0 && (first == nil || c.ps[0].idx < first.ps[0].idx) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		if err := fn(first.ps[0]); err != nil {
			return err
		}
		first.ps = first.ps[1:]
	}
}

// A cursor is how far the pieces of a part have been read.
type cursor struct {
	part  int
	from  int64 // pieces with a lower index are passed over
	plain bool  // also what stands between events
	seq   int64 // of the next segment
	ps    []*piece
	over  bool
}

// fill reads the next segment that holds events or messages, and after the
// last one what waits in tail: in one transaction, between which and the next
// pieces may move from there to here.
func (r *Reader) fill(id int64, c *cursor) error {
	for len(c.ps) == 0 && !c.over {
		err := r.with(func(d *db) error { return d.snapshot(func() error { return r.fillOnce(d, id, c) }) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) fillOnce(d *db, id int64, c *cursor) error {
	row, err := d.one("SELECT seq,first,recipe,times FROM body WHERE flow=? AND part=? AND seq>=? AND times IS NOT NULL AND first+count>? ORDER BY seq LIMIT 1", id, c.part, c.seq, c.from)
	if err != nil {
		return err
	}
	var ps []*piece
	if row == nil {
		c.over = true
		ps, err = tailPieces(d, id, 0, c.part)
	} else {
		c.seq = row.int(0) + 1
		ps, err = r.segment(d, row.int(1), row.blob(2), row.blob(3))
	}
	if err != nil {
		return fmt.Errorf("flow %d: %w", id, err)
	}
	for _, p := range ps {
		if (c.plain || p.flags&isPlain == 0) && p.idx >= c.from {
			c.ps = append(c.ps, p)
		}
	}
	return nil
}

// segment returns the pieces of one segment.
func (r *Reader) segment(d *db, first int64, recipe, table []byte) ([]*piece, error) {
	spans, err := parseRecipe(recipe)
	if err != nil {
		return nil, err
	}
	body, err := r.read(d, nil, spans)
	if err != nil {
		return nil, err
	}
	times, err := unsqueeze(r.dec, table)
	if err != nil {
		return nil, err
	}
	return parseTimes(times, body, first)
}
