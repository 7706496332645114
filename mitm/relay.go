package mitm

import (
	"sync"
	"sync/atomic"
	"time"

	"trace/flow"
)

// relay joins the two legs of a connection until both directions have ended.
type relay struct {
	legs  [2]*leg // by the side that sends on it
	tap   *tapped
	watch *watch // may be nil
	now   func() time.Time
	stop  *atomic.Bool // trace ends this connection
	said  func()       // called once, when the child has sent its first bytes; may be nil

	bytes   [2]atomic.Int64
	aborted atomic.Bool // one side was reset because of the other

	mu    sync.Mutex // guards what follows
	how   [2]flow.How
	errs  [2]error  // what reading a side ended with
	first flow.Side // which ended first; valid once one of how is set
}

// run carries both directions and returns when both are over. The legs are
// closed then.
func (r *relay) run() {
	var wg sync.WaitGroup
	wg.Go(func() { r.pump(flow.Server) })
	r.pump(flow.Client)
	wg.Wait()
	if r.legs[flow.Client].broken.Load() || r.legs[flow.Server].broken.Load() {
		r.abort(flow.Client)
		r.abort(flow.Server)
	}
	for _, side := range []flow.Side{flow.Client, flow.Server} {
		r.end(side, flow.Reset) // what has no end yet was cut off
		r.legs[side].raw.Close()
	}
}

// pump carries what one side sends, and then the way in which it ended.
func (r *relay) pump(side flow.Side) {
	from, to := r.legs[side], r.legs[side.Other()]
	var failed error
	forward := func(p []byte) {
		if r.bytes[side].Add(int64(len(p))) == int64(len(p)) && side == flow.Client && r.said != nil {
			r.said()
		}
		at := r.now()
		if from.tls == nil && len(from.prefix) > 0 {
			at = from.at // it was read while peeking
		}
		r.tap.data(side, at, p)
		r.watch.data(side, p)
		if failed == nil {
			failed = to.write(p)
		}
	}
	for {
		err := from.read(forward)
		if failed != nil {
			// The other end takes nothing more. What it sent before is still
			// to be read, by the other pump, which then sees its end.
			r.hurry(from, to, failed)
			return
		}
		if err != nil {
			r.finish(side, err)
			return
		}
	}
}

// hurry bounds what the other pump may still do, from the leg that takes
// nothing more to the one that goes on.
func (r *relay) hurry(on, gone *leg, err error) {
	if !isReset(err) {
		gone.raw.SetReadDeadline(time.Now().Add(drainTime))
	}
	on.raw.SetWriteDeadline(time.Now().Add(drainTime))
}

// finish passes on how a side ended.
func (r *relay) finish(side flow.Side, err error) {
	from, to := r.legs[side], r.legs[side.Other()]
	how := howEnded(err)
	r.mu.Lock()
	r.errs[side] = err
	r.mu.Unlock()
	if from.broken.Load() && how == flow.FIN {
		how = flow.Reset // the writer got the error, the reader only the end
	}
	r.end(side, how)
	if how == flow.CloseNotify {
		to.closeNotify()
		how = howEnded(from.watch())
	}
	if how == flow.FIN {
		to.fin()
		return
	}
	from.broken.Store(true) // nothing can be delivered there
	r.abort(side.Other())
	r.abort(side)
}

// abort resets one side, after what was written to it has been delivered.
func (r *relay) abort(side flow.Side) {
	r.aborted.Store(true)
	r.legs[side].abort()
}

// end records how a side ended; the first word counts.
func (r *relay) end(side flow.Side, how flow.How) {
	switch {
	case r.stop.Load():
		how = flow.Stopped
	case r.aborted.Load() && how != flow.CloseNotify:
		how = flow.Reset
	}
	r.mu.Lock()
	first := r.how[side] == flow.Open
	if first {
		r.how[side] = how
		if r.how[side.Other()] == flow.Open {
			r.first = side
		}
	}
	r.mu.Unlock()
	if first {
		r.tap.end(side, r.now(), how)
	}
}
