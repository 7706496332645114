package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/export"
	"trace/flow"
	"trace/otel"
	"trace/store"
)

// dumpOptions are the flags of `flows dump`.
type dumpOptions struct {
	selection
	format string
	dir    string

	otlp     otlpFlags
	endpoint *otel.Endpoint // of --to; nil: standard output
}

// A dumpFormat is a value of --format.
type dumpFormat struct {
	name   string
	binary bool // nothing for a terminal
	json   bool // lines of JSON, which a terminal gets escaped
	dir    bool // it writes files below --dir
	make   func(w io.Writer, o *dumpOptions, tty bool) export.Writer
}

// dumpFormats are the formats, the default first.
var dumpFormats = []dumpFormat{
	{name: "har", json: true, make: func(w io.Writer, _ *dumpOptions, _ bool) export.Writer {
		return &export.HAR{W: w, Version: programVersion()}
	}},
	{name: "jsonl", json: true, make: func(w io.Writer, _ *dumpOptions, _ bool) export.Writer { return &export.Log{W: w} }},
	{name: "curl", make: func(w io.Writer, _ *dumpOptions, tty bool) export.Writer { return &export.Curl{W: w, Terminal: tty} }},
	{name: "python", make: func(w io.Writer, _ *dumpOptions, _ bool) export.Writer { return &export.Python{W: w} }},
	{name: "node", make: func(w io.Writer, _ *dumpOptions, _ bool) export.Writer { return &export.Node{W: w} }},
	{name: "mitmproxy", binary: true, make: func(w io.Writer, _ *dumpOptions, _ bool) export.Writer { return &export.Mitmproxy{W: w} }},
	{name: "html", make: func(w io.Writer, _ *dumpOptions, _ bool) export.Writer { return &export.HTML{W: w} }},
	{name: "otlp", json: true, make: func(w io.Writer, o *dumpOptions, _ bool) export.Writer { return newOTLPDump(w, o) }},
	{name: "request-json", dir: true, make: func(w io.Writer, o *dumpOptions, _ bool) export.Writer {
		return &export.RequestJSON{Create: (&numberedFiles{dir: o.dir, w: w}).create}
	}},
}

