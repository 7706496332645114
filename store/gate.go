package store

import (
	"bytes"
	"strings"

	"trace/flow"
	"trace/redact"
)

// gate is the one place where recorded data passes redaction. A nil Redactor
// lets everything through. Where a rule panics, package redact recovers and
// withholds the data in question; tripped tells.
type gate struct {
	r        *redact.Redactor
	failures int // known of
}

// tripped reports whether redaction failed on something since it was last
// asked.
func (g *gate) tripped() bool {
	if g.r == nil || g.r.Failures() == g.failures {
		return false
	}
	g.failures = g.r.Failures()
	return true
}

func (g *gate) head(h *flow.Head, response bool) (*flow.Head, int) {
	if g.r == nil || h == nil {
		return h, 0
	}
	return g.r.Head(h, response)
}

func (g *gate) fields(fs []flow.Field, response bool) ([]flow.Field, int) {
	if g.r == nil || len(fs) == 0 {
		return fs, 0
	}
	return g.r.Fields(fs, response)
}

func (g *gate) argv(argv []string) []string {
	if g.r == nil {
		return argv
	}
	argv, _ = g.r.Argv(argv)
	return argv
}

func (g *gate) text(s string) string {
	if g.r == nil || s == "" {
		return s
	}
	s, _ = g.r.String(s)
	return s
}

func (g *gate) body(contentType string, p []byte) ([]byte, int) {
	if g.r == nil || len(p) == 0 {
		return p, 0
	}
	return g.r.Body(contentType, p)
}

// binary is body for a message of which nothing is known.
func (g *gate) binary(p []byte) ([]byte, int) {
	if g.r == nil || len(p) == 0 {
		return p, 0
	}
	return g.r.Binary(p)
}

// process returns p with its arguments redacted.
func (g *gate) process(p *flow.Process) *flow.Process {
	if p == nil || g.r == nil {
		return p
	}
	q := *p
	q.Argv = g.argv(p.Argv)
	return &q
}

// fault returns e with its texts redacted.
func (g *gate) fault(e *flow.Error) *flow.Error {
	if e == nil || g.r == nil {
		return e
	}
	f := *e
	f.Message, f.Hint, f.Detail = g.text(e.Message), g.text(e.Hint), g.text(e.Detail)
	return &f
}

// isWhole reports whether redaction must see a body of this type, beginning
// with p, in one piece: it walks JSON, and the keys of forms.
func (g *gate) isWhole(contentType string, p []byte) bool {
	if g.r == nil {
		return false
	}
	t, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(t)) {
	case "", "text/plain", "application/octet-stream":
		p = bytes.TrimLeft(p, " \t\r\n")
		return len(p) > 0 && (p[0] == '{' || p[0] == '[')
	}
	return g.r.IsWhole(contentType)
}

// streamGate redacts a body piece by piece; nil lets it through.
type streamGate struct{ s *redact.Stream }

func (g *gate) stream(contentType string) *streamGate {
	if g.r == nil {
		return nil
	}
	return &streamGate{g.r.Stream(contentType)}
}

// write returns what of the body is safe to keep now.
func (sg *streamGate) write(p []byte) ([]byte, int) {
	if sg == nil {
		return p, 0
	}
	return sg.s.Write(p)
}

// close returns what was still held back.
func (sg *streamGate) close() ([]byte, int) {
	if sg == nil {
		return nil, 0
	}
	return sg.s.Close()
}

// eventGate redacts the events of one stream, or the messages of one side.
type eventGate struct {
	e    *redact.Events // nil lets everything through
	next int
	held map[int]*piece // those that redaction has not done with
}

// events returns the gate of an event stream of that framing.
func (g *gate) events(framing, contentType string) *eventGate {
	eg := &eventGate{held: map[int]*piece{}}
	if g.r != nil {
		eg.e = g.r.EventsOf(framing, contentType)
	}
	return eg
}

// messages returns the gate of one side of a websocket.
func (g *gate) messages() *eventGate {
	eg := &eventGate{held: map[int]*piece{}}
	if g.r != nil {
		eg.e = g.r.Messages()
	}
	return eg
}

// event takes the bytes of the next event, which p will carry, and returns
// what is to be written: of this event, and of earlier ones whose end was held
// back.
func (eg *eventGate) event(p *piece, raw []byte) []redact.Out {
	index := eg.next
	eg.next++
	eg.held[index] = p
	if eg.e == nil {
		return []redact.Out{{Index: index, Raw: raw}}
	}
	return eg.e.Event(raw)
}

// piece returns the piece that o is of.
func (eg *eventGate) piece(o redact.Out) *piece {
	p := eg.held[o.Index]
	if !o.Partial {
		delete(eg.held, o.Index)
	}
	return p
}

// settle returns the events still held, decided as they stand. The stream goes
// on.
func (eg *eventGate) settle() []redact.Out {
	if eg.e == nil {
		return nil
	}
	return eg.e.Settle()
}

// close returns what completes the events still held.
func (eg *eventGate) close() []redact.Out {
	if eg.e == nil {
		return nil
	}
	return eg.e.Close()
}
