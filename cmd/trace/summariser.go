package main

import (
	"sync"
	"time"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// The rhythm of the summariser, and its limits.
const (
	summariseEvery = 100 * time.Millisecond
	summariseAtEnd = 250 * time.Millisecond // how long the end of a run waits for the last summaries
	countAtEnd     = 10 * time.Second       // the same where there is a budget, which wants all of them
	summariseBytes = 32 << 20               // of the bodies of a call; longer ones are left to those who ask
	summariseFlows = 200                    // looked at in one go
)

// A summariser reads calls to language models when they have ended and keeps a
// summary beside each in the session file, so that lists are quick. It is a
// reader like any other: the road never waits for it, and what it does not get
// done is done by who asks. It begins with the first call that is seen; a run
// without any pays nothing.
type summariser struct {
	store summarised
	log   func(format string, args ...any)
	spent *spending // counts the calls; nil: there is no budget

	threads llm.Threads // of the goroutine alone

	once sync.Once
	ask  chan chan struct{} // to be closed when what has ended by now is read
	stop chan struct{}      // closed: do what is left, until the time that end has given
	end  time.Time
	done chan struct{}
}

// summarised is a session that takes summaries while it is written.
type summarised interface {
	Reader() (*store.Reader, error)
	Flush() error
	Annotate(id int64, doc []byte)
}

func newSummariser(s summarised, log func(string, ...any)) *summariser {
	return &summariser{store: s, log: log, ask: make(chan chan struct{}), stop: make(chan struct{}), done: make(chan struct{})}
}

// saw tells that a call is on the road. It returns at once.
func (s *summariser) saw() { s.once.Do(func() { go s.run() }) }

// settle returns when the calls that have ended by now are read, or after limit.
func (s *summariser) settle(limit time.Duration) {
	s.saw()
	late := time.NewTimer(limit)
	defer late.Stop()
	read := make(chan struct{})
	select {
	case s.ask <- read:
	case <-s.done:
		return
	case <-late.C:
		return
	}
	select {
	case <-read:
	case <-s.done:
	case <-late.C:
	}
}

// close gives the summaries of what has ended a little time, and ends the
// summariser.
func (s *summariser) close() {
	s.once.Do(func() { close(s.done) }) // nothing was seen
	s.end = time.Now().Add(summariseAtEnd)
	if s.spent != nil {
		s.end = time.Now().Add(countAtEnd)
	}
	close(s.stop)
	<-s.done
}

func (s *summariser) run() {
	defer close(s.done)
	r, err := s.store.Reader()
	if err != nil {
		s.spent.broken()
		s.log("summaries of calls: %v", err)
		return
	}
	defer closing(r)
	tick := time.NewTicker(summariseEvery)
	defer tick.Stop()
	last := int64(0)
	for over := false; !over; {
		var asked chan struct{}
		select {
		case <-tick.C:
		case asked = <-s.ask:
			s.store.Flush()
		case <-s.stop:
			over = true
			s.store.Flush()
		}
		if last, err = s.pass(r, last); err != nil {
			s.spent.broken()
			s.log("summaries of calls: %v", err)
			return
		}
		if asked != nil {
			close(asked)
		}
	}
}

// pass summarises what has ended since the burst numbered last.
func (s *summariser) pass(r *store.Reader, last int64) (int64, error) {
	for {
		xs, next, err := r.Ended(last, summariseFlows)
		if err != nil || next == last {
			return next, err
		}
		last = next
		for _, x := range xs {
			if s.late() {
				s.spent.broken()
				return last, nil
			}
			s.summarise(r, x)
		}
	}
}

// late reports whether the run waits no longer.
func (s *summariser) late() bool {
	select {
	case <-s.stop:
		return time.Now().After(s.end)
	default:
		return false
	}
}

// summarise keeps the summary of x, if it is a call that has none. Its failure
// costs nothing else.
func (s *summariser) summarise(r *store.Reader, x *flow.Exchange) {
	if !recognised(x) {
		return
	}
	if doc, err := r.Annotation(x.ID); err == nil && doc != nil {
		return
	}
	id := x.ID
	x, err := r.Flow(id) // with heads: they tell what was kept
	if err != nil || sizeOf(x) > summariseBytes {
		s.spent.missed(id)
		return
	}
	d, err := r.Detail(id)
	if err == nil {
		calls := llm.Read(d)
		call := summarize(&d.Exchange, calls)
		call.withThreads(thread(&s.threads, &d.Exchange, calls))
		s.spent.count(id, call)
		var doc []byte
		if doc, err = encodeSummary(call); err == nil {
			s.store.Annotate(id, doc)
		}
	}
	if err != nil {
		s.spent.missed(id) // if it is not counted
		s.log("summary of flow %d: %v", id, err)
	}
}
