package wire

import (
	"crypto/sha1"
	"encoding/base64"
	"slices"
	"strings"
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
	c := &webSocketConn{x: x, ws: newWebSocket(x, resp)}
	if key := x.req.Get("Sec-WebSocket-Key"); key != "" && strings.Trim(resp.Get("Sec-WebSocket-Accept"), " \t") != acceptKey(key) {
		c.ws.note(flow.AtUpstream, flow.CodeMalformed, "Sec-WebSocket-Accept does not answer the client's key")
	}
	return c
}

// acceptKey returns what answers the key of a client (RFC 6455 section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(strings.Trim(key, " \t") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (c *webSocketConn) data(side flow.Side, at time.Time, p []byte) {
	n := min(int64(len(p)), maxFrames-c.framed[side])
	c.framed[side] += n
	c.x.d.raw(c.x, side, at, p[:n])
	c.ws.data(side, at, p)
}

func (c *webSocketConn) end(side flow.Side, at time.Time) {
	in := &c.x.d.dirs[side]
	late := in.how == flow.Reset && c.x.ended[side.Other()] // in answer to the end of the other
	if in.how != flow.FIN && in.how != flow.CloseNotify && !late && c.ws.lost == nil {
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
