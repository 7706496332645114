package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"trace/egress"
	"trace/flow"
	"trace/otel"
	"trace/store"
)

// The rhythm of what is told by OTLP.
const (
	otlpEvery   = 100 * time.Millisecond // looks for exchanges that have ended
	otlpMetrics = 10 * time.Second       // tells metrics
	otlpFlows   = 200                    // looked at in one go
)

// otlpCloseWait is how long the end of a run waits for an endpoint, and for what
// was not told yet. A variable for tests.
var otlpCloseWait = 5 * time.Second

// otlpFlags say where a record goes by OTLP, as given.
type otlpFlags struct {
	url     string
	content bool
}

func (o *otlpFlags) register(f *pflag.FlagSet) {
	f.StringVar(&o.url, "otlp", "", "send the record as OpenTelemetry spans and metrics to `URL` (env: as OTEL_EXPORTER_OTLP_ENDPOINT says)")
	o.registerContent(f)
}

func (o *otlpFlags) registerContent(f *pflag.FlagSet) {
	f.BoolVar(&o.content, "otlp-content", false, "spans: tell prompts, answers, tools' input and arguments, too")
}

// endpoint reads the flags; nil where nothing is to be sent. flag is what the URL
// was given by.
func (o *otlpFlags) endpoint(flag string) (*otel.Endpoint, error) {
	if o.url == "" {
		return nil, nil
	}
	e, err := otel.ParseEndpoint(o.url, os.Environ())
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", flag, withoutUserinfo(o.url), err)
	}
	return e, nil
}

// withoutUserinfo hides what stands before the @ of a URL, which may be wrong.
func withoutUserinfo(raw string) string {
	if at := strings.LastIndexByte(raw, '@'); at >= 0 {
		return "…" + raw[at:]
	}
	return raw
}

