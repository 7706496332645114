package main

import (
	"bytes"
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
		if err := writeRawSide(w, r, x.ID, side); err != nil {
			return err
		}
		size, err := r.RawSize(x.ID, side)
		if err != nil {
			return err
		}
		switch part := sideOf(x, side); {
		case part != nil && clipped(part, size):
			fmt.Fprintf(stderr, "trace: the first %d bytes that the %s sent were kept (see --max-body)\n", size, side)
		case x.Request == nil && x.Ordinal <= 1 && size < passed(&x.Conn, side):
			fmt.Fprintf(stderr, "trace: the first %d of %d bytes that the %s sent were kept\n", size, passed(&x.Conn, side), side)
		}
	}
	return nil
}

func writeRawSide(w *terminal, r *store.Reader, id int64, side flow.Side) error {
	if !w.tty {
		_, err := r.WriteRaw(w, id, side)
		return err
	}
	var b bytes.Buffer
	if _, err := r.WriteRaw(&b, id, side); err != nil {
		return err
	}
	_, err := io.WriteString(w, w.text(b.String()))
	return err
}

// passed returns how many bytes side sent on a connection.
func passed(c *flow.Conn, side flow.Side) int64 {
	if side == flow.Client {
		return c.Sent
	}
	return c.Received
}

func sideOf(x *flow.Exchange, side flow.Side) *flow.Part {
	if side == flow.Client {
		return x.Request
	}
	return x.Response
}

// clipped reports whether --max-body cut the wire form, of which there are size
// bytes: they are less than what the body alone had, or head and body of
// HTTP/1, whose head passes as it is written here.
func clipped(part *flow.Part, size int64) bool {
	if part.Body == nil {
		return false
	}
	least := part.Body.Size
	if h := part.Head; h != nil && h.Version != "2" {
		for _, f := range h.Fields {
			least += int64(len(f.Name) + len(f.Value) + len(":\r\n"))
		}
	}
	return size < least
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
