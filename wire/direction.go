package wire

import (
	"time"

	"trace/flow"
)

// A state takes some of p, at least one byte unless it changed the state, and
// returns how many.
type state func(in *direction, at time.Time, p []byte) int

// A direction is the parser of what one side sends.
type direction struct {
	d     *Decoder
	side  flow.Side
	state state

	rest  []byte    // not understood yet
	since time.Time // when the first byte of rest passed
	scan  int       // how far rest was searched
	lined bool      // rest begins with a request line
	wait  bool      // rest waits for the other direction

	msg        *exchange // whose message passes, or whose answer is waited for
	body       *body     // of that message; nil between messages
	left       int64     // bytes of content or chunk to come
	untilClose bool      // the end of the direction ends the body

	ended bool // no more bytes come
	how   flow.How
	first bool // ended before the other side did
	done  bool // what its end means was worked out
}

// push hands p to the states, whole.
func (in *direction) push(at time.Time, p []byte) {
	for len(p) > 0 {
		p = p[in.state(in, at, p):]
	}
}

// endMessage ends the message that passes and waits for the next.
func (in *direction) endMessage(at time.Time, trailers []flow.Field) {
	x := in.msg
	in.endBody(at, false, trailers)
	in.state = (*direction).requestHead
	if in.side == flow.Server {
		in.state = (*direction).responseHead
	} else if x.upgrade != "" && !x.decided && !x.ended[flow.Server] {
		in.wait, in.state = true, (*direction).waiting
	}
	if !in.wait {
		in.msg = nil // an idle connection holds nothing
	}
	x.over(in.side, at, nil)
}

// endBody ends the body that passes.
func (in *direction) endBody(at time.Time, cut bool, trailers []flow.Field) {
	b := in.body
	in.body, in.left, in.rest, in.scan = nil, 0, nil, 0
	b.end(at, cut, trailers)
	b.free()
}

// fault is an error of what this side sent.
func (in *direction) fault(code, message string) *flow.Error {
	e := &flow.Error{Where: where(in.side), Code: code, Message: message}
	if code == flow.CodeLimit {
		e.Where = flow.AtDecode
	}
	return e
}

// fail marks the message that passes and abandons it.
func (in *direction) fail(at time.Time, code, why string) {
	err := in.fault(code, why)
	in.d.mark(in.msg.id, in.side, at, err)
	in.abandon(at, err)
}

// abandon ends the message that passes because its end cannot be found, and
// leaves HTTP with what is not understood.
func (in *direction) abandon(at time.Time, err *flow.Error) {
	rest := in.rest
	if in.body != nil {
		in.endBody(at, true, nil)
	}
	in.msg.over(in.side, at, err)
	in.msg = nil
	if in.side == flow.Server {
		in.d.mute(at, err)
	}
	if in.rest = rest; in.ended {
		in.rest = nil
	}
	in.leave(err.Code, nil)
}

// leave ends the decoding of this direction. What it holds is the first of its
// opaque bytes. err, if there is one, becomes a Mark of theirs.
func (in *direction) leave(reason string, err *flow.Error) {
	switch t := in.d.tunnel; {
	case t == nil:
		in.d.tunnel = &tunnel{d: in.d, reason: reason}
	case t.id == 0:
		t.reason = reason
	}
	if err != nil {
		in.d.tunnel.note = err
	}
	rest := in.rest
	in.state, in.rest, in.scan, in.wait = (*direction).opaqueData, nil, 0, false
	in.push(in.since, rest)
}

// waiting keeps bytes that the other direction must explain.
func (in *direction) waiting(at time.Time, p []byte) int {
	if len(in.rest) == 0 {
		in.since = at
	}
	n := min(len(p), maxWait-len(in.rest))
	in.rest = append(in.rest, p[:n]...)
	switch {
	case in.side == flow.Server && in.d.flows == in.d.stage && sniffSettings(in.rest) != invalid && len(in.rest) < maxWait:
		// The server may speak first in HTTP/2.
	case in.side == flow.Server && (sniffAnswer(in.rest[blanks(in.rest):]) == invalid || in.d.flows == in.d.stage && !in.d.dirs[flow.Client].asking()):
		if in.d.flows == in.d.stage {
			in.d.switchTo(in.d.notHTTP())
		} else {
			in.unsolicited(at)
		}
	case len(in.rest) < maxWait:
	case in.side == flow.Server:
		in.d.dirs[flow.Client].giveUp(at, in.fault(flow.CodeLimit, "the answer to an unfinished request was too long to wait for its rest"))
	default:
		in.leave(in.msg.upgrade, nil)
	}
	return n
}

// resume goes on in st with what waited.
func (in *direction) resume(at time.Time, st state) {
	if !in.wait {
		return
	}
	rest := in.rest
	in.wait, in.state, in.msg, in.rest, in.scan = false, st, nil, nil, 0
	in.push(in.since, rest)
	if in.ended {
		in.over(at)
	}
}

// over works out what the end of the direction means, once.
func (in *direction) over(at time.Time) {
	if in.done || in.wait {
		return
	}
	in.done = true
	clean := in.how == flow.FIN || in.how == flow.CloseNotify
	switch {
	case in.body != nil && in.untilClose && clean:
		if in.how == flow.FIN && in.d.Conn.Decrypted {
			in.msg.mark(in.side, at, where(in.side), flow.CodeTruncated, "the body ends with the connection, which closed without close_notify: it may have been cut")
		}
		in.endMessage(at, nil)
	case in.body != nil && in.declined():
		in.endBody(at, true, nil)
		in.msg.over(in.side, at, nil)
	case in.body != nil:
		in.abandon(at, in.cut())
	case blanks(in.rest) == len(in.rest):
	case in.side == flow.Client:
		in.giveUp(at, in.cut())
	default:
		in.partial(at, in.cut())
	}
	if in.side == flow.Server {
		in.d.mute(at, in.cut())
	}
	in.state, in.rest = (*direction).ignore, nil
}

// declined reports whether the client keeps its body back after a final answer
// that came instead of 100 Continue, as it may (RFC 9110 section 10.1.1).
func (in *direction) declined() bool {
	return in.side == flow.Client && in.body.size == 0 && in.msg.decided && fold(in.msg.req.Get("Expect"), "100-continue")
}

// ignore takes bytes that come after the end.
func (in *direction) ignore(_ time.Time, p []byte) int { return len(p) }

// cut says why the message that passes, or that is awaited, stays incomplete.
// The side that ended first is the one to blame.
func (in *direction) cut() *flow.Error {
	if in.side == flow.Server {
		return in.cutBefore("the answer was complete")
	}
	return in.cutBefore("the request was complete")
}

// cutBefore says why what did not happen.
func (in *direction) cutBefore(what string) *flow.Error {
	by, other := in, &in.d.dirs[in.side.Other()]
	if !in.first {
		by = other
	}
	e := &flow.Error{Where: where(by.side), Code: flow.CodeTruncated}
	switch {
	case in.how == flow.Stopped || by.how == flow.Stopped:
		e.Where, e.Message = flow.AtCapture, "recording ended before "+what
	case by.how == flow.Reset || in.how == flow.Reset:
		e.Code, e.Message = flow.CodeReset, "the connection was reset by the "+by.side.String()+" before "+what
	case by.how == flow.Failed:
		e.Message = "the connection to the " + by.side.String() + " failed before " + what
	default:
		e.Message = "the " + by.side.String() + " closed the connection before " + what
	}
	return e
}
