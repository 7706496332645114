package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"trace/egress"
	"trace/flow"
	"trace/llm"
	"trace/otel"
	"trace/redact"
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
	late    atomic.Int64 // sessions that were not told to their end
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
	return &otlpSink{Sender: otel.NewSender(r.otlp, c, otel.Patience{}), content: r.otlpContent, client: c}, nil
}

// close gives what is left a little time, and says what became of all. again is
// what else could be done, "" for nothing.
func (s *otlpSink) close(again string) string {
	if s == nil {
		return ""
	}
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

// againBy is the command that sends a session again.
func againBy(s flow.Session, url string) string {
	return fmt.Sprintf("trace flows dump --session %s --format otlp --to %s", s.ID, printable(withoutUserinfo(url)))
}

// A telling tells one session while it is written. It is a reader like any
// other: the road never waits for it.
type telling struct {
	sink   *otlpSink
	teller *otlpTeller
	log    func(format string, args ...any)
	stop   chan struct{} // closed: tell what is left, until end
	end    time.Time
	done   chan struct{}
}

// tell begins to tell a session.
func (s *otlpSink) tell(from *store.Store, log func(format string, args ...any)) (*telling, error) {
	r, err := from.Reader()
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // "" is left out
	t := &telling{sink: s, log: log, stop: make(chan struct{}), done: make(chan struct{}),
		teller: newOTLPTeller(from.Session(), r, otel.Options{Content: s.content, Environ: os.Environ(), Host: host})}
	go t.run()
	return t, nil
}

// close tells what is left of a session that is finished.
func (t *telling) close() {
	t.end = time.Now().Add(otlpCloseWait)
	close(t.stop)
	<-t.done
}

func (t *telling) run() {
	defer close(t.done)
	defer closing(t.teller.r)
	if err := t.follow(); err != nil {
		t.sink.late.Add(1)
		t.log("otlp: %v", err)
	}
}

// follow tells what ends, until the session does.
func (t *telling) follow() error {
	look, measure := time.NewTicker(otlpEvery), time.NewTicker(otlpMetrics)
	defer look.Stop()
	defer measure.Stop()
	last := int64(0)
	for over := false; !over; {
		select {
		case <-look.C:
		case <-measure.C:
			t.sink.Metrics(t.teller.Metrics(time.Now()))
		case <-t.stop:
			over = true
		}
		var err error
		if last, err = t.pass(last); err != nil {
			return err
		}
	}
	s, err := t.teller.r.Session()
	if err != nil {
		return err
	}
	t.sink.Spans(t.teller.Resource(), t.teller.finish(s))
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
			if t.isLate() {
				return last, fmt.Errorf("the session was not told to its end within %v", otlpCloseWait)
			}
			t.sink.Spans(t.teller.Resource(), t.teller.exchange(x))
		}
	}
}

// isLate reports whether nobody waits any longer.
func (t *telling) isLate() bool {
	select {
	case <-t.stop:
		return time.Now().After(t.end)
	default:
		return false
	}
}

// An otlpTeller tells flows of one session, as a reader has them.
type otlpTeller struct {
	*otel.Teller
	r    *store.Reader
	gate *redact.Redactor // nil: the record is redacted
}

func newOTLPTeller(s flow.Session, r *store.Reader, o otel.Options) *otlpTeller {
	t := &otlpTeller{r: r}
	if s.Secrets {
		var key [32]byte
		rand.Read(key[:]) // never fails
		t.gate = redact.New(key)
		o.Redact = t.redacted
		s.Argv, _ = t.gate.Argv(s.Argv)
	}
	t.Teller = otel.NewTeller(s, o)
	return t
}

// redacted replaces the secrets in a text that is about to leave.
func (t *otlpTeller) redacted(text string) string {
	if b := []byte(text); len(b) > 1 && bytes.ContainsAny(b[:1], "[{") {
		out, _ := t.gate.Body("application/json", b)
		return string(out)
	}
	out, _ := t.gate.String(text)
	return out
}

// exchange tells a flow that has ended, of which x needs only be an outline.
func (t *otlpTeller) exchange(x *flow.Exchange) otel.Spans {
	return t.Exchange(t.read(x))
}

// finish tells what there is to tell of the session as it is now.
func (t *otlpTeller) finish(s flow.Session) otel.Spans {
	if t.gate != nil {
		s.Argv, _ = t.gate.Argv(s.Argv)
	}
	return t.End(s)
}

// read reads what of a flow there is to tell.
func (t *otlpTeller) read(x *flow.Exchange) (*flow.Exchange, []*llm.Call) {
	call := recognised(x)
	if t.gate != nil {
		x = t.remember(x, call)
	}
	if !call {
		return x, nil
	}
	read := readOne(t.r, x.ID)
	if read.err != nil || len(read.calls) == 0 {
		return x, nil
	}
	if t.gate != nil { // with a redacted process
		read.x.Conn = x.Conn
	}
	return read.x, read.calls
}

// remember shows the gate the secrets that the fields and the body of a request,
// and the fields of its answer, give away, and returns x with its command redacted.
func (t *otlpTeller) remember(x *flow.Exchange, call bool) *flow.Exchange {
	clean := *x
	if p := x.Conn.Process; p != nil {
		own := *p
		own.Argv, _ = t.gate.Argv(p.Argv)
		clean.Conn.Process = &own
	}
	whole, err := t.r.Flow(x.ID)
	if err != nil {
		return &clean
	}
	for i, part := range []*flow.Part{whole.Request, whole.Response} {
		if part != nil && part.Head != nil {
			t.gate.Head(part.Head, i == 1)
		}
	}
	if call && sizeOf(whole) <= summariseBytes {
		if body, err := t.r.Body(x.ID, flow.Client); err == nil && whole.Request != nil {
			t.gate.Body(whole.Request.Head.Get("Content-Type"), body)
		}
	}
	return &clean
}
