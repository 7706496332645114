package store

import (
	"time"

	"trace/flow"
)

// Limits of what is held in memory for bodies that have not ended.
const (
	maxWhole    = 64 << 20  // of one body that redaction must see whole; beyond, it streams
	maxWholeAll = 128 << 20 // of all such bodies together
	blockBody   = 512 << 10 // of a streamed body before it is cut into chunks
	segmentBody = 2 << 20   // of a body before a segment of it is committed
	segmentLive = 256 << 10 // of events or messages before they move from tail to body
)

// inbody is a body on its way in.
type inbody struct {
	begun   bool
	whole   bool        // gathered for redaction, in pend
	gate    *streamGate // otherwise
	pend    []byte
	spans   []span // of chunks already cut since the last segment
	size    int64  // bytes in spans
	at      int64  // bytes cut ever
	touched time.Time
	headed  bool // of the wire form: its first head has been cut off
}

// A segment is a committed part of a body: rows of the table body.
type segment struct {
	l            *live
	part         int
	seq          int64
	first, count int64 // its events or messages
	size         int64
	spans        []span
	times        []byte
}

// body takes in a piece of a decoded body.
func (w *writer) body(l *live, e *flow.Event) {
	if st := l.streams[e.Side]; st != nil {
		w.between(l, st, e)
		return
	}
	b := &l.bodies[e.Side]
	if !b.begun {
		b.begun = true
		if ct := l.contentType(e.Side); w.gate.isWhole(ct, e.Data) {
			b.whole = true
		} else {
			b.gate = w.gate.stream(ct)
		}
	}
	if b.whole {
		if len(b.pend)+len(e.Data) <= maxWhole && w.whole+len(e.Data) <= maxWholeAll {
			b.pend = append(w.widen(b.pend, len(e.Data)), e.Data...)
			w.whole += len(e.Data)
			return
		}
		w.stream(l, e.Side)
	}
	out, n := b.gate.write(e.Data)
	l.changed[e.Side] += n
	l.x.Redacted += n
	b.pend = append(w.widen(b.pend, len(out)), out...)
	b.touched = time.Now()
	w.slow[l] = true
	if len(b.pend) >= blockBody {
		w.cut(l, int(e.Side), false)
	}
}

func (l *live) part(s flow.Side) *flow.Part {
	if s == flow.Server {
		return l.x.Response
	}
	return l.x.Request
}

func (l *live) contentType(s flow.Side) string {
	p := l.part(s)
	if p == nil {
		return ""
	}
	return p.ContentType
}

// stream turns a body that has grown too large to be gathered into a streamed
// one.
func (w *writer) stream(l *live, side flow.Side) {
	b := &l.bodies[side]
	w.whole -= len(b.pend)
	b.whole, b.gate = false, w.gate.stream(l.contentType(side))
	out, n := b.gate.write(b.pend)
	b.pend = append([]byte(nil), out...)
	l.changed[side] += n
	l.x.Redacted += n
}

// cut makes chunks of what a body has gathered, and a segment when there are
// enough of them, or when last is set.
func (w *writer) cut(l *live, part int, last bool) {
	b := &l.bodies[part]
	var n int
	b.spans, n = w.chunks.add(b.spans, b.pend, b.at, last)
	b.pend = b.pend[:copy(b.pend, b.pend[n:])]
	b.at += int64(n)
	b.size += int64(n)
	if b.size >= segmentBody || last && b.size > 0 {
		w.segment(&segment{l: l, part: part, size: b.size, spans: b.spans})
		b.spans, b.size = nil, 0
	}
	if len(b.pend) == 0 {
		switch n := cap(b.pend); {
		case n >= blockBody && n <= 2*blockBody:
			w.room = b.pend
		case n >= roomSmall && n <= roomLarge && len(w.small) < maxRooms:
			w.small = append(w.small, b.pend)
		}
		b.pend = nil
	}
}

// roomSmall and roomLarge bound the rooms that are kept, and maxRooms their number.
const (
	roomSmall = 1 << 10
	roomLarge = 16 << 10
	maxRooms  = 32
)

// widen returns p with room for n more bytes, if that needs none of its own. A
// body that is longer than most gets at once what a block of it takes.
func (w *writer) widen(p []byte, n int) []byte {
	if k := len(w.small); p == nil && k > 0 && cap(w.small[k-1]) >= n {
		p, w.small = w.small[k-1], w.small[:k-1]
	}
	n += len(p)
	if n <= cap(p) || n < blockBody/8 || n > blockBody+blockBody/4 {
		return p
	}
	if w.room == nil || cap(w.room) < n {
		w.room = make([]byte, 0, blockBody+blockBody/4)
	}
	q := append(w.room[:0], p...)
	w.room = nil
	return q
}

// segment queues s for the next transaction.
func (w *writer) segment(s *segment) {
	s.seq = s.l.segments[s.part]
	s.l.segments[s.part]++
	w.ops.segments = append(w.ops.segments, s)
	w.touch(s.l) // followers look again
}

// settleSlow commits what has come of bodies that fell silent, so that it can
// be seen and survives.
func (w *writer) settleSlow(now time.Time) {
	for l := range w.slow {
		still := false
		for part := range l.bodies {
			b := &l.bodies[part]
			if b.whole || len(b.pend)+len(b.spans) == 0 {
				continue
			}
			if now.Sub(b.touched) < slowEvery {
				still = true
				continue
			}
			w.cut(l, part, true)
		}
		for _, st := range l.streams {
			if st == nil || len(st.between) == 0 {
				continue
			}
			if now.Sub(st.touched) < slowEvery {
				still = true
				continue
			}
			w.settleBetween(l, st)
		}
		if !still {
			delete(w.slow, l)
		}
	}
}

// finishBody puts what is left of a body into the file.
func (w *writer) finishBody(l *live, side flow.Side, at time.Time) {
	if st := l.streams[side]; st != nil {
		w.finishStream(l, st, at)
	}
	b := &l.bodies[side]
	if !b.begun {
		return
	}
	if b.whole {
		w.whole -= len(b.pend)
		out, n := w.gate.body(l.contentType(side), b.pend)
		b.pend = out
		l.changed[side] += n
		l.x.Redacted += n
	} else {
		out, n := b.gate.close()
		b.pend = append(b.pend, out...)
		l.changed[side] += n
		l.x.Redacted += n
	}
	w.cut(l, int(side), true)
	*b = inbody{at: b.at}
}

// bodyEnd notes what is known of a body that has ended.
func (w *writer) bodyEnd(l *live, e *flow.Event) {
	w.finishBody(l, e.Side, e.At)
	p := l.x.Request
	if e.Side == flow.Server {
		if l.x.Response == nil {
			l.x.Response = &flow.Part{}
		}
		p = l.x.Response
	} else {
		l.x.RequestEnded = e.At
	}
	if p == nil || e.Ended == nil {
		return
	}
	p.Body = e.Ended
	trailers, n := w.gate.fields(e.Ended.Trailers, e.Side == flow.Server)
	if n > 0 || l.lost {
		ended := *e.Ended
		ended.Trailers, ended.Truncated = trailers, ended.Truncated || l.lost
		p.Body = &ended
	}
	l.x.Redacted += n
	p.Withheld = l.changed[e.Side] > 0 || e.Ended.Unsummed
}
