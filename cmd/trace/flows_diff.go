package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/replay"
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
		Args: checked(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), output(cmd), cmd.ErrOrStderr(), args)
		},
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
}

// ref names a side in JSON.
func (s *diffSide) ref() map[string]string {
	if s.template != "" {
		return map[string]string{"template": s.template}
	}
	return map[string]string{"session": s.d.Session, "id": fmt.Sprint(s.d.ID)}
}

// label names a side for people; with names its session where that is not one
// for both.
func (s *diffSide) label(sessions bool) string {
	switch {
	case s.template != "":
		return "template " + s.template
	case sessions:
		return fmt.Sprintf("%s/%d", s.d.Session, s.d.ID)
	}
	return fmt.Sprint(s.d.ID)
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
	r, id, err := openFlow(arg, session)
	if err != nil {
		return nil, err
	}
	defer closing(r)
	d, err := r.Detail(id)
	if err != nil {
		return nil, err
	}
	if d.Request == nil || d.Request.Head == nil {
		return nil, exitError{1, fmt.Errorf("flow %d is no HTTP exchange (%s): there is no request to compare", id, d.Kind)}
	}
	return &diffSide{d: d}, nil
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
		return writeList(w, []any{c.json()})
	}
	p := &printer{w: w}
	c.print(p)
	return p.err
}

// A comparison is what differs between two requests.
type comparison struct {
	a, b    *diffSide
	request requestDiff
}

func compareSides(a, b *diffSide) *comparison {
	c := &comparison{a: a, b: b}
	x, y, marks := a, b, a.marks
	if marks == nil {
		marks = b.marks
	}
	c.request = diffRequests(x.d, y.d, marks)
	return c
}

// jsonComparison is one element of `flows diff --json`.
type jsonComparison struct {
	A       map[string]string `json:"a"`
	B       map[string]string `json:"b"`
	Same    bool              `json:"same"`
	Head    []difference      `json:"head"`
	Body    []difference      `json:"body"`
	Skipped []string          `json:"skipped"`
}

func (c *comparison) json() jsonComparison {
	return jsonComparison{A: c.a.ref(), B: c.b.ref(), Same: c.request.same(), Head: append([]difference{}, c.request.Head...),
		Body: append([]difference{}, c.request.Body...), Skipped: append([]string{}, c.request.Skipped...)}
}

// print prints the comparison for reading.
func (c *comparison) print(p *printer) {
	sessions := c.a.d.Session != c.b.d.Session
	p.line("%s", p.w.paint(bold, w1(p.w, c.a.label(sessions)+" → "+c.b.label(sessions))))
	if c.request.same() {
		p.line("the requests are the same")
	}
	p.differences(c.request.Head)
	p.differences(c.request.Body)
	if n := len(c.request.Skipped); n > 0 {
		p.line("%s", p.w.paint(faint, p.w.fit(w1(p.w, fmt.Sprintf("not compared, as %s from run to run: %s", map[bool]string{true: "it changes", false: "they change"}[n == 1], shortList(c.request.Skipped))))))
	}
}

// sessions compares two runs.
func (o *diffOptions) sessions(ctx context.Context, w *terminal, stderr io.Writer) error {
	return errors.ErrUnsupported
}

// turns compares each call with the one before it.
func (o *diffOptions) turns(ctx context.Context, w *terminal, stderr io.Writer) error {
	return errors.ErrUnsupported
}
