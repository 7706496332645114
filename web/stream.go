package web

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// The limits of a stream.
const (
	pingEvery = 15 * time.Second
	maxQueued = 8 << 20 // bytes that wait for one page
	catchUp   = 2000    // rows that are read at once
)

// A block is text of the stream, the same for all who look.
type block struct {
	text  []byte
	whole int64 // all changes up to this one are told with it; 0: it tells none
}

// A subscriber is a page that looks at a session live.
type subscriber struct {
	wake chan struct{}
	room int // bytes that may wait

	mu     sync.Mutex
	queue  []block
	queued int
	lost   bool          // the queue was full, and is given up
	last   bool          // the last block is queued
	done   chan struct{} // closed: all was written, or nobody reads
}

func newSubscriber(room int) *subscriber {
	return &subscriber{room: room, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// put queues a block. It never waits.
func (sub *subscriber) put(b block) {
	sub.mu.Lock()
	if sub.queued+len(b.text) > sub.room {
		sub.queue, sub.queued, sub.lost = nil, 0, true
	}
	if !sub.lost {
		sub.queue = append(sub.queue, b)
		sub.queued += len(b.text)
	}
	sub.mu.Unlock()
	select {
	case sub.wake <- struct{}{}:
	default:
	}
}

// take returns what waits.
func (sub *subscriber) take() (blocks []block, lost, last bool) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	blocks, lost, last = sub.queue, sub.lost, sub.last
	sub.queue, sub.queued, sub.lost = nil, 0, false
	return blocks, lost, last
}

// finish says that nothing follows, and waits until all is written.
func (sub *subscriber) finish(until time.Time) {
	sub.mu.Lock()
	sub.last = true
	sub.mu.Unlock()
	select {
	case sub.wake <- struct{}{}:
	default:
	}
	left := time.NewTimer(time.Until(until))
	defer left.Stop()
	select {
	case <-sub.done:
	case <-left.C:
	}
}

// stream answers with what is new, as it comes.
func (q *request) stream() error {
	after, err := q.number("after", -1)
	if err != nil {
		return err
	}
	if v := q.Request.Header.Get("Last-Event-ID"); v != "" && q.query("after") == "" {
		fmt.Sscan(v, &after)
	}
	sub := newSubscriber(cmp.Or(q.s.room, maxQueued))
	defer close(sub.done)
	h, err := q.s.join(q.o, sub)
	if err != nil {
		return err
	}
	defer q.s.leave(q.o, h, sub)
	q.Header().Set("Content-Type", "text/event-stream")
	q.Header().Set("X-Accel-Buffering", "no")
	if q.Method == http.MethodHead {
		return nil
	}
	q.WriteHeader(http.StatusOK)
	if err := q.send([]byte(": trace\n\n")); err != nil {
		return nil
	}
	// What changed before the hub followed is told first; what comes meanwhile is
	// queued.
	select {
	case <-h.ready:
	case <-q.Context().Done():
		return nil
	}
	sure := h.told()
	if after >= 0 {
		sure, err = q.catchUp(after)
	}
	if err == nil {
		err = q.pass(sub, sure)
	}
	if err != nil && q.Context().Err() == nil {
		q.s.log("web: stream: %v", err)
	}
	return nil
}

// catchUp tells the rows that have changed since, and returns up to where that is.
func (q *request) catchUp(after int64) (int64, error) {
	for more := true; more; {
		list, last, again, err := q.rec.Changed(after, catchUp)
		if err != nil {
			return after, err
		}
		var b bytes.Buffer
		for _, r := range rowsOf(q.rec, list, false) {
			writeEvent(&b, "flow", r.Seq-1, r) // others may share its number
		}
		if err := q.send(b.Bytes()); err != nil {
			return after, err
		}
		after, more = last, again
	}
	return after, nil
}

// send writes a block, at once.
func (q *request) send(block []byte) error {
	if _, err := q.Write(block); err != nil {
		return err
	}
	return http.NewResponseController(q.ResponseWriter).Flush()
}

// pass writes what is queued until there is nobody to read it, or nothing more to
// come. All changes up to sure have been told.
func (q *request) pass(sub *subscriber, sure int64) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		blocks, lost, last := sub.take()
		if lost {
			var err error
			if sure, err = q.catchUp(sure); err != nil {
				return err
			}
			var b bytes.Buffer
			writeEvent(&b, "resync", 0, map[string]any{"rev": sure})
			blocks = append([]block{{b.Bytes(), sure}}, blocks...)
		}
		for _, b := range blocks {
			if err := q.send(b.text); err != nil {
				return err
			}
			sure = max(sure, b.whole)
		}
		if last {
			return nil
		}
		select {
		case <-sub.wake:
		case <-ping.C:
			if err := q.send([]byte(": ping\n\n")); err != nil {
				return err
			}
		case <-q.Context().Done():
			return q.Context().Err()
		}
	}
}
