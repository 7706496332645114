package main

import (
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
			go func() { next <- readOne(r, x) }()
		case <-stop:
			return
		}
	}
}

func readOne(r *store.Reader, x *flow.Exchange) readCall {
	d, err := r.Detail(x.ID)
	if err != nil {
		return readCall{x: x, err: err}
	}
	d.LLM = x.LLM
	return readCall{x: &d.Exchange, calls: llm.Read(d)}
}
