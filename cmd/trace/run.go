package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"trace/doctor"
	"trace/flow"
	"trace/store"
)

// exitTrace is our exit code where trace itself failed (as docker's).
const exitTrace = 125

func newRunCommand() *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [--inspect|--proxy] [flags] -- CMD [ARG...]",
		Short: "Run a command and record what it sends",
		Long: `Run a command and record its network traffic: with --inspect all of it, in
namespaces of its own; with --proxy, which needs none, what obeys HTTPS_PROXY and
its kin; without both, what it sends to the APIs of language models,
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
	switch {
	case o.inspect && o.proxy:
		return usageError{errors.New("--inspect and --proxy exclude each other: in a namespace all is seen without a proxy")}
	case o.inspect:
		return o.runInspect()
	case o.proxy:
		return o.runProxy()
	}
	return o.runReverse()
}

// prepare checks what can be wrong on every command line.
func (o *runOptions) prepare(source flow.Source) (*run, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	rules, err := o.captureFlags.rules()
	if err != nil {
		return nil, err
	}
	r := &run{o: o, rules: rules, source: source}
	if rules.budgetStop {
		r.rules.alter = stopBy(rules.alter, func() *recording { return r.record })
	}
	return r, nil
}

// A run is one `trace run`: the record of a command, however it is captured.
type run struct {
	o      *runOptions
	rules  rules
	source flow.Source
	log    func(format string, args ...any)
	logTo  *os.File
	record *recording
	keys   *keyLog // of --keylog
	web    runWeb
	otlp   *otlpSink // nil: not asked for

	attached *attachment // nil: without --attach
}

// openFiles opens what --log, --keylog and --web name. Without --log diagnostics go
// nowhere.
func (r *run) openFiles() (err error) {
	for _, path := range []string{r.o.log, r.o.keylog, r.o.jsonl, r.o.pcap} {
		keepDescriptor(path)
	}
	if r.logTo, r.log, err = openLog(r.o.log); err != nil {
		return err
	}
	if r.o.keylog != "" {
		if r.keys, err = openKeyLog(r.o.keylog); err != nil {
			return err
		}
	}
	return r.web.listen(r.o.web)
}

// keepDescriptor keeps from the command the descriptor that path names
// (/dev/fd/63 is what a shell makes of ">(COMMAND)"): its reader shall see the
// end with ours, whatever processes the command leaves behind.
func keepDescriptor(path string) {
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		name, ok := strings.CutPrefix(path, dir)
		if fd, err := strconv.Atoi(name); ok && err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// openLog opens a file for our own diagnostics; "" is none.
func openLog(file string) (*os.File, func(format string, args ...any), error) {
	if file == "" {
		return nil, func(string, ...any) {}, nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, (&logger{w: f}).printf, nil
}

// keyLogs returns who gets the TLS secrets of both legs.
func (r *run) keyLogs() []io.Writer {
	if r.keys == nil {
		return nil
	}
	return []io.Writer{r.keys}
}

// place says where the session's file is to lie, and makes the directory that
// is needed.
func (r *run) place() (recordingOptions, error) {
	o := recordingOptions{file: r.o.output, jsonl: r.o.jsonl, limit: r.rules.limit, log: r.log, budget: r.rules.budget}
	if r.o.noSave || r.o.output != "" {
		return o, nil
	}
	var err error
	if o.dir, err = store.Dir(); err != nil {
		return o, err
	}
	return o, os.MkdirAll(o.dir, 0o700)
}

// open makes the record.
func (r *run) open(o recordingOptions) error {
	dir, err := os.Getwd()
	if err != nil {
		dir = ""
	}
	o.session = flow.Session{Name: r.o.session, Source: r.source, Argv: r.o.argv, Dir: dir, PID: os.Getpid(), Secrets: r.o.keepSecrets}
	if r.source == flow.SourceNamespace {
		o.session.Link, o.session.Device = r.o.link, r.o.device
	}
	if r.otlp, err = r.rules.openOTLP(r.log); err != nil {
		return err
	}
	o.otlp = r.otlp
	if r.record, err = record(o); err != nil {
		r.otlp.close("")
		return err
	}
	if err = r.startAttached(); err != nil {
		r.record.end(exitTrace)
		r.otlp.close("")
		return err
	}
	r.web.serve(r.record, r.rules.prices, replayOptions{rules: r.rules.connectTo, upstreamCA: r.o.upstreamCA}, r.log)
	return nil
}

// finish ends the record and says where it lies.
func (r *run) finish(code int) error {
	r.web.close(code)
	s, err := r.record.end(code)
	if r.keys != nil {
		err = errors.Join(err, r.keys.close())
	}
	if r.attached != nil {
		r.finishAttached(s)
	} else {
		r.say("%s", summary(s, r.o.noSave))
	}
	for _, line := range r.record.spent.report() {
		r.say("%s", line)
	}
	r.finishOTLP(s)
	if r.logTo != nil {
		r.logTo.Close()
	}
	return err
}

// finishOTLP ends what is sent, and says what became of it.
func (r *run) finishOTLP(s flow.Session) {
	if r.otlp == nil {
		return
	}
	again := againBy(s, r.o.otlp.url)
	if r.o.noSave {
		again = ""
	}
	r.say("%s", r.otlp.close(again))
}

// passedSignals reach the command.
var passedSignals = []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM}

// passSignals passes signals on to a command while wait waits for it. What the
// terminal sends (Ctrl-C) reaches the command by itself: it is in our process group.
func passSignals[S any](signals <-chan os.Signal, pass func(syscall.Signal) error, wait func() (S, error)) (S, error) {
	done := make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			select {
			case s := <-signals:
				if s != syscall.SIGINT && s != syscall.SIGQUIT || !foreground() {
					pass(s.(syscall.Signal))
				}
			case <-done:
				return
			}
		}
	})
	defer passing.Wait()
	defer close(done)
	return wait()
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
	var own interface{ Hint() string }
	if errors.As(err, &own) {
		return own.Hint()
	}
	return doctor.Host{}.Explain(err)
}
