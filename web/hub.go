package web

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"trace/flow"
)

// The rhythm of a hub, and its limits.
const (
	flushEvery   = 25 * time.Millisecond
	sessionEvery = time.Second            // how often the session itself is told while it changes
	restEvery    = 500 * time.Millisecond // how often a session that is over is asked for news: replays
	callsEvery   = 200 * time.Millisecond // how often summaries of calls are asked for
	callsAfter   = 2 * time.Second        // how long a summary of a call is waited for before it is made here
	maxBurst     = 1000                   // events of one flush; those beyond are left to who asks for them
	maxSnippet   = 4 << 10                // of the data of an event
)

// A hub follows one session for all who look at it. It runs while somebody does.
type hub struct {
	s   *Server
	rec Record

	mu    sync.Mutex
	subs  map[*subscriber]bool
	dirty map[int64]Change // flows to tell, by id: the last change
	order []int64          // of them, as they came
	out   bytes.Buffer     // events to tell
	burst int
	lost  bool  // events were left out of out
	rev   int64 // of the last change
	whole int64 // all changes up to this one have been told to flush

	changed bool // since the session was told

	turn  sync.Mutex             // of those who tell: tell and bye
	calls map[int64]*pendingCall // whose summaries are not there yet

	once   sync.Once
	ready  chan struct{} // closed: what comes from now on is told
	cancel context.CancelFunc
}

// A pendingCall is a call to a language model of which a row knows too little.
type pendingCall struct {
	x     *flow.Exchange
	since time.Time
	asked bool // its request was read
}

// join takes in a subscriber, and starts the hub with the first.
func (s *Server) join(o *item, sub *subscriber) (*hub, error) {
	s.hubs.Lock()
	defer s.hubs.Unlock()
	if s.ctx.Err() != nil {
		return nil, errClosed
	}
	h := o.Value.hub
	if h == nil {
		if !o.Share() {
			return nil, errClosed
		}
		ctx, cancel := context.WithCancel(s.ctx)
		h = &hub{s: s, rec: o.Value.Record, subs: map[*subscriber]bool{}, dirty: map[int64]Change{}, calls: map[int64]*pendingCall{}, ready: make(chan struct{}), cancel: cancel}
		o.Value.hub = h
		go s.follow(ctx, o, h)
	}
	h.mu.Lock()
	h.subs[sub] = true
	h.mu.Unlock()
	return h, nil
}

// follow runs a hub.
func (s *Server) follow(ctx context.Context, o *item, h *hub) {
	defer o.Release()
	h.run(ctx)
}

// leave takes a subscriber out, and ends the hub with the last.
func (s *Server) leave(o *item, h *hub, sub *subscriber) {
	s.hubs.Lock()
	defer s.hubs.Unlock()
	h.mu.Lock()
	delete(h.subs, sub)
	last := len(h.subs) == 0
	h.mu.Unlock()
	if last && o.Value.hub == h {
		o.Value.hub = nil
		h.cancel()
	}
}

// run follows until ctx is done.
func (h *hub) run(ctx context.Context) {
	defer h.begin(0) // whoever waits for it waits no longer
	var telling sync.WaitGroup
	telling.Go(func() { h.tell(ctx) })
	defer telling.Wait()
	if err := h.rec.Follow(ctx, h.begin, h.change); err != nil && ctx.Err() == nil {
		h.s.log("web: live: %v", err)
	}
	h.begin(0)
	h.rest(ctx)
}

// begin tells that the hub follows, from a change on.
func (h *hub) begin(rev int64) {
	h.once.Do(func() {
		h.mu.Lock()
		h.rev, h.whole = rev, rev
		h.mu.Unlock()
		close(h.ready)
	})
}