// otlpClient makes what sends, by the way that the host's proxy settings want.
func otlpClient(roots func() *x509.CertPool, e *otel.Endpoint) (*http.Client, error) {
	out, err := egress.FromEnv(os.Environ())
	if err != nil {
		return nil, err
	}
	t := &http.Transport{DialContext: out.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, TLSHandshakeTimeout: 10 * time.Second}
	if strings.HasPrefix(e.Traces, "https:") || strings.HasPrefix(e.Metrics, "https:") {
		t.TLSClientConfig = &tls.Config{RootCAs: roots()}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// An otlpSink is where sessions are told to.
type otlpSink struct {
	*otel.Sender
	content bool
	client  *http.Client
	log     func(format string, args ...any)
	over    chan struct{}  // closed: nobody waits any longer
	tell    sync.WaitGroup // those that go on
	late    atomic.Int64   // sessions that were not told to their end
}

// openOTLP begins what --otlp asks for; nil if it does not.
func (r *rules) openOTLP(log func(format string, args ...any)) (*otlpSink, error) {
	if r.otlp == nil {
		return nil, nil
	}
	c, err := otlpClient(func() *x509.CertPool { return r.hostRoots(log) }, r.otlp)
	if err != nil {
		return nil, err
	}
	return &otlpSink{Sender: otel.NewSender(r.otlp, c, otel.Patience{}), content: r.otlpContent, client: c, log: log, over: make(chan struct{})}, nil
}

// close gives what is left a little time, and says what became of all. again is
// what else could be done, "" for nothing. All sessions are finished.
func (s *otlpSink) close(again string) string {
	if s == nil {
		return ""
	}
	s.EndWithin(otlpCloseWait)
	t := time.AfterFunc(otlpCloseWait, func() { close(s.over) })
	s.tell.Wait()
	t.Stop()
	r := s.Close(otlpCloseWait)
	s.client.CloseIdleConnections()
	return otlpText(r, s.Endpoint(), s.late.Load(), again)
}

// otlpText says what became of spans.
func otlpText(r otel.Report, e *otel.Endpoint, late int64, again string) string {
	to := printable(e.Host())
	text := fmt.Sprintf("otlp: %s sent to %s", count(r.Sent, "span"), to)
	if r.Missing() > 0 {
		text = fmt.Sprintf("otlp: %d of %s not taken by %s", r.Missing(), count(r.Missing()+r.Sent, "span"), to)
	}
	if r.Err != nil {
		text += ": " + printable(r.Err.Error())
	}
	if late > 0 {
		text += "; there was no time to tell all of " + count(late, "session")
	}
	if again != "" && (r.Missing() > 0 || late > 0) {
		text += "; to send all again: " + again
	}
	return text
}

// againBy is the command that sends a session again, without what of the URL may be
// secret.
func againBy(s flow.Session, url string) string {
	if strings.ContainsAny(url, "@?") {
		url = "URL"
	}
	return shellWords([]string{"trace", "flows", "dump", "--session", s.ID, "--format", "otlp", "--to", printable(url)})
}

// A telling tells one session while it is written, and what is left when it is
// finished. It is a reader like any other: the road never waits for it, and no end
// of a session.
type telling struct {
	sink   *otlpSink
	teller *otlpTeller
	stop   chan struct{} // closed: the session is finished
}

// follow begins to tell a session. Where that cannot be, the session is recorded all
// the same.
func (s *otlpSink) follow(from *store.Store) *telling {
	if s == nil {
		return nil
	}
	r, err := from.Reader()
	if err != nil {
		s.failed(err)
		return nil
	}
	if err = redactReader(r); err != nil {
		closing(r)
		s.failed(err)
		return nil
	}
	host, _ := os.Hostname() // "" is left out
	t := &telling{sink: s, stop: make(chan struct{}),
		teller: newOTLPTeller(from.Session(), r, otel.Options{Content: s.content, Environ: os.Environ(), Host: host})}
	s.tell.Go(t.run)
	return t
}

// failed notes that a session was not told to its end.
func (s *otlpSink) failed(err error) {
	s.late.Add(1)
	s.log("otlp: %v", err)
}

// finished says that all there will be of the session is there. It does not wait.
func (t *telling) finished() {
	if t != nil {
		close(t.stop)
	}
}

// errNoTime is why the rest of a session is not told.
var errNoTime = errors.New("there was no time to tell all of a session")

func (t *telling) run() {
	defer closing(t.teller.r)
	if err := t.follow(); err != nil {
		t.sink.failed(err)
	}
}

// follow tells what ends, until the session does.
func (t *telling) follow() error {
	look, measure := time.NewTicker(otlpEvery), time.NewTicker(otlpMetrics)
	defer look.Stop()
	defer measure.Stop()
	r := t.teller.r
	last, seen := int64(0), int64(-1)
	for over := false; !over; {
		select {
		case <-look.C:
		case <-measure.C:
			t.sink.Metrics(t.teller.Metrics(time.Now()))
		case <-t.stop:
			over = true
		case <-t.sink.over:
			return errNoTime
		}
		now := r.Commits()
		if now == seen && now >= 0 && !over { // a session may be silent for long
			continue
		}
		seen = now
		var err error
		if last, err = t.pass(last); err != nil {
			return err
		}
	}
	s, err := r.Session()
	if err != nil {
		return err
	}
	t.sink.Spans(t.teller.Resource(), t.teller.End(s))
	t.sink.Metrics(t.teller.Metrics(time.Now()))
	return nil
}

// pass tells what has ended since the burst numbered last.
func (t *telling) pass(last int64) (int64, error) {
	for {
		xs, next, err := t.teller.r.Ended(last, otlpFlows)
		if err != nil || next == last {
			return next, err
		}
		last = next
		for _, x := range xs {
			select {
			case <-t.sink.over:
				return last, errNoTime
			default:
			}
			t.sink.Spans(t.teller.Resource(), t.teller.exchange(x))
		}
	}
}

// An otlpTeller tells flows of one session, as a reader has them, which redacts
// what the record does not.
type otlpTeller struct {
	*otel.Teller
	r *store.Reader
}

func newOTLPTeller(s flow.Session, r *store.Reader, o otel.Options) *otlpTeller {
	return &otlpTeller{otel.NewTeller(s, o), r}
}

// exchange tells a flow that has ended, of which x needs only be an outline.
func (t *otlpTeller) exchange(x *flow.Exchange) otel.Spans {
	if !recognised(x) {
		return t.Exchange(x, nil)
	}
	read := readOne(t.r, x.ID)
	if read.err != nil {
		return t.Exchange(x, nil)
	}
	return t.Exchange(read.x, read.calls)
}
