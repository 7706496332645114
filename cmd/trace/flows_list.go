package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/store"
)

// listOptions are the flags of `flows list`.
type listOptions struct {
	json     bool
	jq       []string
	query    store.Query
	from, to string
	session  string
	all      bool
}

func newFlowsListCommand() *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the flows of a session, oldest first",
		Long: `List the flows of a session, oldest first: as a table, or as a JSON array.

Each --jq filter is given the array of flows and makes the next one; what the
last one outputs is printed as JSON. Times are given as 2026-01-02T15:04:05Z,
"2026-01-02 15:04", 2026-01-02, 15:04 (today) or 10m (ago).`,
		Example: `  trace flows list --status 4xx
  trace flows list --host '*.anthropic.com' --json
  trace flows list --jq 'map(select(.response.body_size > 100000) | .id)'`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), output(cmd), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print the JSON array of flows")
	f.StringArrayVar(&o.jq, "jq", nil, "pass the JSON array through this `FILTER`; repeatable")
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

var statusPattern = regexp.MustCompile(`^[1-5](\d\d|[xX]{2})$`)

// check reads the flags and reports the first that makes no sense.
func (o *listOptions) check(now time.Time) error {
	q := &o.query
	q.Method, q.Status = strings.ToUpper(q.Method), strings.ToLower(q.Status)
	if q.Status != "" && !statusPattern.MatchString(q.Status) {
		return fmt.Errorf("--status %q: want a status such as 404 or 4xx", q.Status)
	}
	kinds := []string{flow.KindHTTP, flow.KindWebSocket, flow.KindTCP, flow.KindUDP, flow.KindDNS}
	if q.Kind != "" && !slices.Contains(kinds, q.Kind) {
		return fmt.Errorf("--kind %q: want %s", q.Kind, strings.Join(kinds, ", "))
	}
	if q.Limit < 0 {
		return fmt.Errorf("--limit %d: want a number of flows", q.Limit)
	}
	if o.all && o.session != "" {
		return errors.New("--all and --session exclude each other")
	}
	var err error
	if q.From, err = parseTime(o.from, now); err != nil {
		return fmt.Errorf("--from %q: %w", o.from, err)
	}
	if q.To, err = parseTime(o.to, now); err != nil {
		return fmt.Errorf("--to %q: %w", o.to, err)
	}
	return nil
}

// parseTime reads a point in time as people write it; "" is the zero time.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(s); err == nil {
		return now.Add(-ago.Abs()), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(form, s, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, form := range []string{"15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(form, s, now.Location()); err == nil {
			y, m, d := now.Date()
			return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location()), nil
		}
	}
	return time.Time{}, errors.New("want 2026-01-02T15:04:05Z, 2026-01-02, 15:04 or 10m")
}

func (o *listOptions) run(ctx context.Context, w *terminal, stderr io.Writer) error {
	if err := o.check(time.Now()); err != nil {
		return usageError{err}
	}
	filters, err := parseFilters(o.jq)
	if err != nil {
		return err
	}
	o.query.Heads = true
	xs, broken, err := o.flows(stderr)
	if err != nil {
		return err
	}
	switch {
	case len(filters) > 0:
		err = writeFiltered(ctx, w, filters, xs)
	case o.json:
		err = writeFlowsJSON(w, xs)
	case len(xs) == 0:
		_, err = fmt.Fprintln(stderr, o.nothing())
	default:
		err = writeFlows(w, xs, o.all)
	}
	if err == nil && broken {
		return exitError{Code: 1} // said above, file by file
	}
	return err
}

// nothing says why the table is empty.
func (o *listOptions) nothing() string {
	q := o.query
	q.Heads, q.Limit = false, 0
	if q != (store.Query{}) {
		return "trace: no flow fits these filters"
	}
	return "trace: no flows recorded (yet)"
}

// flows reads what is asked for. broken says that some files could not be
// read, which has been said.
func (o *listOptions) flows(stderr io.Writer) (xs []*flow.Exchange, broken bool, err error) {
	if !o.all {
		r, err := openSession(o.session)
		if err != nil {
			return nil, false, err
		}
		defer closing(r)
		xs, err := r.Flows(o.query)
		return xs, false, err
	}
	dir, err := sessionsDir()
	if err != nil {
		return nil, false, err
	}
	sessions, err := store.List(dir)
	if err != nil {
		return nil, false, err
	}
	for _, s := range sessions {
		more, err := flowsOf(s.File, o.query)
		if err != nil {
			fmt.Fprintf(stderr, "trace: %v\n", err)
			broken = true
		}
		xs = append(xs, more...)
	}
	slices.SortStableFunc(xs, func(a, b *flow.Exchange) int { return a.Started.Compare(b.Started) })
	if n := o.query.Limit; n > 0 && len(xs) > n {
		xs = xs[len(xs)-n:]
	}
	return xs, broken, nil
}

func flowsOf(file string, q store.Query) ([]*flow.Exchange, error) {
	r, err := store.Open(file)
	if err != nil {
		return nil, err
	}
	defer closing(r)
	return r.Flows(q)
}

// writeFlowsJSON prints the array: indented on a terminal, else one flow a
// line.
func writeFlowsJSON(w *terminal, xs []*flow.Exchange) error {
	text, err := flowsJSON(xs)
	if err != nil {
		return err
	}
	if w.tty {
		return writeJSON(w, text)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func flowsJSON(xs []*flow.Exchange) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, x := range xs {
		if i > 0 {
			b.WriteString(",\n")
		}
		text, err := x.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("flow %d: %w", x.ID, err)
		}
		b.Write(text)
	}
	b.WriteByte(']')
	return b.Bytes(), nil
}

