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
	"trace/store"
)

// dumpOptions are the flags of `flows dump`.
type dumpOptions struct {
	listOptions
	format string
	dir    string
}

// A dumpFormat is a value of --format.
type dumpFormat struct {
	name   string
	binary bool // nothing for a terminal
	json   bool // lines of JSON, which a terminal gets escaped
	dir    bool // it writes files below --dir
	make   func(w io.Writer, o *dumpOptions) export.Writer
}

// dumpFormats are the formats, the default first.
var dumpFormats = []dumpFormat{
	{name: "har", json: true, make: func(w io.Writer, _ *dumpOptions) export.Writer {
		return &export.HAR{W: w, Version: programVersion()}
	}},
	{name: "jsonl", json: true, make: func(w io.Writer, _ *dumpOptions) export.Writer { return &export.Log{W: w} }},
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
  trace flows dump --format curl last`,
	}
	last := cmd.Flags().BoolP("last", "1", false, "the newest flow, as the ID last")
	cmd.Flags().Lookup("last").Hidden = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *last {
			args = append(args, "last")
		}
		return o.run(cmd.Context(), args, output(cmd), cmd.ErrOrStderr())
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", dumpFormats[0].name, "write this `FORMAT`: "+formatNames())
	f.StringVar(&o.dir, "dir", "", "write files below `DIR` (request-json)")
	f.StringArrayVar(&o.jq, "jq", nil, "write the flows that this `FILTER` outputs; repeatable")
	f.StringVar(&o.query.Host, "host", "", "only flows to hosts that match `GLOB`")
	f.StringVar(&o.query.Method, "method", "", "only requests with this `METHOD`")
	f.StringVar(&o.query.Status, "status", "", "only answers with this `STATUS`, such as 404 or 4xx")
	f.StringVar(&o.query.Kind, "kind", "", "only flows of this `KIND`: http, websocket, tcp, udp or dns")
	f.StringVar(&o.from, "from", "", "only flows that started at `TIME` or later")
	f.StringVar(&o.to, "to", "", "only flows that started before `TIME`")
	f.IntVar(&o.query.Limit, "limit", 0, "only the newest `N`")
	f.StringVar(&o.session, "session", "", "read the session with this `ID, NAME or FILE`")
	f.BoolVar(&o.all, "all", false, "read all sessions")
	return cmd
}

// A chosen session, and the flows of it that are to be written.
type chosen struct {
	r     *store.Reader
	s     flow.Session
	ids   []int64
	named bool // by their IDs

	started map[int64]time.Time // of ids, where filters were asked
}

func (o *dumpOptions) run(ctx context.Context, args []string, w *terminal, stderr io.Writer) error {
	if ctx == nil {
		ctx = context.Background()
	}
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
	}
	if err := o.check(time.Now()); err != nil {
		return usageError{err}
	}
	filters, err := parseFilters(o.jq)
	if err != nil {
		return err
	}
	if format.binary && w.tty {
		return exitError{1, fmt.Errorf("%s is binary and standard output is a terminal: 'trace flows dump --format %[1]s > FILE'", format.name)}
	}
	all, broken, err := o.choose(ctx, args, filters, stderr)
	defer func() {
		for _, c := range all {
			closing(c.r)
		}
	}()
	if err != nil {
		return err
	}
	d := &dumper{format: format, stderr: stderr, failed: broken}
	return d.write(w, o, all)
}

// choose finds the sessions and their flows. broken says that some could not
// be found or read, which has been said.
func (o *dumpOptions) choose(ctx context.Context, args []string, filters []filter, stderr io.Writer) (all []*chosen, broken bool, err error) {
	switch {
	case len(args) > 0:
		if o.all {
			return nil, false, usageError{errors.New("--all and IDs exclude each other")}
		}
		all, broken, err = o.named(args, stderr)
	case o.all:
		all, broken, err = allSessions(stderr)
	default:
		var c *chosen
		if c, err = openChosen(o.session); err == nil {
			all = append(all, c)
		}
	}
	for _, c := range all {
		if err != nil {
			return all, broken, err
		}
		err = c.filter(ctx, o.query, filters)
	}
	newestOf(all, o.query.Limit)
	return all, broken, err
}

// newestOf leaves the newest n flows of all sessions together, all for 0.
func newestOf(all []*chosen, n int) {
	var starts []time.Time
	for _, c := range all {
		for _, id := range c.ids {
			starts = append(starts, c.started[id])
		}
	}
	if n == 0 || len(starts) <= n {
		return
	}
	slices.SortFunc(starts, time.Time.Compare)
	from := starts[len(starts)-n]
	for _, c := range all {
		c.ids = slices.DeleteFunc(c.ids, func(id int64) bool { return c.started[id].Before(from) })
	}
}

func openChosen(ref string) (*chosen, error) {
	r, err := openSession(ref)
	if err != nil {
		return nil, err
	}
	s, err := r.Session()
	if err != nil {
		r.Close()
		return nil, err
	}
	return &chosen{r: r, s: s}, nil
}

// named finds the flows with these IDs. One that does not exist is told and
// the others are written.
func (o *dumpOptions) named(args []string, stderr io.Writer) (all []*chosen, broken bool, err error) {
	byRef := map[string]*chosen{}
	for _, arg := range args {
		ref, err := parseFlowRef(arg, o.session)
		if errors.As(err, new(usageError)) {
			return all, false, err
		}
		var id int64
		c := byRef[ref.session]
		if err == nil && c == nil {
			if c, err = openChosen(ref.session); err == nil {
				c.named, byRef[ref.session] = true, c
				all = append(all, c)
			}
		}
		if err == nil {
			id, err = resolve(c.r, ref)
		}
		if err != nil {
			fmt.Fprintf(stderr, "trace: %v\n", err)
			broken = true
			continue
		}
		if !slices.Contains(c.ids, id) {
			c.ids = append(c.ids, id)
		}
	}
	if len(all) == 0 && broken {
		return nil, true, exitError{Code: 1} // said above
	}
	return all, broken, nil
}

// allSessions opens all sessions that can be read.
func allSessions(stderr io.Writer) (all []*chosen, broken bool, err error) {
	dir, err := sessionsDir()
	if err != nil {
		return nil, false, err
	}
	sessions, err := store.List(dir)
	for _, s := range sessions {
		r, e := store.Open(s.File)
		if e != nil {
			fmt.Fprintf(stderr, "trace: %v\n", e)
			broken = true
			continue
		}
		all = append(all, &chosen{r: r, s: s})
	}
	return all, broken, err
}

// filter leaves the flows that fit q and the filters.
func (c *chosen) filter(ctx context.Context, q store.Query, filters []filter) error {
	if c.named && q == (store.Query{}) && len(filters) == 0 {
		return nil // in the order of the command line
	}
	q.Heads = len(filters) > 0
	if c.named {
		q.Limit = 0 // of those named
	}
	xs, err := c.r.Flows(q)
	if err != nil {
		return err
	}
	if c.named {
		xs = slices.DeleteFunc(xs, func(x *flow.Exchange) bool { return !slices.Contains(c.ids, x.ID) })
	}
	c.ids, c.started = c.ids[:0:0], make(map[int64]time.Time, len(xs))
	for _, x := range xs {
		c.ids = append(c.ids, x.ID)
		c.started[x.ID] = x.Started
	}
	if len(filters) == 0 {
		return nil
	}
	text, err := flowsJSON(xs)
	if err != nil {
		return err
	}
	v, err := generic(text)
	if err != nil {
		return err
	}
	outs, err := applyFilters(ctx, filters, v)
	if err != nil {
		return err
	}
	c.ids, err = idsOf(outs, c.ids)
	return err
}

// idsOf reads what filters output: flows, or their ids.
func idsOf(outs []any, known []int64) (ids []int64, err error) {
	list, _ := gathered(outs).([]any)
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			v = m["id"]
		}
		id := strings.Trim(fmt.Sprint(v), `"`)
		id = id[strings.LastIndexByte(id, '/')+1:]
		i := slices.IndexFunc(known, func(k int64) bool { return fmt.Sprint(k) == id })
		if i < 0 {
			return nil, exitError{1, errors.New("--jq: what the filters output are not flows, nor their ids")}
		}
		if !slices.Contains(ids, known[i]) {
			ids = append(ids, known[i])
		}
	}
	return ids, nil
}

