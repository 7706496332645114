package wire

import (
	"crypto/sha256"
	"hash"
	"slices"
	"strings"
	"sync"
	"time"

	"trace/flow"
)

// Decoding without a limit of the caller's stops where a body can only be a
// bomb: past bombFloor once it has grown bombRatio-fold, and at bombCeiling.
const (
	bombFloor   = 64 << 20
	bombRatio   = 200
	bombCeiling = 4 << 30
)

// maxDecoding bounds the bodies of one connection whose codings are undone at a
// time: each holds a window. Others are taken as they passed.
const maxDecoding = 256

// maxCodings bounds how many content codings lie upon each other.
const maxCodings = 4

// emptySum is the SHA-256 of nothing.
var emptySum = sha256.Sum256(nil)

// A body is the content of one message while it passes: it is counted and
// hashed as it is, and handed over decoded.
type body struct {
	x    *exchange
	side flow.Side
	at   time.Time // of the push that is worked on

	size int64
	sum  hash.Hash // nil until the first byte
	hash hash.Hash // for sum; of a body before, or nil

	names  []string // codings in the order in which they were applied; nil: none is undone
	lead   []byte   // first bytes, until they show that the last coding is as named
	coding *coding  // nil until then
	broken bool     // no more is decoded
	whole  bool     // because the coded data was complete

	framed    int64 // bytes handed over as Raw
	limit     int64 // decoded bytes that are handed over at most; < 0: all
	decoded   int64
	kept      int64
	truncated bool

	cutter cutter      // nil unless a stream of events
	grpc   *grpcCutter // instead, as it changes what is handed over
	events int64
}

// bodies are used again: there are two to each exchange.
var bodies = sync.Pool{New: func() any { return new(body) }}

// free gives up a body that has ended. Nobody may refer to it any more.
func (b *body) free() {
	*b = body{hash: b.hash}
	bodies.Put(b)
}

// newBody begins the body of side's message in x. transfer are the transfer
// codings beneath chunked. h is nil if the body is known to be empty.
func newBody(x *exchange, side flow.Side, h *flow.Head, transfer []string) *body {
	b := bodies.Get().(*body)
	*b = body{x: x, side: side, limit: -1, hash: b.hash}
	if h == nil {
		return b
	}
	var resp *flow.Head
	if side == flow.Server {
		resp = h
	}
	if x.d.Limit != nil {
		b.limit = x.d.Limit(side, x.req, resp)
	}
	b.names = codings(h, transfer)
	if h.Framing != "" && !unreadable(h, transfer) {
		if h.Framing == flow.FramingGRPC {
			b.grpc = newGRPCCutter(b, h)
		}
		b.cutter = newCutter(b, h)
	}
	return b
}

// codings returns the codings of a message that can be undone, in the order of
// application. If one of them is unknown the body is taken as it passed, and
// so is a part of one (206), which need not begin where decoding could.
func codings(h *flow.Head, transfer []string) []string {
	if len(transfer) == 0 && count(h, "Content-Encoding") == 0 || h.Status == 206 {
		return nil
	}
	names := slices.DeleteFunc(tokens(h, "Content-Encoding"), func(s string) bool { return s == "identity" })
	names = append(names, transfer...)
	for i, s := range names {
		names[i] = strings.TrimPrefix(s, "x-") // x-gzip: RFC 9110 section 8.4.1.3
		if _, known := openers[names[i]]; !known {
			return nil
		}
	}
	if len(names) == 0 || len(names) > maxCodings {
		return nil
	}
	return names
}

// unreadable reports whether the body of h is coded in a way that is not undone.
func unreadable(h *flow.Head, transfer []string) bool {
	if codings(h, transfer) != nil {
		return false
	}
	return len(transfer) > 0 || slices.ContainsFunc(tokens(h, "Content-Encoding"), func(s string) bool { return s != "identity" })
}

// write takes bytes of the body as they passed.
func (b *body) write(at time.Time, p []byte) {
	b.at = at
	if b.sum == nil {
		if b.hash == nil {
			b.hash = sha256.New()
		}
		b.hash.Reset()
		b.sum = b.hash
	}
	b.sum.Write(p)
	b.size += int64(len(p))
	switch {
	case b.names == nil:
		b.deliver(p)
	case b.coding != nil:
		b.feed(p)
	default:
		b.lead = append(b.lead, p...)
		b.begin(false)
	}
}

// begin starts decoding once the first bytes show the coding that was named,
// and gives that up when they show that it is not: then the body is taken as
// it passed. last says that no more bytes come.
func (b *body) begin(last bool) {
	look := resembles(b.names[len(b.names)-1], b.lead)
	if look == more && !last {
		return
	}
	lead := b.lead
	b.lead = nil
	switch {
	case look == done && b.x.d.decoding < maxDecoding:
		b.x.d.decoding++
		b.coding = newCoding(b.names, b.deliver)
		b.feed(lead)
		return
	case look == done:
		b.mark(flow.CodeLimit, "too many bodies are being decoded: this one is kept as it passed")
	default:
		b.mark(flow.CodeMalformed, "the body is not "+strings.Join(b.names, ", ")+", as its head says: kept as it passed")
	}
	b.names = nil
	b.deliver(lead)
}

