package web

import (
	"bytes"
	"time"

	"trace/flow"
)

// maxReads bounds the calls that are read at once, because nobody has made their
// summaries: one of a long conversation takes tens of milliseconds.
const maxReads = 4

// maxPending bounds the calls that are waited for.
const maxPending = 2000

// expect notes a call whose row lacks what will be known soon: the model while it
// goes on, the tokens when it is over.
func (h *hub) expect(x *flow.Exchange, r *row) {
	if !r.Call || r.Tokens != nil {
		delete(h.calls, x.ID)
		return
	}
	if x.RequestEnded.IsZero() {
		return
	}
	p := h.calls[x.ID]
	if p == nil {
		if len(h.calls) >= maxPending {
			return
		}
		p = &pendingCall{since: time.Now()}
		h.calls[x.ID] = p
	}
	if p.x == nil || p.x.State == flow.StateOpen && x.State != flow.StateOpen {
		p.since = time.Now() // a new thing to wait for
	}
	p.x = x
}

// tellCalls tells the rows of those about which something is known by now.
func (h *hub) tellCalls(now time.Time) {
	h.turn.Lock()
	defer h.turn.Unlock()
	var ask, read []*flow.Exchange
	for id, p := range h.calls {
		over := p.x.State != flow.StateOpen
		switch {
		case over && now.Sub(p.since) > callsAfter && len(read) < maxReads:
			read = append(read, p.x)
			delete(h.calls, id) // whatever comes of it
		case over:
			ask = append(ask, p.x)
		case !p.asked && len(read) < maxReads: // the request tells the model
			p.asked = true
			read = append(read, p.x)
		}
	}
	var b bytes.Buffer
	for _, part := range []struct {
		xs  []*flow.Exchange
		now bool
	}{{ask, false}, {read, true}} {
		if len(part.xs) == 0 {
			continue
		}
		calls := h.rec.Calls(part.xs, part.now)
		for _, x := range part.xs {
			c, ok := calls[x.ID]
			if !ok || c.Model == "" && c.Tokens == nil {
				continue
			}
			if !part.now {
				delete(h.calls, x.ID)
			}
			writeEvent(&b, "flow", 0, rowOf(x, h.revOf(), &c))
		}
	}
	if b.Len() > 0 {
		h.publish(b.Bytes(), 0)
	}
}

// revOf is a number that is not lower than that of any row which was told.
func (h *hub) revOf() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rev
}

// told is the change up to which all is told.
func (h *hub) told() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.whole
}
