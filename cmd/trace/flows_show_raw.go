package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"trace/flow"
	"trace/store"
)

// rawBoth is --raw without a value.
const rawBoth = "both"

// rawSides are the values of --raw.
var rawSides = map[string][]flow.Side{
	rawBoth: {flow.Client, flow.Server}, "request": {flow.Client}, "response": {flow.Server},
}

type rawSource interface {
	WriteRaw(w io.Writer, id int64, side flow.Side) (int64, error)
}

// writeRaw prints exactly what passed on the wire: what the child sent, then
// what it received. A terminal, which would obey it, gets it escaped.
func writeRaw(w *terminal, stderr io.Writer, r *store.Reader, id int64, which string) error {
	s, err := r.Session()
	if err != nil {
		return err
	}
	x, err := r.Flow(id)
	if err != nil {
		return err
	}
	switch {
	case x.DNS != nil || x.Kind == flow.KindDNS:
		return exitError{1, fmt.Errorf("flow %d is a DNS query: its bytes are not kept", id)}
	case !s.Secrets:
		return exitError{1, fmt.Errorf("flow %d was recorded without its bytes on the wire, in which secrets cannot be redacted: 'trace run --inspect --keep-secrets -- %s' records them", id, commandText(s.Argv))}
	}
	for _, side := range rawSides[which] {
		if err := writeRawSide(w, r, x, side); err != nil {
			return err
		}
	}
	return nil
}

func writeRawSide(w *terminal, r *store.Reader, x *flow.Exchange, side flow.Side) error {
	var out io.Writer = w
	var b bytes.Buffer
	if w.tty {
		out = &b
	}
	if err := copyRaw(out, r, x, side); err != nil {
		return err
	}
	if w.tty {
		_, err := io.WriteString(w, w.text(b.String()))
		return err
	}
	return nil
}

// copyRaw writes the bytes of one side. Those of what is no exchange are its
// messages.
func copyRaw(out io.Writer, r *store.Reader, x *flow.Exchange, side flow.Side) error {
	if x.Request != nil {
		raw, ok := any(r).(rawSource)
		if !ok {
			return errors.ErrUnsupported
		}
		_, err := raw.WriteRaw(out, x.ID, side)
		return err
	}
	ps, err := r.Messages(x.ID)
	for i := range ps {
		if err == nil && ps[i].Side == side {
			_, err = out.Write(ps[i].Data)
		}
	}
	return err
}

// commandText is a command line as one may type it again.
func commandText(argv []string) string {
	if len(argv) == 0 {
		return "COMMAND"
	}
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = printable(a)
		if a == "" || strings.ContainsFunc(a, func(r rune) bool {
			return !strings.ContainsRune("%+,-./:=@_^~", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		}) {
			words[i] = "'" + strings.ReplaceAll(words[i], "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