func writeFiltered(ctx context.Context, w *terminal, fs []filter, xs []*flow.Exchange) error {
	text, err := flowsJSON(xs)
	if err != nil {
		return err
	}
	v, err := generic(text)
	if err != nil {
		return err
	}
	outs, err := applyFilters(ctx, fs, v)
	if err != nil {
		return err
	}
	return writeValues(w, outs)
}

// writeFlows prints the table. With all, IDs name their session and times
// their day.
func writeFlows(w *terminal, xs []*flow.Exchange, all bool) error {
	t := table{notes: true, columns: []column{
		{title: "ID", right: true},
		{title: "TIME", drop: 3},
		{title: "METHOD", least: 4, wish: 7},
		{title: "HOST", least: 6, wish: 18},
		{title: "PATH", least: 6, wish: 16},
		{title: "STATUS", least: 3, wish: 6},
		{title: "KIND", drop: 1},
		{title: "SIZE", right: true, drop: 5},
		{title: "TOOK", right: true, drop: 4},
		{title: "PROC", least: 6, wish: 16, drop: 2},
		{title: "NOTE"},
	}}
	clock := "15:04:05"
	if all || spansDays(xs) {
		clock = "01-02 15:04:05"
	}
	for _, x := range xs {
		id := fmt.Sprint(x.ID)
		if all {
			id = x.Session + "/" + id
		}
		f := factsOf(x)
		t.add(cell{id, faint}, cell{x.Started.Local().Format(clock), faint}, cell{text: f.method}, cell{text: f.host},
			cell{text: f.path}, f.status, cell{text: x.Kind}, cell{text: sizeText(f.size)}, cell{text: f.took},
			cell{text: f.process}, cell{f.note, yellow})
	}
	return t.write(w)
}

func spansDays(xs []*flow.Exchange) bool {
	if len(xs) == 0 {
		return false
	}
	day := func(x *flow.Exchange) string { return x.Started.Local().Format(time.DateOnly) }
	return day(xs[0]) != day(xs[len(xs)-1])
}

// rowFacts is a flow in a few words, unescaped.
type rowFacts struct {
	method, host, path string
	status             cell
	size               int64
	took               string
	process            string
	note               string
}

func factsOf(x *flow.Exchange) rowFacts {
	f := rowFacts{method: x.Kind, host: x.Conn.Host, took: "…", process: processText(x.Conn.Process), status: statusOf(x), note: noteOf(x)}
	if !x.Ended.IsZero() {
		f.took = tookText(x.Duration())
	}
	f.size = x.Conn.Sent + x.Conn.Received
	switch {
	case x.Request != nil && x.Request.Head != nil:
		h := x.Request.Head
		f.method, f.host, f.path, f.size = h.Method, hostPort(h), h.Path, 0
		if x.Response != nil && x.Response.Body != nil {
			f.size = x.Response.Body.Size
		}
		if x.IsWebSocket() {
			f.size = x.Tally[flow.Client].Bytes + x.Tally[flow.Server].Bytes
		}
	case x.DNS != nil:
		f.host, f.size = x.DNS.Name, 0
		f.path = strings.TrimSuffix(x.DNS.Type+" "+strings.Join(x.DNS.Answers, ", "), " ")
	default:
		f.host = cmp.Or(f.host, addrText(x.Conn.Dst.Addr()))
		f.path = fmt.Sprintf(":%d %s", x.Conn.Dst.Port(), carried(&x.Conn))
	}
	return f
}

// carried says what passed on a connection that was not decoded, or why it
// was not.
func carried(c *flow.Conn) string {
	switch c.Protocol {
	case "", "tls", "http", "http2":
		return cmp.Or(c.Opaque, c.Protocol)
	}
	return c.Protocol
}

func statusOf(x *flow.Exchange) cell {
	switch {
	case x.Response != nil && x.Response.Head != nil:
		code := x.Response.Head.Status
		st := map[int]style{1: cyan, 2: green, 3: cyan, 4: yellow, 5: red}[code/100]
		text := fmt.Sprint(code)
		if g := x.Response.GRPC(); g != nil {
			text += fmt.Sprintf(" grpc %d", g.Code)
			if g.Code != 0 {
				st = yellow
			}
		}
		if x.State == flow.StateFailed {
			st = red
		}
		return cell{text, st}
	case x.State == flow.StateFailed:
		return cell{"failed", red}
	case x.State == flow.StateOpen:
		return cell{"open", cyan}
	case x.DNS != nil:
		return cell{text: x.DNS.Rcode}
	case x.Conn.Opaque != "":
		return cell{"opaque", faint}
	}
	return cell{text: "-"}
}

// noteOf says what went wrong, or is worth saying, and what would mend it.
func noteOf(x *flow.Exchange) string {
	e := x.Error
	if e == nil && len(x.Marks) > 0 {
		e = x.Marks[len(x.Marks)-1].Error
	}
	if e == nil {
		return ""
	}
	note := e.Message
	if !strings.Contains(note, e.Detail) {
		note += ": " + e.Detail
	}
	if e.Hint != "" {
		note += " (" + e.Hint + ")"
	}
	return note
}
