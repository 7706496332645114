package store

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"trace/flow"
)

// armour makes any bytes fit for a JSON string: header fields need not be
// UTF-8, and what was on the wire must come back.
func armour(s string) string {
	if utf8.ValidString(s) && !strings.HasPrefix(s, "\x00") {
		return s
	}
	return "\x00" + base64.RawStdEncoding.EncodeToString([]byte(s))
}

func unarmour(s string) string {
	if !strings.HasPrefix(s, "\x00") {
		return s
	}
	p, err := base64.RawStdEncoding.DecodeString(s[1:])
	if err != nil {
		return s
	}
	return string(p)
}

type docNote struct {
	At    int64       `json:"at"`
	Error *flow.Error `json:"error"`
}

func toNotes(ns []flow.Note) []docNote {
	var ds []docNote
	for _, n := range ns {
		ds = append(ds, docNote{micros(n.At), n.Error})
	}
	return ds
}

func fromNotes(ds []docNote) []flow.Note {
	var ns []flow.Note
	for _, d := range ds {
		if d.Error != nil {
			ns = append(ns, flow.Note{At: fromMicros(d.At), Error: d.Error})
		}
	}
	return ns
}

// connDoc is what conn.facts holds.
type connDoc struct {
	flow.Conn
	Marks []docNote `json:",omitempty"`
}

func encodeConn(c *flow.Conn, marks []flow.Note) (string, error) {
	d := connDoc{*c, toNotes(marks)}
	d.Upstream.Chain = nil // kept as chunks: it is the same on every connection to a server
	if c.Process != nil {
		p := *c.Process
		p.Argv = nil
		for _, a := range c.Process.Argv {
			p.Argv = append(p.Argv, armour(a))
		}
		p.Exe = armour(p.Exe)
		d.Process = &p
	}
	p, err := json.Marshal(&d)
	return string(p), err
}

func decodeConn(p []byte) (flow.Conn, []flow.Note, error) {
	var d connDoc
	if err := json.Unmarshal(p, &d); err != nil {
		return flow.Conn{}, nil, err
	}
	if d.Process != nil {
		for i, a := range d.Process.Argv {
			d.Process.Argv[i] = unarmour(a)
		}
		d.Process.Exe = unarmour(d.Process.Exe)
	}
	return d.Conn, fromNotes(d.Marks), nil
}

// appendChain encodes certificates, each after its length.
func appendChain(b []byte, chain [][]byte) []byte {
	for _, der := range chain {
		b = append(binary.AppendUvarint(b, uint64(len(der))), der...)
	}
	return b
}

func parseChain(b []byte) ([][]byte, error) {
	var chain [][]byte
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, errors.New("damaged certificate chain")
		}
		chain = append(chain, b[w:w+int(n)])
		b = b[w+int(n):]
	}
	return chain, nil
}

// micros returns t as the file keeps it, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// nullMicros is micros with NULL for the zero time.
func nullMicros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}
