package datagram

import (
	"crypto/sha256"
	"strconv"
	"sync"
	"time"

	"trace/flow"
)

// What of each direction of a talk is kept as messages.
const (
	maxKept     = 64 << 10 // bytes
	maxMessages = 1024
)

// updateEvery is how often the counts of a talk that goes on are recorded.
const updateEvery = time.Second

// A row is the record of a talk: a connection with one flow, and where the
// talk is with a name server, one more for each of its queries.
type row struct {
	record func(flow.Event)

	// mu is held while events are handed over, so that they keep their order.
	mu       sync.Mutex
	conn     flow.Conn
	ended    bool
	fault    *flow.Error
	messages [2]int
	kept     [2]int64
	more     [2]int64 // bytes beyond kept
	updated  time.Time
	last     time.Time // when something passed last: that is when it ended, as far as one can tell
	queries  queries
}

func (w *row) emit(e flow.Event) {
	e.Conn = w.conn.ID
	w.record(e)
}

// facts records what is known of the connection.
func (w *row) facts(kind flow.Kind, at time.Time) {
	c := w.conn
	w.updated = at
	w.emit(flow.Event{Kind: kind, At: at, Facts: &c})
}

func (w *row) open(reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.facts(flow.ConnOpen, w.conn.Started)
	w.emit(flow.Event{Kind: flow.Opaque, At: w.conn.Started, Flow: 1, Reason: reason})
}

// connected notes how long the socket took to make.
func (w *row) connected(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn.Connect = took
}

// message records one datagram, before it is passed on.
func (w *row) message(side flow.Side, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	at, size := time.Now(), int64(len(p))
	w.last = at
	if side == flow.Client {
		w.conn.Sent += size
	} else {
		w.conn.Received += size
	}
	room := maxKept - w.kept[side]
	if w.messages[side] == maxMessages || room == 0 && size > 0 {
		w.more[side] += size
	} else {
		w.messages[side]++
		n := min(size, room)
		w.kept[side] += n
		w.emit(flow.Event{Kind: flow.Message, At: at, Flow: 1, Side: side, Data: p[:n], Size: size,
			SHA256: sha256.Sum256(p), HasSum: true})
	}
	if w.conn.Protocol == "dns" {
		w.query(side, at, p)
	}
	if at.Sub(w.updated) >= updateEvery {
		w.facts(flow.ConnUpdate, at)
	}
}

// query records a name query once its answer is there.
func (w *row) query(side flow.Side, at time.Time, p []byte) {
	if side == flow.Client {
		if lost := w.queries.ask(at, p); lost != nil {
			w.asked(lost, &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTimeout, Message: "no answer came"})
		}
		return
	}
	if q := w.queries.answer(at, p); q != nil {
		w.asked(q, nil)
	}
}

func (w *row) asked(q *query, fault *flow.Error) {
	w.queries.told++
	w.emit(flow.Event{Kind: flow.Query, At: q.at, Flow: 1 + w.queries.told, DNS: &q.dns, Error: fault})
}

// fail notes what went wrong. The first is what the row says if no answer
// comes; later ones that differ are marks.
func (w *row) fail(fault *flow.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
	switch {
	case w.ended || fault == nil:
	case w.fault == nil:
		w.fault = fault
	case w.fault.Code != fault.Code && w.messages[0] < maxMessages:
		w.messages[0]++ // a mark takes room too
		w.emit(flow.Event{Kind: flow.Mark, At: time.Now(), Flow: 1, Error: fault})
	}
}

func (w *row) mark(fault *flow.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.emit(flow.Event{Kind: flow.Mark, At: time.Now(), Flow: 1, Error: fault})
}

// finish ends the flow but not its connection.
func (w *row) finish(fault *flow.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
	w.finishFlow(w.last, fault)
}

func (w *row) finishFlow(at time.Time, fault *flow.Error) {
	w.ended = true
	for side, n := range w.more {
		if n > 0 {
			w.emit(flow.Event{Kind: flow.Message, At: at, Flow: 1, Side: flow.Side(side), Size: n})
		}
	}
	w.emit(flow.Event{Kind: flow.End, At: at, Flow: 1, Error: fault})
	w.conn.Error = fault
}

// end ends the row.
func (w *row) end(how flow.How, fault *flow.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := time.Now()
	if !w.last.IsZero() {
		at = w.last
	}
	for _, q := range w.queries.rest() {
		w.asked(q, &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTimeout, Message: "no answer came"})
	}
	if w.fault != nil && fault == nil {
		w.emit(flow.Event{Kind: flow.Mark, At: at, Flow: 1, Error: w.fault})
	}
	if !w.ended {
		w.conn.Ended, w.conn.ChildEnd, w.conn.SrvEnd = at, how, how
		w.facts(flow.ConnUpdate, at)
		w.finishFlow(at, fault)
	}
	w.conn.Ended, w.conn.ChildEnd, w.conn.SrvEnd = at, how, how
	w.facts(flow.ConnEnd, at)
}

// count returns n and what it counts, in words.
func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatInt(n, 10) + " " + what + "s"
}