// rest looks now and then after a session that is over: what is sent again is
// recorded in it.
func (h *hub) rest(ctx context.Context) {
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	h.mu.Lock()
	h.changed, h.whole = true, h.rev
	after := h.rev
	h.mu.Unlock()
	for {
		list, last, _, err := h.rec.Changed(after, maxBurst)
		if err == nil {
			after = last
		}
		for i := range list {
			c := Change{Step: Done, Flow: list[i].Exchange, Rev: list[i].Rev}
			if list[i].State == flow.StateOpen {
				c.Step = Noted
			}
			h.change(c)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// change takes in what happened. It is the follower's callback, and returns at
// once.
func (h *hub) change(c Change) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.Rev > h.rev {
		h.rev, h.whole = c.Rev, h.rev
	}
	h.changed = true
	if c.Flow == nil {
		return nil
	}
	if _, known := h.dirty[c.Flow.ID]; !known {
		h.order = append(h.order, c.Flow.ID)
	}
	h.dirty[c.Flow.ID] = c
	h.event(c)
	return nil
}

// event writes what happened for the timeline of events.
func (h *hub) event(c Change) {
	x := c.Flow
	e := liveEvent{Flow: fmt.Sprint(x.ID), Type: map[Step]string{Opened: "request", Responded: "response", Done: "end"}[c.Step]}
	switch c.Step {
	case Opened:
		if x.Request != nil && x.Request.Head != nil {
			e.Name = x.Request.Head.Method
		}
	case Responded:
		e.AtMS = *flow.MS(max(0, x.Responded.Sub(x.Started)))
		if x.Response != nil && x.Response.Head != nil {
			e.Name = fmt.Sprint(x.Response.Head.Status)
		}
	case Done:
		e.AtMS, e.Name = *flow.MS(x.Duration()), x.State
	case Streamed:
		if !e.piece(x, c.Piece) {
			return
		}
	default:
		return
	}
	if h.burst++; h.burst > maxBurst {
		h.lost = true
		return
	}
	writeEvent(&h.out, "event", 0, e)
}

// A liveEvent is what happened at one time.
type liveEvent struct {
	Flow    string  `json:"flow"`
	N       int     `json:"n"`
	AtMS    float64 `json:"at_ms"`
	Type    string  `json:"type"` // request, response, sse, ws, bytes, end
	Name    string  `json:"name"`
	Dir     string  `json:"dir,omitempty"`
	Size    int64   `json:"size,omitempty"`
	Partial bool    `json:"partial,omitempty"`
	Data    string  `json:"data,omitempty"`
}

// piece takes in an event of a stream, or a message; false if it is none.
func (e *liveEvent) piece(x *flow.Exchange, p *flow.Piece) bool {
	e.N, e.AtMS, e.Size, e.Dir, e.Partial = p.Index, *flow.MS(max(0, p.At.Sub(x.Started))), p.Size, p.Side.Dir(), p.Partial
	if x.Request == nil || x.IsWebSocket() {
		e.Type, e.Name, e.Data = "bytes", "", snippet(p.Data)
		if x.IsWebSocket() {
			e.Type, e.Name = "ws", flow.OpcodeName(p.Opcode)
		}
		return true
	}
	parsed := flow.ParseEvent(x.Framing(p.Side), p.Data)
	e.Type, e.Name, e.Data = "sse", parsed.Name(), snippet([]byte(parsed.Data))
	if e.Size == 0 {
		e.Size = int64(len(p.Data))
	}
	return parsed.Dispatched
}

// snippet is the beginning of p as text.
func snippet(p []byte) string {
	p = p[:min(len(p), maxSnippet)]
	return string(bytes.ToValidUTF8(p, []byte("\ufffd")))
}

// tell hands on what is new, at its rhythm.
func (h *hub) tell(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var told, asked time.Time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		if now.Sub(told) >= sessionEvery {
			told = now
			h.tellSession()
		}
		if now.Sub(asked) >= callsEvery {
			asked = now
			h.tellCalls(now)
		}
		h.flush()
	}
}

// tellSession tells how the session stands, where that may have changed.
func (h *hub) tellSession() {
	h.mu.Lock()
	changed := h.changed
	h.changed = false
	h.mu.Unlock()
	if !changed {
		return
	}
	f, err := h.rec.Session()
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	writeEvent(&h.out, "session", 0, h.s.sessionJSON(f))
}

// flush hands on what was gathered.
func (h *hub) flush() {
	h.turn.Lock()
	defer h.turn.Unlock()
	h.mu.Lock()
	list := make([]Revised, 0, len(h.order))
	for _, id := range h.order {
		c := h.dirty[id]
		list = append(list, Revised{c.Flow, c.Rev})
	}
	clear(h.dirty)
	h.order = h.order[:0]
	events := bytes.Clone(h.out.Bytes())
	h.out.Reset()
	lost, whole := h.lost, h.whole
	h.burst, h.lost = 0, false
	h.mu.Unlock()
	if len(list) == 0 && len(events) == 0 && !lost {
		return
	}
	var b bytes.Buffer
	for i, r := range rowsOf(h.rec, list, false) {
		h.expect(list[i].Exchange, r)
		writeEvent(&b, "flow", whole, r)
	}
	b.Write(events) // they come behind the rows that they belong to
	if lost {
		writeEvent(&b, "resync", 0, map[string]any{"rev": whole})
	}
	h.publish(b.Bytes(), whole)
}

// publish queues a block for all who look. With it, all changes up to whole are
// told.
func (h *hub) publish(text []byte, whole int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	block := block{text, whole}
	for sub := range h.subs {
		sub.put(block)
	}
}

// bye says the last word, and waits until it is taken.
func (h *hub) bye(word any, until time.Time) {
	if _, last, _, err := h.rec.Changed(1<<62, 1); err == nil {
		h.await(last, until)
	}
	h.tellSession()
	h.flush()
	var b bytes.Buffer
	writeEvent(&b, "bye", 0, word)
	h.publish(b.Bytes(), 0)
	h.mu.Lock()
	var subs []*subscriber
	for sub := range h.subs {
		subs = append(subs, sub)
	}
	h.mu.Unlock()
	for _, sub := range subs {
		sub.finish(until)
	}
}

// await waits until the changes up to rev have come.
func (h *hub) await(rev int64, until time.Time) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for now := time.Now(); now.Before(until); now = <-tick.C {
		h.mu.Lock()
		there := h.rev >= rev
		h.mu.Unlock()
		if there {
			return
		}
	}
}

// writeEvent writes one event of the stream. JSON has no line breaks.
func writeEvent(b *bytes.Buffer, name string, id int64, v any) {
	text, err := flow.MarshalJSON(v)
	if err != nil {
		return // of values of ours there is none
	}
	if id > 0 {
		fmt.Fprintf(b, "id: %d\n", id)
	}
	fmt.Fprintf(b, "event: %s\ndata: %s\n\n", name, text)
}
