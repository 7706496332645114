package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"trace/doctor"
	"trace/egress"
	"trace/flow"
	"trace/mitm"
	"trace/netns"
	"trace/redact"
	"trace/store"
	"trace/trust"
)

// startSettles is how long after the command's start the memory that the start
// took is given back.
const startSettles = 300 * time.Millisecond

// startMemory bounds what this process takes until then without collecting
// garbage: to collect it takes as long as to end a short command's run.
const startMemory = 64 << 20

// exitTrace is our exit code where trace itself failed (as docker's).
const exitTrace = 125

func newRunCommand() *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [--inspect] [flags] -- CMD [ARG...]",
		Short: "Run a command and record what it sends",
		Long: `Run a command and record its network traffic: with --inspect all of it, in
namespaces of its own; without, what it sends to the APIs of language models,
through a proxy on loopback that it is told of by base-URL variables
(ANTHROPIC_BASE_URL, OPENAI_BASE_URL, OPENAI_API_BASE, GOOGLE_GEMINI_BASE_URL).
Everything behind -- is the command. Its exit status is ours; 125 means that
trace itself failed, 126 that the command cannot be executed, 127 that it was
not found.`,
		Args: func(cmd *cobra.Command, args []string) error { return runArgs(cmd, args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			o.argv = args
			return o.run()
		},
	}
	o.register(cmd)
	return cmd
}

// runArgs wants everything behind --.
func runArgs(cmd *cobra.Command, args []string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case dash < 0:
		return usageError{errors.New("put the command behind --: trace run --inspect -- CMD [ARG...]")}
	case dash > 0:
		return usageError{fmt.Errorf("unexpected argument %q before --: trace run --inspect -- CMD [ARG...]", args[0])}
	case len(args) == 0 || args[0] == "":
		return usageError{errors.New("no command behind --: trace run --inspect -- CMD [ARG...]")}
	}
	return nil
}

func (o *runOptions) run() error {
	if !o.inspect {
		return o.runReverse()
	}
	if len(o.maps) > 0 {
		return usageError{errors.New("--map and --inspect exclude each other: in a namespace every server is seen")}
	}
	r, err := o.prepare()
	if err != nil {
		return usageError{err}
	}
	p, err := o.play.open()
	if err != nil {
		return exitError{Code: exitTrace, Err: err}
	}
	r.playFrom(p)
	r.pcap = o.pcap
	if r.packets, err = o.openCapture(); err != nil {
		return exitError{Code: exitTrace, Err: err}
	}
	if r.packets != nil {
		r.childKeys = append(r.childKeys, r.packets.KeyLog())
	}
	run := &run{o: o, road: r}
	code, err := run.do()
	if r.packets != nil {
		r.packets.Close() // again, unless there was no road to end
	}
	if err != nil || code != 0 {
		return exitError{Code: code, Err: err}
	}
	return nil
}

// prepare checks everything that can be wrong on the command line.
func (o *runOptions) prepare() (*road, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	r := &road{
		link: o.link, device: netns.DeviceKind(o.device), argv: o.argv, env: os.Environ(),
		untrusted: o.untrusted, only: o.only, bypass: o.bypass, bodyLimit: o.bodyLimit, secrets: o.keepSecrets, isolated: o.noLocalhost,
	}
	for _, s := range o.connectTo {
		c, err := mitm.ParseConnectTo(s)
		if err != nil {
			return nil, fmt.Errorf("--connect-to %q: %w", s, err)
		}
		r.connectTo = append(r.connectTo, c)
	}
	extra, err := trust.LoadRoots(o.upstreamCA...)
	if err != nil {
		return nil, fmt.Errorf("--upstream-ca: %w", err)
	}
	r.extra = extra
	if r.out, err = egress.FromEnv(r.env); err != nil {
		return nil, err
	}
	return r, nil
}

// A run is one `trace run --inspect`.
type run struct {
	o      *runOptions
	road   *road
	store  *store.Store
	jsonl  *jsonlWriter
	calls  *summariser // nil: nobody will read summaries
	logTo  *os.File
	keys   *keyLog     // of --keylog
	source flow.Source // default: a namespace
	left   []string    // processes that outlive the run, as NAME[PID]
}

