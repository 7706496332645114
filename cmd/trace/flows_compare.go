package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/store"
)

// compareOptions are the flags of `flows compare`.
type compareOptions struct {
	selection
	json bool
}

func newFlowsCompareCommand() *cobra.Command {
	var o compareOptions
	cmd := &cobra.Command{
		Use:   "compare [ID]",
		Short: "Compare what the command sent with what left for the server",
		Long: `Put what the command sent beside what left for the server, and the TLS of both
legs. trace run --inspect relays byte for byte: there both are the same, with the
same hash, and what differs is the TLS, which trace ends on one side and begins
on the other.

With ID (a number, SESSION/NUMBER or last) one flow is compared at length, without
it every flow that the other flags choose, on a line each. Exit status 0 whether
or not something differs.`,
	}
	id := lastFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		arg, err := id(args)
		if err != nil {
			return err
		}
		if arg == "" {
			return o.several(cmd.Context(), output(cmd), cmd.ErrOrStderr())
		}
		if anyGiven(cmd, append([]string{"all"}, filterFlags...)) {
			return usageError{errors.New("an ID and flags that choose flows exclude each other")}
		}
		return o.one(arg, output(cmd))
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print JSON: an object for ID, else an array")
	o.register(f)
	return cmd
}

func (o *compareOptions) one(arg string, w *terminal) error {
	r, id, err := openFlow(arg, o.session)
	if err != nil {
		return err
	}
	defer closing(r)
	x, err := r.Flow(id)
	if err != nil {
		return err
	}
	c := compare(x)
	if !o.json {
		return c.write(w, x)
	}
	text, err := flow.MarshalJSON(c)
	if err != nil {
		return err
	}
	return writeJSON(w, text)
}

func (o *compareOptions) several(ctx context.Context, w *terminal, stderr io.Writer) error {
	o.bare = len(o.jq) == 0
	c, err := o.choose(ctx, stderr)
	if err != nil {
		return err
	}
	list := make([]*bothways, 0, len(c.flows))
	t := table{columns: []column{{title: "ID", right: true}, {title: "METHOD", least: 4, wish: 7}, {title: "HOST", least: 6, wish: 18}, {title: "PATH", least: 6, wish: 16},
		{title: "BYTES"}, {title: "REQUEST", least: 8, wish: 8, drop: 2}, {title: "ANSWER", least: 8, wish: 8, drop: 1}, {title: "CHILD TLS", drop: 3}, {title: "SERVER TLS", drop: 4}, {title: "DIFFERS"}}}
	err = c.each(func(_ *store.Reader, xs []*flow.Exchange) error {
		for _, x := range xs {
			k := compare(x)
			list = append(list, k)
			k.addRow(&t, x, o.all)
		}
		return nil
	})
	switch {
	case err != nil:
	case o.json:
		var text []byte
		if text, err = flow.MarshalJSON(list); err == nil {
			err = writeJSON(w, text)
		}
	case len(list) == 0:
		_, err = fmt.Fprintln(stderr, o.nothing())
	default:
		err = t.write(w)
	}
	return c.end(err)
}

// shortHash is how much of a hash stands in a table.
const shortHash = 12

func (c *bothways) addRow(t *table, x *flow.Exchange, all bool) {
	id := c.ID
	if all {
		id = c.Session + "/" + id
	}
	f := factsOf(x)
	bytes, st := "–", plain
	if c.Identical != nil {
		if bytes, st = "same", green; !*c.Identical {
			bytes, st = "differ", yellow
		}
	}
	hash := func(b *bothSides) string {
		if b == nil || b.Child.BodySHA256 == nil {
			return ""
		}
		return (*b.Child.BodySHA256)[:shortHash]
	}
	var child, server, differs string
	if c.TLS != nil {
		child, server = c.TLS.Child.Version+" "+c.TLS.Child.ALPN, c.TLS.Server.Version+" "+c.TLS.Server.ALPN
		if !c.TLS.Terminated {
			server = "the same"
		}
	}
	for i, d := range c.Differences {
		if i > 0 {
			differs += ", "
		}
		differs += d.Field
	}
	t.add(cell{id, faint}, cell{text: f.method}, cell{text: f.host}, cell{text: f.path}, cell{bytes, st}, cell{text: hash(c.Request)}, cell{text: hash(c.Response)},
		cell{text: child}, cell{text: server}, cell{differs, yellow})
}
