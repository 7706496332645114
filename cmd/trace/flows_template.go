package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/redact"
	"trace/replay"
	"trace/store"
)

func newFlowsSaveCommand() *cobra.Command {
	var session string
	var force bool
	cmd := &cobra.Command{
		Use:   "save NAME ID",
		Short: "Keep a request as a template, without its secrets",
		Long: `Keep the request of a flow as a template: its fields in their order, its body, no
secrets, and which of it changes from run to run. 'trace flows replay NAME' sends
it, 'trace flows diff NAME ID' compares a request with it.

Templates are files, NAME.json in the directory templates beside that of the
sessions; a NAME begins with a letter.`,
	}
	ids := lastAmong(cmd, cobra.ExactArgs(2))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		args, err := ids(args)
		if err != nil {
			return err
		}
		return saveTemplate(cmd, args[0], args[1], session, force)
	}
	cmd.Flags().StringVar(&session, "session", "", "read the session with this `ID, NAME or FILE`")
	cmd.Flags().BoolVar(&force, "force", false, "replace a template of that name")
	return cmd
}

func saveTemplate(cmd *cobra.Command, name, arg, session string, force bool) error {
	if err := replay.CheckName(name); err != nil {
		return usageError{err}
	}
	r, id, err := openFlow(arg, session)
	if err != nil {
		return err
	}
	defer closing(r)
	d, err := r.Detail(id)
	if err != nil {
		return err
	}
	full := fmt.Sprintf("%s/%d", d.Session, id)
	t, err := replay.NewTemplate(name, full, withoutSecrets(d), time.Now())
	if err != nil {
		return exitError{1, fmt.Errorf("flow %d cannot become a template: %w", id, err)}
	}
	path, err := templatePath(name)
	if err != nil {
		return err
	}
	if err := writeTemplate(path, t, force); err != nil {
		return exitError{1, err}
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
	return err
}

// withoutSecrets returns d with its request redacted, which it is not yet where
// the session holds secrets.
func withoutSecrets(d *flow.Detail) *flow.Detail {
	if d.Request == nil || d.Request.Head == nil {
		return d
	}
	var key [32]byte
	rand.Read(key[:]) // never fails
	gate := redact.New(key)
	clean, part := *d, *d.Request
	part.Head, _ = gate.Head(part.Head, false)
	clean.RequestBody, _ = gate.Body(part.Head.Get("Content-Type"), d.RequestBody)
	if part.Body != nil {
		body := *part.Body
		body.Trailers, _ = gate.Fields(body.Trailers, false)
		part.Body = &body
	}
	clean.Request = &part
	return &clean
}

// templatePath returns where the template of that name lies.
func templatePath(name string) (string, error) {
	dir, err := sessionsDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(dir), "templates", name+".json"), nil
}

// writeTemplate writes the file whole or not at all.
func writeTemplate(path string, t *replay.Template, force bool) error {
	if _, err := os.Lstat(path); err == nil && !force {
		return fmt.Errorf("template %q exists: --force replaces it", t.Name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("template directory: %w", err)
	}
	text, err := templateText(t)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("template %q: %w", t.Name, err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("template %q: %w", t.Name, err)
	}
	return nil
}

func templateText(t *replay.Template) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(t)
	return []byte(b.String()), err
}

// errNoTemplate is returned for a name that no template has.
var errNoTemplate = errors.New("no such template: 'trace flows save NAME ID' keeps one")

// readTemplate reads the template of that name.
func readTemplate(name string) (*replay.Template, error) {
	if err := replay.CheckName(name); err != nil {
		return nil, err
	}
	path, err := templatePath(name)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("template %q: %w", name, errNoTemplate)
	}
	if err != nil {
		return nil, fmt.Errorf("template %q: %w", name, err)
	}
	t, err := replay.ParseTemplate(text)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", path, err)
	}
	return t, nil
}

// templateSession returns the session and flow that a template was made of, nil
// if they are no more.
func templateSession(t *replay.Template) (r *store.Reader, id int64) {
	ref, err := parseFlowRef(t.Flow, "")
	if err != nil || ref.id == 0 {
		return nil, 0
	}
	if r, err = openSession(ref.session); err != nil {
		return nil, 0
	}
	if _, err := r.Flow(ref.id); err != nil {
		closing(r)
		return nil, 0
	}
	return r, ref.id
}
