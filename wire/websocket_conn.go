package wire

import (
	"slices"
	"time"

	"trace/flow"
)

// protocolWebSocket is the Protocol of a Head that opens a WebSocket.
const protocolWebSocket = "websocket"

// opensWebSocket reports whether the client asked for what x switches to now,
// a WebSocket, and waits for it: RFC 6455 section 4.1.
func (d *Decoder) opensWebSocket(x *exchange) bool {
	client := &d.dirs[flow.Client]
	return x.upgrade == "upgrade:"+protocolWebSocket && client.wait && client.msg == x &&
		slices.Contains(tokens(x.req, "Upgrade"), protocolWebSocket)
}

// A webSocketConn is a connection that HTTP/1 has left for a WebSocket: both
// sides' messages belong to the exchange that opened it, which ends with them.
type webSocketConn struct {
	x      *exchange
	ws     *webSocket
	framed [2]int64 // bytes handed over as Raw
}

func newWebSocketConn(x *exchange, resp *flow.Head) *webSocketConn {
	x.ended = [2]bool{}
	return &webSocketConn{x: x, ws: newWebSocket(x, resp)}
}

func (c *webSocketConn) data(side flow.Side, at time.Time, p []byte) {
	n := min(int64(len(p)), maxFrames-c.framed[side])
	c.framed[side] += n
	c.x.d.raw(c.x, side, at, p[:n])
	c.ws.data(side, at, p)
}

func (c *webSocketConn) end(side flow.Side, at time.Time) {
	in := &c.x.d.dirs[side]
	if in.how != flow.FIN && in.how != flow.CloseNotify && c.ws.lost == nil {
		c.ws.lost = in.cutBefore("the WebSocket was closed")
	}
	c.ws.end(side, at)
	var err *flow.Error
	if c.x.ended[side.Other()] {
		err = c.ws.err()
	}
	c.x.over(side, at, err)
}

// close has nothing to do: both sides have ended.
func (c *webSocketConn) close(time.Time) {}

func (c *webSocketConn) free() { c.ws.free() }
