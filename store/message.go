package store

import (
	"bytes"
	"time"
	"unicode/utf8"

	"trace/flow"
)

// Opcodes of a websocket (RFC 6455 section 5.2).
const (
	opBinary  = 2
	opControl = 8 // and above
)

// isTalk reports whether a message of a websocket is text, as which some send
// their binary messages too.
func isTalk(e *flow.Event) bool {
	switch {
	case e.Opcode >= opControl:
		return false
	case e.Opcode == opBinary:
		return utf8.Valid(e.Data) && bytes.IndexByte(e.Data, 0) < 0
	}
	return true
}

// message takes in a message of a websocket or a piece of opaque bytes.
func (w *writer) message(l *live, e *flow.Event) {
	p := &piece{idx: l.messages.ord, at: micros(e.At), flags: isMessage | sideFlag(e.Side), opcode: e.Opcode, size: e.Size}
	if e.Compressed {
		p.flags |= isDeflated
	}
	if e.HasSum {
		p.due = bytes.Clone(e.SHA256[:])
	}
	if l.x.Kind == flow.KindWebSocket {
		w.count(l, e)
	}
	l.messages.part = partMessages
	w.push(&l.messages, p)
	if l.x.Kind == flow.KindWebSocket && isTalk(e) {
		w.talk(l, p, e)
	} else {
		w.aside(l, p, e)
	}
	w.relieve(l, &l.messages, len(e.Data))
}

// countEvery is how often the row of an open websocket tells how many messages
// there were.
const countEvery = int64(time.Second / time.Microsecond)

func (w *writer) count(l *live, e *flow.Event) {
	t := &l.x.Tally[e.Side]
	t.Messages++
	t.Bytes += e.Size
	if at := micros(e.At); at-l.counted >= countEvery {
		l.counted = at
		w.touch(l)
	}
}

// talk redacts a message of a websocket as part of what its side says: a
// secret may go on in the next.
func (w *writer) talk(l *live, p *piece, e *flow.Event) {
	gate := l.messages.gates[e.Side]
	if gate == nil {
		gate = w.gate.messages()
		l.messages.gates[e.Side] = gate
	}
	p.flags |= isPartial
	w.outs(l, &l.messages, e.Side, gate.event(p, e.Data))
	if p.seq == 0 {
		w.row(l, p)
	}
}

// aside redacts what is no part of a conversation in messages: a control
// frame by itself, bytes of an opaque connection as one text.
func (w *writer) aside(l *live, p *piece, e *flow.Event) {
	var out []byte
	n := 0
	if l.x.Kind == flow.KindTCP {
		if l.opaque[e.Side] == nil {
			l.opaque[e.Side] = w.gate.stream("")
		}
		out, n = l.opaque[e.Side].write(e.Data)
	} else {
		out, n = w.gate.binary(e.Data)
	}
	p.data = bytes.Clone(out)
	l.messages.bytes += len(p.data)
	if n > 0 {
		l.x.Redacted += n
		w.touch(l)
	} else if len(out) == len(e.Data) {
		p.sum = p.due
	}
	w.row(l, p)
}

// finishMessages writes what redaction still held, and moves all messages out
// of tail.
func (w *writer) finishMessages(l *live, at int64) {
	for side, sg := range l.opaque {
		out, n := sg.close()
		if len(out) > 0 {
			p := &piece{idx: l.messages.ord, at: at, flags: isMessage | sideFlag(flow.Side(side)), data: bytes.Clone(out)}
			w.push(&l.messages, p)
			w.row(l, p)
		}
		l.x.Redacted += n
		l.opaque[side] = nil
	}
	for side, gate := range l.messages.gates {
		if gate != nil {
			w.outs(l, &l.messages, flow.Side(side), gate.close())
		}
	}
	for _, p := range l.messages.ps {
		p.flags &^= isPartial
	}
	w.compact(l, &l.messages)
}

func sideFlag(s flow.Side) byte {
	if s == flow.Server {
		return fromServer
	}
	return 0
}
