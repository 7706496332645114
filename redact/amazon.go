package redact

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// A message of an AWS event stream: the lengths of all of it and of its
// headers, a checksum of these, headers, payload, a checksum of all before it.
const (
	amazonPrelude = 12
	amazonSum     = 4
)

// amazonBytes and amazonText are the types of headers whose values stand
// behind a length of two bytes.
const (
	amazonBytes = 6
	amazonText  = 7
)

// amazonSizes are the lengths of the values of all types.
var amazonSizes = [...]int{0, 0, 1, 2, 4, 8, amazonBytes: -1, amazonText: -1, 8: 8, 9: 16}

// frameEvent returns a message with these headers.
func frameEvent(headers, payload []byte) []byte {
	n := amazonPrelude + len(headers) + len(payload) + amazonSum
	b := make([]byte, 0, n)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint32(b, uint32(len(headers)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	b = append(append(b, headers...), payload...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// splitEvent returns the parts of a message.
func splitEvent(b []byte) (headers, payload []byte, ok bool) {
	if len(b) < amazonPrelude+amazonSum || uint64(binary.BigEndian.Uint32(b)) != uint64(len(b)) {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-amazonPrelude-amazonSum) {
		return nil, nil, false
	}
	b = b[amazonPrelude : len(b)-amazonSum]
	return b[:n], b[n:], true
}

// An amazonOuter is what stands around the text of a message: the headers and,
// where the text came as base64 in JSON, that JSON.
type amazonOuter struct {
	headers       []byte // with what was replaced in them; nil: as they came
	coded         bool
	from, to      int    // of the base64 in the payload
	before, after []span // of the payload before from, and from to on
}

func (o *amazonOuter) edited() bool {
	return o.headers != nil || len(o.before)+len(o.after) > 0
}

func (o *amazonOuter) wrap(whole, text []byte) []byte {
	headers, payload, _ := splitEvent(whole)
	if o.headers != nil {
		headers = o.headers
	}
	if o.coded {
		b, _ := apply(payload[:o.from], o.before)
		b = base64.StdEncoding.AppendEncode(slices.Clone(b), text)
		rest, _ := apply(payload[o.to:], o.after)
		text = append(b, rest...)
	}
	return frameEvent(headers, text)
}

// amazon judges a message: its headers, and its payload as text that others
// may continue.
func (e *Events) amazon(rec *record) {
	headers, payload, ok := splitEvent(rec.raw)
	if !ok {
		e.line(rec)
		return
	}
	o := &amazonOuter{}
	kind, media := e.amazonHeaders(o, headers)
	rec.inside(o, payload)
	switch {
	case media:
		e.judged(rec, &text{n: len(payload), held: -1}, e.r.blob(payload))
		return
	case looksJSON(payload):
		o.find(payload)
	}
	if o.coded {
		// What is judged here has nothing to do with the text: it is not told
		// of spans in it.
		for _, s := range e.r.json(payload) {
			switch {
			case s.end <= o.from:
				o.before = append(o.before, s)
			case s.start >= o.to:
				s.start, s.end = s.start-o.to, s.end-o.to
				o.after = append(o.after, s)
			}
		}
		rec.raw, _ = base64.StdEncoding.AppendDecode(nil, payload[o.from:o.to])
	}
	if len(rec.raw) > 0 {
		e.data(rec, rec.raw)
	}
	if kind == "contentBlockStop" || kind == "messageStop" {
		e.flush("") // Converse says its types in headers
	}
}

// amazonHeaders judges headers, of which it returns the type of the event and
// whether the payload is of pictures and the like.
func (e *Events) amazonHeaders(o *amazonOuter, b []byte) (kind string, media bool) {
	var out []byte
	from := 0 // up to here b is in out
	for at := 0; at < len(b); {
		name := at + 1
		at = name + int(b[at])
		if at >= len(b) || int(b[at]) >= len(amazonSizes) {
			break
		}
		size := amazonSizes[b[at]]
		at++
		if size >= 0 {
			at += size
			continue
		}
		if at+2 > len(b) {
			break
		}
		v := at + 2
		at = v + int(binary.BigEndian.Uint16(b[v-2:]))
		if at > len(b) {
			break
		}
		key, value := string(b[name:v-3]), string(b[v:at])
		switch key {
		case ":event-type":
			kind = value
		case ":content-type":
			t, _ := splitType(value)
			media = isMedia(t)
		}
		if s, n := e.r.field(key, value); n > 0 {
			out = append(out, b[from:v-2]...)
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(s))), s...)
			from = at
		}
	}
	if from > 0 {
		o.headers = append(out, b[from:]...)
	}
	return kind, media
}

// find looks in a JSON payload for the member "bytes", in which Bedrock sends
// JSON as base64.
func (o *amazonOuter) find(payload []byte) {
	depth, name := 0, false
	for l := (lexer{b: payload}); ; {
		switch l.next() {
		case tokenEnd, tokenBad, tokenCut:
			return
		case tokenPunct:
			switch payload[l.from] {
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			case ',':
				name = false
			}
		case tokenString:
			v := payload[l.from:l.to]
			if name && depth == 1 {
				p, err := base64.StdEncoding.DecodeString(string(v))
				if err == nil && looksJSON(p) {
					o.coded, o.from, o.to = true, l.from, l.to
				}
				return
			}
			name = depth == 1 && string(v) == "bytes"
		}
	}
}
