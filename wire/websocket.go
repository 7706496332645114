package wire

import (
	"math"
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
		w.dirs[i].window = nil
	}
}

// frames is the parser of one direction: header → payload → header.
type frames struct {
	w          *webSocket
	side       flow.Side
	expectMask bool
	deflate    bool // permessage-deflate was agreed
	takeover   bool // its window lives on from message to message

	window []byte // the last bytes of what was inflated, while it does
	spoilt bool   // the window is not known any more: nothing can be inflated

	head   [maxFrameHead]byte // header that comes in
	have   int
	left   int64 // payload of the frame to come
	final  bool
	masked bool
	mask   [4]byte
	phase  int      // which byte of mask is next
	cur    *message // whose payload passes; nil between frames

	data    message // fragments are put together in it
	open    bool    // more fragments of data are to come
	control message

	said    frameOddities
	closed  bool        // a Close frame came
	broken  *flow.Error // where the next frame begins is not known any more
	skipped int64       // bytes since
	cut     *flow.Error // a message stayed incomplete
	ended   bool
}

// maxFrameHead is the size of the longest header of a frame.
const maxFrameHead = 14

// The opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPong         = 0xa
)

func (in *frames) push(at time.Time, p []byte) {
	for len(p) > 0 && in.broken == nil {
		if in.cur == nil {
			p = p[in.header(at, p):]
		} else {
			p = p[in.payload(at, p):]
		}
	}
	in.skipped += int64(len(p))
}

// header gathers the header of a frame.
func (in *frames) header(at time.Time, p []byte) int {
	for i, b := range p {
		in.head[in.have] = b
		in.have++
		if in.have == frameHeadSize(in.head[:in.have]) {
			in.begin(at)
			return i + 1
		}
	}
	return len(p)
}

// frameHeadSize returns how long the header is that begins with b, as far as b tells.
func frameHeadSize(b []byte) int {
	if len(b) < 2 {
		return 2
	}
	n := 2
	switch b[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if b[1]&0x80 != 0 {
		n += 4
	}
	return n
}

// begin acts on a complete header.
func (in *frames) begin(at time.Time) {
	b := in.head[:in.have]
	length := uint64(b[1] & 0x7f)
	extended := 0
	switch length {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	if extended > 0 {
		length = 0
		for _, c := range b[2 : 2+extended] {
			length = length<<8 | uint64(c)
		}
		if length < 126 || extended == 8 && length <= math.MaxUint16 {
			in.odd(at, oddFrameLength)
		}
	}
	in.have = 0
	if length > math.MaxInt64 {
		in.broken = &flow.Error{Where: where(in.side), Code: flow.CodeMalformed, Message: "the length of a WebSocket frame is impossible"}
		in.w.x.d.mark(in.w.x.id, in.side, at, in.broken)
		if in.open {
			in.handOver(at, &in.data, false)
		}
		in.open, in.window = false, nil
		return
	}
	in.left = int64(length)
	in.final = b[0]&0x80 != 0
	in.masked, in.phase = b[1]&0x80 != 0, 0
	if in.masked {
		copy(in.mask[:], b[2+extended:])
	}
	if in.masked != in.expectMask {
		in.odd(at, oddMask)
	}
	if in.closed {
		in.odd(at, oddAfterClose)
	}
	in.cur = in.receiver(at, b[0]&0x0f, b[0]&0x70)
	if in.left == 0 {
		in.endFrame(at)
	}
}

// The reserved bits of RFC 6455 section 5.2.
const rsv1 = 0x40

// receiver returns the message that the frame belongs to, beginning it if need be.
func (in *frames) receiver(at time.Time, op, rsv byte) *message {
	m, begins := &in.data, true
	switch {
	case op >= opClose:
		m = &in.control
		if op > opPong {
			in.odd(at, oddOpcode)
		}
		if !in.final || in.left > 125 {
			in.odd(at, oddControl)
			in.final = true
		}
	case op == opContinuation && in.open:
		begins = false
	case op == opContinuation:
		in.odd(at, oddContinuation)
		op = opBinary // nobody said that it is text
	default:
		if in.open {
			in.odd(at, oddInterleaved)
			in.handOver(at, &in.data, false)
		}
		if op > opBinary {
			in.odd(at, oddOpcode)
		}
	}
	compressed := false
	if rsv&rsv1 != 0 && in.deflate && begins && op < opClose {
		compressed, rsv = true, rsv&^rsv1
	}
	if begins {
		m.begin(in, op, compressed)
	}
	if rsv != 0 && !in.w.unknown {
		in.odd(at, oddReserved)
	}
	if rsv&^rsv1 != 0 || rsv != 0 && !in.deflate {
		m.coded = true
	}
	return m
}

// payload takes bytes of the payload of the frame.
func (in *frames) payload(at time.Time, p []byte) int {
	n := int(min(int64(len(p)), in.left))
	p = p[:n]
	in.left -= int64(n)
	if !in.masked {
		in.cur.write(p, in.final && in.left == 0)
	} else {
		plain := buffers.Get().(*[outSize]byte)
		for len(p) > 0 {
			k := min(len(p), outSize)
			unmask(plain[:k], p[:k], in.mask, in.phase)
			in.phase = (in.phase + k) & 3
			p = p[k:]
			in.cur.write(plain[:k], in.final && in.left == 0 && len(p) == 0)
		}
		buffers.Put(plain)
	}
	if in.left == 0 {
		in.endFrame(at)
	}
	return n
}

// endFrame acts on the end of a frame.
func (in *frames) endFrame(at time.Time) {
	m := in.cur
	in.cur = nil
	if m == &in.data {
		in.open = !in.final
	}
	if in.final {
		in.handOver(at, m, true)
	}
}
