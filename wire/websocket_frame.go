package wire

import (
	"math"
	"time"

	"trace/flow"
)

// frames is the parser of one direction: header → payload → header.
type frames struct {
	w          *webSocket
	side       flow.Side
	expectMask bool
	deflate    bool // permessage-deflate was agreed
	takeover   bool // its window lives on from message to message

	window []byte // the last bytes of what was inflated, while it does
	spoilt bool   // the window is not known any more: nothing can be inflated
	counts bool   // among Decoder.windows

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
		in.open = false
		in.spoil()
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

// rsv1 is the first of the three reserved bits (RFC 6455 section 5.2).
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
		if compressed && in.takeover {
			in.countWindow(at)
		}
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

// handOver ends m and hands it over. whole says that its last frame came.
func (in *frames) handOver(at time.Time, m *message, whole bool) {
	m.end(whole)
	in.w.x.d.emit(m.event(at, whole))
	switch {
	case m.failed != nil:
		in.fault(at, m)
	case m.inflates && m.passed == 0 && whole:
		in.odd(at, oddEmpty)
	}
	if m.opcode == opText && !m.coded && m.failed == nil && m.text.invalid(whole) {
		in.odd(at, oddText)
	}
	if m.opcode == opClose && whole {
		in.closed = true
		if !validClose(m.data) {
			in.odd(at, oddClose)
		}
	}
	if m.compressed && !whole && in.takeover {
		in.spoil()
	}
	if m.buf != nil && cap(m.data) <= maxPooled {
		*m.buf = m.data[:0]
		gathered.Put(m.buf)
	}
	m.release()
}

// fault says why m could not be inflated. Where the next message needs what
// this one was, no more can be.
func (in *frames) fault(at time.Time, m *message) {
	err := &flow.Error{Where: where(in.side), Code: flow.CodeMalformed, Message: "the deflated data of a message is broken: " + m.failed.Error()}
	switch m.failed {
	case errBomb:
		err.Where, err.Code, err.Message = flow.AtDecode, flow.CodeLimit, "a message grows beyond measure when inflated: the rest is left out"
	case errCrowd:
		err.Where, err.Code, err.Message = flow.AtDecode, flow.CodeLimit, "too many messages are being inflated: one is left out"
	}
	if in.takeover {
		in.spoil()
		err.Message += "; deflated messages of the " + in.side.String() + " that follow are not inflated, as they build on it"
	}
	in.w.x.d.mark(in.w.x.id, in.side, at, err)
}

// countWindow makes sure, when the first message comes that needs it, that the
// window of the direction may be remembered.
func (in *frames) countWindow(at time.Time) {
	d := in.w.x.d
	switch {
	case in.counts || in.spoilt:
	case d.windows >= maxWindows:
		in.spoil()
		in.w.x.mark(in.side, at, flow.AtDecode, flow.CodeLimit,
			"the connection carries too many WebSockets: deflated messages of the "+in.side.String()+" are not inflated")
	default:
		in.counts = true
		d.windows++
	}
}

// spoil forgets the window, for good.
func (in *frames) spoil() {
	in.spoilt, in.window = true, nil
	if in.counts {
		in.counts = false
		in.w.x.d.windows--
	}
}

// finish says what stayed incomplete when the direction ended.
func (in *frames) finish(at time.Time) {
	if in.broken == nil && (in.open || in.cur != nil || in.have > 0) {
		in.cut = &flow.Error{Where: where(in.w.first), Code: flow.CodeTruncated, Message: "the " + in.side.String() + "'s last message is incomplete", Detail: detailNoClose}
		if in.w.lost != nil {
			in.cut.Where = in.w.lost.Where
		}
		if in.w.closed() {
			in.cut.Detail = ""
		}
	}
	control := in.cur == &in.control
	if in.open || in.cur == &in.data {
		in.handOver(at, &in.data, false)
	}
	if control {
		in.handOver(at, &in.control, false)
	}
	if in.cut != nil {
		in.w.x.d.mark(in.w.x.id, in.side, at, in.cut)
	}
	in.cur, in.open, in.have = nil, false, 0
	in.spoil()
}
