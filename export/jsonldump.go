package export

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"trace/flow"
)

// A Log writes flows that are there already as the event log of [JSONL]: those
// of one flow together. Of a flow that still runs it writes what there is.
type Log struct {
	W io.Writer
	// Last tells of a flow whether it is the last of its connection that will
	// be written: the end of the connection is told then. nil: each is.
	Last func(x *flow.Exchange) bool

	log    *JSONL
	source Source
	large  *content // the body of the line to come
	flow   *flow.Exchange
	fault  error // what could not be read of it
}

// From says of which session the next flows are.
func (l *Log) From(s flow.Session, src Source) error {
	l.source = src
	if l.log == nil {
		l.log = &JSONL{W: l.W}
		l.log.Body, l.log.W = l.body, &patience{l: l}
		l.log.Detail = l.detail
		return l.log.Meta(s)
	}
	l.log.session, l.log.flows, l.log.conns, l.log.tlsSaid = s, nil, nil, nil
	return nil
}

// body returns a body, or a word that stands for one too large to be held: the
// body itself takes its place when the line is written. JSON is held always: it
// has to be read as a whole.
func (l *Log) body(id int64, side flow.Side) ([]byte, error) {
	c, err := contentOf(l.source, id, side)
	if err != nil {
		l.fault = err
		return nil, nil
	}
	if c.size > maxHeldBody && (!c.text || !c.jsonLike()) {
		l.large = c
		return []byte(standIn), nil
	}
	b := bytes.NewBuffer(make([]byte, 0, c.size))
	return b.Bytes()[:c.size:c.size], c.bytes(b)
}

// detail returns all of the flow being written, as far as it can be read.
func (l *Log) detail(id int64) (*flow.Detail, error) {
	d, err := detailOf(l.flow, l.source)
	if err != nil {
		l.fault = &BodyError{id, err}
	}
	return d, nil
}

// standIn stands for a body in a line. No text of a line can be it: they come
// from elsewhere only through this package, which looks for it in none but the
// line that has a body.
const standIn = "\u0001the body\u0001"

// patience writes lines, with the large bodies in their places.
type patience struct{ l *Log }

// Write writes one line.
func (p *patience) Write(line []byte) (int, error) {
	c := p.l.large
	before, after, found := bytes.Cut(line, []byte(`"body":"\u0001the body\u0001","body_encoding":"text"`))
	if c == nil || !found {
		return p.l.W.Write(line)
	}
	p.l.large = nil
	j := jsonWriter{w: p.l.W}
	j.raw(string(before) + `"body":"`)
	if j.err == nil {
		j.err = c.json(j.w)
	}
	encoding := "text"
	if !c.text {
		encoding = "base64"
	}
	kept := fmt.Sprintf(`"body_truncated":%d`, len(standIn))
	j.raw(`","body_encoding":"` + encoding + `"` + strings.Replace(string(after), kept, fmt.Sprintf(`"body_truncated":%d`, c.size), 1))
	return len(line), j.err
}

// Flow writes the lines of one flow. Of what cannot be read it writes what can,
// and returns a *BodyError.
func (l *Log) Flow(x *flow.Exchange) error {
	if l.Last != nil && !l.Last(x) {
		y := *x
		y.Conn.Ended = time.Time{}
		x = &y
	}
	l.flow, l.fault = x, nil
	l.log.Opened(x)
	if x.Request != nil && x.Request.Body != nil {
		l.log.Requested(x)
	}
	l.log.Responded(x)
	err := l.source.Pieces(x.ID, func(p flow.Piece) error { return l.log.Streamed(x, p) })
	if err != nil && l.log.err == nil {
		l.fault = &BodyError{x.ID, err}
	}
	if x.State != flow.StateOpen {
		l.log.Done(x)
		delete(l.log.flows, x.ID) // nothing more will come of it
	}
	if l.log.err != nil {
		return l.log.err
	}
	return l.fault
}

// Noted writes a mark on the run itself.
func (l *Log) Noted(n *flow.Note) error { return l.log.SessionNoted(n) }

// End does nothing: each line is whole.
func (l *Log) End() error { return nil }
