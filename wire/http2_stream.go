package wire

import (
	"strconv"
	"time"

	"trace/flow"
)

// A stream carries one exchange (RFC 9113 section 5). It is kept while one of
// its halves is open; of a stream that is over nothing is.
type stream struct {
	c    *http2Conn
	id   uint32
	x    *exchange
	half [2]half
	ws   *webSocket // what the stream has become; nil: it carries messages
	gone bool       // over

	// What the client sends before the answer that makes the stream a
	// WebSocket, or not.
	early   []byte
	earlyAt time.Time
	spilt   bool // it was too much to wait: it is content
}

// A half is the message of one side.
type half struct {
	headed   bool     // its final head came
	body     *body    // between the head and the end
	length   int64    // of its content, as its head says; -1: it does not
	bodiless bool     // no content may follow
	late     bool     // a frame came that may not; it was told
	odd      oddities // that were told
	trailers []flow.Field
	framed   int  // bytes of frames outside of content that were handed over as Raw
	socket   bool // it carries a WebSocket
}

// clip returns as much of p, bytes of a frame, as may be handed over as Raw.
func (h *half) clip(p []byte) []byte {
	if h.body != nil {
		return h.body.clip(p)
	}
	limit := maxHead
	if h.socket {
		limit = maxFrames
	}
	p = p[:min(len(p), limit-h.framed)]
	h.framed += len(p)
	return p
}

// headers acts on the header block b of side. cut says why only a part of it
// came; nil: it is complete.
func (c *http2Conn) headers(side flow.Side, at time.Time, b *headerBlock, cut *flow.Error) {
	switch s := c.streams[b.opens]; b.kind {
	case blockRequest:
		c.request(side, at, b, cut)
	case blockResponse:
		if s != nil {
			s.response(at, b, cut)
		}
	case blockTrailers:
		if s != nil && cut == nil {
			s.trailers(side, at, b)
		}
	default:
		c.ignored(side, at, b)
	}
}

// ignored looks at a header block of no stream that is followed. Late ones of
// streams that are over are nothing to speak of.
func (c *http2Conn) ignored(side flow.Side, at time.Time, b *headerBlock) {
	client := &c.sides[flow.Client]
	switch {
	case b.pushed, side == flow.Client && b.stream%2 == 0:
		c.tell(side, at, &flow.Error{Where: where(side), Code: flow.CodeMalformed, Message: "a stream was opened that is not for the " + side.String() + " to open"})
	case side == flow.Server && b.stream%2 == 1 && b.stream > client.last && !client.lost:
		c.tell(side, at, &flow.Error{Where: where(side), Code: flow.CodeMalformed, Message: "the server answered on a stream that was not opened"})
	}
}

// request opens the stream of a request, or of one that the server promises.
func (c *http2Conn) request(side flow.Side, at time.Time, b *headerBlock, cut *flow.Error) {
	d := c.d
	h, ok := b.request()
	if cut != nil && (!ok || b.seen&(pseudoPath|pseudoAuthority) == 0) {
		return
	}
	if len(c.streams) >= maxStreams || c.size+b.size > maxQueueBytes {
		c.tell(side, at, &flow.Error{Where: flow.AtDecode, Code: flow.CodeLimit, Message: "too many streams are open: some are left out of the record"})
		return
	}
	length, odd := lengthOf(h)
	d.authority(h)
	if !b.end {
		setFraming(h, nil)
	}
	d.flows++
	x := &exchange{d: d, id: d.flows, req: h, size: b.size}
	s := &stream{c: c, id: b.opens, x: x}
	c.streams[s.id] = s
	c.most = max(c.most, len(c.streams))
	c.size += x.size
	d.emit(flow.Event{Kind: flow.Request, At: b.at, Flow: x.id, Side: flow.Client, Head: h})
	d.raw(x, side, b.at, b.raw)
	(b.odd | odd).each(func(code, text string) { x.mark(flow.Client, at, where(side), code, text) })
	if b.pushed {
		x.mark(flow.Server, at, flow.AtUpstream, codePushed, "nobody asked for this: the server promised it on stream "+strconv.Itoa(int(b.stream)))
	}
	if err := c.silent[flow.Server]; err != nil {
		x.ended[flow.Server], x.err = true, err
	}
	s.begin(flow.Client, h, length, b.end)
	switch {
	case cut != nil:
		d.mark(x.id, side, at, cut)
		if b.pushed { // then the client's half will not be stopped
			s.abandon(side, at, cut)
		}
	case b.end:
		s.finish(flow.Client, at)
	}
	if !s.gone && c.refused(s) {
		s.refuse(at)
	}
}

// codePushed marks an exchange that the server began.
const codePushed = "pushed"

