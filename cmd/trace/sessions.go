package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/store"
)

// newSessionsCommand makes `trace sessions`, the runs that were recorded.
func newSessionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List and delete recorded runs",
		Args:  noSubcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List the recorded runs, oldest first",
		Args:  checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listSessions(output(cmd), cmd.ErrOrStderr(), asJSON)
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	rm := &cobra.Command{
		Use:   "rm ID...",
		Short: "Delete recorded runs",
		Long: `Delete recorded runs with all that was captured in them. Each is named by its
ID (or the beginning of it), its name (the newest run of that name) or its file.
A running session is not deleted.`,
		Args: checked(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return removeSessions(cmd.OutOrStdout(), cmd.ErrOrStderr(), args)
		},
	}
	cmd.AddCommand(list, rm, newSessionsPruneCommand())
	return cmd
}

func listSessions(w *terminal, stderr io.Writer, asJSON bool) error {
	dir, err := sessionsDir()
	if err != nil {
		return err
	}
	sessions, err := store.List(dir)
	if err != nil {
		return err
	}
	if asJSON {
		return writeSessionsJSON(w, sessions)
	}
	if len(sessions) == 0 {
		_, err := fmt.Fprintln(stderr, "trace: no sessions yet: 'trace run --inspect -- COMMAND' records one")
		return err
	}
	return writeSessions(w, sessions, time.Now())
}

// removeSessions deletes what it can, and prints the name of each that is gone.
func removeSessions(w, stderr io.Writer, refs []string) error {
	dir, err := sessionsDir()
	if err != nil {
		return err
	}
	var errs []error
	for _, ref := range refs {
		if err := store.Remove(dir, ref); err != nil {
			errs = append(errs, whatToDo(err, dir, ref))
			continue
		}
		fmt.Fprintln(w, printable(ref))
	}
	if len(errs) == 0 {
		return nil
	}
	for _, err := range errs[:len(errs)-1] {
		fmt.Fprintf(stderr, "trace: %v\n", err)
	}
	return exitError{1, errs[len(errs)-1]}
}

func writeSessions(w *terminal, sessions []flow.Session, now time.Time) error {
	t := table{columns: []column{
		{title: "ID"},
		{title: "NAME", least: 6, wish: 16},
		{title: "STATE"},
		{title: "STARTED", drop: 4},
		{title: "TOOK", right: true, drop: 3},
		{title: "FLOWS", right: true},
		{title: "OPAQUE", right: true, drop: 2},
		{title: "EXIT", right: true, drop: 5},
		{title: "SIZE", right: true},
		{title: "COMMAND", least: 8, wish: 16, drop: 1},
	}}
	for i := range sessions {
		s := &sessions[i]
		st := map[string]style{"running": green, "crashed": red}[s.State]
		took, exit := "…", ""
		switch {
		case !s.Ended.IsZero():
			took, exit = tookText(max(0, s.Ended.Sub(s.Started))), fmt.Sprint(s.Exit)
		case s.State == "running":
			took = tookText(max(0, now.Sub(s.Started)))
		}
		t.add(cell{text: s.ID}, cell{text: s.Name}, cell{s.State, st}, cell{text: s.Started.Local().Format("2006-01-02 15:04")},
			cell{text: took}, cell{text: fmt.Sprint(s.Flows)}, cell{text: fmt.Sprint(s.Opaque)}, cell{text: exit},
			cell{text: sizeText(s.Bytes)}, cell{text: strings.Join(s.Argv, " ")})
	}
	return t.write(w)
}

// sessionJSON is one element of `sessions list --json`.
type sessionJSON struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	State   string   `json:"state"`
	Source  string   `json:"source"`
	Argv    []string `json:"argv"`
	Dir     string   `json:"dir"`
	PID     int      `json:"pid"`
	Version string   `json:"version"`
	Link    string   `json:"link,omitempty"`
	Device  string   `json:"device,omitempty"`
	Started string   `json:"started"`
	Ended   *string  `json:"ended"`
	Exit    *int     `json:"exit"`
	Flows   int64    `json:"flows"`
	Opaque  int64    `json:"opaque"`
	Gaps    int64    `json:"gaps"`
	Secrets bool     `json:"secrets"`
	File    string   `json:"file"`
	Bytes   int64    `json:"bytes"`
}

func writeSessionsJSON(w *terminal, sessions []flow.Session) error {
	list := make([]sessionJSON, 0, len(sessions))
	for _, s := range sessions {
		j := sessionJSON{
			ID: s.ID, Name: s.Name, State: s.State, Source: string(s.Source), Argv: append([]string{}, s.Argv...), Dir: s.Dir,
			PID: s.PID, Version: s.Version, Link: s.Link, Device: s.Device, Started: s.Started.UTC().Format(flow.TimeFormat),
			Flows: s.Flows, Opaque: s.Opaque, Gaps: s.Gaps, Secrets: s.Secrets, File: s.File, Bytes: s.Bytes,
		}
		if !s.Ended.IsZero() {
			j.Ended, j.Exit = new(s.Ended.UTC().Format(flow.TimeFormat)), &s.Exit
		}
		list = append(list, j)
	}
	text, err := flow.MarshalJSON(list)
	if err != nil {
		return errors.Join(errors.New("sessions"), err)
	}
	return writeJSON(w, text)
}
