package otel

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"trace/flow"
)

func TestMain(m *testing.M) {
	if code := m.Run(); code != 0 {
		os.Exit(code)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// quick is patience for tests.
var quick = Patience{First: 5 * time.Millisecond, Most: 20 * time.Millisecond, Request: 5 * time.Second}

// fewSpans are what a sender of newSmallSender has room for.
const fewSpans = 1000

func newSmallSender(e *Endpoint, p Patience) *Sender {
	s := NewSender(e, http.DefaultClient, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = fewSpans
	return s
}

// someSpans are spans of n exchanges, each with a path of so many bytes.
func someSpans(t *Teller, n, size int) (all Spans) {
	for i := range n {
		x := exchangeAt(int64(i+1), "GET", "/"+strings.Repeat("p", size), 200)
		all = append(all, t.Exchange(x, nil)...)
	}
	return all
}

func newTestTeller() *Teller {
	return NewTeller(flow.Session{ID: "01TEST", Name: "curl", Argv: []string{"/usr/bin/curl", "-s"}, Started: began, Version: "v1"}, Options{})
}

// TestBatches: none has more than 50 spans or 64 KiB, and none waits longer
// than half a second.
func TestBatches(t *testing.T) {
	r := newReceiver(t)
	s := NewSender(r.endpoint(), http.DefaultClient, quick)
	teller := newTestTeller()
	started := time.Now()
	s.Spans(teller.Resource(), someSpans(teller, 1, 1))
	r.await(1)
	if took := time.Since(started); took < batchWait {
		t.Errorf("one span was sent after %v", took)
	}
	teller = newTestTeller()
	s.Spans(teller.Resource(), someSpans(teller, 120, 10))
	teller = newTestTeller()
	s.Spans(teller.Resource(), someSpans(teller, 40, 5000))
	report := s.Close(10 * time.Second)
	if report.Sent != 161 || report.Missing() != 0 || report.Err != nil {
		t.Errorf("%+v", report)
	}
	for i, b := range r.batches {
		if n := len(spansIn(b)); n > batchSpans || r.sizes[i] > batchBytes {
			t.Errorf("a batch has %d spans, %d bytes", n, r.sizes[i])
		}
	}
	if n := len(r.batches); n < 1+2+4 || n > 9 {
		t.Errorf("%d batches", n)
	}
}

// TestLongSpan: one that is longer than a batch goes alone.
func TestLongSpan(t *testing.T) {
	r := newReceiver(t)
	s := NewSender(r.endpoint("OTEL_EXPORTER_OTLP_COMPRESSION=gzip"), http.DefaultClient, quick)
	teller := newTestTeller()
	spans := someSpans(teller, 3, 1)
	spans[1].Attributes = append(spans[1].Attributes, longAttribute(200<<10))
	s.Spans(teller.Resource(), spans)
	if report := s.Close(10 * time.Second); report.Sent != 3 {
		t.Errorf("%+v", report)
	}
	if len(r.batches) != 3 {
		t.Errorf("%d batches", len(r.batches))
	}
}

// TestRetries: what is to be sent again is, at the time that the endpoint asks
// for; what is refused for good is not.
func TestRetries(t *testing.T) {
	r := newReceiver(t)
	r.answer = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		switch n {
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			panic(http.ErrAbortHandler) // the connection breaks
		case 5:
			http.Error(w, "no such tenant", http.StatusForbidden)
		default:
			return false
		}
		return true
	}
	s := NewSender(r.endpoint(), http.DefaultClient, quick)
	teller := newTestTeller()
	s.Spans(teller.Resource(), someSpans(teller, 100, 1))
	report := s.Close(10 * time.Second)
	if report.Sent != 50 || report.Rejected != 50 || report.Dropped != 0 || report.Err == nil || report.Err.Error() != "it answers 403 Forbidden: no such tenant" {
		t.Errorf("%+v", report)
	}
	if r.n != 5 {
		t.Errorf("%d attempts", r.n)
	}
	if gap := r.times[1].Sub(r.times[0]); gap < time.Second {
		t.Errorf("asked again after %v", gap)
	}
}

// TestBackoff: the pauses grow, up to the most.
func TestBackoff(t *testing.T) {
	r := newReceiver(t)
	r.answer = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n <= 6 {
			w.WriteHeader(http.StatusBadGateway)
		}
		return n <= 6
	}
	s := NewSender(r.endpoint(), http.DefaultClient, Patience{First: 10 * time.Millisecond, Most: 80 * time.Millisecond})
	teller := newTestTeller()
	s.Spans(teller.Resource(), someSpans(teller, 50, 1))
	r.await(50)
	s.Close(time.Second)
	for i, least := range []time.Duration{8, 16, 32, 64, 64, 64} {
		if gap := r.times[i+1].Sub(r.times[i]); gap < least*time.Millisecond {
			t.Errorf("pause %d is %v", i, gap)
		}
	}
}

// TestPartial: what an endpoint rejects of what it takes is counted, from either
// form of its answer.
func TestPartial(t *testing.T) {
	for kind, answer := range map[string][]byte{
		"application/x-protobuf": protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType),
			protowire.AppendString(protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 3), 2, protowire.BytesType), "too old")),
		"application/json": []byte(`{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}`),
	} {
		r := newReceiver(t)
		r.answer = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", kind)
			w.Write(answer)
			return true
		}
		s := NewSender(r.endpoint(), http.DefaultClient, quick)
		teller := newTestTeller()
		s.Spans(teller.Resource(), someSpans(teller, 10, 1))
		report := s.Close(10 * time.Second)
		if report.Sent != 7 || report.Rejected != 3 || report.Err == nil || !strings.Contains(report.Err.Error(), "too old") || r.n != 1 {
			t.Errorf("%s: %+v", kind, report)
		}
	}
}