// feed gives p to the decompressors. What they make of it comes to deliver.
func (b *body) feed(p []byte) {
	switch {
	case !b.broken:
		if b.coding.feed(p) {
			b.check()
		}
	case b.whole:
		b.trailing()
	}
}

// check looks why decoding came to its end.
func (b *body) check() {
	b.broken = true
	switch err := b.coding.err; err {
	case nil:
		b.whole = true
		if b.coding.trailing() {
			b.trailing()
		}
	case errTrailing:
		b.trailing()
	case errEnough, errBrotliEnd: // deliver said why; nothing to say
	case errBomb:
		b.bomb()
	default:
		b.truncated = true
		b.mark(flow.CodeMalformed, "the "+b.encoding()+" data is broken: "+err.Error())
	}
}

// trailing says, once, that there is more than the coded data.
func (b *body) trailing() {
	b.whole = false
	b.mark(flow.CodeMalformed, "bytes follow the end of the "+b.encoding()+" data")
}

func (b *body) encoding() string { return strings.Join(b.names, ", ") }

// deliver takes decoded bytes and says whether more are wanted.
func (b *body) deliver(p []byte) error {
	if b.grpc != nil {
		return b.messages(p)
	}
	if b.truncated {
		b.decoded = b.size // not coded: a coding would have ended
		return errEnough
	}
	if b.limit >= 0 && int64(len(p)) > b.limit-b.kept {
		p = p[:b.limit-b.kept]
		b.truncated = true
	}
	b.decoded += int64(len(p))
	b.kept += int64(len(p))
	switch {
	case len(p) == 0:
	case b.cutter != nil:
		b.cutter.push(p)
	default:
		b.piece(flow.Body, p)
	}
	switch {
	case b.truncated && b.names == nil:
		b.decoded = b.size
		return errEnough
	case b.truncated:
		return errEnough
	}
	return nil
}

// messages takes decoded bytes of a body that counts for itself.
func (b *body) messages(p []byte) error {
	b.grpc.push(p)
	if b.truncated && b.names != nil {
		return errEnough
	}
	return nil
}

// isBomb reports whether a body of size bytes that has become decoded bytes
// can be nothing else.
func isBomb(decoded, size int64) bool {
	return decoded > bombCeiling || decoded > bombFloor && decoded/bombRatio > size
}

func (b *body) bomb() {
	b.truncated = true
	b.mark(flow.CodeLimit, "the body grows beyond measure when decoded: the rest is left out")
}

// piece hands over a piece of the decoded body.
func (b *body) piece(kind flow.Kind, p []byte) {
	if kind == flow.StreamEvent {
		b.events++
	}
	b.x.d.emit(flow.Event{Kind: kind, At: b.at, Flow: b.x.id, Side: b.side, Data: p})
}

func (b *body) mark(code, message string) {
	at := where(b.side)
	if code == flow.CodeLimit {
		at = flow.AtDecode
	}
	b.x.mark(b.side, b.at, at, code, message)
}

// end ends the body: what the decompressors still hold comes out, then BodyEnd.
// cut says that the framing promised more.
func (b *body) end(at time.Time, cut bool, trailers []flow.Field) {
	b.at = at
	if b.names != nil && b.size > 0 {
		if b.coding == nil {
			b.begin(true)
		}
		if b.coding != nil && !b.broken {
			b.coding.end()
			if !cut || b.coding.err == errBomb {
				b.check() // else no wonder if it is incomplete: Cut says so
			}
		}
	}
	switch {
	case b.grpc != nil:
		b.grpc.end(cut)
		trailers = b.grpc.conclude(trailers)
	case b.cutter != nil:
		b.cutter.end(cut)
	}
	e := &flow.Ended{
		Size: b.size, SHA256: emptySum, Decoded: b.decoded, Kept: b.kept,
		Truncated: b.truncated, Cut: cut, Events: b.events, Trailers: trailers,
	}
	if b.sum != nil {
		b.sum.Sum(e.SHA256[:0])
	}
	if b.coding != nil {
		e.Encoding = b.encoding()
	}
	if b.grpc != nil && len(b.grpc.coded) > 0 {
		e.Encoding = strings.Join(append(slices.Clone(b.names), b.grpc.coded...), ", ")
	}
	b.x.d.emit(flow.Event{Kind: flow.BodyEnd, At: at, Flow: b.x.id, Side: b.side, Ended: e})
	b.abort()
}

// clip returns as much of p, bytes of the body with its framing, as may be
// handed over as Raw: the limit holds for these too.
func (b *body) clip(p []byte) []byte {
	if b.limit >= 0 {
		p = p[:min(int64(len(p)), max(0, b.limit-b.framed))]
	}
	b.framed += int64(len(p))
	return p
}

// abort frees what the body holds, without a word.
func (b *body) abort() {
	if b.coding != nil {
		b.coding.stop()
		b.coding = nil
		b.x.d.decoding--
	}
}
