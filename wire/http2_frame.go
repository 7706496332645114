package wire

import (
	"encoding/binary"
	"slices"
	"time"

	"trace/flow"
)

// Frame types and flags (RFC 9113 section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameReset        = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	frameHeaderSize = 9
	settingSize     = 6
	maxDebug        = 256 // of the debug data of GOAWAY
)

// A frameReader cuts what one side sends into frames, in any split. No frame
// is held: what is in it goes on as it comes.
//
//	preface → header → fixed → content → padding → header
type frameReader struct {
	c     *http2Conn
	side  flow.Side
	state func(f *frameReader, at time.Time, p []byte) int
	lost  bool        // not decoded any further
	fault *flow.Error // why, while that is not said yet
	begun bool        // a frame came
	last  uint32      // the highest stream that this side has opened

	head   [len(clientPreface)]byte // the preface; the header of the frame with its fixed part
	n      int                      // how much of it came
	want   int
	since  time.Time // when its first byte passed
	kind   byte
	flags  byte
	id     uint32
	left   int // of the content
	pad    int // of the padding
	stream *stream
	debug  []byte

	hpack hpackDecoder
	block *headerBlock // that is being received
}

func (f *frameReader) init(c *http2Conn, side flow.Side) {
	f.c, f.side, f.state = c, side, (*frameReader).header
	if side == flow.Client {
		f.state = (*frameReader).preface
	}
	f.hpack.init(func(field flow.Field, long bool) { f.block.field(field, long) })
}

// push hands p to the states, whole.
func (f *frameReader) push(at time.Time, p []byte) {
	for len(p) > 0 && !f.lost {
		p = p[f.state(f, at, p):]
		if f.fault != nil {
			f.giveUp(at, p)
		}
	}
}

// fail says that this side cannot be decoded any further.
func (f *frameReader) fail(code, message string) {
	f.fault = f.c.d.dirs[f.side].fault(code, message)
}

// giveUp leaves what follows undecoded. Held bytes of a frame that was not
// begun precede rest.
func (f *frameReader) giveUp(at time.Time, rest []byte) {
	err := f.fault
	f.fault, f.lost = nil, true
	f.partial(at, err)
	f.c.stop(f.side, at, err)
	if f.n > 0 {
		rest = slices.Concat(f.head[:f.n], rest)
	}
	// The other side's table may be as large as this side says unheard.
	f.c.sides[f.side.Other()].hpack.allowed = 1<<32 - 1
	f.hpack = hpackDecoder{}
	f.c.d.dirs[f.side].giveUpNext(at, err.Code, err, rest)
}

// gather takes bytes up to the next f.want of f.head.
func (f *frameReader) gather(p []byte) (n int, complete bool) {
	n = copy(f.head[f.n:f.want], p)
	f.n += n
	return n, f.n == f.want
}

// preface waits for the client's.
func (f *frameReader) preface(at time.Time, p []byte) int {
	if f.n == 0 {
		f.since, f.want = at, len(clientPreface)
	}
	for n, b := range p[:min(len(p), f.want-f.n)] {
		if b != clientPreface[f.n] {
			f.c.noHTTP2(at, append(f.head[:f.n:f.n], b), f.since)
			f.c.d.dirs[f.side].push(at, p[n+1:])
			return len(p)
		}
		f.head[f.n] = b
		if f.n++; f.n == f.want {
			f.n, f.state = 0, (*frameReader).header
			f.c.begun()
			return n + 1
		}
	}
	return len(p)
}

// header waits for the header of a frame (section 4.1).
func (f *frameReader) header(at time.Time, p []byte) int {
	if f.n == 0 {
		f.since, f.want = at, frameHeaderSize
	}
	n, complete := f.gather(p)
	if !complete {
		return n
	}
	h := f.head[:]
	f.left, f.pad = int(h[0])<<16|int(h[1])<<8|int(h[2]), 0
	f.kind, f.flags = h[3], h[4]
	f.id = binary.BigEndian.Uint32(h[5:]) &^ (1 << 31)
	fixed := f.fixedSize()
	if why := f.check(fixed); why != "" {
		f.fail(flow.CodeMalformed, why)
		return n
	}
	f.begun = true
	f.left -= fixed
	f.want += fixed
	f.state = (*frameReader).fixed
	if fixed == 0 {
		f.begin(at)
	}
	return n
}

