package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// toolsOptions are the flags of `flows tools`.
type toolsOptions struct {
	selection
	json bool
}

func newFlowsToolsCommand() *cobra.Command {
	var o toolsOptions
	cmd := &cobra.Command{
		Use:   "tools",
		Short: "List the tool calls of a session, with their results",
		Long: `List the tools that models called, with what they were given, the size of what
came back, whether it was an error, and the time between the call and the request
that brought the result.`,
		Example: `  trace flows tools
  trace flows tools --json | jq '.[] | select(.is_error)'`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), output(cmd), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print a JSON array of tool calls")
	o.register(f, "llm", "kind", "method", "status")
	return cmd
}

func (o *toolsOptions) run(ctx context.Context, w *terminal, stderr io.Writer) error {
	o.llm, o.bare = true, len(o.jq) == 0
	c, err := o.choose(ctx, stderr)
	if err != nil {
		return err
	}
	var uses []*toolUse
	err = c.eachCall(stderr, func() func(*flow.Exchange, *llm.Call) error {
		l := newToolLog()
		return func(x *flow.Exchange, call *llm.Call) error {
			known := len(l.uses)
			l.add(x, call)
			uses = append(uses, l.uses[known:]...)
			return nil
		}
	})
	switch {
	case err != nil:
	case o.json:
		err = writeTools(w, uses)
	case len(uses) == 0:
		_, err = fmt.Fprintln(stderr, "trace: no tool was called")
	default:
		err = writeToolTable(w, uses, o.all)
	}
	return c.end(err)
}

// eachCall reads the chosen calls, session by session; begin is called for each
// session and returns what is called with its calls. What cannot be read is
// said, and the rest is read all the same.
func (c *choice) eachCall(stderr io.Writer, begin func() func(*flow.Exchange, *llm.Call) error) error {
	return c.each(func(r *store.Reader, xs []*flow.Exchange) error {
		fn := begin()
		return eachCall(r, xs, func(read readCall) error {
			if read.err != nil {
				fmt.Fprintf(stderr, "trace: flow %d: %v\n", read.x.ID, read.err)
				c.broken = true
			}
			for _, call := range read.calls {
				if err := fn(read.x, call); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func writeTools(w *terminal, uses []*toolUse) error {
	list := make([]jsonToolUse, 0, len(uses))
	for _, u := range uses {
		list = append(list, u.json())
	}
	return writeList(w, list)
}

// writeList prints a JSON array: indented on a terminal, else one element a
// line.
func writeList[T any](w *terminal, list []T) error {
	var b strings.Builder
	b.WriteByte('[')
	for i := range list {
		if i > 0 {
			b.WriteString(",\n")
		}
		text, err := flow.MarshalJSON(list[i])
		if err != nil {
			return err
		}
		b.Write(text)
	}
	b.WriteByte(']')
	return writeJSON(w, []byte(b.String()))
}

func writeToolTable(w *terminal, uses []*toolUse, all bool) error {
	t := table{notes: true, columns: []column{
		{title: "FLOW", right: true},
		{title: "TIME", drop: 1},
		{title: "TOOL", least: 4, wish: 12},
		{title: "INPUT", least: 10, wish: 30},
		{title: "RESULT", right: true},
		{title: "TOOK", right: true},
		{title: "IN", right: true, drop: 2},
		{title: "NOTE"},
	}}
	for _, u := range uses {
		id := "-"
		if u.flow != 0 {
			id = fmt.Sprint(u.flow)
		}
		if all {
			id = u.session + "/" + id
		}
		row := []cell{{id, faint}, {}, {cmp.Or(u.name, "?"), cyan}, {text: shorten(printable(u.input), 300)}, {}, {}, {}, {}}
		if !u.called.IsZero() {
			row[1] = cell{u.called.Local().Format("15:04:05"), faint}
		}
		if d, ok := u.took(); ok {
			row[5] = cell{text: tookText(d)}
		}
		switch {
		case u.result == nil:
			row[7] = cell{"no result passed", faint}
		case u.result.isError:
			row[7] = cell{"error: " + shorten(printable(firstLine(u.result.text)), 200), yellow}
			fallthrough
		default:
			row[4], row[6] = cell{text: sizeText(u.result.size)}, cell{fmt.Sprint(u.returned), faint}
		}
		t.add(row...)
	}
	return t.write(w)
}
