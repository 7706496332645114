package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/llm"
	"trace/replay"
	"trace/store"
)

// diffOptions are the flags of `flows diff`.
type diffOptions struct {
	selection
	json    bool
	against string
}

func newFlowsDiffCommand() *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff [A B]",
		Short: "Say what changed between requests, and why the cache was missed",
		Long: `Say what changed between requests.

With two IDs, between those. Without, between each call to a language model and
the one before it in its conversation: what was appended and what was changed, in
system prompt, tools and messages; and the verdict on the prompt cache. With
--session A --against B, between two runs, turn by turn.

In place of an ID, the NAME of a template compares with what 'trace flows save'
has kept; what changes from run to run is left out then.`,
		Example: `  trace flows diff
  trace flows diff 12 14
  trace flows diff --session monday --against tuesday
  trace flows diff first-call last`,
	}
	ids := lastAmong(cmd, cobra.MaximumNArgs(2))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		args, err := ids(args)
		if err != nil {
			return err
		}
		return o.run(cmd.Context(), output(cmd), cmd.ErrOrStderr(), args)
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print a JSON array of comparisons")
	f.StringVar(&o.against, "against", "", "compare the session with this `ID, NAME or FILE`, turn by turn")
	o.register(f, "llm", "kind", "method", "status", "all")
	return cmd
}

func (o *diffOptions) run(ctx context.Context, w *terminal, stderr io.Writer, args []string) error {
	switch {
	case len(args) == 1:
		return usageError{errors.New("compare it with what? Give two IDs, or none for each call with the one before")}
	case len(args) == 2 && o.against != "":
		return usageError{errors.New("two IDs and --against exclude each other")}
	case len(args) == 2:
		return o.two(w, args)
	case o.against != "":
		return o.sessions(ctx, w, stderr)
	}
	return o.turns(ctx, w, stderr)
}

// A diffSide is one of the two things that are compared.
type diffSide struct {
	d        *flow.Detail
	template string                // the name, where it is one
	marks    *replay.TemplateMarks // what of it changes from run to run

	call   *llm.Call // nil if it is none
	n      int       // of several calls of one flow, from 0
	thread *callThread
}

// ref names a side in JSON.
func (s *diffSide) ref() map[string]string {
	if s.template != "" {
		return map[string]string{"template": s.template}
	}
	return map[string]string{"session": s.d.Session, "id": refText(llm.Ref{Flow: s.d.ID, Call: s.n})}
}

// label names a side for people; with names its session where that is not one
// for both.
func (s *diffSide) label(sessions bool) string {
	switch {
	case s.template != "":
		return "template " + s.template
	case sessions:
		return s.d.Session + "/" + refText(llm.Ref{Flow: s.d.ID, Call: s.n})
	}
	return refText(llm.Ref{Flow: s.d.ID, Call: s.n})
}

// openSide reads what an argument names.
func openSide(arg, session string) (*diffSide, error) {
	if arg != "last" && !strings.Contains(arg, "/") && replay.CheckName(arg) == nil {
		t, err := readTemplate(arg)
		if err != nil {
			return nil, exitError{1, err}
		}
		return &diffSide{d: t.Detail(), template: arg, marks: &t.Volatile}, nil
	}
	arg, call, err := cutCall(arg)
	if err != nil {
		return nil, err
	}
	r, id, err := openFlow(arg, session)
	if err != nil {
		return nil, err
	}
	defer closing(r)
	return readSide(r, id, call)
}

// readSide reads a request, of several calls of one flow that of this number.
func readSide(r *store.Reader, id int64, call int) (*diffSide, error) {
	d, err := r.Detail(id)
	if err != nil {
		return nil, err
	}
	if d.Request == nil || d.Request.Head == nil {
		return nil, exitError{1, fmt.Errorf("flow %d is no HTTP exchange (%s): there is no request to compare", id, d.Kind)}
	}
	s := &diffSide{d: d}
	calls := llm.Read(d)
	if s.n, err = chooseCall(calls, call, id); err != nil {
		return nil, err
	}
	if s.n = max(s.n, 0); len(calls) > 0 {
		s.call = calls[s.n]
	}
	return s, nil
}

// two compares two requests.
func (o *diffOptions) two(w *terminal, args []string) error {
	a, err := openSide(args[0], o.session)
	if err != nil {
		return err
	}
	b, err := openSide(args[1], o.session)
	if err != nil {
		return err
	}
	c := compareSides(a, b)
	if o.json {
		return writeList(w, []jsonComparison{c.json()})
	}
	p := &printer{w: w}
	c.print(p, maxBodyLines)
	return p.err
}

// diffOutput takes comparisons as they are made.
type diffOutput struct {
	p      *printer
	asJSON bool
	list   []jsonComparison
	n      int
}

func (out *diffOutput) add(c *comparison) error {
	out.n++
	if out.asJSON {
		out.list = append(out.list, c.json())
		return nil
	}
	if out.n > 1 {
		out.p.line("")
	}
	c.print(out.p, maxResultLines)
	return out.p.err
}

// end prints what is left; nothing says why there is nothing.
func (out *diffOutput) end(stderr io.Writer, nothing string) error {
	switch {
	case out.asJSON:
		return writeList(out.p.w, out.list)
	case out.n == 0:
		_, err := fmt.Fprintln(stderr, "trace: "+nothing)
		return err
	}
	return out.p.err
}

// turns compares each call with the one before it.
func (o *diffOptions) turns(ctx context.Context, w *terminal, stderr io.Writer) error {
	o.llm, o.bare = true, len(o.jq) == 0
	c, err := o.choose(ctx, stderr)
	if err != nil {
		return err
	}
	out := &diffOutput{p: &printer{w: w}, asJSON: o.json}
	err = c.each(func(r *store.Reader, xs []*flow.Exchange) error {
		if err := attachThreads(r, xs); err != nil {
			return err
		}
		known := newCallCache(r)
		return eachCall(r, xs, func(read readCall) error {
			if read.err != nil {
				fmt.Fprintf(stderr, "trace: flow %d: %v\n", read.x.ID, read.err)
				c.broken = true
				return nil
			}
			known.keep(read)
			return o.follow(out, known, read)
		})
	})
	if err == nil {
		err = out.end(stderr, "no call to a language model follows another")
	}
	return c.end(err)
}

// follow compares the calls of one flow with those before them.
func (o *diffOptions) follow(out *diffOutput, known *callCache, read readCall) error {
	for i, s := range callsIn(callOf(read.x)) {
		if s.Thread == nil || i >= len(read.calls) {
			continue
		}
		ref := parseRef(s.Thread.RetryOf)
		if ref.IsZero() {
			ref = parseRef(s.Thread.Previous)
		}
		before := known.get(ref)
		if before == nil {
			continue
		}
		b := &diffSide{d: &flow.Detail{Exchange: *read.x}, call: read.calls[i], n: i, thread: s.Thread}
		if err := out.add(&comparison{a: before, b: b, diff: llm.Compare(before.call, b.call)}); err != nil {
			return err
		}
	}
	return nil
}