// fixedSize returns how much of the frame must be known before its content.
func (f *frameReader) fixedSize() int {
	size := 0
	if f.padded() {
		size++
	}
	switch f.kind {
	case frameHeaders:
		if f.flags&flagPriority != 0 {
			size += 5
		}
	case framePushPromise, frameReset:
		size += 4
	case frameGoAway:
		size += 8
	}
	return size
}

func (f *frameReader) padded() bool {
	return f.flags&flagPadded != 0 && (f.kind == frameData || f.kind == frameHeaders || f.kind == framePushPromise)
}

// check says what is wrong with the header of the frame, in a way after which
// nothing is sure any more (connection errors of section 6).
func (f *frameReader) check(fixed int) string {
	switch {
	case f.block != nil && (f.kind != frameContinuation || f.id != f.block.stream):
		return "another frame interrupts a header block"
	case f.block == nil && f.kind == frameContinuation:
		return "a CONTINUATION continues nothing"
	case f.side == flow.Server && !f.begun && (f.kind != frameSettings || f.flags&flagAck != 0 || f.id != 0):
		return "the server does not begin with SETTINGS"
	case f.left < fixed:
		return "a frame is too short"
	}
	ok := true
	switch f.kind {
	case frameData, frameHeaders, framePriority, frameContinuation:
		ok = f.id != 0
	case frameReset:
		ok = f.id != 0 && f.left == 4
	case framePushPromise:
		ok = f.id != 0 && f.side == flow.Server
	case frameSettings:
		ok = f.id == 0 && f.left%settingSize == 0 && (f.flags&flagAck == 0 || f.left == 0)
	case framePing:
		ok = f.id == 0 && f.left == 8
	case frameGoAway:
		ok = f.id == 0
	case frameWindowUpdate:
		ok = f.left == 4
	}
	if !ok {
		return "a frame has another size, stream or sender than its type allows"
	}
	return ""
}

// fixed waits for the fixed part of the frame.
func (f *frameReader) fixed(at time.Time, p []byte) int {
	n, complete := f.gather(p)
	if complete {
		f.begin(at)
	}
	return n
}

// begin acts on the header and the fixed part of the frame.
func (f *frameReader) begin(at time.Time) {
	fixed := f.head[frameHeaderSize:f.want]
	if f.padded() {
		f.pad, fixed = int(fixed[0]), fixed[1:]
		if f.left -= f.pad; f.left < 0 {
			f.fail(flow.CodeMalformed, "a frame is shorter than its padding")
			return
		}
	}
	f.stream = f.c.streams[f.id]
	switch f.kind {
	case frameHeaders:
		f.block = f.beginBlock(0)
	case framePushPromise:
		f.block = f.beginBlock(binary.BigEndian.Uint32(fixed) &^ (1 << 31))
	}
	f.raw(at, f.head[:f.want])
	if f.kind == frameData {
		f.beginData(at)
	}
	f.n = 0
	f.proceed(at)
}

// proceed goes on to what is left of the frame.
func (f *frameReader) proceed(at time.Time) {
	switch {
	case f.left > 0 && f.kind == frameSettings:
		f.state, f.want = (*frameReader).setting, settingSize
	case f.left > 0:
		f.state = (*frameReader).content
	case f.pad > 0:
		f.state = (*frameReader).padding
	default:
		f.over(at)
	}
}

// setting waits for one setting.
func (f *frameReader) setting(at time.Time, p []byte) int {
	n, complete := f.gather(p)
	if complete {
		f.c.setting(f.side, f.head[:settingSize])
		f.n = 0
		f.left -= settingSize
		f.proceed(at)
	}
	return n
}

