// Package export writes recorded exchanges in the formats of other tools.
//
// The live event log, one JSON object a line, is written by [JSONL]:
//
//	log := &export.JSONL{W: file, Body: reader.Body}
//	log.Meta(session)
//	log.Opened(x) // and Requested, Responded, Streamed, Done as they happen
//
// What is written once a session, or a part of it, is there goes through a
// [Writer]:
//
//	w := &export.HAR{W: file}
//	w.From(session, reader)
//	w.Flow(x) // for each flow, in the order wanted
//	w.End()
//
// The package reads nothing by itself: whoever reads a session calls it, and
// what it is handed has been through the redaction gate already. Of bodies,
// events and messages it holds no more than a part at a time where the format
// allows it, so that a session may be larger than memory.
package export

import (
	"errors"
	"io"

	"trace/flow"
)

// A Source hands out what is recorded of a flow beside its heads. A reader of
// package store is one.
type Source interface {
	// WriteBody writes a decoded body as far as it was kept.
	WriteBody(w io.Writer, id int64, side flow.Side) (int64, error)
	// Pieces calls fn for the events, or the messages, in order.
	Pieces(id int64, fn func(flow.Piece) error) error
}

// A Writer writes a file of one format: From, Flow for each flow of that session,
// perhaps other sessions, End.
type Writer interface {
	// From says of which session the next flows are, and where their bodies
	// come from.
	From(s flow.Session, src Source) error
	// Flow writes one flow. It returns ErrNoPlace, and has written nothing,
	// where the format has no place for such a flow.
	Flow(x *flow.Exchange) error
	End() error
}

// ErrNoPlace is returned for a flow that a format cannot hold, such as a DNS
// query in a HAR.
var ErrNoPlace = errors.New("the format has no place for it")

// A BodyError says that a body, or events, of a flow could not be read. The
// flow was written without them, and others can follow.
type BodyError struct {
	ID  int64
	Err error
}

// Error returns the line.
func (e *BodyError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *BodyError) Unwrap() error { return e.Err }
