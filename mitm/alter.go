package mitm

import (
	"io"
	"net"

	"trace/flow"
)

// alterTLS returns the leg of what stands in place of a server, nil if nothing does.
func (c *conn) alterTLS(up *upstream) *leg {
	if c.p.Alter == nil {
		return nil
	}
	instead := c.p.Alter(c.snapshot(), up.conn)
	if instead == nil {
		return nil
	}
	return plainLeg(&half{conn: &noticed{Conn: instead}})
}

// alterPlain puts what stands in place of a server before what was peeked of it.
func (c *conn) alterPlain() {
	c.peek.stop(flow.Client)
	c.peek.stop(flow.Server)
	h := &c.peek.sides[flow.Server]
	if instead := c.p.Alter(c.snapshot(), &heldConn{Conn: h.conn, held: h.buf, ending: h.err}); instead != nil {
		c.peek.sides[flow.Server] = half{conn: instead}
	}
}

// A noticed conn stands in place of a server that spoke TLS: its end is a close_notify, and
// one of the child's is its end.
type noticed struct {
	net.Conn
	told bool
}

// Read implements net.Conn.
func (n *noticed) Read(p []byte) (int, error) {
	k, err := n.Conn.Read(p)
	if err == io.EOF && !n.told {
		n.told = true
		err = errCloseNotify
	}
	return k, err
}

// CloseWrite ends the direction towards the server.
func (n *noticed) CloseWrite() error { return n.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// Reset aborts the connection.
func (n *noticed) Reset() error {
	if r, ok := n.Conn.(interface{ Reset() error }); ok {
		return r.Reset()
	}
	return n.Conn.Close()
}

// A heldConn is a connection of which something was read.
type heldConn struct {
	net.Conn
	held   []byte
	ending error // what followed held, if that is known
}

// Read implements net.Conn.
func (h *heldConn) Read(p []byte) (int, error) {
	if len(h.held) > 0 {
		n := copy(p, h.held)
		h.held = h.held[n:]
		return n, nil
	}
	if h.ending != nil {
		return 0, h.ending
	}
	return h.Conn.Read(p)
}

// CloseWrite ends the direction towards the server.
func (h *heldConn) CloseWrite() error {
	if w, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