// A dumper writes flows in one format.
type dumper struct {
	format  dumpFormat
	stderr  io.Writer
	failed  bool // something was told
	without int  // flows that the format has no place for
}

func (d *dumper) write(w *terminal, o *dumpOptions, all []*chosen) error {
	var out io.Writer = w
	if w.tty && d.format.json {
		out = &escapingText{w: w}
	}
	b := bufio.NewWriterSize(out, 64<<10)
	to := d.format.make(b, o)
	for _, c := range all {
		if err := d.session(to, c); err != nil {
			b.Flush()
			return err
		}
	}
	err := to.End()
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

// session writes the flows of one session.
func (d *dumper) session(to export.Writer, c *chosen) error {
	if err := to.From(c.s, c.r); err != nil {
		return err
	}
	log, isLog := to.(*export.Log)
	if isLog {
		var err error
		if log.Last, err = lastOf(c); err != nil {
			return err
		}
	}
	for _, id := range c.ids {
		x, err := c.r.Flow(id)
		if errors.Is(err, store.ErrNoFlow) { // deleted meanwhile
			continue
		}
		if err == nil {
			err = to.Flow(x)
		}
		if err := d.judge(id, c.named, err); err != nil {
			return err
		}
	}
	if !isLog || c.named {
		return nil
	}
	notes, err := c.r.Notes()
	for i := range notes {
		if err == nil {
			err = log.Noted(&notes[i])
		}
	}
	return err
}

// judge returns err if it ends the dump, and tells it if others can follow.
func (d *dumper) judge(id int64, named bool, err error) error {
	var body *export.BodyError
	var damaged *store.FileError
	switch {
	case err == nil:
	case errors.Is(err, export.ErrNoPlace) && named:
		d.tell(id, fmt.Errorf("%s: %w", d.format.name, err))
	case errors.Is(err, export.ErrNoPlace):
		d.without++
	case errors.As(err, &body), errors.As(err, &damaged):
		d.tell(id, err)
	default:
		return err
	}
	return nil
}

func (d *dumper) tell(id int64, err error) {
	fmt.Fprintf(d.stderr, "trace: flow %d: %s\n", id, printable(err.Error()))
	d.failed = true
}

// lastOf finds for each connection the last flow of c on it.
func lastOf(c *chosen) (func(*flow.Exchange) bool, error) {
	xs, err := c.r.Flows(store.Query{})
	if err != nil {
		return nil, err
	}
	conns := make(map[int64]int64, len(xs))
	for _, x := range xs {
		conns[x.ID] = x.Conn.ID
	}
	last := make(map[int64]int64)
	for _, id := range c.ids {
		last[conns[id]] = id
	}
	return func(x *flow.Exchange) bool { return x.Conn.ID == 0 || last[x.Conn.ID] == x.ID }, nil
}
