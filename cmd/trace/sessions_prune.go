package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/store"
)

// pruneOptions are the flags of `trace sessions prune`.
type pruneOptions struct {
	keep  int
	older string
	dry   bool
}

func newSessionsPruneCommand() *cobra.Command {
	o := pruneOptions{keep: -1}
	cmd := &cobra.Command{
		Use:   "prune --keep N | --older DURATION",
		Short: "Delete old runs",
		Long: `Delete all recorded runs but the newest N, or those that ended longer than
DURATION ago (90m, 12h, 30d, 2w). Running sessions are neither counted nor deleted,
and files that cannot be read are left alone. Prints the IDs of what is deleted.`,
		Example: `  trace sessions prune --keep 20
  trace sessions prune --older 30d --dry-run`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Flags().Changed("keep"), cmd.OutOrStdout(), cmd.ErrOrStderr(), time.Now())
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.keep, "keep", 0, "keep the newest `N`")
	f.StringVar(&o.older, "older", "", "delete what ended longer than `DURATION` ago")
	f.BoolVar(&o.dry, "dry-run", false, "delete nothing, print what it would be")
	return cmd
}

func (o *pruneOptions) run(counted bool, w, stderr io.Writer, now time.Time) error {
	age, ok := parseSpan(o.older)
	switch {
	case counted == (o.older != ""):
		return usageError{errors.New("give --keep N or --older DURATION (see 'trace sessions prune --help')")}
	case counted && o.keep < 0:
		return usageError{fmt.Errorf("--keep %d: want a number of sessions", o.keep)}
	case !counted && (!ok || age < 0):
		return usageError{fmt.Errorf("--older %q: want a duration such as 12h, 30d or 2w", printable(o.older))}
	}
	dir, err := sessionsDir()
	if err != nil {
		return err
	}
	sessions, err := store.List(dir)
	if err != nil {
		return err
	}
	var done []flow.Session // readable, not running; oldest first
	for _, s := range sessions {
		switch s.State {
		case "running":
		case "unreadable":
			fmt.Fprintf(stderr, "trace: session %s cannot be read and is left alone ('trace sessions rm %[1]s' deletes it)\n", s.ID)
		default:
			done = append(done, s)
		}
	}
	var old []flow.Session
	if counted {
		old = done[:max(0, len(done)-o.keep)]
	} else {
		for _, s := range done {
			if pastOf(s).Before(now.Add(-age)) {
				old = append(old, s)
			}
		}
	}
	return o.remove(dir, old, w, stderr)
}

// pastOf returns when a session ended, or was last written if its run crashed.
func pastOf(s flow.Session) time.Time {
	if s.Ended.IsZero() {
		if fi, err := os.Stat(s.File); err == nil && fi.ModTime().After(s.Started) {
			return fi.ModTime()
		}
		return s.Started
	}
	return s.Ended
}

func (o *pruneOptions) remove(dir string, old []flow.Session, w, stderr io.Writer) error {
	var failed error
	var n, size int64
	for _, s := range old {
		if !o.dry {
			if err := store.Remove(dir, s.File); errors.Is(err, store.ErrRunning) {
				continue
			} else if err != nil {
				if failed != nil {
					fmt.Fprintf(stderr, "trace: %v\n", failed)
				}
				failed = exitError{1, err}
				continue
			}
		}
		n++
		size += s.Bytes
		fmt.Fprintln(w, s.ID)
	}
	word := "deleted"
	if o.dry {
		word = "would be deleted"
	}
	fmt.Fprintf(stderr, "trace: %s %s, %s\n", count(n, "session"), word, bytesText(size))
	return failed
}
