package store

import (
	"bytes"
	"time"

	"trace/flow"
	"trace/redact"
)

// maxLive is how many pieces of a log stand in tail, and with it in memory,
// before they move to body.
const maxLive = 4096

// What comes behind a piece whose end is held back waits in tail, and most
// readers wait too. When it grows beyond these, the piece is decided as it
// stands.
const (
	maxWaiting      = 512
	maxWaitingBytes = 1 << 20
)

// maxBetween is how much of what stands between two events is gathered for
// redaction to see it whole. More is most likely an event that was too long to
// be one, and streams through it.
const maxBetween = 64 << 10

// pieceLog holds the events of one side, or the messages, of a flow that stand
// in tail.
type pieceLog struct {
	part  int
	gates [2]*eventGate // by side
	ps    []*piece
	bytes int
	ord   int64 // of the next piece

	waiting      int64 // pieces behind the first that is held back, or more
	waitingBytes int
}

// An eventStream is a body that comes as events.
type eventStream struct {
	pieceLog
	side    flow.Side
	between []byte // bytes since the last event
	at      int64  // of the first of them
	touched time.Time
	isLong  bool // they go through long
	long    *streamGate
}

// eventStream returns the event stream of a side, which begins with its first
// event.
func (w *writer) eventStream(l *live, side flow.Side, at time.Time) *eventStream {
	if st := l.streams[side]; st != nil {
		return st
	}
	w.finishBody(l, side, at) // bytes before the first event
	framing := flow.FramingSSE
	if p := l.part(side); p != nil && p.Head != nil && p.Head.Framing != "" {
		framing = p.Head.Framing
	}
	st := &eventStream{pieceLog: pieceLog{part: int(side)}, side: side}
	st.gates[side] = w.gate.events(framing, l.contentType(side))
	l.streams[side] = st
	if side == flow.Server {
		l.x.FirstEvent = at
		w.touch(l)
	}
	return st
}

// streamEvent takes in one event of an event stream.
func (w *writer) streamEvent(l *live, e *flow.Event) {
	st := w.eventStream(l, e.Side, e.At)
	w.settleBetween(l, st)
	p := &piece{idx: l.event, at: micros(e.At), flags: sideFlag(e.Side) | isPartial}
	l.event++
	w.push(&st.pieceLog, p)
	w.outs(l, &st.pieceLog, e.Side, st.gates[e.Side].event(p, e.Data))
	if p.seq == 0 { // nothing of it is sure yet; that it came is
		w.row(l, p)
	}
	w.relieve(l, &st.pieceLog, len(e.Data))
}

// between takes in bytes of an event stream that are no event.
func (w *writer) between(l *live, st *eventStream, e *flow.Event) {
	if len(st.between) == 0 {
		st.at = micros(e.At)
	}
	if !st.isLong && len(st.between)+len(e.Data) <= maxBetween {
		st.between = append(st.between, e.Data...)
		st.touched = time.Now()
		w.slow[l] = true
		return
	}
	if !st.isLong {
		st.isLong, st.long = true, w.gate.stream("")
		out, n := st.long.write(st.between)
		w.plain(l, st, out, n)
		st.between = nil
	}
	out, n := st.long.write(e.Data)
	w.plain(l, st, out, n)
}

// plain keeps bytes between events, in which n places were replaced.
func (w *writer) plain(l *live, st *eventStream, out []byte, n int) {
	l.x.Redacted += n
	l.changed[st.side] += n
	if len(out) == 0 {
		return
	}
	q := &piece{idx: l.event, at: st.at, flags: sideFlag(st.side) | isPlain, data: bytes.Clone(out)}
	w.push(&st.pieceLog, q)
	w.row(l, q)
	w.relieve(l, &st.pieceLog, len(out))
}

// settleBetween passes on what stood between two events. It goes the way of
// an event: the end of a stream that was cut may continue what one began.
func (w *writer) settleBetween(l *live, st *eventStream) {
	if st.isLong {
		out, n := st.long.close()
		w.plain(l, st, out, n)
		st.isLong, st.long = false, nil
	}
	if len(st.between) == 0 {
		return
	}
	p := &piece{idx: l.event, at: st.at, flags: sideFlag(st.side) | isPlain | isPartial}
	w.push(&st.pieceLog, p)
	w.outs(l, &st.pieceLog, st.side, st.gates[st.side].event(p, st.between))
	st.between = st.between[:0]
}

