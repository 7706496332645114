package store

import (
	"errors"
	"io"
	"sync"

	"trace/flow"
	"trace/redact"
)

// errRedacted is returned where a reader that redacts cannot do what is asked.
var errRedacted = errors.New("session is read redacted: this shows it as it was recorded")

// A readGate passes what is read of a session that holds secrets through
// redaction. What headers give away is known before anything is handed out;
// what only a body gives away is known from when that was read.
type readGate struct {
	mu   sync.Mutex
	gate gate

	learning sync.Mutex
	seen     int64 // heads of flows up to this id were read
}

// Redact has everything that the reader hands out pass redaction, as if the
// session had been recorded so. It is called before anything else. Follow, Feed
// and the wire form are not to be had then, nor are hashes of bodies, which tell
// too much, and what was found out about calls, which was made of secrets.
func (r *Reader) Redact(by *redact.Redactor) { r.gate = &readGate{gate: gate{r: by}} }

// do runs fn with the gate, which is not safe for concurrent use.
func (g *readGate) do(fn func(g *gate)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fn(&g.gate)
}

// learn reads the heads of flows that are new.
func (r *Reader) learn() error {
	g := r.gate
	if g == nil {
		return nil
	}
	g.learning.Lock()
	defer g.learning.Unlock()
	return r.with(func(d *db) error {
		return d.snapshot(func() error {
			last, err := d.number("SELECT max(id) FROM flow")
			if err != nil || last <= g.seen {
				return err
			}
			f := r.folder(d, "")
			err = d.each(selectFull+" WHERE f.id>? AND f.id<=? ORDER BY f.id", []any{g.seen, last}, func(row row) error {
				f.exchange(row) // what is damaged gives nothing away
				return nil
			})
			if err == nil {
				g.seen = last
			}
			return err
		})
	})
}

// exchange redacts x, whose parts may be shared.
func (g *readGate) exchange(x *flow.Exchange) {
	if g == nil {
		return
	}
	g.do(func(g *gate) {
		x.Request, x.Forwarded = g.part(x, x.Request, false), g.part(x, x.Forwarded, false)
		x.Response, x.Original = g.part(x, x.Response, true), g.part(x, x.Original, true)
		x.Conn.Process = g.process(x.Conn.Process)
		x.Conn.Error, x.Error = g.fault(x.Conn.Error), g.fault(x.Error)
		notes := make([]flow.Note, len(x.Marks))
		for i, n := range x.Marks {
			notes[i] = flow.Note{At: n.At, Error: g.fault(n.Error)}
		}
		if x.Marks = notes; len(notes) == 0 {
			x.Marks = nil
		}
	})
}

func (g *gate) part(x *flow.Exchange, p *flow.Part, response bool) *flow.Part {
	if p == nil {
		return nil
	}
	q := *p
	var n int
	q.Head, n = g.head(p.Head, response)
	x.Redacted += n
	q.Informational = nil
	for _, h := range p.Informational {
		h, n := g.head(h, true)
		q.Informational = append(q.Informational, h)
		x.Redacted += n
	}
	if b := p.Body; b != nil {
		body := *b
		body.SHA256 = [32]byte{}
		body.Trailers, _ = g.fields(b.Trailers, response)
		q.Body, q.Withheld = &body, true
	}
	return &q
}

// session redacts what a session says of itself.
func (g *readGate) session(s *flow.Session) {
	if g != nil {
		g.do(func(g *gate) { s.Argv, s.Name = g.argv(s.Argv), g.text(s.Name) })
	}
}

// note redacts a note of the run.
func (g *readGate) note(n flow.Note) flow.Note {
	if g != nil {
		g.do(func(g *gate) { n.Error = g.fault(n.Error) })
	}
	return n
}

// writeRedacted is WriteBody through redaction.
func (r *Reader) writeRedacted(w io.Writer, id int64, side flow.Side) (int64, error) {
	b := &redactedBody{g: r.gate, w: w}
	err := r.redactedPart(id, side, b.write, func(p *piece) error { return b.put(p.data) })
	return b.n, err
}

// redactedPart calls plain with the parts of a body that are no events, and event
// with the events and what stands between them.
func (r *Reader) redactedPart(id int64, side flow.Side, plain func(contentType string, p []byte, last bool) error, event func(*piece) error) error {
	x, err := r.Flow(id)
	if err != nil {
		return err
	}
	part := x.Request
	if side == flow.Server {
		part = x.Response
	}
	contentType := ""
	if part != nil {
		contentType = part.ContentType
	}
	var recipes [][]span
	err = r.with(func(d *db) error {
		return d.each("SELECT recipe FROM body WHERE flow=? AND part=? AND times IS NULL ORDER BY seq", []any{id, int(side)}, func(row row) error {
			spans, err := parseRecipe(row.blob(0))
			recipes = append(recipes, spans)
			return err
		})
	})
	if err == nil {
		_, err = r.writeRecipes(writerFunc(func(p []byte) error { return plain(contentType, p, false) }), recipes)
	}
	if err == nil {
		err = plain(contentType, nil, true)
	}
	if err != nil {
		return err
	}
	return r.redactedPieces(x, []int{int(side)}, event)
}

// A writerFunc is an io.Writer that takes all or nothing.
type writerFunc func(p []byte) error

