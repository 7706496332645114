package otel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Limits of a batch, and of what waits.
const (
	batchSpans = 50
	batchBytes = 64 << 10 // a span that is longer goes alone
	batchWait  = 500 * time.Millisecond
	queueSpans = 20_000
	queueBytes = 16 << 20
	metricWait = 10 * time.Second
)

// A Client sends requests: an *http.Client.
type Client interface {
	Do(*http.Request) (*http.Response, error)
}

// Patience says how long a Sender tries. The zero value is for a run.
type Patience struct {
	First, Most time.Duration // between attempts; 0: 200 ms and 30 s
	Request     time.Duration // for the answer to a request; 0: 10 s
	// Whole has all spans wait until they are taken, instead of dropping the
	// oldest, and gives up where a batch was tried for so long. 0: for a run.
	Whole time.Duration
}

// A Sender sends spans and metrics to an endpoint, from a goroutine of its own.
// It is safe for concurrent use.
type Sender struct {
	endpoint *Endpoint
	client   Client
	patience Patience
	ctx      context.Context // of requests
	cancel   context.CancelFunc
	wake     chan struct{} // there may be something to do
	ending   chan struct{} // closed: there is a deadline
	done     chan struct{}

	mu      sync.Mutex // guards what follows
	room    sync.Cond
	queue   []queued
	bytes   int
	most    int // spans in the queue
	metrics map[*resourcepb.Resource]*metricspb.ResourceMetrics
	since   time.Time // of the oldest metrics
	failing bool      // the last attempt failed
	closing bool
	dead    bool // nothing is sent any more
	report  Report

	deadline time.Time // when to give up; zero: there is none yet
	late     *time.Timer

	noMetrics bool // the endpoint takes none; of the goroutine alone
	failures  int  // attempts in a row without an answer; of the goroutine alone
}

// queued is a span that waits.
type queued struct {
	span *tracepb.Span
	res  *resourcepb.Resource
	size int
	at   time.Time
}

// A Report says what became of spans.
type Report struct {
	Sent     int64 // taken by the endpoint
	Rejected int64 // refused for good
	Dropped  int64 // to make room, or because time was up
	Requests int64 // with spans, that were taken
	Bytes    int64 // of those
	Err      error // why not all were taken: the last cause
	// NoMetrics: the endpoint takes traces only.
	NoMetrics bool
}

// Missing is how many spans the endpoint does not have.
func (r Report) Missing() int64 { return r.Rejected + r.Dropped }

// NewSender starts a sender; Close ends it.
func NewSender(e *Endpoint, c Client, p Patience) *Sender {
	for _, d := range []struct {
		of    *time.Duration
		usual time.Duration
	}{{&p.First, 200 * time.Millisecond}, {&p.Most, 30 * time.Second}, {&p.Request, 10 * time.Second}} {
		if *d.of == 0 {
			*d.of = d.usual
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sender{endpoint: e, client: c, patience: p, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), most: queueSpans, ending: make(chan struct{}),
		done: make(chan struct{}), metrics: map[*resourcepb.Resource]*metricspb.ResourceMetrics{}}
	s.room.L = &s.mu
	go s.run()
	return s
}

// Endpoint is where it sends.
func (s *Sender) Endpoint() *Endpoint { return s.endpoint }

// Spans queues spans of one session. It waits for room while the endpoint takes
// what it gets; while it does not, the oldest spans make room.
func (s *Sender) Spans(res *resourcepb.Resource, spans []*tracepb.Span) {
	if len(spans) == 0 {
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range spans {
		q := queued{span, res, proto.Size(span) + 4, now}
		for s.full(q.size) && !s.dead && (s.patience.Whole > 0 || !s.failing && !s.closing) {
			s.wakeUp()
			s.room.Wait()
		}
		if s.dead {
			s.report.Dropped++
			continue
		}
		for s.full(q.size) {
			s.bytes -= s.queue[0].size
			s.queue[0] = queued{}
			s.queue = s.queue[1:]
			s.report.Dropped++
		}
		s.queue = append(s.queue, q)
		s.bytes += q.size
	}
	s.wakeUp()
}

// full reports whether there is no room for so many bytes more. One span has
// room always. s.mu is held.
func (s *Sender) full(more int) bool {
	return len(s.queue) > 0 && (len(s.queue) >= s.most || s.bytes+more > queueBytes)
}

// Metrics queues metrics of one session, in place of those that wait: they tell
// all since it began.
func (s *Sender) Metrics(m *metricspb.ResourceMetrics) {
	if m == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.metrics) == 0 {
		s.since = time.Now()
	}
	s.metrics[m.Resource] = m
	s.wakeUp()
}

func (s *Sender) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// EndWithin has everything come to an end within wait: what was not taken then
// is dropped, and Spans waits for nothing. The first word counts.
func (s *Sender) EndWithin(wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.deadline.IsZero() {
		return
	}
	s.deadline = time.Now().Add(wait)
	s.late = time.AfterFunc(wait, s.abort)
	close(s.ending)
}

// abort ends an attempt that is under way, and all others.
func (s *Sender) abort() {
	s.cancel()
	s.giveUp()
}

// Close sends what is left, for so long as wait at most unless EndWithin has set
// an end already, and says what became of all. An endpoint that cannot even be
// reached is given up sooner.
func (s *Sender) Close(wait time.Duration) Report {
	s.EndWithin(wait)
	s.mu.Lock()
	s.closing = true
	s.room.Broadcast()
	s.mu.Unlock()
	s.wakeUp()
	<-s.done
	s.late.Stop()
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Dropped += int64(len(s.queue))
	s.queue, s.dead = nil, true
	s.report.NoMetrics = s.noMetrics
	return s.report
}

// Report says what became of spans so far.
func (s *Sender) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report
}

