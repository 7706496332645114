package store

import "slices"

// streams tells the pieces of a flow that were not told yet, those of both
// sides in the order in which they came. more tells that the budget ended it.
func (f *follower) streams(d *db, id int64, st *followed, fresh bool, budget *int) (more bool, err error) {
	from := len(f.out)
	for part := range st.logs {
		if part == partMessages {
			slices.SortStableFunc(f.out[from:], func(a, b Change) int { return a.Piece.Index - b.Piece.Index })
		}
		late, err := f.stream(d, id, st, part, fresh, budget)
		if err != nil {
			return false, err
		}
		more = more || late
	}
	return more, nil
}

// stream tells those of one part.
func (f *follower) stream(d *db, id int64, st *followed, part int, fresh bool, budget *int) (more bool, err error) {
	g := &st.logs[part]
	if fresh {
		from := g.next
		for i := range g.partial {
			from = min(from, i)
		}
		if *budget <= 0 {
			return true, nil
		}
		ps, more, err := f.r.segments(d, id, part, from, *budget)
		if err != nil {
			return false, err
		}
		f.pieces(st, g, ps, budget)
		if more {
			return true, nil
		}
	}
	ps, err := tailPieces(d, id, g.seq, part)
	for _, p := range ps {
		g.seq = max(g.seq, p.seq)
	}
	f.pieces(st, g, ps, budget)
	return false, err
}

// pieces tells those of ps, which come in order, that are news.
func (f *follower) pieces(st *followed, g *followedLog, ps []*piece, budget *int) {
	for _, p := range ps {
		*budget -= len(p.data)
		if p.flags&isPlain != 0 || p.idx < g.next && !g.partial[p.idx] {
			continue
		}
		g.next = max(g.next, p.idx+1)
		delete(g.partial, p.idx)
		if p.flags&isPartial != 0 {
			if g.partial == nil {
				g.partial = map[int64]bool{}
			}
			g.partial[p.idx] = true
		}
		q := p.public()
		f.out = append(f.out, Change{Step: Streamed, Flow: st.x, Piece: &q})
	}
}
