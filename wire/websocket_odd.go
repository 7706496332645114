package wire

import (
	"math/bits"
	"time"

	"trace/flow"
)

// frameOddities are the ways in which frames depart from RFC 6455 without
// costing what follows. Each is said once a direction, however often it
// happens: a hostile peer must not fill the record with them.
type frameOddities uint16

const (
	oddMask frameOddities = 1 << iota
	oddFrameLength
	oddReserved
	oddOpcode
	oddControl
	oddContinuation
	oddInterleaved
	oddText
	oddClose
	oddAfterClose
	oddEmpty
)

var frameOddityText = [...]string{
	"", // of oddMask: see odd
	"the length of a frame is not written in the shortest way",
	"a frame has a reserved bit set that no extension explains",
	"a frame has a reserved opcode",
	"a control frame is fragmented or longer than 125 bytes",
	"a continuation frame continues no message",
	"a message begins before the one before it is complete",
	"a text message is not UTF-8",
	"the payload of a Close frame is not valid",
	"frames follow the Close frame",
	"a deflated message has no data",
}

// odd says o of the direction, unless it has been said.
func (in *frames) odd(at time.Time, o frameOddities) {
	if in.said&o != 0 {
		return
	}
	in.said |= o
	text := frameOddityText[bits.TrailingZeros16(uint16(o))]
	switch {
	case o == oddMask && in.expectMask:
		text = "a frame of the client is not masked"
	case o == oddMask:
		text = "a frame of the server is masked"
	}
	in.w.x.mark(in.side, at, where(in.side), flow.CodeMalformed, text)
}
