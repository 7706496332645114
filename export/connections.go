package export

import (
	"fmt"

	"trace/flow"
)

// connProgress is what has been written of one connection.
type connProgress struct {
	flow     int64  // the first one on it
	protocol string // as it was said
	shaken   bool   // the handshake was said
	closed   bool
}

// closed stands for every connection that is over.
var closed = &connProgress{closed: true}

// ConnClosed says that a connection is over. It is introduced if it carried no
// flow; others are with their first flow, when it is known what they are.
func (l *JSONL) ConnClosed(c *flow.Conn) error {
	if c.ID == 0 || l.conns[c.ID] == closed {
		return l.err
	}
	l.connOpen(c, 0)
	line := connCloseOf(c)
	if p := l.conns[c.ID]; p != nil {
		if c.Protocol != p.protocol {
			line.Protocol = c.Protocol
		}
		if !p.shaken && c.Child.Version != "" {
			line.TLS = tlsOf(l.certified(c, p.flow))
		}
	}
	l.conns[c.ID] = closed
	return l.write(line, "connection_close", c.Ended, 0, c.ID)
}

// introduce writes the connection of x before its first flow. A DNS query is
// a flow by itself.
func (l *JSONL) introduce(x *flow.Exchange) {
	if x.DNS == nil && x.Kind != flow.KindDNS {
		l.connOpen(&x.Conn, x.ID)
	}
}

// connOpen writes the line of a new connection. id is its first flow, 0 if it
// has none.
func (l *JSONL) connOpen(c *flow.Conn, id int64) {
	if c.ID == 0 || l.conns[c.ID] != nil {
		return
	}
	if l.conns == nil {
		l.conns = make(map[int64]*connProgress)
	}
	l.conns[c.ID] = &connProgress{flow: id, protocol: c.Protocol, shaken: c.Child.Version != ""}
	l.write(connOpenOf(l.certified(c, id)), "connection_open", c.Started, 0, c.ID)
}

// certified returns c with the certificates of its server, which the flow id
// has.
func (l *JSONL) certified(c *flow.Conn, id int64) *flow.Conn {
	if l.Certificates == nil || c.Upstream.Chain != nil || c.Upstream.Version == "" && c.Upstream.Verdict == "" || id == 0 || l.err != nil {
		return c
	}
	chain, err := l.Certificates(id)
	if err != nil {
		l.err = fmt.Errorf("read the certificates of flow %d: %w", id, err)
	}
	with := *c
	with.Upstream.Chain = chain
	return &with
}
