package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"trace/flow"
	"trace/mitm"
	"trace/replay"
	"trace/trust"
)

// hostRoots returns the roots that a run verifies servers with.
func hostRoots() (*x509.CertPool, error) {
	ca, err := mitm.NewAuthority(time.Now()) // who plans trust wants one to add
	if err != nil {
		return nil, err
	}
	plan, err := trust.Build(trust.Options{CA: ca.Certificate(), Env: os.Environ()})
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return plan.Roots(), nil
}

// A replayed is what came of a replay.
type replayed struct {
	original *original
	detail   *flow.Detail
	notes    []string
}

// changes compares the answers, nil where there was none to compare with.
func (r *replayed) changes() []replay.Change {
	if r.original.old == nil || r.original.old.Request == nil {
		return nil
	}
	return replay.Diff(r.original.old, r.detail)
}

func (r *replayed) print(w *terminal, asJSON bool) error {
	if asJSON {
		return r.printJSON(w)
	}
	d := r.detail
	what := d.Conn.Host
	if d.Request != nil && d.Request.Head != nil {
		h := d.Request.Head
		what = fmt.Sprintf("%s %s://%s%s", h.Method, h.Scheme, hostPort(h), h.Path)
	}
	fmt.Fprintf(w, "%s\n", w.paint(bold, w1(w, fmt.Sprintf("%s/%d", d.Session, d.ID)+"  "+what)))
	fmt.Fprintf(w, "  %s %s\n", w.paint(faint, pad("replay of", 10, false)), w1(w, r.original.ref))
	for _, n := range r.notes {
		fmt.Fprintf(w, "  %s %s\n", w.paint(faint, pad("note", 10, false)), w1(w, n))
	}
	facts := factsOf(&d.Exchange)
	fmt.Fprintf(w, "  %s %s\n", w.paint(faint, pad("answer", 10, false)), w1(w, strings.TrimSpace(facts.status.text+"  "+facts.took)))
	if d.Error != nil {
		fmt.Fprintf(w, "  %s %s\n", w.paint(faint, pad("error", 10, false)), w1(w, errorText(d.Error)))
	}
	if r.original.old == nil || r.original.old.Response == nil {
		_, err := fmt.Fprintln(w, "there is no recorded answer to compare with")
		return err
	}
	changes := r.changes()
	if len(changes) == 0 {
		_, err := fmt.Fprintln(w, "the answers say the same")
		return err
	}
	for _, c := range changes {
		fmt.Fprintf(w, "%s %s\n", w.paint(bold, "~"), w1(w, c.What))
		for _, side := range []struct {
			sign, text string
			style      style
		}{{"-", c.Old, red}, {"+", c.New, green}} {
			if side.text != "" {
				fmt.Fprintf(w, "  %s\n", w.paint(side.style, side.sign+" "+w1(w, shorten(printable(side.text), 200))))
			}
		}
	}
	return nil
}

// replayedJSON is what `flows replay --json` prints.
type replayedJSON struct {
	ID       string          `json:"id"`
	Session  string          `json:"session"`
	ReplayOf string          `json:"replay_of"`
	Status   int             `json:"status,omitempty"`
	State    string          `json:"state"`
	Notes    []string        `json:"notes"`
	Changes  []replay.Change `json:"changes"`
	Flow     *flow.Detail    `json:"flow,omitempty"`
}

func (r *replayed) json() replayedJSON {
	out := replayedJSON{ID: fmt.Sprint(r.detail.ID), Session: r.detail.Session, ReplayOf: r.original.ref, State: r.detail.State,
		Notes: append([]string{}, r.notes...), Changes: append([]replay.Change{}, r.changes()...), Flow: r.detail}
	if p := r.detail.Response; p != nil && p.Head != nil {
		out.Status = p.Head.Status
	}
	return out
}

func (r *replayed) printJSON(w *terminal) error {
	text, err := flow.MarshalJSON(r.json())
	if err != nil {
		return err
	}
	return writeJSON(w, text)
}

// printRequest prints what would be sent: the head, a blank line, the body
// without its content coding.
func printRequest(w *terminal, stderr io.Writer, r *replay.Request) error {
	h := &r.Head
	for _, n := range r.Notes {
		fmt.Fprintf(stderr, "trace: %s\n", n)
	}
	fmt.Fprintf(stderr, "trace: to %s://%s\n", h.Scheme, hostPort(h))
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if h.Version == "2" {
		line(":method: %s", h.Method)
		line(":scheme: %s", h.Scheme)
		if h.Authority != "" {
			line(":authority: %s", h.Authority)
		}
		line(":path: %s", h.Target)
	} else {
		line("%s %s HTTP/%s", h.Method, h.Target, h.Version)
	}
	for _, f := range h.Fields {
		line("%s: %s", f.Name, f.Value)
	}
	line("")
	b.Write(r.Plain)
	if w.tty {
		_, err := io.WriteString(w, w.text(b.String())+"\n")
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// editBody lets the user change a body in an editor. JSON is shown indented,
// and compact again when it was changed.
func editBody(body []byte) ([]byte, error) {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	shown, name := body, "body.txt"
	var b bytes.Buffer
	isJSON := json.Valid(body)
	if isJSON {
		json.Indent(&b, body, "", "  ")
		shown, name = append(b.Bytes(), '\n'), "body.json"
	}
	dir, err := os.MkdirTemp("", "trace-edit-") // 0700
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, shown, 0o600); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	c := exec.Command("sh", "-c", editor+` "$1"`, "sh", path)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stderr, os.Stderr
	if term, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		defer term.Close()
		c.Stdin, c.Stdout = term, term
	}
	if err := c.Run(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("editor %s: %w", editor, err)
	}
	edited, err := os.ReadFile(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("edited body: %w", err)
	case bytes.Equal(edited, shown):
		edited = body
	case isJSON:
		b.Reset()
		if err := json.Compact(&b, edited); err != nil {
			return nil, fmt.Errorf("edited body is no JSON any more: %w (it is kept in %s)", err, path)
		}
		edited = b.Bytes()
	}
	return edited, os.RemoveAll(dir)
}
