package wire

import (
	"time"

	"trace/flow"
)

// A protocol decodes a connection that does not speak HTTP/1 (any more). Its
// calls come in the order of those of the Decoder. What it was handed is valid
// during the call.
type protocol interface {
	// data takes the next bytes of side.
	data(side flow.Side, at time.Time, p []byte)
	// end says, once a side, that no more come. Decoder.dirs says how both
	// sides ended.
	end(side flow.Side, at time.Time)
	// close ends what is left, after both sides have ended.
	close(at time.Time)
	// free frees what is held, without a word, also after a panic.
	free()
}

// become leaves HTTP/1: both directions go on in p, what they hold first, in its
// order. It is the one place where another protocol is chosen.
func (d *Decoder) become(at time.Time, p protocol) {
	d.next = p
	var rests [2][]byte
	for i := range d.dirs {
		in := &d.dirs[i]
		rests[i] = in.rest
		in.state, in.rest, in.scan, in.wait, in.msg = (*direction).nextData, nil, 0, false, nil
	}
	first, second := flow.Client, flow.Server
	if len(rests[second]) > 0 && d.dirs[second].since.Before(d.dirs[first].since) {
		first, second = second, first
	}
	d.dirs[first].push(d.dirs[first].since, rests[first])
	d.dirs[second].push(d.dirs[second].since, rests[second])
	for i := range d.dirs {
		if in := &d.dirs[i]; in.ended {
			in.done = false // what its end meant to HTTP/1 is another thing
			in.endNext(at)
		}
	}
}

// nextData takes bytes of the protocol after HTTP/1.
func (in *direction) nextData(at time.Time, p []byte) int {
	in.d.next.data(in.side, at, p)
	return len(p)
}

func (in *direction) endNext(at time.Time) {
	if !in.done {
		in.done = true
		in.d.next.end(in.side, at)
		in.state, in.rest = (*direction).ignore, nil
	}
}

// giveUpNext is how the protocol after HTTP/1 stops to decode a direction: rest
// and what follows goes to the opaque flow. Nobody could look for secrets in
// such bytes, so without Decoder.Secrets they are only counted.
func (in *direction) giveUpNext(at time.Time, reason string, err *flow.Error, rest []byte) {
	in.rest, in.since = nil, at
	in.leave(reason, err)
	in.d.tunnel.coded = true
	in.push(at, rest)
}

// raw hands over bytes of x as they were on the wire.
func (d *Decoder) raw(x *exchange, side flow.Side, at time.Time, p []byte) {
	if d.Secrets && len(p) > 0 {
		d.emit(flow.Event{Kind: flow.Raw, At: at, Flow: x.id, Side: side, Data: p})
	}
}