// TestDown: while nobody answers the queue has a bound, what goes is counted, and
// the end is quick.
func TestDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	e, err := ParseEndpoint("http://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newSmallSender(e, quick)
	teller := newTestTeller()
	const n = fewSpans + 4000
	spans := someSpans(teller, n, 1)
	for len(spans) > 0 {
		s.Spans(teller.Resource(), spans[:100])
		spans = spans[100:]
	}
	if d := s.Report().Dropped; d < 3000 {
		t.Errorf("%d made room", d)
	}
	started := time.Now()
	report := s.Close(20 * time.Second)
	if took := time.Since(started); took > 15*time.Second {
		t.Errorf("given up after %v", took)
	}
	if report.Sent != 0 || report.Dropped != n || report.Err == nil || !strings.Contains(report.Err.Error(), "refused") {
		t.Errorf("%+v", report)
	}
}

// hang has r answer nobody until the func that it returns is called.
func (r *receiver) hang() (release func()) {
	released := make(chan struct{})
	r.answer = func(_ int, _ http.ResponseWriter, req *http.Request) bool {
		select {
		case <-released:
		case <-req.Context().Done():
		}
		return true
	}
	return func() { close(released) }
}

// TestHanging: an endpoint that never answers holds nobody up for longer than it
// may, and who fills the queue does not wait for it.
func TestHanging(t *testing.T) {
	r := newReceiver(t)
	defer r.hang()()
	s := newSmallSender(r.endpoint(), Patience{Request: 50 * time.Millisecond})
	teller := newTestTeller()
	spans := someSpans(teller, fewSpans+100, 1)
	s.Spans(teller.Resource(), spans)
	started := time.Now()
	report := s.Close(300 * time.Millisecond)
	if took := time.Since(started); took > 15*time.Second {
		t.Errorf("closed after %v", took)
	}
	if report.Sent != 0 || report.Dropped != int64(len(spans)) || report.Err == nil || !strings.Contains(report.Err.Error(), "no answer") {
		t.Errorf("%+v", report)
	}
}

