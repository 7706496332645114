package otel

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A receiver is an endpoint that decodes what it gets with the official types.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	answer func(n int, w http.ResponseWriter, r *http.Request) bool // of the nth request for spans; false: take it

	mu      sync.Mutex
	n       int
	batches []*tracepb.TracesData // that were taken
	sizes   []int
	metrics []*metricspb.MetricsData
	headers []http.Header
	times   []time.Time // of all requests for spans
	got     chan int    // the number of spans of each batch taken
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, got: make(chan int, 10_000)}
	r.server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	var from io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(req.Body)
		if err != nil {
			r.t.Error(err)
			return
		}
		from = z
	}
	body, err := io.ReadAll(from)
	if err != nil {
		return // the client went away
	}
	if req.URL.Path == "/v1/traces" && r.answer != nil {
		r.mu.Lock()
		r.n++
		n := r.n
		r.times = append(r.times, time.Now())
		r.mu.Unlock()
		if r.answer(n, w, req) {
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = append(r.headers, req.Header)
	switch req.URL.Path {
	case "/v1/traces":
		d := &tracepb.TracesData{}
		if err := proto.Unmarshal(body, d); err != nil {
			r.t.Errorf("spans: %v", err)
		}
		r.batches, r.sizes = append(r.batches, d), append(r.sizes, len(body))
		r.got <- len(spansIn(d))
	case "/v1/metrics":
		d := &metricspb.MetricsData{}
		if err := proto.Unmarshal(body, d); err != nil {
			r.t.Errorf("metrics: %v", err)
		}
		r.metrics = append(r.metrics, d)
	default:
		r.t.Errorf("a request for %s", req.URL.Path)
	}
}

func spansIn(d *tracepb.TracesData) (all []*tracepb.Span) {
	for _, r := range d.ResourceSpans {
		for _, s := range r.ScopeSpans {
			all = append(all, s.Spans...)
		}
	}
	return all
}

// await waits until so many spans were taken in all.
func (r *receiver) await(n int) {
	r.t.Helper()
	for late := time.After(10 * time.Second); n > 0; {
		select {
		case k := <-r.got:
			n -= k
		case <-late:
			r.t.Fatalf("%d spans did not come", n)
		}
	}
}

func (r *receiver) endpoint(environ ...string) *Endpoint {
	r.t.Helper()
	e, err := ParseEndpoint(r.server.URL, environ)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}
