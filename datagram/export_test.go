package datagram

import "trace/flow"

// Queries is the row of a talk with a name server.
type Queries struct{ w *row }

// NewQueries opens one.
func NewQueries(record func(flow.Event)) Queries {
	w := &row{record: record, conn: flow.Conn{ID: 1, Protocol: "dns"}}
	w.open("udp")
	return Queries{w}
}

// Message records a datagram.
func (q Queries) Message(side flow.Side, p []byte) { q.w.message(side, p) }

// End ends it.
func (q Queries) End() { q.w.end(flow.Open, nil) }
