package redact

import "trace/flow"

// A framing says how an event is read: where in it stands the text that is
// judged, and what else must change with it.
type framing uint8

const (
	block        framing = iota // server-sent events: the data lines of a block
	values                      // JSON values, and what stands between them
	lines                       // JSON values, or text
	amazon                      // messages of an AWS event stream
	messages                    // length-prefixed messages of gRPC
	parts                       // parts of a multipart body
	jsonMessages                // as messages, of Connect with JSON
)

// EventsOf returns the state for one stream of events of that framing, one of
// the Framing constants of package flow; for one that it does not know, of
// texts. contentType is that of the body. What stands between two events may
// be given to Event as well.
func (r *Redactor) EventsOf(name, contentType string) *Events {
	f := lines
	switch name {
	case flow.FramingSSE:
		f = block
	case flow.FramingEventStream:
		f = amazon
	case flow.FramingGRPC:
		f = messages
		if t, _ := splitType(contentType); hasSuffix([]byte(t), "json") {
			f = jsonMessages
		}
	case flow.FramingMultipart:
		f = parts
	}
	return r.events(f)
}

// Messages returns the state for the text messages of one side of a websocket,
// each of which is an event.
func (r *Redactor) Messages() *Events { return r.events(lines) }

// withheld is what stands for an event on which the gate panicked: one that
// can be read as its framing demands.
func (f framing) withheld() []byte {
	switch f {
	case block:
		return []byte("data: " + Withheld + "\n\n")
	case values, lines:
		return []byte(`"` + Withheld + "\"\n")
	case amazon:
		return frameEvent(nil, []byte(`"`+Withheld+`"`))
	case messages:
		return frameMessage(0, append([]byte{1<<3 | protoBytes, byte(len(Withheld))}, Withheld...))
	case jsonMessages:
		return frameMessage(0, []byte(`"`+Withheld+`"`))
	}
	return []byte(Withheld + "\r\n")
}

// An envelope is what the text of an event was taken out of, where lengths or
// checksums depend on it.
type envelope interface {
	// edited reports whether something outside of the text was replaced.
	edited() bool
	// wrap returns whole, the event as it came, with text in place of its own.
	wrap(whole, text []byte) []byte
}

// build returns the event with spans replaced, and how many placeholders it
// wrote.
func (r *record) build(spans []span) (out []byte, n int) {
	if r.tree != nil {
		out, n = r.tree.build(nil, r.raw, spans)
	} else {
		out, n = apply(r.raw, spans)
	}
	switch {
	case r.outer == nil:
		return out, n
	case len(spans) == 0 && !r.outer.edited():
		return r.whole, 0
	case r.outer.edited():
		n++
	}
	return r.outer.wrap(r.whole, out), n
}

// read judges an event as its framing demands.
func (e *Events) read(rec *record) {
	switch e.framing {
	case block:
		switch data := e.lines(rec); {
		case len(data) == 0:
		case string(data) == "[DONE]":
			e.flush("")
		default:
			e.data(rec, data)
		}
	case values:
		if looksJSON(rec.raw) {
			e.data(rec, rec.raw)
		} else if len(rec.raw) >= minText {
			e.judged(rec, &text{n: len(rec.raw), held: -1}, e.r.text(rec.raw, false))
		}
	case lines:
		e.line(rec)
	case amazon:
		e.amazon(rec)
	case messages, jsonMessages:
		e.message(rec)
	case parts:
		e.part(rec)
	}
}

// line judges a JSON value or text, with the line end and the record separator
// (RFC 7464) that may stand around it.
func (e *Events) line(rec *record) {
	data := rec.raw
	if len(data) > 0 && data[0] == 0x1e {
		rec.base, data = 1, data[1:]
	}
	if len(data) > 0 {
		e.data(rec, data)
	}
}

// inside makes text what is judged of rec, which came in an envelope.
func (rec *record) inside(o envelope, text []byte) {
	rec.whole, rec.raw, rec.outer = rec.raw, text, o
}