// TestAskedTooLong: an endpoint that wants to be left alone for longer than anybody
// waits is given up at once, whether it said so before the end or after.
func TestAskedTooLong(t *testing.T) {
	for _, early := range []bool{true, false} {
		r := newReceiver(t)
		asked := make(chan bool, 10)
		r.answer = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
			asked <- true
			return true
		}
		s := NewSender(r.endpoint(), http.DefaultClient, quick)
		teller := newTestTeller()
		s.Spans(teller.Resource(), someSpans(teller, 50, 1))
		if early {
			<-asked
		}
		started := time.Now()
		report := s.Close(time.Minute)
		if took := time.Since(started); took > 30*time.Second {
			t.Errorf("given up after %v", took)
		}
		if report.Dropped != 50 || report.Err == nil || !strings.Contains(report.Err.Error(), "429") {
			t.Errorf("%+v", report)
		}
	}
}

// TestEndWithin: who fills a queue that is full, at an endpoint that hangs, is let
// go when the time is up.
func TestEndWithin(t *testing.T) {
	r := newReceiver(t)
	defer r.hang()()
	s := newSmallSender(r.endpoint(), Patience{Request: time.Minute})
	teller := newTestTeller()
	s.EndWithin(100 * time.Millisecond)
	started := time.Now()
	s.Spans(teller.Resource(), someSpans(teller, fewSpans+100, 1))
	report := s.Close(time.Minute)
	if took := time.Since(started); took > 30*time.Second {
		t.Errorf("ended after %v", took)
	}
	if report.Sent != 0 || report.Dropped != fewSpans+100 {
		t.Errorf("%+v", report)
	}
}

// TestMetricsFail: spans do not wait for metrics that are not taken.
func TestMetricsFail(t *testing.T) {
	r := newReceiver(t)
	refused := make(chan bool, 100)
	r.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/v1/metrics" {
			w.WriteHeader(http.StatusServiceUnavailable)
			refused <- true
			return
		}
		r.serve(w, req)
	})
	s := NewSender(r.endpoint(), http.DefaultClient, quick)
	teller := newTestTeller()
	spans := someSpans(teller, 60, 1)
	s.mu.Lock()
	s.metrics[teller.Resource()] = teller.Metrics(time.Now())
	s.since = time.Now().Add(-metricWait) // they are due
	s.mu.Unlock()
	s.wakeUp()
	<-refused
	s.Spans(teller.Resource(), spans)
	r.await(60)
	report := s.Close(time.Minute)
	if report.Sent != 60 || report.Missing() != 0 || report.Err == nil || !strings.HasPrefix(report.Err.Error(), "metrics: it answers 503") {
		t.Errorf("%+v", report)
	}
	if n := 1 + len(refused); n != 1+lastAttempts {
		t.Errorf("%d attempts", n)
	}
}

// TestBurst: where the endpoint works, nothing is dropped however fast spans come.
func TestBurst(t *testing.T) {
	r := newReceiver(t)
	s := newSmallSender(r.endpoint(), quick)
	teller := newTestTeller()
	s.Spans(teller.Resource(), someSpans(teller, fewSpans+3000, 1))
	if report := s.Close(20 * time.Second); report.Sent != fewSpans+3000 || report.Missing() != 0 {
		t.Errorf("%+v", report)
	}
}

// TestWhole: a dump waits, and gives up where nothing is taken for long.
func TestWhole(t *testing.T) {
	r := newReceiver(t)
	r.answer = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	patience := quick
	patience.Whole = 100 * time.Millisecond
	s := NewSender(r.endpoint(), http.DefaultClient, patience)
	teller := newTestTeller()
	s.Spans(teller.Resource(), someSpans(teller, 60, 1))
	report := s.Close(time.Minute)
	if report.Sent != 0 || report.Dropped != 60 || report.Err == nil || !strings.Contains(report.Err.Error(), "503") {
		t.Errorf("%+v", report)
	}
}