// do records the command and returns the exit code, and what is to be said
// about it if trace or the command failed to start.
func (r *run) do() (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedSignals...)
	defer signal.Stop(signals)

	if err := r.openFiles(); err != nil {
		return exitTrace, err
	}
	started := time.Now()
	debug.SetGCPercent(-1) // what is made now stays: the child waits for it
	mark := func(what string) { r.road.log("%s after %v", what, time.Since(started).Round(time.Microsecond)) }
	if err := r.setUp(); err != nil {
		return exitTrace, err
	}
	mark("road built")
	if err := r.road.start(); err != nil {
		r.road.close()
		code := exitTrace
		var exec *netns.ExecError
		if errors.As(err, &exec) {
			code = exec.ExitCode()
		}
		r.finish(code)
		return code, err
	}
	mark("command executed")
	limit := debug.SetMemoryLimit(startMemory)
	slim := time.AfterFunc(startSettles, func() {
		tuneHeap()
		debug.SetMemoryLimit(limit)
		debug.FreeOSMemory()
		netns.Trim() // what cannot be given back is kept
	})
	defer slim.Stop()
	defer giveBackAfterLoad()()
	code, err := r.wait(signals)
	mark("command ended")
	r.road.close()
	mark("road closed")
	if ferr := r.finish(code); err == nil && ferr != nil {
		r.say("%v", ferr)
	}
	if err != nil {
		return exitTrace, err
	}
	return code, nil
}

// passedSignals reach the command.
var passedSignals = []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM}

// openFiles opens what --log and --keylog name.
func (r *run) openFiles() error {
	if err := r.openLog(); err != nil {
		return err
	}
	return r.openKeys()
}

// openLog opens the file of --log. Without one, diagnostics go nowhere.
func (r *run) openLog() error {
	l := &logger{w: io.Discard}
	if r.o.log != "" {
		f, err := os.OpenFile(r.o.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		r.logTo, l.w = f, f
	}
	r.road.log = l.printf
	return nil
}

// setUp makes the record and the road at the same time: each takes some
// milliseconds, and the road needs the record only once packets come.
func (r *run) setUp() error {
	path, err := r.place()
	if err != nil {
		return err
	}
	opened := make(chan error, 1)
	r.road.beside = func() { opened <- r.open(path) }
	err = r.road.build()
	oerr := <-opened
	switch {
	case oerr != nil:
		if err == nil {
			r.road.close()
		}
		return oerr
	case err == nil:
		err = r.road.join()
	}
	if err != nil {
		r.finish(exitTrace)
	}
	return err
}

// place returns where the session's file is to lie, and makes the directories
// that are needed. "" is a file without a name.
func (r *run) place() (string, error) {
	if r.o.noSave {
		return "", nil
	}
	if r.o.output != "" {
		r.road.private = privateDir()
		return r.o.output, nil
	}
	state, err := store.Dir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return "", err
	}
	r.road.private = privateDir()
	return state, nil
}

// open makes the store in or at path, and the files that follow it.
func (r *run) open(path string) error {
	now := time.Now()
	dir, err := os.Getwd()
	if err != nil {
		dir = ""
	}
	s := flow.Session{
		ID: store.NewID(now), Name: r.o.session, Source: flow.SourceNamespace, Argv: r.o.argv, Dir: dir,
		PID: os.Getpid(), Version: programVersion(), Link: r.o.link, Device: r.o.device, Started: now, Secrets: r.o.keepSecrets,
	}
	if r.source != "" {
		s.Source, s.Link, s.Device = r.source, "", ""
	}
	opt := store.Options{Log: r.road.log}
	if !r.o.keepSecrets {
		var key [32]byte
		rand.Read(key[:]) // never fails
		opt.Redact = redact.New(key)
	}
	switch {
	case r.o.noSave:
		r.store, err = store.CreateUnlinked("", s, opt)
	case r.o.output != "":
		r.store, err = store.Create(path, s, opt)
	default:
		r.store, err = store.Create(store.Path(path, s), s, opt)
	}
	if err != nil {
		return err
	}
	r.road.record = r.store
	if !r.o.noSave {
		r.calls = newSummariser(r.store, r.road.log)
		r.road.called = r.calls.saw
	}
	if r.o.jsonl != "" {
		if r.jsonl, err = newJSONLWriter(r.o.jsonl, r.store); err != nil {
			r.store.Finish(exitTrace, time.Now())
			return err
		}
	}
	return nil
}

