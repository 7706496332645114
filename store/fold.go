package store

import (
	"time"

	"trace/flow"
)

// connState is a connection that may still change.
type connState struct {
	id      int64
	facts   *flow.Conn // redacted
	marks   []flow.Note
	chain   []span // its certificates
	flows   int64  // that it had
	open    map[int64]*live
	dirty   bool
	process *flow.Process // as it came, to redact it once
	redone  *flow.Process
}

// live is a flow that may still change: the exchange as readers will get it,
// and the state of what is still coming.
type live struct {
	x        flow.Exchange
	conn     *connState
	dirty    bool
	inserted bool         // it has its row and its id
	tailed   bool         // it has rows in tail
	lost     bool         // something of it was not recorded
	revved   int64        // number of the burst that its row carries
	seq      int64        // of rows in tail
	segments [parts]int64 // written so far
	bodies   [parts]inbody
	changed  [2]int          // places that redaction replaced, by side
	streams  [2]*eventStream // bodies that are event streams, by side
	event    int64           // index of the next event
	counted  int64           // when the row told the tally of messages
	opaque   [2]*streamGate
	messages pieceLog
	reason   string // why it is not decoded
	parts    [2]flow.Part
}

// apply folds one event into the state.
func (w *writer) apply(e *flow.Event) {
	if e.Kind == annotation {
		w.annotate(e)
		return
	}
	if w.failing != nil && !w.bearable(e) {
		return
	}
	switch e.Kind {
	case flow.Gap:
		w.ops.notes = append(w.ops.notes, note{e.At, true, w.gate.fault(e.Error)})
	case flow.ConnOpen, flow.ConnUpdate:
		w.connect(e)
	case flow.ConnEnd:
		w.connEnd(e)
	case flow.Request, flow.Opaque, flow.Query:
		w.open(e)
	case flow.Mark:
		w.mark(e)
	case flow.None:
	default:
		if c := w.conns[e.Conn]; c != nil && c.open[e.Flow] != nil {
			w.proceed(c.open[e.Flow], e)
		}
	}
}

// bearable reports whether e may be folded although nothing can be written:
// it must not grow what is kept in memory. What is turned away is counted.
func (w *writer) bearable(e *flow.Event) bool {
	switch e.Kind {
	case flow.BodyEnd, flow.End, flow.ConnEnd, flow.Gap:
		return true
	case flow.ConnUpdate, flow.Response:
		if w.conns[e.Conn] != nil {
			return true
		}
	case flow.Body, flow.StreamEvent, flow.Message, flow.Raw:
		if c := w.conns[e.Conn]; c != nil && c.open[e.Flow] != nil {
			c.open[e.Flow].lost = true
		}
	}
	w.lose(1, int64(len(e.Data)))
	return false
}

// connect takes in what is known of a connection and returns its state.
func (w *writer) connect(e *flow.Event) *connState {
	id := e.Conn
	if id == 0 {
		w.dns--
		id = w.dns
	}
	c := w.conns[id]
	if c == nil {
		c = &connState{id: id, facts: &flow.Conn{ID: id, Source: w.session.Source, Started: e.At}, open: map[int64]*live{}}
		w.conns[id] = c
		w.touchConn(c)
	}
	if e.Facts == nil {
		return c
	}
	f := *e.Facts
	if f.Process != c.process {
		c.process, c.redone = f.Process, w.gate.process(f.Process)
	}
	f.Process = c.redone
	f.Error = w.gate.fault(f.Error)
	c.facts = &f
	if chain := f.Upstream.Chain; len(chain) > 0 && c.chain == nil {
		c.chain, _ = w.chunks.add(nil, appendChain(nil, chain), 0, true)
	}
	w.touchConn(c)
	return c
}

// connEnd takes leave of a connection. One that carried no flow becomes a row
// of its own: that a connection was tried is worth recording.
func (w *writer) connEnd(e *flow.Event) {
	c := w.connect(e)
	for _, l := range c.open {
		w.abandon(l, e.At, c.facts.Error)
	}
	if c.flows == 0 {
		l := w.newFlow(c, 1, kindOf(c.facts), startOf(c.facts, e.At))
		w.end(l, e.At, c.facts.Error)
	}
	delete(w.conns, c.id)
}

