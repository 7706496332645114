package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/store"
)

// tailOptions are the flags of `flows tail`.
type tailOptions struct {
	selection
	json   bool
	stderr io.Writer // nil: nobody reads it
}

func newFlowsTailCommand() *cobra.Command {
	var o tailOptions
	cmd := &cobra.Command{
		Use:   "tail [ID]",
		Short: "Follow a running session, or one flow of it",
		Long: `Follow a session from its beginning until it ends: a line for each flow that is
over. With ID (a number, SESSION/NUMBER or last) follow one flow until it is
over: its request, its answer and each event or message as it comes.

--json prints the event log, one JSON object a line, in the vocabulary of
docs/jsonl.md.

The flags that choose flows choose what is followed. Each --jq filter is given an
array of one flow, when that is over; what the last one makes of it is printed as
JSON, nothing where that is an empty array. With --json, the log of the flow is
printed where it is not.`,
	}
	id := lastFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		arg, err := id(args)
		if err != nil {
			return err
		}
		if arg != "" && anyGiven(cmd, filterFlags) {
			return usageError{errors.New("an ID and flags that choose flows exclude each other")}
		}
		o.stderr = cmd.ErrOrStderr()
		return o.run(cmd.Context(), arg, output(cmd))
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print the event log as JSON lines")
	o.register(f, "all", "limit")
	return cmd
}