func formatNames() string {
	var names []string
	for _, f := range dumpFormats {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

func newFlowsDumpCommand() *cobra.Command {
	var o dumpOptions
	cmd := &cobra.Command{
		Use:   "dump [ID...]",
		Short: "Write flows in the formats of other tools",
		Long: `Write flows to standard output in the format of another tool: those with the
IDs given (numbers, SESSION/NUMBER or last), or all of the session. The filters
are those of 'flows list'; each --jq filter is given the array of flows, and what
the last one outputs is written. What was redacted in the record stays redacted.

Formats: ` + formatNames() + `.`,
		Example: `  trace flows dump > run.har
  trace flows dump --format jsonl --host '*.anthropic.com'
  trace flows dump --format curl last
  trace flows dump --format otlp --to http://127.0.0.1:4318`,
	}
	withLast := lastAmong(cmd, cobra.ArbitraryArgs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		args, err := withLast(args)
		if err != nil {
			return err
		}
		return o.run(cmd.Context(), args, output(cmd), cmd.ErrOrStderr())
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", dumpFormats[0].name, "write this `FORMAT`: "+formatNames())
	f.StringVar(&o.dir, "dir", "", "write files below `DIR` (request-json)")
	o.otlp.registerContent(f)
	o.register(f)
	f.Lookup("to").Usage += "; otlp: send to this URL instead (env: as OTEL_EXPORTER_OTLP_ENDPOINT says)"
	return cmd
}

func (o *dumpOptions) run(ctx context.Context, args []string, w *terminal, stderr io.Writer) error {
	i := slices.IndexFunc(dumpFormats, func(f dumpFormat) bool { return f.name == o.format })
	if i < 0 {
		return usageError{fmt.Errorf("--format %q: want one of %s", o.format, formatNames())}
	}
	format := dumpFormats[i]
	switch {
	case format.dir && o.dir == "":
		return usageError{fmt.Errorf("--format %s writes files: --dir DIR says where", format.name)}
	case !format.dir && o.dir != "":
		return usageError{fmt.Errorf("--dir is of no use with --format %s, which goes to standard output", format.name)}
	case len(args) > 0 && o.all:
		return usageError{errors.New("--all and IDs exclude each other")}
	}
	if err := o.checkOTLP(); err != nil {
		return usageError{err}
	}
	if err := o.check(time.Now()); err != nil {
		return err
	}
	if format.binary && w.tty {
		return exitError{1, fmt.Errorf("%s is binary and standard output is a terminal: 'trace flows dump --format %[1]s > FILE'", format.name)}
	}
	d := &dumper{format: format, stderr: stderr, named: len(args) > 0}
	return d.write(w, o, func() error {
		if d.named {
			return o.writeNamed(ctx, d, args)
		}
		return o.writeChosen(ctx, d)
	})
}

// writeChosen writes the flows that the filters leave.
func (o *dumpOptions) writeChosen(ctx context.Context, d *dumper) error {
	c, err := o.choose(ctx, d.stderr)
	if err != nil {
		return err
	}
	d.failed = d.failed || c.broken
	if len(c.flows) == 0 && !o.all { // an empty file says of what
		r, err := openSession(o.session)
		if err != nil {
			return err
		}
		defer closing(r)
		return d.session(r, nil)
	}
	return c.each(d.session)
}

// writeNamed writes the flows with these IDs, in their order, that the filters
// leave. One that does not exist is told and the others are written.
func (o *dumpOptions) writeNamed(ctx context.Context, d *dumper, args []string) error {
	var order []string
	ids := map[string][]int64{}
	for _, arg := range args {
		ref, err := parseFlowRef(arg, o.session)
		if errors.As(err, new(usageError)) {
			return err
		}
		if err == nil {
			ref.id, err = o.resolve(ref)
		}
		if err != nil {
			fmt.Fprintf(d.stderr, "trace: %v\n", err)
			d.failed = true
			continue
		}
		if ids[ref.session] == nil {
			order = append(order, ref.session)
		}
		if !slices.Contains(ids[ref.session], ref.id) {
			ids[ref.session] = append(ids[ref.session], ref.id)
		}
	}
	if len(order) == 0 {
		return exitError{Code: 1} // said above
	}
	for _, session := range order {
		if err := o.writeOf(ctx, d, session, ids[session]); err != nil {
			return err
		}
	}
	return nil
}

func (o *dumpOptions) resolve(ref flowRef) (int64, error) {
	r, err := openSession(ref.session)
	if err != nil {
		return 0, err
	}
	defer closing(r)
	return resolve(r, ref)
}

// writeOf writes flows of one session.
func (o *dumpOptions) writeOf(ctx context.Context, d *dumper, session string, ids []int64) error {
	r, err := openSession(session)
	if err != nil {
		return err
	}
	defer closing(r)
	fits := map[int64]bool{}
	if o.filtered() {
		s := o.selection
		s.session, s.query.Limit = session, 0 // the newest of those named
		c, err := s.choose(ctx, d.stderr)
		if err != nil {
			return err
		}
		c.flows = slices.DeleteFunc(c.flows, func(x *flow.Exchange) bool { return !slices.Contains(ids, x.ID) })
		for _, x := range newest(c.flows, o.query.Limit) {
			fits[x.ID] = true
		}
		ids = slices.DeleteFunc(ids, func(id int64) bool { return !fits[id] })
	}
	var xs []*flow.Exchange
	for _, id := range ids {
		xs = append(xs, &flow.Exchange{ID: id})
	}
	if page, ok := d.to.(*export.HTML); ok { // with the turns before and after
		page.Only = append(page.Only, ids...)
		if xs, err = r.Pick(store.Query{}, isCall); err != nil {
			return err
		}
	}
	return d.session(r, xs)
}

// filtered reports whether any filter was given.
func (o *dumpOptions) filtered() bool { return !o.unfiltered() || o.query.Limit > 0 }

// A dumper writes flows in one format.
type dumper struct {
	format  dumpFormat
	named   bool // each flow by its ID
	to      export.Writer
	stderr  io.Writer
	failed  bool // something was told
	without int  // flows that the format has no place for
}

func (d *dumper) write(w *terminal, o *dumpOptions, flows func() error) error {
	var out io.Writer = w
	if w.tty && d.format.json {
		out = &escapingText{w: w}
	}
	b := bufio.NewWriterSize(out, 64<<10)
	d.to = d.format.make(b, o, w.tty)
	err := flows()
	if err == nil {
		err = d.to.End()
	}
	if e := b.Flush(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if d.without > 0 {
		fmt.Fprintf(d.stderr, "trace: %s left out: %s has no place for %s\n", count(int64(d.without), "flow"), d.format.name,
			map[bool]string{true: "it", false: "them"}[d.without == 1])
	}
	if d.failed {
		return exitError{Code: 1} // said above
	}
	return nil
}

// session writes flows of one session, of which only the ids need be known.
func (d *dumper) session(r *store.Reader, xs []*flow.Exchange) error {
	s, err := r.Session()
	if err == nil {
		err = d.to.From(s, r)
	}
	if err != nil {
		return err
	}
	log, isLog := d.to.(*export.Log)
	if isLog {
		if log.Last, err = lastOf(r, xs); err != nil {
			return err
		}
	}
	if spans, is := d.to.(*otlpDump); is {
		spans.stderr = d.stderr
		if err := spans.learn(r, xs); err != nil {
			return err
		}
	}
	for _, x := range xs {
		whole, err := r.Flow(x.ID)
		if errors.Is(err, store.ErrNoFlow) { // deleted meanwhile
			continue
		}
		if err != nil {
			d.tell(x, err)
			continue
		}
		if err := d.judge(x, d.to.Flow(whole)); err != nil {
			return err
		}
	}
	if !isLog || d.named {
		return nil
	}
	notes, err := r.Notes()
	for i := range notes {
		if err == nil {
			err = log.Noted(&notes[i])
		}
	}
	return err
}

// judge returns err if it ends the dump, and tells it if others can follow.
func (d *dumper) judge(x *flow.Exchange, err error) error {
	var body *export.BodyError
	switch {
	case err == nil:
	case errors.Is(err, export.ErrNoPlace) && d.named:
		d.tell(x, fmt.Errorf("%s: %w", d.format.name, err))
	case errors.Is(err, export.ErrNoPlace):
		d.without++
	case errors.As(err, &body):
		d.tell(x, err)
	default:
		return err
	}
	return nil
}

func (d *dumper) tell(x *flow.Exchange, err error) {
	fmt.Fprintf(d.stderr, "trace: flow %d: %s\n", x.ID, printable(err.Error()))
	d.failed = true
}

// lastOf finds for each connection the last of these flows on it.
func lastOf(r *store.Reader, xs []*flow.Exchange) (func(*flow.Exchange) bool, error) {
	all, err := r.Flows(store.Query{})
	if err != nil {
		return nil, err
	}
	conns := make(map[int64]int64, len(all))
	for _, x := range all {
		conns[x.ID] = x.Conn.ID
	}
	last := make(map[int64]int64)
	for _, x := range xs {
		last[conns[x.ID]] = x.ID
	}
	return func(x *flow.Exchange) bool { return x.Conn.ID == 0 || last[x.Conn.ID] == x.ID }, nil
}
