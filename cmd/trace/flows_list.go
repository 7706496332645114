package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/flow"
)

// listOptions are the flags of `flows list`.
type listOptions struct {
	selection
	json bool
}

func newFlowsListCommand() *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the flows of a session, oldest first",
		Long: `List the flows of a session, oldest first: as a table, or as a JSON array.

Each --jq filter is given the array of flows and makes the next one; what the
last one outputs is printed as JSON. Times are given as 2026-01-02T15:04:05Z,
"2026-01-02 15:04", 2026-01-02, 15:04 (today), 10m or "2h ago", start or end (of
the session), or as the name of a mark (see 'trace mark --help').`,
		Example: `  trace flows list --status 4xx
  trace flows list --host '*.anthropic.com' --json
  trace flows list --from start --to 'first try'
  trace flows list --jq 'map(select(.response.body_size > 100000) | .id)'`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), output(cmd), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print the JSON array of flows")
	o.register(f)
	return cmd
}

func (o *listOptions) run(ctx context.Context, w *terminal, stderr io.Writer) error {
	c, err := o.read(stderr)
	if err != nil {
		return err
	}
	switch {
	case o.json || len(o.filters) > 0:
		var text []byte
		if text, err = flowsJSON(c.flows); err == nil {
			err = o.print(ctx, w, text)
		}
	case len(c.flows) == 0:
		if err = writeFlows(w, c, o.all); err == nil {
			_, err = fmt.Fprintln(stderr, o.nothing())
		}
	default:
		err = writeFlows(w, c, o.all)
	}
	return c.end(err)
}

// flowsJSON is the JSON array, one flow a line.
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

// listColumns are those of the table of flows. Those of calls to language
// models are without text, and so left out, where there are no calls; in a table
// of nothing else, method and path say little.
func listColumns(onlyCalls bool) []column {
	cs := []column{
		{title: "ID", right: true},
		{title: "TIME", drop: 6},
		{title: "METHOD", least: 4, wish: 7},
		{title: "HOST", least: 6, wish: 18},
		{title: "PATH", least: 6, wish: 16},
		{title: "STATUS", least: 3, wish: 6},
		{title: "KIND", drop: 3},
		{title: "SIZE", right: true, drop: 8},
		{title: "TOOK", right: true, drop: 7},
		{title: "PROC", least: 6, wish: 16, drop: 4},
		{title: "MODEL", least: 8, wish: 16, drop: 14},
		{title: "IN", right: true, drop: 12},
		{title: "CACHED", right: true, drop: 11},
		{title: "OUT", right: true, drop: 13},
		{title: "STOP", least: 4, wish: 8, drop: 10},
		{title: "FIRST", right: true, drop: 9},
		{title: "TOK/S", right: true, drop: 5},
		{title: "NOTE"},
	}
	if onlyCalls {
		cs[2].drop, cs[4].drop = 2, 1
	}
	return cs
}

// writeFlows prints the table, with the marks that were made since its first
// flow; all of them if there is no flow at all. With all, IDs name their session
// and times their day.
func writeFlows(w *terminal, c *choice, all bool) error {
	xs, marks := c.flows, c.marks
	if len(xs) > 0 && c.limited {
		marks = slices.DeleteFunc(slices.Clone(marks), func(m sessionMark) bool { return m.At.Before(xs[0].Started) })
	}
	if len(xs) == 0 && len(marks) == 0 {
		return nil
	}
	onlyCalls := !slices.ContainsFunc(xs, func(x *flow.Exchange) bool { return callOf(x) == nil })
	t := table{notes: true, columns: listColumns(onlyCalls)}
	clock := "15:04:05"
	if all || spansDays(xs) {
		clock = "01-02 15:04:05"
	}
	mark := func(m *sessionMark) {
		name := m.Name()
		if all {
			name = m.session + "/" + name
		}
		t.line(markLine(m.Mark, name, clock), cyan)
	}
	for _, x := range xs {
		for ; len(marks) > 0 && marks[0].At.Before(x.Started); marks = marks[1:] {
			mark(&marks[0])
		}
		id := fmt.Sprint(x.ID)
		if all {
			id = x.Session + "/" + id
		}
		f := factsOf(x)
		row := []cell{{id, faint}, {x.Started.Local().Format(clock), faint}, {text: f.method}, {text: f.host},
			{text: f.path}, f.status, {text: x.Kind}, {text: sizeText(f.size)}, {text: f.took}, {text: f.process}}
		row = append(row, callCells(x)...)
		t.add(append(row, cell{f.note, yellow})...)
	}
	for i := range marks {
		mark(&marks[i])
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
