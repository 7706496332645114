package store

import (
	"time"

	"trace/flow"
)

// annotation is the kind of the event that Annotate queues: Flow is the number
// of the row, Data the document.
const annotation flow.Kind = 255

// maxAnnotation bounds a document, in bytes. Those beyond are left out.
const maxAnnotation = 1 << 20

// annotated is a row for the table call.
type annotated struct {
	id  int64
	doc []byte
}

// Annotate keeps doc beside the flow of that id, in place of what was kept
// there before: what somebody who has read the finished flow found out about
// it, so that lists need not read it again. It waits as Append does, and must
// not be called by the road. Where recording stands still, or the flow was
// deleted meanwhile, doc is dropped. It is not redacted: it must be made of
// what readers get.
func (s *Store) Annotate(id int64, doc []byte) {
	if len(doc) > 0 && len(doc) <= maxAnnotation {
		s.queue.put(flow.Event{Kind: annotation, At: time.Now(), Flow: id, Data: doc}, true)
	}
}

// annotate takes in what Annotate queued.
func (w *writer) annotate(e *flow.Event) {
	if w.failing == nil {
		w.ops.annotated = append(w.ops.annotated, annotated{e.Flow, append([]byte{}, e.Data...)})
	}
}

// writeAnnotations writes what waits. Another process may have deleted flows.
func (w *writer) writeAnnotations() error {
	for _, a := range w.ops.annotated {
		if _, err := w.db.exec("INSERT OR REPLACE INTO call SELECT id,? FROM flow WHERE id=?", a.doc, a.id); err != nil {
			return err
		}
	}
	return nil
}

// Annotation returns what Annotate kept beside a flow, nil if there is nothing.
func (r *Reader) Annotation(id int64) (doc []byte, err error) {
	docs, err := r.Annotations(id, id)
	return docs[id], err
}

// Annotations returns what was kept beside the flows with ids from first to
// last.
func (r *Reader) Annotations(first, last int64) (map[int64][]byte, error) {
	docs := map[int64][]byte{}
	if r.gate != nil {
		return docs, nil
	}
	err := r.with(func(d *db) error {
		if ok, err := annotates(d); err != nil || !ok {
			return err
		}
		return d.each("SELECT flow,doc FROM call WHERE flow BETWEEN ? AND ?", []any{first, last}, func(row row) error {
			docs[row.int(0)] = row.blob(1)
			return nil
		})
	})
	return docs, err
}

// annotates tells whether the file has the table: those before version 3 have
// none.
func annotates(d *db) (bool, error) {
	n, err := d.number("SELECT count(*) FROM sqlite_master WHERE type='table' AND name='call'")
	return n > 0, err
}

// Ended returns outlines of flows that have ended and were touched by a burst
// after the one numbered after, in the order of the bursts and about n of them,
// and the number to ask with next time.
func (r *Reader) Ended(after int64, n int) (xs []*flow.Exchange, last int64, err error) {
	last = after
	if err = r.learn(); err != nil {
		return nil, last, err
	}
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			upto, err := lastRev(d)
			if err != nil {
				return err
			}
			far, err := d.number("SELECT rev FROM flow WHERE rev>? AND state<>'open' ORDER BY rev LIMIT 1 OFFSET ?", after, n)
			if err != nil {
				return err
			}
			if far > 0 {
				upto = min(upto, far)
			}
			f := r.folder(d, stateRunning)
			err = d.each(selectOutline+" WHERE f.rev>? AND f.rev<=? AND f.state<>'open' ORDER BY f.rev,f.id", []any{after, upto}, func(row row) error {
				x, err := f.exchange(row)
				if err == nil {
					xs = append(xs, x)
				}
				return nil // who asks here can do without a damaged one
			})
			last = upto
			return err
		})
	})
	return xs, last, err
}
