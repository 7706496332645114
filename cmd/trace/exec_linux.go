package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/netns"
	"trace/store"
	"trace/trust"
)

func newExecCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec [SESSION] -- CMD [ARG...]",
		Short: "Run one more command in a session that runs",
		Long: `Run one more command where the command of a running session runs: in its
namespaces, so that what it sends is recorded in that session, and with the same
trust. SESSION is an ID (or the beginning of it), a name (the newest run of that
name that runs) or a file; without it, the newest that runs is meant. It must be
one of trace run --inspect, by the same user on this machine.

The command gets this environment and working directory, this terminal, and its
exit status is ours; 125 means that trace itself failed, 126 that the command
cannot be executed, 127 that it was not found. The session does not wait for it,
unless it was started with --wait-all: when the session ends, the command has no
network any more.`,
		Example: `  trace run --inspect --session work -- claude
  trace exec work -- curl https://example.com/   # in another terminal`,
		Args: execArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			x := &execution{argv: args[cmd.ArgsLenAtDash():]}
			if cmd.ArgsLenAtDash() > 0 {
				x.ref = args[0]
			}
			code, err := x.do()
			if err != nil || code != 0 {
				return exitError{Code: code, Err: err}
			}
			return nil
		},
	}
}

// execArgs wants a session before -- and a command behind it.
func execArgs(cmd *cobra.Command, args []string) error {
	const usage = ": trace exec SESSION -- CMD [ARG...]"
	switch dash := cmd.ArgsLenAtDash(); {
	case dash < 0:
		return usageError{errors.New("put the command behind --" + usage)}
	case dash > 1:
		return usageError{fmt.Errorf("unexpected argument %q before --%s", args[1], usage)}
	case dash == 1 && args[0] == "":
		return usageError{errors.New("which session? It has no name" + usage)}
	case len(args) == dash || args[dash] == "":
		return usageError{errors.New("no command behind --" + usage)}
	}
	return nil
}

// A hintedError comes with what a person can do about it.
type hintedError struct {
	err  error
	hint string
}

// Error is the error's text, without the hint.
func (e *hintedError) Error() string { return e.err.Error() }

// Unwrap leads to the error.
func (e *hintedError) Unwrap() error { return e.err }

// Hint is for hintFor.
func (e *hintedError) Hint() string { return e.hint }

func hinted(hint, format string, args ...any) error {
	return &hintedError{fmt.Errorf(format, args...), hint}
}

// An execution is one `trace exec`.
type execution struct {
	ref     string
	argv    []string
	reader  *store.Reader
	session flow.Session
}

// do runs the command and returns the exit code, and what is to be said about
// it if the command did not start.
func (x *execution) do() (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedSignals...)
	defer signal.Stop(signals)

	if err := x.find(); err != nil {
		return exitTrace, err
	}
	place, err := x.open()
	closing(x.reader) // a session that ends has its file to itself
	if err != nil {
		return exitTrace, err
	}
	env, err := trust.Join(trust.Options{Env: commandEnviron(), Root: place.Root(), Dir: privateDir()})
	if err != nil {
		x.say("no file in the session holds its CA any more: programs may refuse the certificates that they see")
	}
	command, err := place.Enter(&netns.Entry{Path: x.argv[0], Args: x.argv, Env: env})
	place.Close()
	if err != nil {
		return x.failed(err)
	}
	netns.Trim() // what cannot be given back is kept
	status, err := passSignals(signals, command.Signal, command.Wait)
	command.Close()
	code := exitTrace
	if err == nil {
		code = status.ExitCode()
	}
	if x.over() {
		x.say("%s ended before the command did: what it sent since then went nowhere", x.label())
	}
	return code, err
}

// over tells whether the session has ended meanwhile.
func (x *execution) over() bool {
	r, err := store.Open(x.session.File)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer closing(r)
	s, err := r.Run()
	return err == nil && s.State != "running"
}

// say prints a line of our own.
func (x *execution) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "trace: "+format+"\n", args...)
}

// sessionsHint says how to see what there is.
const sessionsHint = "trace sessions list shows the sessions and which of them run"

// find opens the session that is meant and checks that it is one to go into.
func (x *execution) find() error {
	path, err := x.path()
	if err != nil {
		return err
	}
	if x.reader, err = store.Open(path); err != nil {
		return x.foreign(path, err)
	}
	if err = x.suits(path); err != nil {
		closing(x.reader)
	}
	return err
}