func (o *tailOptions) run(ctx context.Context, arg string, w *terminal) error {
	r, id, err := o.open(arg)
	if err != nil {
		return err
	}
	defer closing(r)
	if ctx == nil {
		ctx = context.Background()
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got := make(chan syscall.Signal, 1)
	go awaitSignal(ctx, signals, cancel, got)
	err = o.follow(ctx, r, id, w)
	cancel()
	if sig := <-got; sig != 0 {
		return exitError{Code: 128 + int(sig)}
	}
	return err
}

// awaitSignal cancels at the first signal. It reports which it was, 0 for
// none, once ctx is done.
func awaitSignal(ctx context.Context, signals <-chan os.Signal, cancel context.CancelFunc, got chan<- syscall.Signal) {
	select {
	case sig := <-signals:
		cancel()
		got <- sig.(syscall.Signal)
	case <-ctx.Done():
		got <- 0
	}
}

func (o *tailOptions) open(arg string) (*store.Reader, int64, error) {
	if arg == "" {
		r, err := openSession(o.session)
		return r, 0, err
	}
	return openFlow(arg, o.session)
}

func (o *tailOptions) follow(ctx context.Context, r *store.Reader, id int64, w *terminal) error {
	s := &sieve{sel: &o.selection, stderr: o.stderr}
	if s.stderr == nil {
		s.stderr = io.Discard
	}
	if o.json {
		return o.followLog(ctx, r, id, w, s)
	}
	if id != 0 {
		t := &flowTail{printer: printer{w: w}}
		return followFlow(ctx, r, id, t.change)
	}
	s.values = func(outs []any) error { return writeValues(w, outs) }
	s.pass = func(c store.Change) error {
		if c.Step == store.SessionNoted && len(o.filters) == 0 {
			return tailMark(w, c.Note)
		}
		if c.Step != store.Done {
			return nil
		}
		_, err := fmt.Fprintln(w, tailLine(w, c.Flow))
		return err
	}
	return s.follow(ctx, r)
}

// followLog prints the event log of the flow id, or of those that s lets through
// for 0.
func (o *tailOptions) followLog(ctx context.Context, r *store.Reader, id int64, w *terminal, s *sieve) error {
	var to io.Writer = w
	if w.tty {
		to = escapingLines{w}
	}
	if id != 0 || o.unfiltered() {
		return followFlowJSONL(ctx, r, to, id)
	}
	log, err := newEventLog(r, to)
	if err != nil {
		return err
	}
	s.pass = func(c store.Change) error { return logChange(log, c) }
	s.late = func(ctx context.Context, id int64) error { return followFlow(ctx, r, id, s.pass) }
	return s.follow(ctx, r)
}

// tailMark prints a mark between the lines of flows.
func tailMark(w *terminal, n *flow.Note) error {
	m, ok := store.MarkOf(*n)
	if !ok {
		return nil
	}
	_, err := fmt.Fprintln(w, w.paint(cyan, w.fit(printable(markLine(m, m.Name(), "15:04:05")))))
	return err
}

// escapingLines is a terminal for JSON lines.
type escapingLines struct{ w *terminal }

// Write writes whole lines of JSON with what a terminal might obey escaped.
func (e escapingLines) Write(p []byte) (int, error) {
	if _, err := e.w.Write(escapeJSON(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// tailLine is a flow on one line. The columns cannot know what will come, so
// what is short stands in front.
func tailLine(w *terminal, x *flow.Exchange) string {
	f := factsOf(x)
	target := f.host + f.path
	if x.Request == nil {
		target = f.host + " " + f.path
	}
	line := fmt.Sprintf("%s %s  %s %s %s %s  %s", x.Started.Local().Format("15:04:05"), pad(fmt.Sprint(x.ID), 4, true),
		pad(printable(f.status.text), 6, false), pad(printable(f.method), 7, false), pad(sizeText(f.size), 6, true), pad(f.took, 7, true), printable(target))
	for _, s := range []string{f.process, f.note} {
		if s != "" {
			line += "  " + printable(s)
		}
	}
	line = w.fit(line)
	if status := printable(f.status.text); f.status.style != plain {
		line = strings.Replace(line, status, w.paint(f.status.style, status), 1)
	}
	return line
}

// A flowTail prints one flow as it happens.
type flowTail struct {
	printer
	requested, responded bool
	held                 []flow.Piece
}

func (t *flowTail) change(c store.Change) error {
	x := c.Flow
	if c.Step == store.RequestDone || c.Step == store.Responded || c.Step == store.Streamed || c.Step == store.Done {
		t.request(x)
	}
	if c.Step == store.Responded || c.Step == store.Streamed || c.Step == store.Done {
		t.response(x)
	}
	switch c.Step {
	case store.Streamed:
		t.piece(x, c.Piece)
	case store.Done:
		t.release(x, true)
		t.end(x)
	}
	return t.err
}

func (t *flowTail) request(x *flow.Exchange) {
	if t.requested {
		return
	}
	t.requested = true
	f := factsOf(x)
	line := f.method + " " + f.host + f.path
	if x.Request == nil {
		line = f.method + " " + f.host + " " + f.path
	}
	if x.Request != nil && x.Request.Body != nil && x.Request.Body.Size > 0 {
		line += " (" + bytesText(x.Request.Body.Size) + ")"
	}
	t.line("%s", t.w.paint(bold, t.w.fit("> "+printable(line))))
}

func (t *flowTail) response(x *flow.Exchange) {
	if t.responded || x.Response == nil || x.Response.Head == nil {
		return
	}
	t.responded = true
	h := x.Response.Head
	line := fmt.Sprintf("< %d", h.Status)
	for _, s := range []string{h.Reason, h.Get("content-type"), "+" + tookText(max(0, x.Responded.Sub(x.Started)))} {
		if s != "" {
			line += " " + s
		}
	}
	t.line("%s", t.w.paint(bold, t.w.fit(printable(line))))
}

// piece prints an event or a message. One whose end is held back because it
// may be the beginning of a secret waits for it, and so do those behind it.
func (t *flowTail) piece(x *flow.Exchange, p *flow.Piece) {
	for i := range t.held {
		if t.held[i].Index == p.Index && t.held[i].Side == p.Side {
			t.held[i] = *p
			t.release(x, false)
			return
		}
	}
	t.held = append(t.held, *p)
	t.release(x, false)
}

func (t *flowTail) release(x *flow.Exchange, all bool) {
	for len(t.held) > 0 && (all || !t.held[0].Partial) {
		if x.Request != nil && !x.IsWebSocket() {
			t.event(x, &t.held[0])
		} else {
			t.message(x, &t.held[0])
		}
		t.held = t.held[1:]
	}
}

func (t *flowTail) end(x *flow.Exchange) {
	f := factsOf(x)
	line := "= " + x.State
	if ended(x) {
		line += ", " + f.took
	}
	switch sent, received := x.Tally[flow.Client], x.Tally[flow.Server]; {
	case x.IsWebSocket():
		line += fmt.Sprintf(", %s sent (%s), %d received (%s)", count(sent.Messages, "message"), bytesText(sent.Bytes), received.Messages, bytesText(received.Bytes))
	case x.Response != nil && x.Response.Body != nil && x.Response.Body.Size > 0:
		line += ", " + bytesText(x.Response.Body.Size)
	}
	if f.note != "" {
		line += ": " + printable(f.note)
	}
	t.line("%s", t.w.paint(bold, t.w.fit(line)))
}
