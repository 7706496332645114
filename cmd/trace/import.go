package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/importer"
	"trace/redact"
	"trace/store"
)

// importOptions are the flags of `trace import`.
type importOptions struct {
	session     string
	format      string
	output      string
	keepSecrets bool
}

func newImportCommand() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Open a HAR, a mitmproxy flow file or an event log as a session",
		Long: `Read FILE ("-" for standard input) and keep its flows as a new session, with the
times that they have there: HTTP Archives of browsers and proxies, flow files of
mitmproxy 9 and later, and the event logs of trace itself. Secrets are redacted as
in a run. The ID of the session is printed.

An entry that makes no sense is named, and the others are imported; the exit
status is 1 then.`,
		Example: `  trace import network.har && trace flows list
  trace import --session phone capture.mitm`,
		Args: checked(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(args[0], cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.session, "session", "", "label the session with this `NAME` (default: that of the file)")
	f.StringVar(&o.format, "format", "", "read FILE as this `FORMAT`: har, mitmproxy or jsonl (default: what it looks like)")
	f.StringVar(&o.output, "output", "", "write the session to `FILE` instead of the state directory")
	f.BoolVar(&o.keepSecrets, "keep-secrets", false, "do not redact")
	return cmd
}

func (o *importOptions) run(name string, stdin io.Reader, stdout, stderr io.Writer) error {
	switch o.format {
	case "", importer.FormatHAR, importer.FormatMitmproxy, importer.FormatJSONL:
	default:
		return usageError{fmt.Errorf("--format %q: want har, mitmproxy or jsonl", o.format)}
	}
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return exitError{1, err}
		}
		defer closing(f)
		if fi, err := f.Stat(); err == nil && fi.IsDir() {
			return exitError{1, fmt.Errorf("%s is a directory", printable(name))}
		}
		in = f
	}
	s, path, err := o.newSession(name)
	if err != nil {
		return err
	}
	opt := store.Options{}
	if !o.keepSecrets {
		var key [32]byte
		rand.Read(key[:]) // never fails
		opt.Redact = redact.New(key)
	}
	st, err := store.Create(path, s, opt)
	if err != nil {
		return exitError{1, err}
	}
	bad := badEntries{stderr: stderr}
	n, readErr := importer.Read(in, o.format, st.Append, bad.add)
	s, err = st.Finish(0, time.Now())
	if err != nil {
		return exitError{1, err}
	}
	return o.report(name, s, n, &bad, readErr, stdout, stderr)
}

// newSession makes the session, and chooses its file.
func (o *importOptions) newSession(name string) (s flow.Session, path string, err error) {
	label := o.session
	if label == "" {
		label = strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
		if name == "-" || label == "" {
			label = "import"
		}
	}
	work, _ := os.Getwd() // "" if it is gone
	now := time.Now()
	s = flow.Session{ID: store.NewID(now), Name: label, Source: flow.SourceImport, Argv: []string{"trace", "import", name}, Dir: work,
		PID: os.Getpid(), Version: programVersion(), Started: now, Secrets: o.keepSecrets}
	if o.output != "" {
		return s, o.output, nil
	}
	dir, err := sessionsDir()
	if err == nil {
		err = store.MakeDir(dir)
	}
	if err != nil {
		return s, "", exitError{1, err}
	}
	return s, store.Path(dir, s), nil
}

// report tells what came of it. A session of which nothing was read is not
// left.
func (o *importOptions) report(name string, s flow.Session, n int, bad *badEntries, readErr error, stdout, stderr io.Writer) error {
	from := printable(name)
	bad.rest()
	if n == 0 && (readErr != nil || bad.n > 0) {
		if err := store.Remove(filepath.Dir(s.File), s.File); err != nil {
			fmt.Fprintf(stderr, "trace: %v\n", err)
		}
		switch {
		case errors.Is(readErr, importer.ErrFormat):
			return exitError{1, fmt.Errorf("%s %w", from, readErr)}
		case readErr != nil:
			return exitError{1, fmt.Errorf("%s: %s", from, printable(readErr.Error()))}
		}
		return exitError{1, fmt.Errorf("%s: none of its %s could be read", from, bad.count())}
	}
	fmt.Fprintln(stdout, s.ID)
	fmt.Fprintf(stderr, "trace: session %s: %s from %s; %s\n", s.ID, count(int64(n), "flow"), from, printable(s.File))
	switch {
	case readErr != nil:
		return exitError{1, fmt.Errorf("%s: the rest could not be read: %s", from, printable(readErr.Error()))}
	case bad.n > 0:
		return exitError{1, fmt.Errorf("%s: %s could not be read", from, bad.count())}
	}
	return nil
}

// maxNamed is how many bad entries are named one by one.
const maxNamed = 20

// badEntries counts and names what could not be imported.
type badEntries struct {
	stderr io.Writer
	n      int
}

func (b *badEntries) add(e importer.Bad) {
	if b.n++; b.n <= maxNamed {
		fmt.Fprintf(b.stderr, "trace: %s: %s\n", e.Where, printable(e.Err.Error()))
	}
}

// count is their number in words.
func (b *badEntries) count() string {
	if b.n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", b.n)
}

// rest counts those that were not named.
func (b *badEntries) rest() {
	if more := b.n - maxNamed; more > 0 {
		fmt.Fprintf(b.stderr, "trace: … and %d more\n", more)
	}
}
