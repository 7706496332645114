package wire

import (
	"trace/flow"
)

// maxEvent bounds one event of a stream of events. A longer one is handed over
// as pieces of the body. The longest message of an AWS event stream, 16 MiB
// with 128 KiB of headers, is within it.
const maxEvent = 16<<20 + 256<<10

// maxGathered bounds what is held of the events and messages of one connection,
// of all its streams together. One for which there is no room is treated as one
// that is too long.
const maxGathered = 64 << 20

// fits reports whether n more bytes of events may be held.
func (d *Decoder) fits(n int) bool { return d.gathered+n <= maxGathered }

// A cutter cuts a decoded body into events as it passes, in any split: it
// hands over StreamEvents, and as Body what stands between them. What it hands
// over, joined, is what it was given.
type cutter interface {
	push(p []byte)
	// end hands over what is left. cut says that the framing of the body
	// promised more.
	end(cut bool)
}

// newCutter returns what cuts the body b of the message with the head h, nil if
// nothing does.
func newCutter(b *body, h *flow.Head) cutter {
	g := gatherer{b: b}
	switch h.Framing {
	case flow.FramingSSE:
		return &sseCutter{gatherer: g}
	case flow.FramingNDJSON:
		return &ndjsonCutter{gatherer: g}
	case flow.FramingJSONArray:
		return &jsonArrayCutter{gatherer: g}
	case flow.FramingEventStream:
		return &eventStreamCutter{gatherer: g}
	case flow.FramingMultipart:
		return newMultipartCutter(g, parameter(h.Get("Content-Type"), "boundary"))
	}
	return nil
}

// A gatherer collects the bytes of an event over the pushes in which they come.
type gatherer struct {
	b     *body
	block []byte // of the event, what came in earlier pushes
	long  bool   // the event is too long and goes out in pieces
}

// keep remembers the beginning of an event.
func (g *gatherer) keep(p []byte) {
	if len(p) == 0 {
		return
	}
	d := g.b.x.d
	if !g.long && (len(g.block)+len(p) > maxEvent || !d.fits(len(p))) {
		g.long = true
		d.gathered -= len(g.block)
		g.b.mark(flow.CodeLimit, "an event of the stream is too long: it is kept as part of the body")
		g.between(g.block)
		g.block = nil
	}
	if g.long {
		g.between(p)
		return
	}
	g.block = append(g.block, p...)
	d.gathered += len(p)
}

// whole returns the event that p ends, nil if there is none or it was too long:
// then all of it has been handed over. It is valid until the next keep, and
// done must follow.
func (g *gatherer) whole(p []byte) []byte {
	if g.long || len(g.block) > 0 || len(p) > maxEvent || !g.b.x.d.fits(len(p)) {
		g.keep(p)
		p = g.block
	}
	return p
}

// done forgets the event that was handed over.
func (g *gatherer) done() {
	g.long = false
	g.b.x.d.gathered -= len(g.block)
	if g.block = g.block[:0]; cap(g.block) > 4<<10 {
		g.block = nil
	}
}

// cut hands over the event that p ends.
func (g *gatherer) cut(p []byte) {
	if p = g.whole(p); len(p) > 0 {
		g.b.piece(flow.StreamEvent, p)
	}
	g.done()
}

// drop hands over what was kept as part of the body: it is no event.
func (g *gatherer) drop() {
	g.between(g.block)
	g.done()
}

// between hands over bytes that belong to no event.
func (g *gatherer) between(p []byte) {
	if len(p) > 0 {
		g.b.piece(flow.Body, p)
	}
}
