package export

import (
	"bytes"
	"io"
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
}

// From says of which session the next flows are.
func (l *Log) From(s flow.Session, src Source) error {
	l.source = src
	if l.log == nil {
		l.log = &JSONL{W: l.W}
		l.log.Body = func(id int64, side flow.Side) ([]byte, error) {
			var b bytes.Buffer
			_, err := l.source.WriteBody(&b, id, side)
			return b.Bytes(), err
		}
		return l.log.Meta(s)
	}
	l.log.session, l.log.flows, l.log.conns, l.log.tlsSaid = s, nil, nil, nil
	return nil
}

// Flow writes the lines of one flow.
func (l *Log) Flow(x *flow.Exchange) error {
	if l.Last != nil && !l.Last(x) {
		y := *x
		y.Conn.Ended = time.Time{}
		x = &y
	}
	if err := l.log.Opened(x); err != nil {
		return err
	}
	if x.Request != nil && x.Request.Body != nil {
		l.log.Requested(x)
	}
	l.log.Responded(x)
	err := l.source.Pieces(x.ID, func(p flow.Piece) error { return l.log.Streamed(x, p) })
	if err != nil {
		return err
	}
	if x.State == flow.StateOpen {
		return l.log.err
	}
	err = l.log.Done(x)
	delete(l.log.flows, x.ID) // nothing more will come of it
	return err
}

// Noted writes a mark on the run itself.
func (l *Log) Noted(n *flow.Note) error { return l.log.SessionNoted(n) }

// End does nothing: each line is whole.
func (l *Log) End() error { return nil }
