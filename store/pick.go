package store

import (
	"errors"
	"slices"

	"trace/flow"
)

// errEnough ends a query before its last row.
var errEnough = errors.New("enough")

// Pick is Flows for what no column tells: of those that q selects, the flows
// that match takes, Limit of them. match is asked about the newest first; what
// it gets has its kind, its connection's number and what the first line of a
// request tells.
func (r *Reader) Pick(q Query, match func(*flow.Exchange) bool) (xs []*flow.Exchange, err error) {
	where, args, err := q.where()
	if err != nil {
		return nil, err
	}
	sel := "SELECT f.id,f.conn,f.kind,f.method,f.scheme,f.host,f.port,f.path FROM flow f LEFT JOIN conn c ON c.id=f.conn" + where + " ORDER BY f.started DESC,f.id DESC"
	full := selectOutline
	if q.Heads {
		full = selectFull
	}
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			state, err := r.stateNow(d)
			if err != nil {
				return err
			}
			var ids []int64
			err = d.each(sel, args, func(row row) error {
				x := &flow.Exchange{ID: row.int(0), Kind: row.text(2)}
				x.Conn.ID = row.int(1)
				if x.Kind == flow.KindHTTP || x.Kind == flow.KindWebSocket {
					x.Request = &flow.Part{Head: &flow.Head{Method: row.text(3), Scheme: row.text(4), Host: row.text(5), Port: int(row.int(6)), Path: row.text(7)}}
				}
				if !match(x) {
					return nil
				}
				if ids = append(ids, x.ID); len(ids) == q.Limit {
					return errEnough
				}
				return nil
			})
			if err != nil && err != errEnough {
				return err
			}
			f := r.folder(d, state)
			for _, id := range slices.Backward(ids) {
				row, err := d.one(full+" WHERE f.id=?", id)
				if err != nil || row == nil {
					return err
				}
				x, err := f.exchange(row)
				if err != nil { // one damaged row hides no other
					x.Error = damaged(err)
				}
				xs = append(xs, x)
			}
			return nil
		})
	})
	return xs, err
}
