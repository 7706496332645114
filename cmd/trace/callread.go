package main

import (
	"fmt"
	"runtime"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// readCall is what was read of one flow that is a call, or several.
type readCall struct {
	x     *flow.Exchange
	calls []*llm.Call
	err   error
}

// eachCall reads those of xs, all of the session of r, that are calls to
// language models, and calls fn with each, in the order of xs. It reads a few
// ahead. An error of fn ends it; a flow that cannot be read is handed over with
// its error.
func eachCall(r *store.Reader, xs []*flow.Exchange, fn func(readCall) error) error {
	ahead := make(chan chan readCall, max(1, runtime.GOMAXPROCS(0)-1))
	stop := make(chan struct{})
	go readAhead(r, xs, ahead, stop)
	var err error
	for next := range ahead {
		if c := <-next; err == nil && (c.err != nil || len(c.calls) > 0) {
			if err = fn(c); err != nil {
				close(stop)
			}
		}
	}
	return err
}

// readAhead reads calls, as many at a time as ahead takes.
func readAhead(r *store.Reader, xs []*flow.Exchange, ahead chan chan readCall, stop chan struct{}) {
	defer close(ahead)
	for _, x := range xs {
		if !isCall(x) {
			continue
		}
		next := make(chan readCall, 1)
		select {
		case ahead <- next:
			go func() {
				read := readOne(r, x.ID)
				if read.x == nil {
					read.x = x
				}
				read.x.LLM = x.LLM
				next <- read
			}()
		case <-stop:
			return
		}
	}
}

// maxCallBytes bounds the bodies of what is read as a call, in bytes as kept.
const maxCallBytes = 256 << 20

// readOne reads a flow. x is nil where even its heads cannot be read.
func readOne(r *store.Reader, id int64) readCall {
	x, err := r.Flow(id)
	if err != nil {
		return readCall{err: err}
	}
	if n := sizeOf(x); n > maxCallBytes {
		return readCall{x: x, err: fmt.Errorf("its bodies of %s are too long to be read as a call", bytesText(n))}
	}
	d, err := r.Detail(id)
	if err != nil {
		return readCall{x: x, err: err}
	}
	return readCall{x: &d.Exchange, calls: llm.Read(d)}
}

// sizeOf returns the bytes of the bodies of x, as they passed or as they were
// kept, whichever is more.
func sizeOf(x *flow.Exchange) int64 {
	n := x.Tally[flow.Client].Bytes + x.Tally[flow.Server].Bytes
	for _, p := range []*flow.Part{x.Request, x.Response} {
		if p != nil && p.Body != nil {
			n += max(p.Body.Size, p.Body.Kept)
		}
	}
	return n
}