// Write calls the func.
func (f writerFunc) Write(p []byte) (int, error) {
	if err := f(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A redactedBody passes a body through redaction: JSON and forms in one piece,
// up to the limit that recording has.
type redactedBody struct {
	g     *readGate
	w     io.Writer
	n     int64
	begun bool
	whole []byte // nil: it streams
	gate  *streamGate
}

func (b *redactedBody) put(p []byte) error {
	n, err := b.w.Write(p)
	b.n += int64(n)
	return err
}

// write takes the next part of the body, which is not kept; last that it has ended.
func (b *redactedBody) write(contentType string, p []byte, last bool) error {
	var out []byte
	b.g.do(func(g *gate) {
		if !b.begun && len(p) > 0 {
			if b.begun = true; g.isWhole(contentType, p) {
				b.whole = make([]byte, 0, len(p))
			} else {
				b.gate = g.stream(contentType)
			}
		}
		switch {
		case b.whole != nil && len(b.whole)+len(p) <= maxWhole:
			if b.whole = append(b.whole, p...); last {
				out, _ = g.body(contentType, b.whole)
			}
			return
		case b.whole != nil:
			b.gate = g.stream(contentType)
			out, _ = b.gate.write(b.whole)
			out, b.whole = append([]byte(nil), out...), nil
		}
		if len(p) > 0 {
			some, _ := b.gate.write(p)
			out = append(out, some...)
		}
		if last {
			rest, _ := b.gate.close()
			out = append(out, rest...)
		}
	})
	if len(out) == 0 {
		return nil
	}
	return b.put(out)
}

// redactedPieces calls fn for the pieces of parts of a flow in their order, also
// for those that are no events.
func (r *Reader) redactedPieces(x *flow.Exchange, parts []int, fn func(*piece) error) error {
	l := &redactedLog{g: r.gate, x: x, fn: fn}
	cursors := make([]cursor, len(parts))
	for i, part := range parts {
		cursors[i] = cursor{part: part, plain: true}
	}
	if err := r.merge(x.ID, cursors, l.take); err != nil {
		return err
	}
	return l.end()
}

// A redactedLog passes pieces through redaction. What is held back, since a
// secret may go on in the next piece, waits here, and what follows waits behind
// it.
type redactedLog struct {
	g     *readGate
	x     *flow.Exchange
	fn    func(*piece) error
	gates [2]*eventGate
	raw   [2]*streamGate // of an opaque connection
	queue []*piece
	size  int
	next  int64
}

// take takes the next piece.
func (l *redactedLog) take(p *piece) error {
	q := *p
	q.data = nil
	l.next = p.idx + 1
	l.queue = append(l.queue, &q)
	l.size += len(p.data)
	side := q.public().Side
	l.g.do(func(g *gate) {
		switch {
		case p.flags&isMessage == 0 || l.x.Kind == flow.KindWebSocket && isTalk(&flow.Event{Opcode: p.opcode, Data: p.data}):
			q.flags |= isPartial
			l.outs(side, l.gateOf(g, side, p).event(&q, p.data))
			if len(l.queue) > maxWaiting || l.size > maxWaitingBytes {
				for side, eg := range l.gates {
					if eg != nil {
						l.outs(flow.Side(side), eg.settle())
					}
				}
			}
		case l.x.Kind == flow.KindTCP:
			if l.raw[side] == nil {
				l.raw[side] = g.stream("")
			}
			out, n := l.raw[side].write(p.data)
			l.set(&q, out, n > 0 || len(out) != len(p.data))
		default:
			out, n := g.binary(p.data)
			l.set(&q, out, n > 0)
		}
	})
	return l.flush()
}

// gateOf returns the gate of the events of a side, or of its messages.
func (l *redactedLog) gateOf(g *gate, side flow.Side, p *piece) *eventGate {
	if l.gates[side] == nil {
		if p.flags&isMessage != 0 {
			l.gates[side] = g.messages()
		} else {
			contentType := ""
			if part := map[flow.Side]*flow.Part{flow.Client: l.x.Request, flow.Server: l.x.Response}[side]; part != nil {
				contentType = part.ContentType
			}
			l.gates[side] = g.events(l.x.Framing(side), contentType)
		}
	}
	return l.gates[side]
}

func (l *redactedLog) outs(side flow.Side, outs []redact.Out) {
	for _, o := range outs {
		if p := l.gates[side].piece(o); p != nil {
			if l.set(p, o.Raw, o.Changed); !o.Partial {
				p.flags &^= isPartial
			}
		}
	}
}

func (l *redactedLog) set(p *piece, data []byte, changed bool) {
	l.size += len(data) - len(p.data)
	if p.data = append([]byte(nil), data...); changed {
		p.sum = nil
	}
}

// flush hands out what nothing holds back.
func (l *redactedLog) flush() error {
	for len(l.queue) > 0 && l.queue[0].flags&isPartial == 0 {
		p := l.queue[0]
		l.queue = l.queue[1:]
		l.size -= len(p.data)
		if err := l.fn(p); err != nil {
			return err
		}
	}
	return nil
}

// end hands out the rest, as it stands.
func (l *redactedLog) end() error {
	l.g.do(func(*gate) {
		for side, eg := range l.gates {
			if eg != nil {
				l.outs(flow.Side(side), eg.close())
			}
		}
		for side, sg := range l.raw {
			if out, _ := sg.close(); len(out) > 0 {
				p := &piece{idx: l.next, flags: isMessage | sideFlag(flow.Side(side))}
				l.next++
				l.set(p, out, true)
				l.queue = append(l.queue, p)
			}
		}
	})
	for _, p := range l.queue {
		p.flags &^= isPartial
	}
	return l.flush()
}
