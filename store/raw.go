package store

import (
	"bytes"
	"io"
	"time"

	"trace/flow"
)

// raw takes in bytes of an exchange as they were on the wire. Nobody can look
// for secrets in them: they are kept only where secrets are.
func (w *writer) raw(l *live, e *flow.Event) {
	if w.gate.r != nil || len(e.Data) == 0 {
		return
	}
	part := partRaw + int(e.Side)
	b := &l.bodies[part]
	b.begun = true
	b.pend = append(b.pend, e.Data...)
	b.touched = time.Now()
	w.slow[l] = true
	w.behead(b)
	if len(b.pend) >= blockBody {
		w.cut(l, part, false)
	}
}

// maxHeaded is how much of the wire form is searched for the end of its head.
const maxHeaded = 64 << 10

// behead cuts the chunks of a message of HTTP/1 behind its head, so that those
// of a body that needs no decoding are the ones that are there already.
func (w *writer) behead(b *inbody) {
	if b.headed {
		return
	}
	i := bytes.Index(b.pend[:min(len(b.pend), maxHeaded)], []byte("\r\n\r\n"))
	if b.headed = i >= 0 || len(b.pend) > maxHeaded; i < 0 {
		return
	}
	i += 4
	b.spans, _ = w.chunks.add(b.spans, b.pend[:i], b.at, true)
	b.pend = b.pend[:copy(b.pend, b.pend[i:])]
	b.size += int64(i) // at counts the body alone, so that it is cut like it
}

// finishRaw puts what is left of the wire form into the file.
func (w *writer) finishRaw(l *live) {
	for _, part := range []int{partRaw, partRaw + 1} {
		if b := &l.bodies[part]; b.begun {
			w.cut(l, part, true)
			*b = inbody{}
		}
	}
}

// RawSize returns how many bytes WriteRaw would write: 0 if there are none.
func (r *Reader) RawSize(id int64, side flow.Side) (n int64, err error) {
	if r.gate != nil {
		return 0, errRedacted
	}
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			part, err := rawPart(d, id, side)
			if err != nil {
				return err
			}
			if part != partMessages {
				n, err = d.number("SELECT sum(size) FROM body WHERE flow=? AND part=?", id, part)
				return err
			}
			return r.eachMessage(d, id, side, func(p []byte) error {
				n += int64(len(p))
				return nil
			})
		})
	})
	return n, err
}

// WriteRaw writes what side sent of an exchange as it was on the wire: heads,
// chunks and trailers of HTTP/1, the frames of the stream of HTTP/2, the
// frames of a websocket; of an opaque connection its messages, redacted unless
// the session holds secrets. It returns the count of bytes. Only a session
// that was recorded with secrets has the wire form, as far as it was kept; of
// an open flow there is what is committed so far.
func (r *Reader) WriteRaw(w io.Writer, id int64, side flow.Side) (n int64, err error) {
	if r.gate != nil {
		return 0, errRedacted
	}
	var recipes [][]span
	var pieces [][]byte
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			part, err := rawPart(d, id, side)
			switch {
			case err != nil:
				return err
			case part != partMessages:
				recipes, err = bodyRecipes(d, id, part)
				return err
			}
			return r.eachMessage(d, id, side, func(p []byte) error {
				pieces = append(pieces, p)
				return nil
			})
		})
	})
	if err == nil {
		n, err = r.writeRecipes(w, recipes)
	}
	for _, p := range pieces {
		if err != nil {
			break
		}
		var k int
		k, err = w.Write(p)
		n += int64(k)
	}
	return n, err
}

// rawPart returns the part in which the wire form of a flow lies.
func rawPart(d *db, id int64, side flow.Side) (int, error) {
	row, err := d.one("SELECT kind FROM flow WHERE id=?", id)
	switch {
	case err != nil:
		return 0, err
	case row == nil:
		return 0, ErrNoFlow
	case row.text(0) == flow.KindTCP, row.text(0) == flow.KindUDP:
		return partMessages, nil
	}
	return partRaw + int(side), nil
}

// eachMessage calls fn for the data of the messages of a side.
func (r *Reader) eachMessage(d *db, id int64, side flow.Side, fn func(p []byte) error) error {
	ps, err := r.partPieces(d, id, partMessages)
	for _, p := range ps {
		if err != nil {
			break
		}
		if p.flags&fromServer == sideFlag(side) {
			err = fn(p.data)
		}
	}
	return err
}
