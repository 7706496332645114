package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"trace/store"
)

// newFlowsCommand makes `trace flows`, the views of what was recorded.
func newFlowsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "Show what was recorded",
		Long: `Show what was recorded.

The newest session is read, also while it is being written, unless --session
names another: by its ID (or the beginning of it), its name (the newest run of
that name) or its file.`,
		Args: noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}

	cmd.AddCommand(newFlowsReplayCommand(), newFlowsSaveCommand())

	cmd.AddCommand(newFlowsListCommand(), newFlowsSearchCommand(), newFlowsClearCommand(), newFlowsCompareCommand(), newFlowsShowCommand(), newFlowsTailCommand(), newFlowsDumpCommand())
	cmd.AddCommand(newFlowsToolsCommand(), newFlowsStatsCommand(), newFlowsDiffCommand())
	return cmd
}

// noSubcommand turns the unknown name of a subcommand into a usage error.
func noSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command %q (see '%s --help')", args[0], cmd.CommandPath())}
	}
	return nil
}

// output returns where cmd prints to.
func output(cmd *cobra.Command) *terminal { return newTerminal(cmd.OutOrStdout(), os.Getenv) }

// openSession opens the session that ref means, the newest for "".
func openSession(ref string) (*store.Reader, error) {
	dir, err := sessionsDir()
	if err != nil {
		return nil, err
	}
	path, err := store.Find(dir, ref)
	if err != nil {
		return nil, exitError{1, whatToDo(err, dir, ref)}
	}
	r, err := store.Open(path)
	if err != nil {
		return nil, exitError{1, err}
	}
	return r, nil
}

// whatToDo adds to the error of a lookup what helps.
func whatToDo(err error, dir, ref string) error {
	switch {
	case errors.Is(err, store.ErrNoSession) && ref == "":
		return fmt.Errorf("no sessions yet in %s: 'trace run --inspect -- COMMAND' records one", dir)
	case errors.Is(err, store.ErrNoSession):
		return fmt.Errorf("%w: 'trace sessions list' shows those that there are", err)
	case errors.Is(err, store.ErrRunning):
		return fmt.Errorf("%w: it can be deleted when its command has ended", err)
	}
	return err
}

func sessionsDir() (string, error) {
	dir, err := store.Dir()
	if err != nil {
		return "", exitError{1, err}
	}
	return dir, nil
}

// A flowRef is what an ID argument means: the flow of that number, or the
// newest for 0, in the session that Session names.
type flowRef struct {
	session string
	id      int64
}

// parseFlowRef reads 12, SESSION/12, last and -1. session is that of
// --session.
func parseFlowRef(arg, session string) (flowRef, error) {
	ref := flowRef{session: session}
	number := arg
	if i := strings.LastIndexByte(arg, '/'); i >= 0 {
		ref.session, number = arg[:i], arg[i+1:]
		if ref.session == "" {
			return ref, exitError{1, fmt.Errorf("no flow %q: it names no session", printable(arg))}
		}
		if session != "" && session != ref.session {
			return ref, usageError{fmt.Errorf("%s names its session: --session %s cannot be used with it", printable(arg), printable(session))}
		}
	}
	if number == "last" || number == "-1" {
		return ref, nil
	}
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id < 1 {
		return ref, exitError{1, fmt.Errorf("no flow %q: an ID is a number, SESSION/NUMBER or last (see 'trace flows list')", printable(arg))}
	}
	ref.id = id
	return ref, nil
}

// openFlow opens the session of the flow that arg means, and finds its number.
// The caller closes the reader.
func openFlow(arg, session string) (*store.Reader, int64, error) {
	ref, err := parseFlowRef(arg, session)
	if err != nil {
		return nil, 0, err
	}
	r, err := openSession(ref.session)
	if err != nil {
		return nil, 0, err
	}
	id, err := resolve(r, ref)
	if err != nil {
		r.Close()
		return nil, 0, err
	}
	return r, id, nil
}

func resolve(r *store.Reader, ref flowRef) (int64, error) {
	last, err := r.Last()
	if err != nil {
		return 0, err
	}
	switch {
	case last == 0:
		return 0, exitError{1, fmt.Errorf("%s has no flows (yet)", sessionLabel(r))}
	case ref.id == 0:
		return last, nil
	}
	if _, err := r.Flow(ref.id); errors.Is(err, store.ErrNoFlow) {
		return 0, exitError{1, fmt.Errorf("no flow %d in %s: its newest is %d (see 'trace flows list')", ref.id, sessionLabel(r), last)}
	} else if err != nil {
		return 0, err
	}
	return ref.id, nil
}

// sessionLabel names the session that r reads, for messages.
func sessionLabel(r *store.Reader) string {
	s, err := r.Session()
	if err != nil {
		return "this session"
	}
	if s.Name != "" {
		return fmt.Sprintf("session %s (%s)", s.ID, printable(s.Name))
	}
	return "session " + s.ID
}

// lastFlag lets -1 stand for the newest flow among flags and arguments: cobra
// takes it for a flag, so it is made one. It returns a func that gives the ID
// out of the arguments.
func lastFlag(cmd *cobra.Command) func(args []string) (string, error) {
	last := cmd.Flags().BoolP("last", "1", false, "the newest flow, as the ID last")
	cmd.Flags().Lookup("last").Hidden = true
	return func(args []string) (string, error) {
		switch {
		case *last && len(args) > 0:
			return "", usageError{errors.New("-1 and " + printable(args[0]) + ": one flow at a time")}
		case *last:
			return "last", nil
		case len(args) > 1:
			return "", usageError{fmt.Errorf("%s takes one ID, not %d (see '%[1]s --help')", cmd.CommandPath(), len(args))}
		case len(args) == 0:
			return "", nil
		}
		return args[0], nil
	}
}

// lastAmong is lastFlag for commands with several arguments, among which -1 may
// stand anywhere. It returns a func that puts last in its places; arguments are
// counted by count, as they are in the usage.
func lastAmong(cmd *cobra.Command, count cobra.PositionalArgs) func(args []string) ([]string, error) {
	f := cmd.Flags()
	v := &lastPlaces{flags: f}
	f.VarPF(v, "last", "1", "the newest flow, as the ID last").NoOptDefVal = "true"
	f.Lookup("last").Hidden = true
	cmd.Args = cobra.ArbitraryArgs // counted with those
	return func(args []string) ([]string, error) {
		for i, at := range v.at {
			args = slices.Insert(slices.Clone(args), min(at+i, len(args)), "last")
		}
		return args, checked(count)(cmd, args)
	}
}

// lastPlaces is a flag that knows before which argument it stood.
type lastPlaces struct {
	flags *pflag.FlagSet
	at    []int
}

// Set notes the place.
func (v *lastPlaces) Set(string) error {
	v.at = append(v.at, v.flags.NArg())
	return nil
}

// String is that of a flag which was not given.
func (v *lastPlaces) String() string { return "" }

// Type makes it a flag without a value.
func (v *lastPlaces) Type() string { return "bool" }

// closing closes c at the end of a command; a reader has nothing left to lose.
func closing(c io.Closer) { _ = c.Close() }
