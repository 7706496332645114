package redact

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// The wire types of protobuf.
const (
	protoVarint  = 0
	protoFixed64 = 1
	protoBytes   = 2
	protoGroup   = 3
	protoEnd     = 4
	protoFixed32 = 5
)

// Limits of what is read as a protobuf message. Beyond, bytes are just bytes.
const (
	maxProtoDepth = 32
	maxProtoNodes = 1 << 16 // of one message
	maxProtoField = 1<<29 - 1
)

// A protoNode is a message, or a field that stands behind its length. Nobody
// knows the schema: what reads as a message is taken for one.
type protoNode struct {
	field    int // its number
	head     int // where its length stands
	from, to int
	isText   bool
	kids     []protoNode // the fields behind a length that stand in it
}

// protoReader reads one message.
type protoReader struct {
	b    []byte
	left int // nodes
}

// parseProto reads b as a message, and reports whether it is one.
func parseProto(b []byte) (*protoNode, bool) {
	r := protoReader{b: b, left: maxProtoNodes}
	n := &protoNode{to: len(b)}
	var ok bool
	n.kids, ok = r.message(0, len(b), 0)
	return n, ok && r.left > 0
}

// message reads the fields of the message b[at:end].
func (r *protoReader) message(at, end, depth int) (kids []protoNode, ok bool) {
	var groups []uint64
	for at < end {
		tag, n := binary.Uvarint(r.b[at:end])
		if n <= 0 || tag>>3 == 0 || tag>>3 > maxProtoField {
			return nil, false
		}
		at += n
		switch tag & 7 {
		case protoVarint:
			if _, n = binary.Uvarint(r.b[at:end]); n <= 0 {
				return nil, false
			}
			at += n
		case protoFixed64:
			at += 8
		case protoFixed32:
			at += 4
		case protoGroup:
			if len(groups) == maxProtoDepth {
				return nil, false
			}
			groups = append(groups, tag>>3)
		case protoEnd:
			if len(groups) == 0 || groups[len(groups)-1] != tag>>3 {
				return nil, false
			}
			groups = groups[:len(groups)-1]
		case protoBytes:
			size, n := binary.Uvarint(r.b[at:end])
			if n <= 0 || size > uint64(end-at-n) {
				return nil, false
			}
			kids = append(kids, r.field(int(tag>>3), at, at+n, at+n+int(size), depth))
			at += n + int(size)
		default:
			return nil, false
		}
	}
	return kids, at == end && len(groups) == 0
}

// field looks what a field b[from:to] may be.
func (r *protoReader) field(number, head, from, to, depth int) protoNode {
	n := protoNode{field: number, head: head, from: from, to: to}
	r.left--
	n.isText = isText(r.b[from:to])
	if depth < maxProtoDepth && r.left > 0 && to > from {
		if kids, ok := r.message(from, to, depth+1); ok {
			n.kids = kids
		}
	}
	return n
}