// TestMetricsUnsupported: an endpoint that takes traces only is asked once.
func TestMetricsUnsupported(t *testing.T) {
	r := newReceiver(t)
	asked := 0
	r.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/v1/metrics" {
			asked++
			http.NotFound(w, req)
			return
		}
		r.serve(w, req)
	})
	s := NewSender(r.endpoint(), http.DefaultClient, quick)
	teller := newTestTeller()
	s.Spans(teller.Resource(), someSpans(teller, 1, 1))
	s.Metrics(teller.Metrics(time.Now()))
	report := s.Close(10 * time.Second)
	if report.Sent != 1 || report.Err != nil || !report.NoMetrics || asked != 1 {
		t.Errorf("%+v, asked %d times", report, asked)
	}
}

func TestEndpoint(t *testing.T) {
	for _, c := range []struct{ in, traces, metrics string }{
		{"http://h:4318", "http://h:4318/v1/traces", "http://h:4318/v1/metrics"},
		{"http://h:4318/", "http://h:4318/v1/traces", "http://h:4318/v1/metrics"},
		{"https://h/api/public/otel", "https://h/api/public/otel/v1/traces", "https://h/api/public/otel/v1/metrics"},
		{"https://h/x/v1/traces", "https://h/x/v1/traces", "https://h/x/v1/metrics"},
		{"http://[::1]:4318?tenant=a", "http://[::1]:4318/v1/traces?tenant=a", "http://[::1]:4318/v1/metrics?tenant=a"},
	} {
		e, err := ParseEndpoint(c.in, nil)
		if err != nil || e.Traces != c.traces || e.Metrics != c.metrics {
			t.Errorf("%s: %+v, %v", c.in, e, err)
		}
	}
	environ := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/in", "OTEL_EXPORTER_OTLP_HEADERS=Authorization=Basic%20Zm9v, x-tenant = a",
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/json"}
	e, err := ParseEndpoint(FromEnvironment, environ)
	if err != nil || e.Traces != "http://c:4318/in/v1/traces" || e.Header.Get("Authorization") != "Basic Zm9v" || e.Header.Get("X-Tenant") != "a" || !e.JSON {
		t.Errorf("%+v, %v", e, err)
	}
	for in, environ := range map[string]string{
		"": "", "collector:4318": "", "/v1/traces": "", "ftp://h": "", "http://": "", "http://h#x": "", "http://h:port": "", "http://:4318": "", FromEnvironment: "",
		"http://h": "OTEL_EXPORTER_OTLP_HEADERS=a b=c", "http://i": "OTEL_EXPORTER_OTLP_HEADERS=a=%0d%0ab", "http://j": "OTEL_EXPORTER_OTLP_COMPRESSION=zstd",
		"http://k": "OTEL_EXPORTER_OTLP_PROTOCOL=x",
	} {
		if e, err := ParseEndpoint(in, []string{environ}); err == nil {
			t.Errorf("%q is understood: %+v", in, e)
		}
	}
	if e, _ := ParseEndpoint("http://user:secret@h:1/x?key=secret", nil); strings.Contains(e.Host(), "secret") {
		t.Errorf("shown as %s", e.Host())
	}
}

// TestSecretURL: errors do not tell the endpoint's credentials.
func TestSecretURL(t *testing.T) {
	e, err := ParseEndpoint("http://user:secret@127.0.0.1:1/x?key=secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSender(e, http.DefaultClient, quick)
	teller := newTestTeller()
	s.Spans(teller.Resource(), someSpans(teller, 1, 1))
	if report := s.Close(5 * time.Second); report.Err == nil || strings.Contains(report.Err.Error(), "secret") {
		t.Errorf("%v", report.Err)
	}
}
