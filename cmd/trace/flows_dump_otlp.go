package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"trace/export"
	"trace/flow"
	"trace/otel"
	"trace/store"
)

// How long `flows dump --to` tries where nothing is taken, and how long its end may
// take in all. Variables for tests.
var (
	dumpPatience  = 30 * time.Second
	dumpCloseWait = 10 * time.Minute
)

// checkOTLP reads the flags of --format otlp. What --to names is a URL where it
// looks like one, else a time as for other commands.
func (o *dumpOptions) checkOTLP() error {
	if strings.Contains(o.to, "://") || o.to == otel.FromEnvironment {
		o.otlp.url, o.to = o.to, ""
	}
	switch {
	case o.format == "otlp":
		e, err := o.otlp.endpoint("--to")
		o.endpoint = e
		return err
	case o.otlp.url != "":
		return fmt.Errorf("--to URL goes with --format otlp, not with %s", o.format)
	case o.otlp.content:
		return fmt.Errorf("--otlp-content goes with --format otlp, not with %s", o.format)
	}
	return nil
}

// An otlpDump writes sessions as one OTLP/JSON document, or sends them.
type otlpDump struct {
	w        io.Writer
	stderr   io.Writer
	endpoint *otel.Endpoint // nil: to w
	options  otel.Options

	sender   *otel.Sender
	session  flow.Session
	teller   *otlpTeller // of the session at hand
	sessions int
	spans    int // written of that session
	late     time.Time
}

func newOTLPDump(w io.Writer, o *dumpOptions) *otlpDump {
	return &otlpDump{w: w, stderr: os.Stderr, endpoint: o.endpoint, options: otel.Options{Content: o.otlp.content, Environ: os.Environ()}}
}

// From begins a session.
func (d *otlpDump) From(_ flow.Session, src export.Source) error {
	r, ok := src.(*store.Reader)
	if !ok {
		return errors.New("spans are made of sessions only")
	}
	if err := d.start(); err != nil {
		return err
	}
	if err := d.finish(); err != nil {
		return err
	}
	if err := redactReader(r); err != nil {
		return err
	}
	s, err := r.Session() // redacted
	if err != nil {
		return err
	}
	d.session, d.teller, d.late, d.spans = s, newOTLPTeller(s, r, d.options), s.Started, 0
	if d.sender != nil {
		return nil
	}
	resource, scope, err := otel.ResourceJSON(d.teller.Resource())
	if err != nil {
		return err
	}
	before := `{"resourceSpans":[`
	if d.sessions > 0 {
		before = ","
	}
	d.sessions++
	_, err = fmt.Fprintf(d.w, `%s{"resource":%s,"scopeSpans":[{"scope":%s,"spans":[`, before, resource, scope)
	return err
}

// start begins to send, where that is wanted.
func (d *otlpDump) start() error {
	if d.endpoint == nil || d.sender != nil {
		return nil
	}
	c, err := otlpClient(func() *x509.CertPool { return nil }, d.endpoint) // the host's
	if err != nil {
		return err
	}
	d.sender = otel.NewSender(d.endpoint, c, otel.Patience{Whole: dumpPatience})
	return nil
}

// learn reads the calls of the session that are not among xs, so that those which
// are stand where they belong.
func (d *otlpDump) learn(r *store.Reader, xs []*flow.Exchange) error {
	all, err := r.Pick(store.Query{}, isCall)
	if err != nil {
		return err
	}
	told := map[int64]bool{}
	for _, x := range xs {
		told[x.ID] = true
	}
	if !slices.ContainsFunc(all, func(x *flow.Exchange) bool { return !told[x.ID] }) {
		return nil
	}
	return eachCall(r, all, func(read readCall) error {
		if read.err == nil && ended(read.x) {
			d.teller.Learn(read.x, read.calls)
		}
		return nil
	})
}

// Flow tells one flow.
func (d *otlpDump) Flow(x *flow.Exchange) error {
	if x.Kind == flow.KindDNS || !ended(x) {
		return export.ErrNoPlace
	}
	if x.Ended.After(d.late) {
		d.late = x.Ended
	}
	return d.tell(d.teller.exchange(x))
}

func (d *otlpDump) tell(spans otel.Spans) error {
	if d.sender != nil {
		d.sender.Spans(d.teller.Resource(), spans)
		return nil
	}
	if len(spans) == 0 {
		return nil
	}
	b, err := otel.SpansJSON(spans)
	if err != nil {
		return err
	}
	if d.spans > 0 {
		b = append([]byte(","), b...)
	}
	d.spans += len(spans)
	_, err = d.w.Write(b)
	return err
}

// finish ends the session at hand.
func (d *otlpDump) finish() error {
	if d.teller == nil {
		return nil
	}
	if err := d.tell(d.teller.End(d.session)); err != nil {
		return err
	}
	if d.sender != nil {
		d.sender.Metrics(d.teller.Metrics(d.late))
		return nil
	}
	_, err := io.WriteString(d.w, `]}]}`)
	return err
}

// End ends the document, or waits until all is taken.
func (d *otlpDump) End() error {
	err := d.finish()
	if d.sender == nil {
		if err != nil {
			return err
		}
		end := "]}\n"
		if d.sessions == 0 {
			end = `{"resourceSpans":[]}` + "\n"
		}
		_, err = io.WriteString(d.w, end)
		return err
	}
	r := d.sender.Close(dumpCloseWait)
	text := otlpText(r, d.endpoint, 0, "")
	if err == nil && r.Missing() > 0 {
		err = exitError{1, errors.New(text)}
	}
	if err == nil {
		fmt.Fprintf(d.stderr, "trace: %s\n", text)
	}
	return err
}