// finishStream puts what is left of an event stream into the body.
func (w *writer) finishStream(l *live, st *eventStream, at time.Time) {
	w.settleBetween(l, st)
	w.outs(l, &st.pieceLog, st.side, st.gates[st.side].close())
	for _, p := range st.ps {
		p.flags &^= isPartial
	}
	w.compact(l, &st.pieceLog)
}

// outs writes what redaction let through of events or messages.
func (w *writer) outs(l *live, g *pieceLog, side flow.Side, outs []redact.Out) {
	for _, o := range outs {
		p := g.gates[side].piece(o)
		if p == nil {
			continue
		}
		g.bytes += len(o.Raw) - len(p.data)
		p.data = bytes.Clone(o.Raw)
		p.changed = p.changed || o.Changed
		if o.Partial {
			p.flags |= isPartial
		} else {
			p.flags &^= isPartial
			if !p.changed {
				p.sum = p.due
			}
		}
		if o.N > 0 || o.Changed {
			l.x.Redacted += o.N
			if g.part != partMessages {
				l.changed[side]++
			}
			w.touch(l)
		}
		w.row(l, p)
	}
}

func (w *writer) push(g *pieceLog, p *piece) {
	p.ord = g.ord
	g.ord++
	g.ps = append(g.ps, p)
	g.bytes += len(p.data)
}

// row queues the present state of p for tail.
func (w *writer) row(l *live, p *piece) {
	l.seq++
	p.seq = l.seq
	w.ops.tails = append(w.ops.tails, tailRow{l, p, p.seq})
}

// relieve moves pieces out of tail when there are many, after one of n bytes
// came.
func (w *writer) relieve(l *live, g *pieceLog, n int) {
	g.waiting++
	g.waitingBytes += n
	if g.waiting > maxWaiting || g.waitingBytes > maxWaitingBytes {
		w.settle(l, g)
	}
	if g.bytes >= segmentLive || len(g.ps) >= maxLive {
		w.compact(l, g)
	}
}

// settle decides on what is held back if too much waits for it.
func (w *writer) settle(l *live, g *pieceLog) {
	first := g.ord // held back
	for _, gate := range g.gates {
		if gate != nil {
			for _, p := range gate.held {
				first = min(first, p.ord)
			}
		}
	}
	g.waiting, g.waitingBytes = g.ord-first, 0
	for i := len(g.ps) - 1; i >= 0 && g.ps[i].ord > first; i-- {
		g.waitingBytes += len(g.ps[i].data)
	}
	if g.waiting <= maxWaiting && g.waitingBytes <= maxWaitingBytes {
		return
	}
	for side, gate := range g.gates {
		if gate != nil {
			w.outs(l, g, flow.Side(side), gate.settle())
		}
	}
	g.waiting, g.waitingBytes = 0, 0
}

// compact moves pieces from tail into a segment of the body, up to the first
// whose end is held back.
func (w *writer) compact(l *live, g *pieceLog) {
	n := 0
	var raw []byte
	var end int64 // behind the last index
	for n < len(g.ps) && g.ps[n].flags&isPartial == 0 {
		p := g.ps[n]
		raw = append(raw, p.data...)
		if p.flags&isPlain == 0 {
			end = p.idx + 1
		}
		n++
	}
	if n == 0 {
		return
	}
	done := g.ps[:n]
	s := &segment{l: l, part: g.part, first: done[0].idx, size: int64(len(raw))}
	s.count = max(0, end-s.first)
	s.times = squeeze(w.chunks.enc, appendTimes(nil, done, s.first))
	s.spans, _ = w.chunks.add(nil, raw, 0, true)
	for _, p := range done {
		p.gone = true
	}
	w.segment(s)
	if l.tailed {
		w.ops.drops = append(w.ops.drops, drop{l, g.part, done[0].ord, done[n-1].ord})
	}
	g.ps = append([]*piece(nil), g.ps[n:]...)
	g.bytes -= len(raw)
}
