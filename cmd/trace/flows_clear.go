package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/store"
)

// clearOptions are the flags of `flows clear`.
type clearOptions struct {
	selection
	every bool
	yes   bool
	dry   bool
}

func newFlowsClearCommand() *cobra.Command {
	var o clearOptions
	cmd := &cobra.Command{
		Use:   "clear --jq FILTER... | --every",
		Short: "Delete flows from a session",
		Long: `Delete the flows that the --jq filters put out, or every flow, from one session,
and rewrite what still holds their bytes: when the command has ended, they are
not in the file any more. The IDs of other flows stay as they are. What a flow
shares with others that stay, as the earlier turns of a conversation, stays too.

--host, --from and so on say among which flows. A running session is refused.
With --all, flows of all sessions are deleted: this asks first, or wants --yes.`,
		Example: `  trace flows clear --jq 'map(select(.request.host=="login.example.com"))'
  trace flows clear --every --session 01KD3`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.every, "every", false, "delete every flow (that the other flags choose)")
	f.BoolVar(&o.yes, "yes", false, "do not ask, with --all")
	f.BoolVar(&o.dry, "dry-run", false, "delete nothing, say which flows it would be")
	o.register(f)
	return cmd
}

func (o *clearOptions) run(ctx context.Context, in io.Reader, w, stderr io.Writer) error {
	switch {
	case o.every && len(o.jq) > 0:
		return usageError{errors.New("--every and --jq exclude each other")}
	case !o.every && len(o.jq) == 0:
		return usageError{errors.New("which flows? Give --jq FILTER, or --every (see 'trace flows clear --help')")}
	case o.all && !o.yes && !o.dry && !isTerminal(in):
		return usageError{errors.New("--all deletes flows of all sessions: it wants --yes")}
	}
	o.bare = o.every
	c, err := o.choose(ctx, stderr)
	if err != nil {
		return err
	}
	if len(c.flows) == 0 {
		_, err := fmt.Fprintln(stderr, o.nothing())
		return c.end(err)
	}
	if o.dry {
		for _, x := range c.flows {
			f := factsOf(x)
			fmt.Fprintf(w, "%s/%d  %s\n", x.Session, x.ID, printable(strings.Join([]string{f.method, f.host, f.path}, " ")))
		}
		return c.end(nil)
	}
	if o.all && !o.yes && !agreed(in, stderr, fmt.Sprintf("Delete %s of %s?", count(int64(len(c.flows)), "flow"), count(int64(len(c.files)), "session"))) {
		return exitError{1, errors.New("nothing was deleted")}
	}
	var last error
	err = c.each(func(r *store.Reader, xs []*flow.Exchange) error {
		label := sessionLabel(r)
		closing(r) // nobody may read
		err := clearSession(w, label, c.files[xs[0].Session], xs)
		if err != nil && o.all {
			if last != nil {
				fmt.Fprintf(stderr, "trace: %v\n", last)
			}
			last, err = err, nil
		}
		return err
	})
	if last != nil && err == nil {
		err = last
	}
	return c.end(err)
}

func clearSession(w io.Writer, label, file string, xs []*flow.Exchange) error {
	ids := make([]int64, len(xs))
	for i, x := range xs {
		ids[i] = x.ID
	}
	before, after, err := store.Clear(file, ids)
	switch {
	case errors.Is(err, store.ErrRunning):
		return exitError{1, fmt.Errorf("%s is running: flows can be deleted when its command has ended", label)}
	case err != nil:
		return exitError{1, err}
	}
	_, err = fmt.Fprintf(w, "%s deleted from %s; its file takes %s (%s before)\n", count(int64(len(xs)), "flow"), label, bytesText(after), bytesText(before))
	return err
}

// isTerminal reports whether there is somebody at in to ask.
func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && newTerminal(f, os.Getenv).tty
}

// agreed asks and reports whether the answer is yes.
func agreed(in io.Reader, w io.Writer, question string) bool {
	fmt.Fprintf(w, "%s [y/N] ", question)
	line, _ := bufio.NewReader(in).ReadString('\n')
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes"
}