// isText reports whether p is UTF-8 without control characters.
func isText(p []byte) bool {
	for _, c := range p {
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return utf8.Valid(p)
}

// build appends the node's bytes with spans, which lie in them, replaced and
// the lengths around each made right, and returns how many placeholders it
// wrote.
func (n *protoNode) build(out, b []byte, spans []span) ([]byte, int) {
	if len(spans) == 0 {
		return append(out, b[n.from:n.to]...), 0
	}
	if !n.holds(spans) {
		spans = append([]span(nil), spans...)
		for i := range spans {
			spans[i].start -= n.from
			spans[i].end -= n.from
		}
		p, count := apply(b[n.from:n.to], spans)
		return append(out, p...), count
	}
	at, count := n.from, 0
	for i := range n.kids {
		k := &n.kids[i]
		mine := 0
		for mine < len(spans) && spans[mine].start < k.to {
			mine++
		}
		if mine == 0 {
			continue
		}
		out = append(out, b[at:k.head]...)
		p, m := k.build(nil, b, spans[:mine])
		out = append(binary.AppendUvarint(out, uint64(len(p))), p...)
		at, count, spans = k.to, count+m, spans[mine:]
	}
	return append(out, b[at:n.to]...), count
}

// holds reports whether each of spans lies within one of the node's kids.
func (n *protoNode) holds(spans []span) bool {
	i := 0
	for _, s := range spans {
		for i < len(n.kids) && n.kids[i].to < s.end {
			i++
		}
		if i == len(n.kids) || s.start < n.kids[i].from {
			return false
		}
	}
	return true
}

// messagePrefix is the length of what stands before a message of gRPC: flags,
// and the length as four bytes.
const messagePrefix = 5

// frameMessage returns a message of gRPC.
func frameMessage(flags byte, payload []byte) []byte {
	b := make([]byte, messagePrefix, messagePrefix+len(payload))
	b[0] = flags
	binary.BigEndian.PutUint32(b[1:], uint32(len(payload)))
	return append(b, payload...)
}

// messageOuter is the prefix of a message.
type messageOuter struct{}

func (messageOuter) edited() bool { return false }

func (messageOuter) wrap(whole, text []byte) []byte { return frameMessage(whole[0], text) }

// message judges a message of gRPC with its prefix.
func (e *Events) message(rec *record) {
	b := rec.raw
	if len(b) < messagePrefix || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-messagePrefix) {
		e.line(rec) // part of one
		return
	}
	payload := b[messagePrefix:]
	rec.inside(messageOuter{}, payload)
	const trailers = 0x80 // of gRPC-Web
	tree, ok := (*protoNode)(nil), false
	if e.framing == messages && b[0]&trailers == 0 { // JSON is no protobuf, but protobuf may look like JSON
		tree, ok = parseProto(payload)
	}
	switch {
	case len(payload) == 0:
	case ok:
		rec.tree = tree
		e.fields(rec, tree, e.key[:0])
	default:
		e.data(rec, payload)
	}
}

// protobuf is Body for a message; what is none is judged as text.
func (r *Redactor) protobuf(p []byte) ([]byte, int) {
	tree, ok := parseProto(p)
	if !ok {
		return apply(p, r.text(p, false))
	}
	e := r.events(messages)
	rec := &record{raw: p, tree: tree}
	e.fields(rec, tree, nil)
	e.flush("")
	o := rec.out()
	return o.Raw, o.N
}

// isProtobufType reports whether bodies of the type are one message.
func isProtobufType(t string) bool {
	return hasSuffix([]byte(t), "/x-protobuf") || hasSuffix([]byte(t), "/protobuf") || hasSuffix([]byte(t), "+proto") ||
		hasSuffix([]byte(t), "/x-google-protobuf") || hasSuffix([]byte(t), "/vnd.google.protobuf") || hasSuffix([]byte(t), "/proto")
}

// fields judges the fields of a message, whose path is key.
func (e *Events) fields(rec *record, n *protoNode, key []byte) {
	caught := e.pair(rec, n)
	for i := range n.kids {
		k := &n.kids[i]
		if k == caught {
			continue
		}
		key := append(strconv.AppendInt(key, int64(k.field), 10), '.')
		v := rec.raw[k.from:k.to]
		t := &text{from: k.from, n: len(v), held: -1}
		if len(k.kids) > 0 {
			e.fields(rec, k, key)
		}
		switch { // text that reads as a message by chance is judged as both
		case len(k.kids) > 0 && !k.isText:
		case isBlob(v):
			e.judged(rec, t, e.r.blob(v))
		case k.isText:
			if looksJSON(v) {
				e.judged(rec, t, e.r.json(v))
			}
			e.add(rec, key, v, t, true)
		case len(v) >= minText:
			e.judged(rec, t, e.r.text(v, false))
		}
	}
}

// pair judges a message that may be the entry of a map: a name in its first
// field gives the value in its second away. It returns the field that it
// caught.
func (e *Events) pair(rec *record, n *protoNode) *protoNode {
	if len(n.kids) != 2 || n.kids[0].field != 1 || n.kids[1].field != 2 {
		return nil
	}
	name := rec.raw[n.kids[0].from:n.kids[0].to]
	if !isSecretKey(name) && !inFold(secretFields, name) {
		return nil
	}
	v := &n.kids[1]
	if !v.isText && len(v.kids) == 1 { // google.protobuf.Value, with a string
		v = &v.kids[0]
	}
	p := rec.raw[v.from:v.to]
	if !v.isText || len(p) == 0 || isPlaceholder(p) {
		return nil
	}
	rec.edits = append(rec.edits, span{start: v.from, end: v.to, kind: e.r.value(p, kindJSON)})
	return &n.kids[1]
}
