package wire

import (
	"strings"
	"time"

	"trace/flow"
)

// maxOpaque is how much of each direction of an opaque flow is handed over.
const maxOpaque = 64 << 10

// A tunnel is the opaque flow of a connection: what passes in the directions
// that have left HTTP. It is opened by their first byte. Of each direction the
// first maxOpaque bytes are handed over as they pass, unless they are coded;
// how many followed is told by one last Message without Data.
type tunnel struct {
	d      *Decoder
	id     int64 // 0: not open
	reason string
	note   *flow.Error // to be said at the next byte
	coded  bool        // see giveUpNext
	kept   [2]int64
	more   [2]int64 // bytes beyond kept
}

// opaqueData takes bytes that are not decoded.
func (in *direction) opaqueData(at time.Time, p []byte) int {
	in.d.tunnel.data(in.side, at, p)
	return len(p)
}

func (t *tunnel) data(side flow.Side, at time.Time, p []byte) {
	if t.id == 0 {
		t.d.flows++
		t.id = t.d.flows
		t.d.emit(flow.Event{Kind: flow.Opaque, At: at, Flow: t.id, Side: side, Reason: t.reason})
	}
	if t.note != nil {
		t.d.mark(t.id, side, at, t.note)
		t.note = nil
	}
	n := min(int64(len(p)), maxOpaque-t.kept[side])
	if t.hidden() && !t.d.Secrets {
		n = 0
	}
	t.more[side] += int64(len(p)) - n
	if n == 0 {
		return
	}
	t.kept[side] += n
	t.d.emit(flow.Event{Kind: flow.Message, At: at, Flow: t.id, Side: side, Data: p[:n], Size: n})
}

// hidden reports whether the bytes stand for text in a way that hides it from
// whoever looks for secrets: HPACK codes by Huffman, a WebSocket masks and
// deflates.
func (t *tunnel) hidden() bool {
	return t.coded || t.reason == reasonHTTP2 || strings.HasPrefix(t.reason, "upgrade")
}

// close ends the flow, if it was opened.
func (t *tunnel) close(at time.Time) {
	if t.id == 0 {
		return
	}
	for side, n := range t.more {
		if n > 0 {
			t.d.emit(flow.Event{Kind: flow.Message, At: at, Flow: t.id, Side: flow.Side(side), Size: n})
		}
	}
	t.d.emit(flow.Event{Kind: flow.End, At: at, Flow: t.id, Error: t.err()})
}

// err says how the flow failed: reset by a side, or broken off. A side that
// closes may do so at any byte.
func (t *tunnel) err() *flow.Error {
	for i := range t.d.dirs {
		in := &t.d.dirs[i]
		if !in.first {
			in = &t.d.dirs[1-i]
		}
		side := in.side.String()
		switch in.how {
		case flow.Reset:
			return &flow.Error{Where: where(in.side), Code: flow.CodeReset, Message: "the connection was reset by the " + side}
		case flow.Failed:
			return &flow.Error{Where: where(in.side), Code: flow.CodeTruncated, Message: "the connection to the " + side + " failed"}
		}
	}
	return nil
}