// wait passes signals on until the command has ended. What the terminal sends
// (Ctrl-C) reaches the command by itself: it is in our process group.
func (r *run) wait(signals <-chan os.Signal) (int, error) {
	done := make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			select {
			case s := <-signals:
				if s != syscall.SIGINT && s != syscall.SIGQUIT || !foreground() {
					r.road.ns.Signal(s.(syscall.Signal))
				}
			case <-done:
				return
			}
		}
	})
	status, err := r.road.ns.Wait()
	close(done)
	passing.Wait()
	if err != nil {
		return exitTrace, err
	}
	r.waitOthers(signals)
	return status.ExitCode(), nil
}

// waitOthers deals with processes that the command left behind: with
// --wait-all it waits for them, until a signal says otherwise; else it notes
// who they are, because they lose their network now.
func (r *run) waitOthers(signals <-chan os.Signal) {
	if r.o.waitAll {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		all := make(chan struct{})
		go func() {
			r.road.ns.WaitAll(ctx)
			close(all)
		}()
		select {
		case <-all:
		case <-signals:
			cancel()
			<-all
		}
	}
	for _, pid := range r.road.ns.Members() {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil {
			r.left = append(r.left, fmt.Sprintf("%s[%d]", printable(strings.TrimSpace(string(name))), pid))
		}
	}
}

// foreground tells whether our process group is the terminal's.
func foreground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// finish ends the record and says where it lies.
func (r *run) finish(code int) error {
	if r.calls != nil {
		r.calls.close()
	}
	s, err := r.store.Finish(code, time.Now())
	if r.jsonl != nil {
		err = errors.Join(err, r.jsonl.close())
	}
	if r.keys != nil {
		err = errors.Join(err, r.keys.close())
	}
	if r.logTo != nil {
		r.logTo.Close()
	}
	r.say("%s", summary(s, r.o.noSave))
	r.sayPlayed()
	if r.road.captured != "" {
		r.say("packets: %s", r.road.captured)
	}
	if n := len(r.left); n > 0 {
		r.say("left behind, without a network now: %s (--wait-all waits for them)", shortList(r.left))
	}
	return err
}

// say prints a line of our own, unless --quiet.
func (r *run) say(format string, args ...any) {
	if !r.o.quiet {
		fmt.Fprintf(os.Stderr, "trace: "+format+"\n", args...)
	}
}

// summary is the line after the run.
func summary(s flow.Session, noSave bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "session %s (%s): %s", s.ID, s.Name, count(s.Flows, "flow"))
	if s.Opaque > 0 {
		fmt.Fprintf(&b, ", %d not decrypted", s.Opaque)
	}
	if s.Gaps > 0 {
		fmt.Fprintf(&b, ", %s in the record", count(s.Gaps, "gap"))
	}
	if noSave {
		b.WriteString("; nothing was kept")
	} else {
		fmt.Fprintf(&b, "; %s", s.File)
	}
	return b.String()
}

// shortList joins the first of many names.
func shortList(names []string) string {
	const most = 8
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// A logger writes trace's own diagnostics, a line each.
type logger struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *logger) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	fmt.Fprintf(l.w, "%s %s\n", time.Now().UTC().Format(flow.TimeFormat), strings.TrimRight(line, "\n"))
}

// hintFor returns what a person can do about err, "" if nothing is known.
func hintFor(err error) string {
	var keys *keyLogError
	if errors.As(err, &keys) {
		return keys.hint
	}
	return doctor.Host{}.Explain(err)
}
