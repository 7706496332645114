package store

import "trace/flow"

// A Revised is a flow as it is now, and the number of the burst that touched it
// last.
type Revised struct {
	*flow.Exchange
	Rev int64
}

// Changed returns the flows that a burst after the one numbered after touched,
// with heads, in the order of the bursts: about n of them, all that one burst
// touched together. last is the number to ask with next time, more tells that
// there are others by now. A flow that is touched again comes again.
func (r *Reader) Changed(after int64, n int) (list []Revised, last int64, more bool, err error) {
	last = after
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			state, err := r.stateNow(d)
			if err != nil {
				return err
			}
			upto, err := lastRev(d)
			if err != nil {
				return err
			}
			far, err := d.number("SELECT rev FROM flow WHERE rev>? ORDER BY rev LIMIT 1 OFFSET ?", after, max(n, 1)-1)
			if err != nil {
				return err
			}
			if far > 0 && far < upto {
				left, err := d.one("SELECT 1 FROM flow WHERE rev>? LIMIT 1", far)
				if err != nil {
					return err
				}
				if more = left != nil; more {
					upto = far
				}
			}
			f := r.folder(d, state)
			err = d.each("SELECT "+flowColumns+",d.doc,f.rev FROM flow f LEFT JOIN conn c ON c.id=f.conn LEFT JOIN detail d ON d.flow=f.id"+
				" WHERE f.rev>? AND f.rev<=? ORDER BY f.rev,f.id", []any{after, upto}, func(row row) error {
				x, err := f.exchange(row)
				if err != nil { // one damaged row hides no other
					x.Error = damaged(err)
				}
				list = append(list, Revised{x, row.int(23)})
				return nil
			})
			last = upto
			return err
		})
	})
	return list, last, more, err
}
