package mitm

import (
	"fmt"
	"sync"
	"time"

	"trace/flow"
)

// maxEarly is how much of the server's first bytes is kept for the tap while
// the child has not yet said a word under our leaf. More than this is not
// the greeting that a refused connection may get.
const maxEarly = 64 << 10

// tapped calls the tap of one connection, one call at a time, and switches it
// off if it panics. The tap is made when the first bytes are there; on a
// decrypted connection, when the child has sent some: until then it may yet
// turn out to have refused us, and then this was no decrypted connection.
type tapped struct {
	open func() Tap        // makes the tap; nil result: none
	fail func(*flow.Error) // records that the tap panicked
	wait bool              // for the first bytes of the child

	mu     sync.Mutex // guards what follows
	opened bool
	tap    Tap // nil before it is opened, and when it is off
	early  []early
	size   int // bytes in early
	ended  [2]bool
	failed bool // it panicked
}

// early is a call that waits for the tap to be opened.
type early struct {
	side flow.Side
	at   time.Time
	data []byte
	how  flow.How // of an End
}

func (t *tapped) data(side flow.Side, at time.Time, p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wait && !t.opened && side == flow.Server && t.size+len(p) <= maxEarly {
		t.early = append(t.early, early{side: side, at: at, data: append([]byte(nil), p...)})
		t.size += len(p)
		return
	}
	t.begin()
	t.call(func(tap Tap) { tap.Data(side, at, p) })
}

func (t *tapped) end(side flow.Side, at time.Time, how flow.How) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended[side] {
		return
	}
	t.ended[side] = true
	if !t.opened {
		t.early = append(t.early, early{side: side, at: at, how: how})
		return
	}
	t.call(func(tap Tap) { tap.End(side, at, how) })
}

// close closes the tap. Unless drop is set a tap that has not been opened is,
// and told what it missed.
func (t *tapped) close(at time.Time, drop bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !drop {
		t.begin()
	}
	t.call(func(tap Tap) { tap.Close(at) })
	t.tap, t.opened, t.early = nil, true, nil
}

// started tells whether the tap has been opened.
func (t *tapped) started() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opened
}

// begin opens the tap if that has not been done. The caller holds the lock.
func (t *tapped) begin() {
	if t.opened {
		return
	}
	t.opened = true
	calls := t.early
	t.early = nil
	t.guard(func() { t.tap = t.open() })
	for _, e := range calls {
		if e.how == flow.Open {
			t.call(func(tap Tap) { tap.Data(e.side, e.at, e.data) })
		} else {
			t.call(func(tap Tap) { tap.End(e.side, e.at, e.how) })
		}
	}
}

// call calls the tap. If it panics it is closed, so that it can free what it
// holds, and not called again.
func (t *tapped) call(f func(Tap)) {
	tap := t.tap
	if tap == nil {
		return
	}
	if t.guard(func() { f(tap) }) {
		return
	}
	t.tap = nil
	t.guard(func() { tap.Close(time.Now()) })
}

// guard is one of the two places of the program that recover: a decoder that
// fails costs its own view of one connection, never the connection.
func (t *tapped) guard(f func()) (ok bool) {
	defer func() {
		if r := recover(); r != nil && !t.failed {
			t.failed = true
			t.fail(&flow.Error{
				Where: flow.AtDecode, Code: flow.CodePanic,
				Message: fmt.Sprintf("decode: the decoder failed: %v", r),
				Hint:    "the bytes were carried; the rest of this connection is not decoded",
			})
		}
	}()
	f()
	return true
}

// Guarded returns a tap that calls t, until t panics: then t is closed, not
// called again, and fail is told, once.
func Guarded(t Tap, fail func(*flow.Error)) Tap {
	return guarded{&tapped{open: func() Tap { return t }, fail: fail}}
}

type guarded struct{ t *tapped }

func (g guarded) Data(side flow.Side, at time.Time, p []byte)    { g.t.data(side, at, p) }
func (g guarded) End(side flow.Side, at time.Time, how flow.How) { g.t.end(side, at, how) }
func (g guarded) Close(at time.Time)                             { g.t.close(at, false) }
