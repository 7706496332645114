package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"trace/store"
)

// attachOptions are the flags of `trace attach`.
type attachOptions struct {
	socket string
	keep   bool
}

func newAttachCommand() *cobra.Command {
	var o attachOptions
	cmd := &cobra.Command{
		Use:   "attach SESSION...",
		Short: "Deliver recorded runs to the running trace serve",
		Long: `Deliver runs that are over to the trace serve that runs, as 'trace run --attach'
does while a run goes on: for those that found no serve until they ended. Each is
named by its ID (or the beginning of it), its name (the newest run of that name)
or its file. When serve has all of a run, its file is deleted here, unless it was
named as a FILE or --keep is given. Prints where serve keeps each.`,
		Args: checked(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.socket, "socket", attachDefault, "the `SOCKET` of the trace serve")
	f.BoolVar(&o.keep, "keep", false, "do not delete the files here")
	return cmd
}

// run delivers what it can.
func (o *attachOptions) run(refs []string, w, stderr io.Writer) error {
	if err := serveAt(o.socket); err != nil {
		return exitError{1, err}
	}
	dir, err := sessionsDir()
	if err != nil {
		return err
	}
	failed := false
	for _, ref := range refs {
		file, err := o.deliver(dir, ref)
		if err != nil {
			failed = true
			fmt.Fprintf(stderr, "trace: attach %s: %v\n", printable(ref), whatToDo(err, dir, ref))
			continue
		}
		fmt.Fprintln(w, printable(file))
	}
	if failed {
		return exitError{Code: 1}
	}
	return nil
}

// deliver brings one session to serve and returns where it lies then.
func (o *attachOptions) deliver(dir, ref string) (string, error) {
	path, err := store.Find(dir, ref)
	if err != nil {
		return "", err
	}
	r, err := store.Open(path)
	if err != nil {
		return "", err
	}
	s, err := r.Session()
	if err == nil && s.State == "running" {
		err = errors.New("session is running: it can be delivered when its command has ended")
	}
	if err != nil {
		r.Close()
		return "", err
	}
	a, err := attach(o.socket, r, func(string, ...any) {})
	if err != nil {
		return "", err
	}
	kept, _, err := a.finish(func(string, ...any) {})
	if err != nil {
		return "", err
	}
	if o.keep || strings.ContainsRune(ref, filepath.Separator) || kept.File == path {
		return kept.File, nil
	}
	return kept.File, removeDelivered(path)
}