// path returns the file of the session that is meant. A name stands for the
// newest run that runs, even where a newer one has ended.
func (x *execution) path() (string, error) {
	dir, err := sessionsDir()
	if err != nil {
		return "", err
	}
	if x.ref != "" {
		path, err := store.Find(dir, x.ref)
		if err != nil {
			return "", hinted(sessionsHint, "%w", err)
		}
		if r, err := store.Open(path); err == nil {
			defer closing(r)
			if s, err := r.Run(); err != nil || s.State == "running" || s.Name != x.ref {
				return path, nil
			}
		}
		if s, ok, err := x.newest(dir); err == nil && ok {
			return s.File, nil
		}
		return path, nil
	}
	s, ok, err := x.newest(dir)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", hinted("start one: trace run --inspect -- CMD; "+sessionsHint, "no session of run --inspect is running in %s", dir)
	}
	return s.File, nil
}

// newest finds the newest session that runs, of the name that is meant if there
// is one.
func (x *execution) newest(dir string) (flow.Session, bool, error) {
	sessions, err := store.List(dir)
	if err != nil {
		return flow.Session{}, false, err
	}
	for _, s := range slices.Backward(sessions) {
		if s.State == "running" && s.Source == flow.SourceNamespace && (x.ref == "" || s.Name == x.ref) {
			return s, true, nil
		}
	}
	return flow.Session{}, false, nil
}

// suits checks that the session runs, in namespaces, and is this user's.
func (x *execution) suits(path string) (err error) {
	if x.session, err = x.reader.Run(); err != nil {
		return err
	}
	s := &x.session
	switch {
	case s.Source != flow.SourceNamespace:
		return hinted("only what trace run --inspect starts has namespaces to go into",
			"%s has no namespaces: it is one of source %q", x.label(), s.Source)
	case s.State != "running":
		return hinted(sessionsHint+"; trace run --inspect starts another", "%s is not running: it has %s", x.label(), s.State)
	}
	return x.foreign(path, nil)
}

// foreign explains a session that is another user's; err is returned if that
// is not so.
func (x *execution) foreign(path string, err error) error {
	st, ok := statOf(path)
	if !ok || int(st.Uid) == os.Geteuid() {
		return err
	}
	who := strconv.Itoa(int(st.Uid))
	if u, uerr := user.LookupId(who); uerr == nil {
		who = u.Username
	}
	return hinted(fmt.Sprintf("do it as that user: sudo -u %s trace exec …", who), "session %s belongs to another user, %s", path, who)
}

func statOf(path string) (*syscall.Stat_t, bool) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return st, ok
}

func (x *execution) label() string {
	return fmt.Sprintf("session %s (%s)", x.session.ID, printable(x.session.Name))
}

// open finds the namespaces of the session. It runs afterwards, and so the
// process that it names has been the same all the time.
func (x *execution) open() (*netns.Place, error) {
	here, err := x.reader.Here()
	if err != nil {
		return nil, err
	}
	if !here {
		return nil, hinted(elsewhereHint, "%s: process %d is not here", x.label(), x.session.PID)
	}
	place, err := netns.OpenPlace(x.session.PID)
	s, rerr := x.reader.Run()
	switch {
	case rerr != nil:
		err = rerr
	case s.State != "running":
		err = hinted(sessionsHint, "%s is not running: it has %s just now", x.label(), s.State)
	case err != nil:
		return nil, &hintedError{fmt.Errorf("%s: %w", x.label(), err), placeHint(err)}
	}
	if err != nil && place != nil {
		place.Close()
	}
	return place, err
}

// placeHint explains why there is no way in.
func placeHint(err error) string {
	switch {
	case errors.Is(err, netns.ErrOthers):
		return "do it as the user who started the session"
	case errors.Is(err, netns.ErrGroup):
		return "do it with the group that the session was started with: newgrp GROUP"
	case errors.Is(err, netns.ErrElsewhere):
		return "do it outside of other sessions and sandboxes: from where the session was started"
	}
	return elsewhereHint
}

const elsewhereHint = "do it on the machine, and in the container, where the session was started"

// failed turns what Enter says into an exit code and an error with a hint.
func (x *execution) failed(err error) (int, error) {
	var exec *netns.ExecError
	var step *netns.StepError
	switch {
	case errors.As(err, &exec):
		return exec.ExitCode(), err
	case errors.As(err, &step) && step.Step == "chdir":
		cause := step.Err
		if errors.Is(cause, syscall.ESTALE) {
			cause = errors.New("another directory lies there in the session")
		}
		return exitTrace, hinted("start from a directory that the session has too: cd /; trace exec …", "working directory: %w", cause)
	case errors.As(err, &step):
		return exitTrace, hinted("a sandbox or a security module around this shell may forbid it: do it from where the session was started",
			"%s: %s: %w", x.label(), step.Step, step.Err)
	}
	return exitTrace, err
}