func kindOf(c *flow.Conn) string {
	if c.Transport == "udp" {
		return flow.KindUDP
	}
	return flow.KindTCP
}

// startOf returns when a row that stands for the whole connection started.
func startOf(c *flow.Conn, at time.Time) time.Time {
	if c.Started.IsZero() || c.Started.After(at) {
		return at
	}
	return c.Started
}

func (w *writer) newFlow(c *connState, ordinal int64, kind string, at time.Time) *live {
	l := w.spareLive()
	l.conn = c
	l.x = flow.Exchange{Session: w.session.ID, Kind: kind, State: flow.StateOpen, Started: at, Ordinal: ordinal}
	c.flows++
	c.open[ordinal] = l
	w.touch(l)
	return l
}

// maxSpare bounds how many flows that are over are kept to be used again.
const maxSpare = 128

// spareLive returns an empty live. It is large, and there is one to each
// exchange.
func (w *writer) spareLive() *live {
	n := len(w.spare)
	if n == 0 {
		return new(live)
	}
	l := w.spare[n-1]
	w.spare = w.spare[:n-1]
	return l
}

// retire takes back the flows that a transaction has written and that are over:
// nothing refers to them any more.
func (w *writer) retire(flows []*live) {
	for _, l := range flows {
		if l.x.State != flow.StateOpen && len(w.spare) < maxSpare {
			*l = live{}
			w.spare = append(w.spare, l)
		}
	}
	clear(flows)
}

// open begins a flow.
func (w *writer) open(e *flow.Event) {
	met := w.conns[e.Conn] != nil
	c := w.connect(e)
	if old := c.open[e.Flow]; old != nil {
		w.abandon(old, e.At, nil)
	}
	switch e.Kind {
	case flow.Request:
		l := w.newFlow(c, e.Flow, flow.KindHTTP, e.At)
		l.x.Request = w.part(l, e.Head, false)
	case flow.Opaque:
		at := e.At
		if e.Flow <= 1 {
			at = startOf(c.facts, at)
		}
		w.newFlow(c, e.Flow, kindOf(c.facts), at).reason = e.Reason
	case flow.Query:
		l := w.newFlow(c, e.Flow, flow.KindDNS, e.At)
		l.x.DNS = e.DNS
		end := e.At
		if e.DNS != nil {
			end = end.Add(e.DNS.Took)
		}
		w.end(l, end, e.Error)
		if !met { // the query is all that there is of the connection
			delete(w.conns, c.id)
		}
	}
}

// part makes a request or an answer of its head.
func (w *writer) part(l *live, h *flow.Head, response bool) *flow.Part {
	h, n := w.gate.head(h, response)
	l.x.Redacted += n
	p := &l.parts[flow.Client]
	if response {
		p = &l.parts[flow.Server]
	}
	*p = flow.Part{Head: h, ContentType: h.Get("Content-Type")}
	return p
}

// proceed folds an event of an open flow into it.
func (w *writer) proceed(l *live, e *flow.Event) {
	switch e.Kind {
	case flow.Response:
		var early []*flow.Head
		if l.x.Response != nil {
			early = l.x.Response.Informational
		}
		l.x.Response = w.part(l, e.Head, true)
		l.x.Response.Informational = early
		l.x.Responded = e.At
		if e.Head != nil && e.Head.Protocol == "websocket" {
			l.x.Kind = flow.KindWebSocket
		}
	case flow.Informational:
		if l.x.Response == nil {
			l.x.Response = &flow.Part{}
		}
		h, n := w.gate.head(e.Head, true)
		l.x.Redacted += n
		l.x.Response.Informational = append(l.x.Response.Informational, h)
	case flow.Body:
		w.body(l, e)
		return
	case flow.StreamEvent:
		w.streamEvent(l, e)
		return
	case flow.Message:
		w.message(l, e)
		return
	case flow.Raw:
		w.raw(l, e)
		return
	case flow.BodyEnd:
		w.bodyEnd(l, e)
	case flow.Forwarded:
		w.forwarded(l, e)
	case flow.End:
		w.end(l, e.At, e.Error)
	}
	w.touch(l)
}