// content passes what the frame carries.
func (f *frameReader) content(at time.Time, p []byte) int {
	p = p[:min(len(p), f.left)]
	switch f.kind {
	case frameData:
		f.raw(at, p)
		if s := f.stream; s != nil && !s.gone {
			s.data(f.side, at, p)
		}
	case frameHeaders, framePushPromise, frameContinuation:
		n, err := f.hpack.write(p)
		f.raw(at, p[:n])
		if err != nil {
			f.failBlock(err)
			return n
		}
	default:
		f.raw(at, p)
	}
	if f.kind == frameGoAway {
		f.debug = append(f.debug, p[:min(len(p), maxDebug-len(f.debug))]...)
	}
	if f.left -= len(p); f.left == 0 {
		f.proceed(at)
	}
	return len(p)
}

// failBlock says that a header block cannot be decoded.
func (f *frameReader) failBlock(err error) {
	code := flow.CodeMalformed
	if err == errTableShort {
		code = flow.CodeLimit
	}
	f.fail(code, err.Error())
}

func (f *frameReader) padding(at time.Time, p []byte) int {
	p = p[:min(len(p), f.pad)]
	f.raw(at, p)
	if f.pad -= len(p); f.pad == 0 {
		f.over(at)
	}
	return len(p)
}

// over acts on the end of the frame.
func (f *frameReader) over(at time.Time) {
	s := f.stream
	f.state, f.stream = (*frameReader).header, nil
	switch f.kind {
	case frameData:
		if f.flags&flagEndStream != 0 && s != nil && !s.gone {
			s.finish(f.side, at)
		}
	case frameHeaders, framePushPromise, frameContinuation:
		if f.flags&flagEndHeaders == 0 {
			return
		}
		if err := f.hpack.end(); err != nil {
			f.failBlock(err)
			return
		}
		b := f.block
		f.block = nil
		f.c.headers(f.side, at, b, nil)
	case frameReset:
		f.c.reset(f.side, at, f.id, binary.BigEndian.Uint32(f.head[frameHeaderSize:]))
	case frameGoAway:
		fixed, debug := f.head[frameHeaderSize:], f.debug
		f.debug = nil
		f.c.goAway(f.side, at, binary.BigEndian.Uint32(fixed)&^(1<<31), binary.BigEndian.Uint32(fixed[4:]), debug)
	}
}

// beginBlock begins a header block.
func (f *frameReader) beginBlock(promised uint32) *headerBlock {
	b := &headerBlock{at: f.since, stream: f.id, opens: f.id, end: f.flags&flagEndStream != 0}
	s := f.stream
	switch {
	case f.kind == framePushPromise:
		b.opens, b.pushed, b.end = promised, true, true
		if promised%2 == 0 && promised > f.last {
			b.kind, f.last = blockRequest, promised
		}
	case s != nil && s.half[f.side].headed:
		b.kind = blockTrailers
	case s != nil && f.side == flow.Server:
		b.kind = blockResponse
	case s == nil && f.side == flow.Client && f.id%2 == 1 && f.id > f.last:
		b.kind, f.last = blockRequest, f.id
	}
	return b
}

// beginData acts on the beginning of a DATA frame.
func (f *frameReader) beginData(at time.Time) {
	if s := f.stream; s != nil && !s.gone {
		s.beginData(f.side, at)
	}
}

// partial makes the best of a header block that will not be completed.
func (f *frameReader) partial(at time.Time, err *flow.Error) {
	if b := f.block; b != nil {
		f.block = nil
		f.c.headers(f.side, at, b, err)
	}
}

// raw hands over bytes of the frame, of any type, as they are on the wire, to
// the exchange of its stream. Those of a header block wait for what it opens.
func (f *frameReader) raw(at time.Time, p []byte) {
	if !f.c.d.Secrets {
		return
	}
	if b := f.block; b != nil {
		if b.kind != blockIgnored {
			b.raw = append(b.raw, p[:min(len(p), maxHead-len(b.raw))]...)
		}
		return
	}
	s := f.stream
	if s == nil || s.gone {
		return
	}
	f.c.d.raw(s.x, f.side, at, s.half[f.side].clip(p))
}
