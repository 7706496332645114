package flow

import (
	"encoding/binary"
	"strconv"
)

// The opcodes of websocket messages (RFC 6455 section 5.2).
const (
	OpText   uint8 = 1
	OpBinary uint8 = 2
	OpClose  uint8 = 8
	OpPing   uint8 = 9
	OpPong   uint8 = 10
)

// The close codes that stand for what no frame said (RFC 6455 section 7.4.1).
const (
	CloseNoStatus = 1005 // a close frame without a code
	CloseAbnormal = 1006 // no close frame
)

// OpcodeName returns the word for an opcode: "text", "close", or its number.
func OpcodeName(op uint8) string {
	switch op {
	case OpText:
		return "text"
	case OpBinary:
		return "binary"
	case OpClose:
		return "close"
	case OpPing:
		return "ping"
	case OpPong:
		return "pong"
	}
	return strconv.Itoa(int(op))
}

// ParseClose reads the payload of a close frame (RFC 6455 section 5.5.1).
func ParseClose(payload []byte) (code int, reason string) {
	if len(payload) < 2 {
		return CloseNoStatus, ""
	}
	return int(binary.BigEndian.Uint16(payload)), string(payload[2:])
}

// IsWebSocket reports whether x switched to WebSocket.
func (x *Exchange) IsWebSocket() bool {
	return x.Kind == KindWebSocket || x.Response != nil && x.Response.Head != nil && x.Response.Head.Protocol == "websocket"
}
