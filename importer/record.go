package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"trace/flow"
)

// A record is what a file knows of one exchange.
type record struct {
	conn  string // what the file calls its connection; "" if it says nothing
	facts flow.Conn

	kind    string // of an exchange without request: tcp, udp, dns
	started time.Time

	request      *flow.Head
	requestBody  body
	requestEnded time.Time

	early      []*flow.Head
	response   *flow.Head
	answerBody body
	responded  time.Time

	messages []flow.Piece // of a websocket, or an opaque connection
	dns      *flow.DNS

	ended  time.Time
	state  string
	fault  *flow.Error
	marks  []flow.Note
	reason string // why it is not decoded
}

// A body is one side's. Events are set where the file has them apart.
type body struct {
	flow.Ended
	data   []byte // decoded, as far as it is there
	there  bool   // the body has ended
	chunks []chunk
}

// A chunk is a part of a body: an event, or what stands between events.
type chunk struct {
	event bool
	data  []byte
	at    time.Time // zero: as the answer
}

// sum sets the hash of the body on the wire from the text that a file has for
// it.
func (b *body) sum(text string) {
	p, err := hex.DecodeString(text)
	if b.Unsummed = err != nil || len(p) != sha256.Size; !b.Unsummed {
		copy(b.SHA256[:], p)
	}
}

// A conn is a connection that has been met.
type conn struct {
	facts flow.Conn
	flows int64
	last  time.Time // of its flows
	ended time.Time // as the file says
	bytes *[2]int64 // likewise: sent and received
}

// A sink makes events of records.
type sink struct {
	emit  func(flow.Event)
	bad   func(Bad)
	flows int
	conns map[string]*conn
	order []*conn
	taken map[int64]bool
	next  int64
}

// number chooses the id of a connection: that of the file where it has one and
// no other took it.
func (s *sink) number(wish int64) int64 {
	if wish <= 0 || wish > 1<<40 || s.taken[wish] {
		for s.next++; s.taken[s.next]; s.next++ {
		}
		wish = s.next
	}
	s.taken[wish] = true
	return wish
}

// open returns the connection of r, which is a new one if the file says that
// it was made for r.
func (s *sink) open(r *record) *conn {
	c := s.conns[r.conn]
	if r.conn == "" || c == nil || r.facts.Connect > 0 && c.flows > 0 {
		f := r.facts
		f.ID = s.number(r.facts.ID)
		f.Source = flow.SourceImport
		if f.Started.IsZero() {
			f.Started = r.started.Add(-f.DNS - f.Connect)
		}
		f.Sent, f.Received = 0, 0 // counted as flows end
		c = &conn{facts: f}
		s.emit(flow.Event{Kind: flow.ConnOpen, Conn: f.ID, At: f.Started, Facts: new(f)})
		if r.conn != "" {
			s.conns[r.conn] = c
			s.order = append(s.order, c)
		}
	}
	c.flows++
	return c
}

