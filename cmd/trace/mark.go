package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/redact"
	"trace/store"
)

// maxMark bounds the name of a mark, in bytes.
const maxMark = 500

// markOptions are the flags of `trace mark`.
type markOptions struct {
	session string
	list    bool
	json    bool
}

func newMarkCommand() *cobra.Command {
	var o markOptions
	cmd := &cobra.Command{
		Use:   "mark TEXT",
		Short: "Name this moment of a running session",
		Long: `Put a point with a name into a running session: the newest that runs, or the one
of --session. The list shows it between the flows, and every flows command takes
the name for --from and --to. Prints the mark's other name, m and a number, which
is good where several marks have the same text.

A session that has ended takes no marks.`,
		Example: `  trace mark 'before the retry'
  trace flows list --from 'before the retry'`,
		Args: checked(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.list {
				return o.print(args, output(cmd), cmd.ErrOrStderr())
			}
			return o.add(args, output(cmd), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.session, "session", "", "mark the session with this `ID, NAME or FILE`")
	f.BoolVar(&o.list, "list", false, "list the marks of a session, also of one that has ended")
	f.BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

// markJSON is a mark as `trace mark --json` prints it.
type markJSON struct {
	ID      string `json:"id"`
	Session string `json:"session"`
	At      string `json:"at"`
	Text    string `json:"text"`
}

func jsonOfMark(session string, m store.Mark) markJSON {
	return markJSON{ID: m.Name(), Session: session, At: flow.Stamp(m.At), Text: m.Text}
}

// add makes a mark.
func (o *markOptions) add(args []string, w *terminal, stderr io.Writer) error {
	now := time.Now()
	text := strings.TrimSpace(strings.Join(args, " "))
	switch {
	case text == "":
		return usageError{errors.New("how is the mark called? trace mark TEXT")}
	case len(text) > maxMark || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }):
		return usageError{fmt.Errorf("the name of a mark is one line of text, of at most %d bytes", maxMark)}
	}
	s, err := o.running()
	if err != nil {
		return err
	}
	var key [32]byte
	rand.Read(key[:]) // never fails
	m, err := store.AddMark(s.File, text, now, redact.New(key))
	if errors.Is(err, store.ErrEnded) {
		return exitError{1, fmt.Errorf("session %s (%s) has ended: marks go into running sessions", s.ID, printable(s.Name))}
	}
	if err != nil {
		return exitError{1, err}
	}
	if t := parseMoment(text, now); !t.at.IsZero() || t.base != "" {
		fmt.Fprintf(stderr, "trace: --from and --to take %q for a time: call this mark %s there\n", printable(text), m.Name())
	}
	if o.json {
		p, err := flow.MarshalJSON(jsonOfMark(s.ID, m))
		if err != nil {
			return err
		}
		return writeJSON(w, p)
	}
	_, err = fmt.Fprintln(w, m.Name())
	return err
}

// running finds the session to mark.
func (o *markOptions) running() (flow.Session, error) {
	if o.session != "" {
		r, err := openSession(o.session)
		if err != nil {
			return flow.Session{}, err
		}
		defer closing(r)
		return r.Run()
	}
	dir, err := sessionsDir()
	if err != nil {
		return flow.Session{}, err
	}
	sessions, err := store.List(dir)
	if err != nil {
		return flow.Session{}, err
	}
	for _, s := range slices.Backward(sessions) {
		if s.State == "running" {
			return s, nil
		}
	}
	return flow.Session{}, exitError{1, errors.New("no session is running: marks go into running sessions (--session FILE names one that lies elsewhere)")}
}

// print lists the marks of a session.
func (o *markOptions) print(args []string, w *terminal, stderr io.Writer) error {
	if len(args) > 0 {
		return usageError{errors.New("--list takes no TEXT")}
	}
	r, err := openSession(o.session)
	if err != nil {
		return err
	}
	defer closing(r)
	s, err := r.Run()
	if err != nil {
		return err
	}
	marks, err := r.Marks()
	if err != nil {
		return err
	}
	if o.json {
		list := make([]markJSON, 0, len(marks))
		for _, m := range marks {
			list = append(list, jsonOfMark(s.ID, m))
		}
		p, err := flow.MarshalJSON(list)
		if err != nil {
			return err
		}
		return writeJSON(w, p)
	}
	if len(marks) == 0 {
		_, err := fmt.Fprintf(stderr, "trace: %s has no marks\n", sessionLabel(r))
		return err
	}
	t := table{columns: []column{{title: "MARK"}, {title: "TIME"}, {title: "TEXT", least: 8, wish: 16}}}
	for _, m := range marks {
		t.add(cell{m.Name(), faint}, cell{m.At.Local().Format("2006-01-02 15:04:05"), faint}, cell{text: m.Text})
	}
	return t.write(w)
}

// A sessionMark is a mark among the flows of several sessions.
type sessionMark struct {
	store.Mark
	session string
}

// markLine is a mark as it stands between flows.
func markLine(m store.Mark, name, clock string) string {
	return fmt.Sprintf("-- %s  %s  (%s) --", m.At.Local().Format(clock), m.Text, name)
}