// begin begins the content of side's message with the head h.
func (s *stream) begin(side flow.Side, h *flow.Head, length int64, empty bool) {
	half := &s.half[side]
	half.headed, half.length = true, length
	if empty && h.Framing == "" { // an answer of gRPC tells its status in its only head
		h = nil
	}
	half.body = newBody(s.x, side, h, nil)
}

// response takes the head of an answer, or what came of it.
func (s *stream) response(at time.Time, b *headerBlock, cut *flow.Error) {
	x, d := s.x, s.c.d
	h, ok := b.response()
	switch {
	case !ok && cut != nil:
		return
	case !ok:
		s.malformed(flow.Server, at, "the head of an answer has no :status")
		return
	}
	e := flow.Event{Kind: flow.Response, At: b.at, Flow: x.id, Side: flow.Server, Head: h}
	length, odd := lengthOf(h)
	if odd |= b.odd; x.req.Method == "CONNECT" && h.Status < 300 {
		length = -1 // RFC 9110 section 9.3.6
	}
	if h.Status < 200 {
		if cut != nil {
			return
		}
		if h.Status == 101 {
			odd |= oddSwitch
		}
		if x.informational(at, e) {
			d.raw(x, flow.Server, b.at, b.raw)
			s.odd(flow.Server, at, odd)
		}
		if b.end {
			s.malformed(flow.Server, at, "the stream ends with an informational answer")
		}
		return
	}
	half := &s.half[flow.Server]
	half.bodiless = x.req.Method == "HEAD" || h.Status == 204 || h.Status == 304
	if !half.bodiless && (!b.end || isGRPC(mediaType(h.Get("Content-Type")))) {
		setFraming(x.req, h)
	}
	x.decided = true
	opens := x.req.Protocol != "" && h.Status < 300 && cut == nil
	if opens {
		h.Protocol = x.req.Protocol // RFC 8441 section 4
	}
	if opens = opens && h.Protocol == protocolWebSocket && !s.spilt; opens {
		h.Streaming, h.Framing = true, ""
		s.endBody(flow.Client, at, false)
	}
	d.emit(e)
	d.raw(x, flow.Server, b.at, b.raw)
	s.odd(flow.Server, at, odd)
	x.suspect(at, h)
	s.begin(flow.Server, h, length, b.end || opens)
	if opens {
		s.webSocket(at, h)
	} else {
		s.spill(at)
	}
	switch {
	case cut != nil:
		d.mark(x.id, flow.Server, at, cut)
	case b.end:
		s.finish(flow.Server, at)
	}
}

// webSocket lets the stream go on as the one that the answer h opens.
func (s *stream) webSocket(at time.Time, h *flow.Head) {
	s.endBody(flow.Server, at, false)
	s.ws = newWebSocket(s.x, h)
	s.half[flow.Client].socket, s.half[flow.Server].socket = true, true
	if early := s.early; len(early) > 0 {
		s.c.waiting -= len(early)
		s.early = nil
		s.ws.data(flow.Client, s.earlyAt, early)
	}
	if s.x.ended[flow.Client] {
		s.ws.end(flow.Client, at)
	}
}

// wait keeps what the client sends before the answer, as far as it may.
func (s *stream) wait(at time.Time, p []byte) {
	if len(s.early) == 0 {
		s.earlyAt = at
	}
	n := min(len(p), maxWait-s.c.waiting)
	s.early = append(s.early, p[:n]...)
	s.c.waiting += n
	if n < len(p) {
		s.spilt = true
		s.spill(at)
		s.half[flow.Client].body.write(at, p[n:])
	}
}

// spill takes what waited as content.
func (s *stream) spill(at time.Time) {
	early, body := s.early, s.half[flow.Client].body
	if len(early) == 0 {
		return
	}
	s.c.waiting -= len(early)
	s.early = nil
	body.write(s.earlyAt, early)
}

// trailers takes a header block that comes after the head (section 8.1).
func (s *stream) trailers(side flow.Side, at time.Time, b *headerBlock) {
	if s.x.ended[side] {
		s.lateFrame(side, at)
		return
	}
	half := &s.half[side]
	s.c.d.raw(s.x, side, b.at, b.raw)
	if half.trailers != nil || !b.end {
		b.odd |= oddTrailers
	}
	if half.trailers == nil {
		half.trailers = b.h.Fields
	}
	s.odd(side, at, b.odd)
	if b.end {
		s.finish(side, at)
	}
}

// odd tells the oddities of a header block of side, each once a message.
func (s *stream) odd(side flow.Side, at time.Time, odd oddities) {
	half := &s.half[side]
	(odd &^ half.odd).each(func(code, text string) { s.x.mark(side, at, where(side), code, text) })
	half.odd |= odd
}

