package wire

import (
	"strconv"
	"strings"
	"time"

	"trace/flow"
)

// Requests that wait for their answers are bounded in number and in the size
// of their heads. Beyond that the client's direction is no longer decoded.
const (
	maxQueue      = 10000
	maxQueueBytes = 16 << 20
)

// An exchange is a request and its answer.
type exchange struct {
	d     *Decoder
	id    int64
	req   *flow.Head
	size  int // of the request's head
	ended [2]bool
	err   *flow.Error
	// upgrade is the reason of what follows a positive answer; "" if the
	// request asked for nothing but an answer.
	upgrade string
	decided bool // the final head came
	early   int  // informational answers that came
}

// maxInformational bounds the informational answers of one exchange that are
// kept: each is a head, and nothing else bounds them.
const maxInformational = 100

// informational emits e, which has the head of a 1xx answer, unless there were
// too many of them.
func (x *exchange) informational(at time.Time, e flow.Event) bool {
	switch x.early++; {
	case x.early <= maxInformational:
		e.Kind = flow.Informational
		x.d.emit(e)
		return true
	case x.early == maxInformational+1:
		x.mark(flow.Server, at, flow.AtDecode, flow.CodeLimit, "more than "+strconv.Itoa(maxInformational)+" informational answers: the rest is left out")
	}
	return false
}

// open begins the exchange of a request whose head took size bytes.
func (d *Decoder) open(at time.Time, h *flow.Head, size int) *exchange {
	d.flows++
	x := &exchange{d: d, id: d.flows, req: h, size: size}
	switch {
	case h.Method == "CONNECT":
		x.upgrade = "connect"
	case count(h, "Upgrade") > 0:
		x.upgrade = upgradeReason(h)
	}
	d.emit(flow.Event{Kind: flow.Request, At: at, Flow: x.id, Side: flow.Client, Head: h})
	if d.silent != nil {
		x.ended[flow.Server], x.err = true, d.silent
		return x
	}
	d.queue = append(d.queue, x)
	d.queued += size
	return x
}

// upgradeReason names the protocol that h switches to.
func upgradeReason(h *flow.Head) string {
	name, _, _ := strings.Cut(h.Get("Upgrade"), ",")
	if name = strings.ToLower(strings.Trim(name, " \t\r\n")); name == "" {
		return "upgrade"
	}
	return "upgrade:" + name
}

// crowded reports whether no more exchanges may be opened.
func (d *Decoder) crowded() bool { return len(d.queue) >= maxQueue || d.queued >= maxQueueBytes }

// over says that the message of side is over, by err if it failed. The
// exchange ends with its second message.
func (x *exchange) over(side flow.Side, at time.Time, err *flow.Error) {
	if x.ended[side] {
		return
	}
	x.ended[side] = true
	if x.err == nil {
		x.err = err
	}
	if side == flow.Server {
		x.d.dequeue(x)
	}
	if x.ended[side.Other()] {
		x.d.emit(flow.Event{Kind: flow.End, At: at, Flow: x.id, Side: side, Error: x.err})
	}
	if client := &x.d.dirs[flow.Client]; side == flow.Server && client.wait && client.msg == x {
		client.resume(at, (*direction).requestHead)
	}
}

// mark says something about the message of side.
func (x *exchange) mark(side flow.Side, at time.Time, where flow.Where, code, message string) {
	x.d.mark(x.id, side, at, &flow.Error{Where: where, Code: code, Message: message})
}

func (d *Decoder) mark(id int64, side flow.Side, at time.Time, err *flow.Error) {
	d.emit(flow.Event{Kind: flow.Mark, At: at, Flow: id, Side: side, Error: err})
}

// dequeue takes x, usually the oldest, out of the queue.
func (d *Decoder) dequeue(x *exchange) {
	for i, y := range d.queue {
		if y != x {
			continue
		}
		d.queued -= x.size
		d.queue[i] = nil
		switch {
		case len(d.queue) == 1 && cap(d.queue) <= 8:
			d.queue = d.queue[:0] // for the next
		case len(d.queue) == 1:
			d.queue = nil // an idle connection holds nothing
		case i == 0:
			d.queue = d.queue[1:]
		default:
			d.queue = append(d.queue[:i], d.queue[i+1:]...)
		}
		break
	}
}

// mute ends the answers of all exchanges, those to come included, because none
// can be read any more.
func (d *Decoder) mute(at time.Time, err *flow.Error) {
	if d.silent != nil {
		return
	}
	d.silent = err
	for len(d.queue) > 0 {
		d.queue[0].over(flow.Server, at, err)
	}
}

// where says whose fault it is when side breaks the protocol.
func where(side flow.Side) flow.Where {
	if side == flow.Client {
		return flow.AtClient
	}
	return flow.AtUpstream
}