// forwarded takes in what left for the server, or came from it.
func (w *writer) forwarded(l *live, e *flow.Event) {
	part, answer := &l.x.Forwarded, e.Side == flow.Server
	if answer {
		part = &l.x.Original
	}
	if e.Head != nil {
		h, n := w.gate.head(e.Head, answer)
		l.x.Redacted += n
		*part = &flow.Part{Head: h, ContentType: h.Get("Content-Type")}
	}
	if p := *part; p != nil && e.Ended != nil {
		ended := *e.Ended
		ended.Trailers, _ = w.gate.fields(ended.Trailers, answer)
		p.Body, p.Withheld = &ended, true // until it is known that nothing of it is a secret
	}
}

// withheld tells whether the hash of a body on the server's side is to be kept back: that of the
// child's side is, or this is another body, in which nobody looked for secrets.
func (w *writer) withheld(p, child *flow.Part) bool {
	if child == nil || child.Withheld || child.Body == nil {
		return true
	}
	return w.gate.r != nil && p.Body != nil && p.Body.SHA256 != child.Body.SHA256
}

// mark leaves a note on a flow, a connection, or the run.
func (w *writer) mark(e *flow.Event) {
	n := flow.Note{At: e.At, Error: w.gate.fault(e.Error)}
	c := w.conns[e.Conn]
	switch {
	case e.Conn == 0 || c == nil:
		w.ops.notes = append(w.ops.notes, note{n.At, false, n.Error})
	case c.open[e.Flow] != nil:
		l := c.open[e.Flow]
		l.x.Marks = append(l.x.Marks, n)
		w.touch(l)
	default:
		c.marks = append(c.marks, n)
		w.touchConn(c)
	}
}

// end closes a flow.
func (w *writer) end(l *live, at time.Time, fault *flow.Error) {
	w.finishBody(l, flow.Client, at)
	w.finishBody(l, flow.Server, at)
	w.finishMessages(l, micros(at))
	w.finishRaw(l)
	l.x.Ended = at
	l.x.State = flow.StateComplete
	if p := l.x.Forwarded; p != nil {
		p.Withheld = w.withheld(p, l.x.Request)
	}
	if p := l.x.Original; p != nil {
		p.Withheld = w.withheld(p, l.x.Response)
	}
	if fault != nil {
		l.x.State, l.x.Error = flow.StateFailed, w.gate.fault(fault)
	}
	if l.lost {
		l.x.Marks = append(l.x.Marks, flow.Note{At: at, Error: &flow.Error{Where: flow.AtCapture, Code: flow.CodeGap,
			Message: "part of this flow was not recorded"}})
	}
	delete(l.conn.open, l.x.Ordinal)
	delete(w.slow, l)
	w.touch(l)
}

// abandon closes a flow whose end was never told.
func (w *writer) abandon(l *live, at time.Time, fault *flow.Error) {
	if fault == nil {
		fault = &flow.Error{Where: flow.AtCapture, Code: flow.CodeTruncated, Message: "recording ended before the flow did"}
	}
	w.end(l, at, fault)
}

// abandonAll closes everything that is still open when the run ends.
func (w *writer) abandonAll(at time.Time) {
	for _, c := range w.conns {
		for _, l := range c.open {
			w.abandon(l, at, nil)
		}
	}
}

func (w *writer) touch(l *live) {
	if w.gate.tripped() {
		l.x.Marks = append(l.x.Marks, flow.Note{At: l.x.Started, Error: &flow.Error{Where: flow.AtCapture,
			Code: flow.CodePanic, Message: "redaction failed here; what it failed on is withheld"}})
	}
	if !l.dirty {
		l.dirty = true
		w.ops.flows = append(w.ops.flows, l)
	}
}

func (w *writer) touchConn(c *connState) {
	if !c.dirty {
		c.dirty = true
		w.ops.conns = append(w.ops.conns, c)
	}
}