// beginData looks at a DATA frame before its content.
func (s *stream) beginData(side flow.Side, at time.Time) {
	half := &s.half[side]
	switch {
	case s.x.ended[side]:
		s.lateFrame(side, at)
	case !half.headed:
		s.malformed(side, at, "content comes before the head of its message")
	}
}

// lateFrame says, once, that side goes on after the end of its message.
func (s *stream) lateFrame(side flow.Side, at time.Time) {
	if half := &s.half[side]; !half.late {
		half.late = true
		s.x.mark(side, at, where(side), flow.CodeMalformed, "the stream goes on after its end: what comes is left out")
	}
}

// data takes content of side's message.
func (s *stream) data(side flow.Side, at time.Time, p []byte) {
	half := &s.half[side]
	switch {
	case s.ws != nil && !s.x.ended[side]:
		s.ws.data(side, at, p)
		return
	case half.body == nil:
		return
	case side == flow.Client && s.x.req.Protocol == protocolWebSocket && !s.x.decided && !s.spilt:
		s.wait(at, p)
		return
	}
	if half.bodiless && !half.late {
		half.late = true
		s.x.mark(side, at, where(side), flow.CodeMalformed, "an answer has content that may have none")
	}
	half.body.write(at, p)
}

// finish takes END_STREAM of side.
func (s *stream) finish(side flow.Side, at time.Time) {
	half := &s.half[side]
	if s.x.ended[side] {
		return
	}
	if body := half.body; body != nil {
		s.spill(at)
		if half.length >= 0 && half.length != body.size && !(half.bodiless && body.size == 0) {
			s.x.mark(side, at, where(side), flow.CodeMalformed, "Content-Length says "+strconv.FormatInt(half.length, 10)+", but "+strconv.FormatInt(body.size, 10)+" bytes came")
		}
	}
	s.endBody(side, at, false)
	s.over(side, at, nil)
}

// endBody ends the content of side's message, if it has begun. cut says that
// it is not complete.
func (s *stream) endBody(side flow.Side, at time.Time, cut bool) {
	half := &s.half[side]
	if body := half.body; body != nil {
		half.body = nil
		body.end(at, cut, half.trailers)
		body.free()
		half.trailers = nil
	}
}

// over ends the half of side.
func (s *stream) over(side flow.Side, at time.Time, err *flow.Error) {
	if s.ws != nil {
		if s.ws.lost == nil {
			s.ws.lost = err
		}
		s.ws.end(side, at)
		if err = nil; s.x.ended[side.Other()] {
			err = s.ws.err()
		}
	}
	s.x.over(side, at, err)
	if s.x.ended[side.Other()] && !s.gone {
		s.gone = true
		s.c.forget(s)
	}
}

// stop ends the half of side, if it is open, before it is complete.
func (s *stream) stop(side flow.Side, at time.Time, err *flow.Error) {
	if s.x.ended[side] {
		return
	}
	if side == flow.Client && s.declined() {
		err = nil
	}
	if side == flow.Client {
		s.spill(at)
	}
	s.endBody(side, at, true)
	s.over(side, at, err)
}

// declined does what direction.declined does.
func (s *stream) declined() bool {
	body := s.half[flow.Client].body
	return body != nil && body.size == 0 && s.x.decided && fold(s.x.req.Get("Expect"), "100-continue")
}

// abandon ends the stream because of side.
func (s *stream) abandon(side flow.Side, at time.Time, err *flow.Error) {
	s.stop(side, at, err)
	s.stop(side.Other(), at, err)
}

// malformed ends the stream because what side sends on it makes no sense
// (section 8.1.1).
func (s *stream) malformed(side flow.Side, at time.Time, message string) {
	err := &flow.Error{Where: where(side), Code: flow.CodeMalformed, Message: message}
	s.x.mark(side, at, err.Where, err.Code, message)
	s.abandon(side, at, err)
}

// refuse ends the stream because of a GOAWAY that leaves it out.
func (s *stream) refuse(at time.Time) {
	by := flow.Server
	if s.id%2 == 0 {
		by = flow.Client
	}
	away := s.c.away[by]
	name := errorName(away.code)
	s.abandon(by, at, &flow.Error{
		Where: where(by), Code: flow.CodeReset, Detail: name,
		Message: "the " + by.String() + " does not deal with this stream: its GOAWAY (" + name + ") says that stream " + strconv.Itoa(int(away.last)) + " is the last",
	})
}

// free frees what the bodies hold.
func (s *stream) free() {
	for i := range s.half {
		if b := s.half[i].body; b != nil {
			b.abort()
		}
	}
	if s.ws != nil {
		s.ws.free()
	}
}