// run sends until it is closed and nothing is left, or it gives up.
func (s *Sender) run() {
	defer close(s.done)
	for {
		spans, metrics := s.next()
		switch {
		case spans != nil:
			s.sendSpans(spans)
		case metrics != nil:
			s.sendMetrics(metrics)
		default:
			return
		}
	}
}

// next waits for a batch that is full or old enough; nothing comes when all is
// sent and the sender is closed, or when it has given up.
func (s *Sender) next() (spans []queued, metrics []*metricspb.ResourceMetrics) {
	for {
		wait := time.Duration(-1)
		s.mu.Lock()
		if s.dead {
			s.mu.Unlock()
			return nil, nil
		}
		if len(s.queue) > 0 {
			wait = max(0, time.Until(s.queue[0].at.Add(batchWait)))
			if wait == 0 || s.closing || len(s.queue) >= batchSpans || s.bytes >= batchBytes {
				spans = s.cut()
			}
		}
		if spans == nil && len(s.metrics) > 0 {
			due := max(0, time.Until(s.since.Add(metricWait)))
			if due == 0 || s.closing {
				for _, m := range s.metrics {
					metrics = append(metrics, m)
				}
				clear(s.metrics)
			} else if wait < 0 || due < wait {
				wait = due
			}
		}
		over := s.closing
		s.mu.Unlock()
		if spans != nil || metrics != nil || over {
			return spans, metrics
		}
		var due <-chan time.Time
		if wait >= 0 {
			due = time.After(wait)
		}
		select {
		case <-due:
		case <-s.wake:
		}
	}
}

// cut takes a batch out of the queue. s.mu is held.
func (s *Sender) cut() []queued {
	n, size := 0, 0
	resources := map[*resourcepb.Resource]bool{}
	for n < len(s.queue) && n < batchSpans {
		q := &s.queue[n]
		more := q.size
		if !resources[q.res] {
			more += proto.Size(q.res) + 64 // with the scope
		}
		if n > 0 && size+more > batchBytes {
			break
		}
		resources[q.res] = true
		size += more
		s.bytes -= q.size
		n++
	}
	batch := slices.Clone(s.queue[:n])
	clear(s.queue[:n])
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	s.room.Broadcast()
	return batch
}

// sendSpans sends a batch.
func (s *Sender) sendSpans(batch []queued) {
	d := &tracepb.TracesData{}
	by := map[*resourcepb.Resource]*tracepb.ResourceSpans{}
	for _, q := range batch {
		rs := by[q.res]
		if rs == nil {
			rs = data(q.res, nil)
			by[q.res] = rs
			d.ResourceSpans = append(d.ResourceSpans, rs)
		}
		rs.ScopeSpans[0].Spans = append(rs.ScopeSpans[0].Spans, q.span)
	}
	n := int64(len(batch))
	body, err := s.encode(d)
	if err != nil {
		s.count(func(r *Report) { r.Rejected += n; r.Err = err })
		return
	}
	refused, err := s.deliver(body)
	refused = min(max(refused, 0), n)
	s.count(func(r *Report) {
		var given givenUp
		switch {
		case errors.As(err, &given):
			r.Dropped += n
			r.Err = given.error
		case err != nil && refused == 0:
			r.Rejected += n
			r.Err = err
		default:
			r.Sent += n - refused
			r.Rejected += refused
			r.Requests++
			r.Bytes += int64(len(body))
			if err != nil {
				r.Err = err
			}
		}
	})
}

func (s *Sender) count(fn func(*Report)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.report)
}

// sendMetrics sends metrics. What is not taken now is sent later, with what comes
// until then: spans do not wait for it.
func (s *Sender) sendMetrics(list []*metricspb.ResourceMetrics) {
	if s.noMetrics {
		return
	}
	body, err := s.encode(&metricspb.MetricsData{ResourceMetrics: list})
	if err == nil {
		err = s.deliverMetrics(body)
	}
	var status *StatusError
	answered := errors.As(err, &status)
	switch {
	case err == nil:
	case answered && slices.Contains([]int{404, 405, 415, 501}, status.Code): // many endpoints take traces alone
		s.noMetrics = true
	case answered && !status.retryable() || errors.As(err, new(*PartialError)) || !s.again(list, status):
		s.count(func(r *Report) { r.Err = fmt.Errorf("metrics: %w", err) })
	}
}

// again queues metrics that were not taken, but where newer ones are; false: it is
// too late.
func (s *Sender) again(list []*metricspb.ResourceMetrics, why *StatusError) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.dead {
		return false
	}
	for _, m := range list {
		if s.metrics[m.Resource] == nil {
			s.metrics[m.Resource] = m
		}
	}
	s.since = time.Now()
	if why != nil {
		s.since = s.since.Add(max(0, why.after-metricWait))
	}
	return true
}