func later(ts ...time.Time) (last time.Time) {
	for _, t := range ts {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// add hands over the events of r.
func (s *sink) add(r *record) { s.begin(r).finish(r) }

// begin hands over what opens the flow of r, so that it has its place among
// the others.
func (s *sink) begin(r *record) *emitter {
	s.flows++
	e := &emitter{s: s, c: s.open(r), at: r.started}
	e.flow = e.c.flows
	switch {
	case r.dns != nil:
		e.put(flow.Event{Kind: flow.Query, DNS: r.dns, Error: r.fault})
	case r.request != nil:
		e.put(flow.Event{Kind: flow.Request, Head: r.request})
	default:
		e.put(flow.Event{Kind: flow.Opaque, Reason: r.reason})
	}
	return e
}

// finish hands over the rest of the flow of r.
func (e *emitter) finish(r *record) {
	switch {
	case r.dns != nil:
	case r.request != nil:
		e.exchange(r)
	default:
		e.pieces(r.messages)
	}
	for _, n := range r.marks {
		e.put(flow.Event{Kind: flow.Mark, At: n.At, Error: n.Error})
	}
	if r.dns == nil {
		e.end(r)
	}
	f := &e.c.facts
	f.Sent, f.Received = f.Sent+r.facts.Sent, f.Received+r.facts.Received
	if f.DNS == 0 && f.Connect == 0 {
		f.DNS, f.Connect, f.SSL = r.facts.DNS, r.facts.Connect, r.facts.SSL
	}
	e.c.last = later(e.c.last, r.started, r.ended)
	if r.conn == "" {
		e.s.end(e.c)
	}
}

// end closes a connection.
func (s *sink) end(c *conn) {
	f := c.facts
	if f.Ended = c.ended; f.Ended.IsZero() {
		f.Ended = later(c.last, f.Started)
	}
	if c.bytes != nil {
		f.Sent, f.Received = c.bytes[flow.Client], c.bytes[flow.Server]
	}
	s.emit(flow.Event{Kind: flow.ConnEnd, Conn: f.ID, At: f.Ended, Facts: &f})
}

// close ends what is still open.
func (s *sink) close() {
	for _, c := range s.order {
		s.end(c)
	}
}

// An emitter hands over the events of one flow.
type emitter struct {
	s    *sink
	c    *conn
	flow int64
	at   time.Time // of an event that has no time of its own
}

func (e *emitter) put(v flow.Event) {
	v.Conn, v.Flow = e.c.facts.ID, e.flow
	if v.At.IsZero() {
		v.At = e.at
	}
	e.s.emit(v)
}

// exchange hands over what follows the head of the request.
func (e *emitter) exchange(r *record) {
	e.body(flow.Client, &r.requestBody, r.requestEnded)
	if !r.responded.IsZero() {
		e.at = r.responded
	}
	for _, h := range r.early {
		e.put(flow.Event{Kind: flow.Informational, Side: flow.Server, Head: h})
	}
	if r.response != nil {
		e.put(flow.Event{Kind: flow.Response, Side: flow.Server, Head: r.response})
		e.body(flow.Server, &r.answerBody, r.ended)
	}
	e.pieces(r.messages)
}

// body hands over a body; its last byte came at that time.
func (e *emitter) body(side flow.Side, b *body, last time.Time) {
	for _, c := range b.chunks {
		kind := flow.Body
		if c.event {
			kind = flow.StreamEvent
			b.Events++
		}
		e.put(flow.Event{Kind: kind, Side: side, At: c.at, Data: c.data})
	}
	if len(b.data) > 0 && b.chunks == nil {
		e.put(flow.Event{Kind: flow.Body, Side: side, Data: b.data})
	}
	if b.there {
		b.Kept = int64(len(b.data))
		e.put(flow.Event{Kind: flow.BodyEnd, Side: side, At: last, Ended: new(b.Ended)})
	}
}

func (e *emitter) pieces(ps []flow.Piece) {
	for _, p := range ps {
		e.put(flow.Event{Kind: flow.Message, Side: p.Side, At: p.At, Data: p.Data, Size: p.Size, SHA256: p.SHA256, HasSum: p.HasSum, Opcode: p.Opcode, Compressed: p.Compressed})
	}
}

// errOpen is the error of a flow that was still going on when it was exported.
var errOpen = &flow.Error{Where: flow.AtCapture, Code: flow.CodeTruncated, Message: "the flow was still going on when it was exported"}

func (e *emitter) end(r *record) {
	fault := r.fault
	if r.state == flow.StateOpen && fault == nil {
		fault = errOpen
	}
	if r.state == flow.StateComplete {
		fault = nil
	}
	e.put(flow.Event{Kind: flow.End, At: later(r.ended, r.started), Error: fault})
}

// sortedKeys returns the keys of m in order.
func sortedKeys(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}
