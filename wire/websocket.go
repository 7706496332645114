package wire

import (
	"strconv"
	"time"

	"trace/flow"
)

// maxFrames bounds what is handed over as Raw of each side of a WebSocket.
const maxFrames = 64 << 20

// detailNoClose is the status code that stands for a WebSocket that ended
// without a Close frame (RFC 6455 section 7.1.5).
const detailNoClose = "1006"

// A webSocket decodes what both sides of one WebSocket send (RFC 6455) into
// Messages of the exchange x that opened it. It neither ends the exchange nor
// hands over Raw: its owner does. It may be used over any transport.
//
// The owner calls end once a side. Where a side did not end in good order (FIN,
// close_notify, END_STREAM) it first sets lost, which says why. When both sides
// have ended, err says with what the exchange is to end.
type webSocket struct {
	x    *exchange
	dirs [2]frames
	lost *flow.Error // why a side ended before its time; nil: none did

	notes   []*flow.Error // to be said with the first bytes
	unknown bool          // an extension was agreed upon that is not known
	first   flow.Side     // the side that ended first
}

// newWebSocket begins the WebSocket that the answer resp to x.req opened.
func newWebSocket(x *exchange, resp *flow.Head) *webSocket {
	w := &webSocket{x: x}
	agreed := negotiate(x.req, resp)
	for i := range w.dirs {
		w.dirs[i] = frames{
			w: w, side: flow.Side(i), expectMask: flow.Side(i) == flow.Client,
			deflate: agreed.deflate, takeover: agreed.takeover[i],
		}
	}
	for _, text := range agreed.notes {
		w.note(flow.AtUpstream, flow.CodeMalformed, text)
	}
	if w.unknown = agreed.unknown != ""; w.unknown {
		w.note(flow.AtDecode, flow.CodeLimit, "the extension "+strconv.Quote(agreed.unknown)+" is not known: messages are kept as they passed")
	}
	return w
}

// note is something to say of the answer.
func (w *webSocket) note(where flow.Where, code, text string) {
	w.notes = append(w.notes, &flow.Error{Where: where, Code: code, Message: text})
}

// data takes the next bytes of side.
func (w *webSocket) data(side flow.Side, at time.Time, p []byte) {
	w.begin(at)
	w.dirs[side].push(at, p)
}

// end says that no more bytes of side come.
func (w *webSocket) end(side flow.Side, at time.Time) {
	in := &w.dirs[side]
	if in.ended {
		return
	}
	w.begin(at)
	if !w.dirs[side.Other()].ended {
		w.first = side
	}
	in.ended = true
	in.finish(at)
	if other := &w.dirs[side.Other()]; other.ended && w.err() == nil && !w.closed() {
		w.x.d.mark(w.x.id, side, at, &flow.Error{Where: where(w.first), Code: flow.CodeTruncated,
			Message: "the " + w.first.String() + " closed the connection without a Close frame", Detail: detailNoClose})
	}
}

func (w *webSocket) begin(at time.Time) {
	for _, note := range w.notes {
		w.x.d.mark(w.x.id, flow.Server, at, note)
	}
	w.notes = nil
}

// closed reports whether either side said that it closes. What happens to the
// connection after that is no failure (RFC 6455 section 7.1.1).
func (w *webSocket) closed() bool { return w.dirs[0].closed || w.dirs[1].closed }

// err says how the WebSocket failed, or nil.
func (w *webSocket) err() *flow.Error {
	for i := range w.dirs {
		if in := &w.dirs[i]; in.broken != nil && !in.closed {
			err := *in.broken
			if in.skipped > 0 {
				err.Message += "; " + strconv.FormatInt(in.skipped, 10) + " bytes that follow were not decoded"
			}
			return &err
		}
	}
	if w.closed() {
		return nil
	}
	if w.lost != nil {
		err := *w.lost
		if err.Detail == "" {
			err.Detail = detailNoClose
		}
		return &err
	}
	for i := range w.dirs {
		if w.dirs[i].cut != nil {
			return w.dirs[i].cut
		}
	}
	return nil
}

// free frees what is held, without a word.
func (w *webSocket) free() {
	for i := range w.dirs {
		w.dirs[i].data.abort()
		w.dirs[i].control.abort()
		w.dirs[i].spoil()
	}
}
