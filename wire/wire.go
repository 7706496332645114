// Package wire decodes the plaintext of one connection into flow events.
//
//	d := &wire.Decoder{Conn: conn, Emit: record}
//	d.Data(flow.Client, at, p) // as the bytes pass, in any split
//	d.Data(flow.Server, at, q)
//	d.End(flow.Client, at, flow.FIN)
//	d.End(flow.Server, at, flow.FIN)
//	d.Close(at)
//
// It does no I/O, reads no clock and starts no goroutine: bytes and times come
// in as arguments, events come out before the call returns. It does not keep
// what it was given: Data of an event is a piece of the caller's buffer, or of
// one that is used again after the call.
//
// # Theory of operation
//
// A Decoder has two directions, one per side. Each is a push parser whose
// state is a method that is handed bytes and says how many it took; what it
// cannot understand yet it keeps as rest, bounded by a named limit.
//
//	client: requestHead → content | chunkSize ⇄ chunkContent, chunkEnd → trailers → requestHead
//	server: responseHead → the same, or contentUntilClose → responseHead
//	either: waiting (for the other direction), opaqueData
//
// An exchange joins them. It is opened and numbered by the head of a request,
// stands in a queue until its final answer has passed (RFC 9112 section 9.3:
// answers come in the order of the requests) and ends when both its messages
// are over, whichever was the last. Where one direction can only be understood
// through the other, its bytes wait: after CONNECT or an Upgrade the client's
// wait for the answer; an answer that comes before the head of its request is
// complete waits for that head. So a request is recorded before its answer.
//
// A message body is counted and hashed as it passed, without its framing, and
// handed over decoded: a coroutine runs the decompressors, so that what they
// can give after a push is given before that push returns. Undone are gzip,
// deflate, br and zstd, also upon each other, also as transfer codings; a body
// in another coding, a part (206) and a body that plainly is not what its head
// says are handed over as they passed, with Ended.Encoding "".
//
// Bodies that are streams of events are cut into them. The heads decide
// (Head.Framing), never the content:
//
//	sse              text/event-stream
//	ndjson           application/x-ndjson and its kin, application/json-seq,
//	                 application/json of a watch (?watch=1) of Kubernetes
//	json-array       application/json of a method of Google's that streams
//	aws-eventstream  application/vnd.amazon.eventstream, of both sides
//	multipart        multipart/* with a boundary
//	grpc             gRPC, gRPC-Web, streams of Connect: of both sides
//
// A cutter holds the event that is not complete, at most maxEvent of it. Events
// and what stands between them are, joined, the decoded body. gRPC is the one
// exception: messages that came compressed are replaced by what they say, and
// Ended.Encoding names that as "grpc:gzip", base64 text of gRPC-Web as "base64".
// Its status, wherever it stands, becomes a Mark if it is not OK.
//
// An upgrade to a WebSocket (RFC 6455) does not end its exchange: the heads and
// their empty bodies are followed by a Message for each message and each
// control frame of both sides, and by the End when both directions ended.
//
//	either: header ⇄ payload, message by message
//
// Fragments are put together, masks taken off, and what was deflated under
// permessage-deflate (RFC 7692, as the answer agreed to it) is inflated, in the
// same kind of coroutine as bodies: per direction the last 32 KiB are remembered
// where the agreement has messages build on those before, and nothing where it
// has not. Size and SHA256 are of the whole message as its receiver reads it,
// Data is its first 16 MiB. Faults that cost no more than themselves are a Mark,
// once a direction and kind. A message that cannot be inflated costs itself,
// and, where messages build on each other, those deflated after it: these are
// handed over as they passed, as are those of an unknown extension, but only
// counted unless the record may hold secrets. A frame whose length is
// impossible ends the decoding of its direction. After a Close frame of either
// side nothing is a failure; without one a plain end of the connection is a
// Mark (1006), a reset or an unfinished message an error.
//
// HTTP/2 (RFC 9113) is entered by ALPN, by the client's preface, or by Upgrade:
// h2c, whose request is answered on stream 1. Each direction is a cutter of
// frames that holds no frame, with the HPACK state (RFC 7541) of what it sends:
//
//	either: preface → header → fixed → content, padding → header
//
// Header blocks are decoded as they come. What is too long is skipped, so that
// the table stays right and the next head is whole. A stream is an exchange,
// known from the head of its request until both its messages are over; a
// promised one (PUSH_PROMISE) is marked as pushed. Frames of other streams are
// passed over: late ones, and all of a stream beyond maxStreams. DATA is a body,
// or what a WebSocket sends (RFC 8441). Faults have the reach that section 5.4
// gives them: a stream that makes no sense ends with an error; a frame or header
// block after which nothing is sure makes its direction opaque, ends what was
// open of it, and the other one goes on. RST_STREAM and GOAWAY are errors of the
// exchanges that they end, with the name of their code.
//
// What is not HTTP, or stops to be, goes on as one opaque flow with a reason:
//
//	the connection's own     Conn.Opaque was set: nothing is looked at
//	http2                    said by ALPN, but the client has another preface
//	not_http                 the first bytes are none, or the server spoke first
//	connect, upgrade:NAME    after the answer that switched
//	malformed, limit,        from where a direction could not be followed
//	truncated
//	unsolicited              the server spoke when nothing was asked
//
// After the last two the other direction is still decoded.
//
// Errors are told by their reach. An oddity that does not change what follows
// is a Mark on its exchange. A message whose end cannot be known any more ends
// its exchange with an error, and its direction is opaque from there. A broken
// content coding costs the decoded body only: size and hash go on.
package wire

