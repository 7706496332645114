package store

import (
	"sync"
	"time"

	"trace/flow"
)

// eventCost is what an event without data counts in the queue, in bytes.
const eventCost = 256

// The rhythm of bursts.
const (
	burstEvery = 10 * time.Millisecond // ordinary events wait this long for company
	burstLive  = 4 * time.Millisecond  // distance of bursts while live events wait
	burstAfter = 2 * time.Millisecond  // a burst takes a processor, which who gets the event needs more just then
)

// batch is what the writer takes out of the queue at once. Data of the events
// lies in blocks, which are used again.
type batch struct {
	events []flow.Event
	blocks [][]byte
	cost   int
	live   bool // a StreamEvent or Message is among them
	first  time.Time
}

// blockSize is the size of a block; larger data gets a block of its own.
const blockSize = 256 << 10

// keep copies p into the batch.
func (b *batch) keep(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	n := len(b.blocks)
	if n == 0 || cap(b.blocks[n-1])-len(b.blocks[n-1]) < len(p) {
		b.blocks = append(b.blocks, make([]byte, 0, max(blockSize, len(p))))
		n++
	}
	last := b.blocks[n-1]
	at := len(last)
	last = append(last, p...)
	b.blocks[n-1] = last
	return last[at:len(last):len(last)]
}

// reset empties b and keeps one block and a short list for the next use.
func (b *batch) reset() {
	clear(b.events)
	b.events = b.events[:0]
	if cap(b.events) > 4096 {
		b.events = nil
	}
	if len(b.blocks) > 0 {
		first := b.blocks[0][:0]
		clear(b.blocks)
		b.blocks = b.blocks[:0]
		if cap(first) == blockSize {
			b.blocks = append(b.blocks, first)
		}
	}
	b.cost, b.live, b.first = 0, false, time.Time{}
}

// queue stands between the road and the writer. It counts the bytes of what
// is queued and of what the writer has taken but not yet committed.
type queue struct {
	limit int
	wake  chan struct{} // capacity 1: the writer should look

	mu       sync.Mutex
	changed  sync.Cond // room was made, or something was settled
	in       *batch
	spare    *batch
	cost     int
	closed   bool
	hurry    bool   // somebody waits in flush
	appended uint64 // events put in, ever
	settled  uint64 // events committed or given up, ever
	lost     int64  // events that offer turned away
	err      error  // why recording stands still
}

func newQueue(limit int) *queue {
	q := &queue{limit: limit, wake: make(chan struct{}, 1), in: &batch{}, spare: &batch{}}
	q.changed.L = &q.mu
	return q
}

// put queues a copy of e. If wait is false it gives up, and counts the event
// as lost, instead of waiting for room.
func (q *queue) put(e flow.Event, wait bool) bool {
	cost := costOf(&e)
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.cost > 0 && q.cost+cost > q.limit && !q.closed {
		if !wait {
			q.lost++
			return false
		}
		q.nudge()
		q.changed.Wait()
	}
	if q.closed {
		return false
	}
	b := q.in
	e.Data = b.keep(e.Data)
	was := b.cost
	b.events = append(b.events, e)
	b.cost += cost
	q.cost += cost
	q.appended++
	isLive := e.Kind == flow.StreamEvent || e.Kind == flow.Message
	if was == 0 {
		b.first = time.Now()
	}
	if was == 0 || isLive && !b.live || was < q.limit/4 && b.cost >= q.limit/4 {
		q.nudge()
	}
	b.live = b.live || isLive
	return true
}

func costOf(e *flow.Event) int {
	n := eventCost + len(e.Data)
	if e.Head != nil {
		for _, f := range e.Head.Fields {
			n += len(f.Name) + len(f.Value) + 32
		}
	}
	return n
}

func (q *queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// due returns how long the writer may let the queue gather, given when the
// last burst ended; ok is false while there is nothing to do.
func (q *queue) due(last time.Time) (wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.in
	switch {
	case q.closed, q.hurry, b.cost >= q.limit/4:
		return 0, true
	case b.cost == 0:
		return 0, false
	case b.live:
		return max(time.Until(last.Add(burstLive)), time.Until(b.first.Add(burstAfter))), true
	}
	return time.Until(b.first.Add(burstEvery)), true
}

// take hands the queued events to the writer. closed is true once nothing
// more will come.
func (q *queue) take() (b *batch, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b = q.in
	q.in, q.spare = q.spare, nil
	q.hurry = false
	return b, q.closed
}

// settle says that the events of b are committed, or that err stopped that.
func (q *queue) settle(b *batch, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cost -= b.cost
	q.settled += uint64(len(b.events))
	q.err = err
	b.reset()
	q.spare = b
	q.changed.Broadcast()
}

// flush waits until everything put before is settled.
func (q *queue) flush() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for want := q.appended; q.settled < want; {
		q.hurry = true
		q.nudge()
		q.changed.Wait()
	}
	return q.err
}

// close lets the writer drain what is there. Nothing is taken after it.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.nudge()
	q.changed.Broadcast()
}

// turnedAway returns the count of events lost since the last call.
func (q *queue) turnedAway() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.lost
	q.lost = 0
	return n
}

func (q *queue) stopped() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}