import (
	"time"

	"trace/flow"
)

// A Decoder turns the bytes of one connection into events. The zero value with
// Conn and Emit set is ready. It is not safe for concurrent use, and Emit must
// not call it.
//
// It does not recover from panics, neither its own nor Emit's. After one, Data
// and End do nothing and Close only frees.
type Decoder struct {
	// Conn is the connection that is decoded; it must be set and not be
	// changed. Its ID, Opaque, Decrypted, Host, Dst, Protocol and the
	// ALPN of its two legs are used.
	Conn *flow.Conn
	// Emit takes the events. Data of an event is valid during the call only.
	Emit func(flow.Event)
	// Limit says how many decoded bytes of a body are to be handed over;
	// negative: all. For a request resp is nil. Nil: all of every body. The
	// rest is counted and hashed, and the body is Truncated.
	Limit func(side flow.Side, req, resp *flow.Head) int64
	// Secrets says that the record may hold secrets. Without it, bytes of
	// an opaque flow in which none could be found are only counted.
	Secrets bool

	dirs  [2]direction
	begun bool
	flows int64  // ordinal of the last exchange
	stage int64  // flows when the HTTP/1 that is spoken now began
	inner bool   // it is spoken inside a tunnel that a CONNECT made
	host  string // where to, if so
	port  int

	queue    []*exchange // without their final answer, oldest first
	queued   int         // bytes of their heads
	gathered int         // bytes of events and messages that are held
	decoding int         // bodies and messages whose coding is being undone
	windows  int         // directions of WebSockets that remember one

	silent *flow.Error // why no more answers can be read; nil while they can

	next   protocol // what is spoken after HTTP/1; nil while it is
	tunnel *tunnel  // the opaque flow; nil while there is none
	inside bool     // in a call; found true by the next one: that call panicked
	closed bool
}

// Data takes the next bytes of side, which passed at the time at. It may be
// given any number of them; p is not kept. There are none after the side's End.
func (d *Decoder) Data(side flow.Side, at time.Time, p []byte) {
	if len(p) == 0 || d.inside || d.closed || d.dirs[side].ended {
		return
	}
	d.inside = true
	d.begin()
	d.dirs[side].push(at, p)
	d.inside = false
}

// End says that no more bytes of side will come, and how that was said.
func (d *Decoder) End(side flow.Side, at time.Time, how flow.How) {
	if d.inside || d.closed {
		return
	}
	d.inside = true
	d.begin()
	d.end(side, at, how)
	d.inside = false
}

// Close ends what is left and frees all that is held. A side that has not
// ended is taken as Stopped. Close may be called again.
func (d *Decoder) Close(at time.Time) {
	if d.closed {
		return
	}
	if !d.inside {
		d.inside = true
		d.begin()
		d.end(flow.Client, at, flow.Stopped)
		d.end(flow.Server, at, flow.Stopped)
		if d.next != nil {
			d.next.close(at)
		}
		if d.tunnel != nil {
			d.tunnel.close(at)
		}
		d.inside = false
	}
	for i := range d.dirs {
		if b := d.dirs[i].body; b != nil {
			b.abort()
		}
		d.dirs[i] = direction{}
	}
	if d.next != nil {
		d.next.free()
	}
	d.closed, d.queue, d.next, d.tunnel = true, nil, nil, nil
}

// begin chooses what the connection is as far as its facts tell.
func (d *Decoder) begin() {
	if d.begun {
		return
	}
	d.begun = true
	client, server := &d.dirs[flow.Client], &d.dirs[flow.Server]
	client.d, client.side, client.state = d, flow.Client, (*direction).requestHead
	server.d, server.side, server.state = d, flow.Server, (*direction).responseHead
	c := d.Conn
	switch {
	case c.Opaque != "":
		d.switchTo(c.Opaque)
	case c.Child.ALPN == "h2" || c.Upstream.ALPN == "h2" || c.Protocol == "http2":
		d.become(time.Time{}, newHTTP2(d))
	}
}

// switchTo makes both directions opaque from the next byte on.
func (d *Decoder) switchTo(reason string) {
	d.dirs[flow.Client].leave(reason, nil)
	d.dirs[flow.Server].leave(reason, nil)
}

// notHTTP is the reason of bytes that begin as no HTTP/1 does.
func (d *Decoder) notHTTP() string {
	if d.inner {
		return "connect"
	}
	return "not_http"
}

// end ends one direction, once.
func (d *Decoder) end(side flow.Side, at time.Time, how flow.How) {
	in := &d.dirs[side]
	if in.ended {
		return
	}
	client, server := &d.dirs[flow.Client], &d.dirs[flow.Server]
	in.ended, in.how = true, how
	in.first = !d.dirs[side.Other()].ended
	if side == flow.Client && client.wait {
		return // what waits is decided by the answer, or by its absence
	}
	if d.next != nil {
		in.endNext(at)
		return
	}
	if server.wait {
		client.giveUp(at, client.fault(flow.CodeTruncated, "the head of the request was not completed"))
	}
	in.over(at)
}

func (d *Decoder) emit(e flow.Event) {
	e.Conn = d.Conn.ID
	d.Emit(e)
}
