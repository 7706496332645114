// Package redact replaces secrets in flow events.
//
// A [Redactor] sees everything that is to be kept of a run, in the order in
// which it happened, and returns it with each secret replaced by a
// placeholder such as [REDACTED:anthropic]. What is forwarded never passes
// here. Smallest use:
//
//	r := redact.New(key)
//	head, n := r.Head(head, false)
//	body, m := r.Body(head.Get("content-type"), body)
//
// # Theory of operation
//
// There are three layers. A name gives a secret away: of a header field, a
// cookie, a query or form parameter, a JSON member, a command-line flag
// (names.go, pairs.go). A pattern does: the formats of rules.go, found behind
// one pass over byte pairs. And each value that a name gave away is
// remembered and replaced wherever it turns up later, also in base64, escaped
// or percent-encoded (known.go): this catches the key that a tool printed.
//
// All three yield spans over a text (span.go). The text is what a person
// would read: JSON strings are decoded, also where they hold JSON themselves,
// and spans are carried back through each decoding (a view), so that all
// bytes around a secret stay as they were and JSON stays JSON (json.go,
// walk.go).
//
// Text that comes in pieces goes through a tail (tail.go), which knows of each
// moment how much is decided: a secret that has begun, or a proper prefix of
// the literal with which one begins, is held back until more is known, and
// nothing else is. Limits: a secret that goes on for more than maxHold bytes
// (maxHoldPEM for a private key) is replaced at once and the rest of it
// swallowed. [Stream] is a tail for opaque text; [Events] keeps one for each
// channel of an event stream, that is for each JSON path whose strings follow
// one another, and hands an event out again once its held end is decided. Of
// most dialects nobody knows whether such strings are pieces of one text or
// texts of their own: a beginning is held back in both cases, a whole secret
// at the end of one is replaced at once, and what the next string begins with
// goes with it only if it looks like the rest.
//
// An event may come in any framing (framing.go): a block of server-sent events, a
// line, a message of a websocket, of an AWS event stream (amazon.go) or of gRPC
// (proto.go), a part of a multipart body (part.go). What stands in an envelope,
// behind lengths and checksums or as base64, is taken out and judged, and the
// envelope is made anew around it. Of protobuf nobody has the schema: each field
// that reads as text is judged as text, each that reads as a message as one.
//
// A placeholder is [REDACTED:kind]; kind is the pattern's name or, for a
// value of no known format, where it stood: header, cookie, query, form, json,
// env, argv, userinfo. It has neither quotes nor backslashes. What was redacted
// already passes unchanged.
//
// The gate fails closed: should it panic, the body or event becomes
// [Withheld], and [Redactor.Failures] counts it.
//
// It cannot see secrets that are compressed, encrypted, in images, or whose
// name and form say nothing. What stands in a base64 text is found only if it
// is remembered, but for the payloads of events. The rest of a secret that
// follows its beginning after a thousand other events is found only if the
// beginning was long enough to be one.
package redact

import (
	"bytes"
	"strings"
)

// A Redactor is the gate of one run. The zero value is ready for use. It is
// not safe for concurrent use: its memory grows with what it sees.
type Redactor struct {
	// Personal also replaces what identifies a person or an account and
	// opens no door: organization and user ids.
	Personal bool

	known    known
	failures int
	scan     scanner
	depth    int       // of JSON in JSON
	scratch  []*walker // by depth
	seen     *seen
	types    [2]typeOf // the latest
}

// typeOf is a content type, taken apart.
type typeOf struct{ text, media, params string }

// New returns a Redactor with an empty memory. key is random, of this run, and
// kept nowhere: see [Redactor.Tag].
func New(key [32]byte) *Redactor { return &Redactor{known: known{key: key}} }

// Tag makes placeholders carry a mark, [REDACTED:kind:1a2b3c4d], by which equal
// secrets of one run are seen to be equal. It is an HMAC-SHA256 with the key
// of New, so that short secrets cannot be guessed from it.
func (r *Redactor) Tag() { r.known.tags, r.seen = true, nil }

// Know has a value taken for a secret of a kind wherever it occurs. It is called
// before anything is redacted.
func (r *Redactor) Know(secret, kind string) {
	r.known.always = append(r.known.always, form{secret, kind})
	r.known.add(secret, kind)
}

// Failures returns how often the gate panicked and withheld what it was given.
func (r *Redactor) Failures() int { return r.failures }

// fail is deferred around everything that reads captured bytes: the second
// recover of the program. It calls withhold if there was a panic.
func (r *Redactor) fail(withhold func()) {
	if recover() != nil {
		r.failures++
		r.depth = 0
		withhold()
	}
}

// String returns s with its secrets replaced, and in how many places. It is
// for text and URLs.
func (r *Redactor) String(s string) (out string, n int) {
	defer r.fail(func() { out, n = Withheld, 1 })
	return r.plain(s, 0)
}

// maxPasses bounds how often a text is looked at again because something was
// replaced in it: what follows a secret may look different once it is gone.
const maxPasses = 4

// settle replaces what spans finds in p until it finds nothing.
func settle(p []byte, spans func(p []byte) ([]byte, int)) (out []byte, n int) {
	out = p
	for range maxPasses {
		var m int
		if out, m = spans(out); m == 0 {
			break
		}
		n += m
	}
	return out, n
}

// text returns the spans of a whole text, valid until the next call; url: it
// is a URL or a form.
func (r *Redactor) text(b []byte, url bool) []span {
	if r.isClean(b) {
		return nil
	}
	s := r.scan.reset(&r.known, b)
	s.url = url
	spans, _ := s.scan()
	if url {
		for _, p := range spans {
			if p.named {
				kind, _, _ := strings.Cut(p.kind, ":")
				r.known.remember(b[p.start:p.end], kind)
			}
		}
	}
	return spans
}

// blob returns the spans of remembered values in data, valid as those of text.
func (r *Redactor) blob(b []byte) []span {
	if r.known.isAbsent(b) {
		return nil
	}
	s := r.scan.reset(&r.known, b)
	s.blob = true
	spans, _ := s.scan()
	return spans
}

// kindOf returns the kind of the pattern that covers the whole of v, or else.
func (r *Redactor) kindOf(v []byte, other string) string {
	s := r.scan.reset(nil, v)
	s.patterns()
	for _, p := range normalize(s.spans) {
		if p.start == 0 && p.end == len(v) && specific(p.kind) > 0 {
			return p.kind
		}
	}
	return other
}

// value remembers a value that its name gave away and returns its kind.
func (r *Redactor) value(v []byte, kind string) string {
	kind = r.kindOf(v, kind)
	r.known.remember(v, kind)
	return r.known.tag(kind, v)
}

// IsWhole reports whether Body should be given a body of this type in one
// piece, because it knows the structure of such bodies: JSON, forms, protobuf.
// Of other types it does no more than [Stream].
func (r *Redactor) IsWhole(contentType string) bool {
	t, _ := r.typeOf(contentType)
	return isWhole(t)
}

func isWhole(t string) bool {
	return isJSONType(t) && !hasSuffix([]byte(t), "ndjson") && !hasSuffix([]byte(t), "jsonl") || t == "text/json" ||
		t == "application/x-www-form-urlencoded" || t == "multipart/form-data" || isProtobufType(t)
}

// Binary is Body for bytes of which nothing is known, such as a message of a
// websocket that is no text.
func (r *Redactor) Binary(p []byte) (out []byte, n int) {
	defer r.fail(func() { out, n = []byte(Withheld), 1 })
	if tree, ok := parseProto(p); ok && len(tree.kids) > 0 {
		return settle(p, r.protobuf)
	}
	return settle(p, func(p []byte) ([]byte, int) { return r.body("", p) })
}

// Body returns a whole body with its secrets replaced, and in how many
// places; p itself if there are none. JSON stays JSON, and everything else in
// it stays as it was, byte for byte.
func (r *Redactor) Body(contentType string, p []byte) (out []byte, n int) {
	defer r.fail(func() { out, n = []byte(Withheld), 1 })
	// This also finds above what a name gives away only further down.
	return settle(p, func(p []byte) ([]byte, int) { return r.body(contentType, p) })
}

func (r *Redactor) body(contentType string, p []byte) (out []byte, n int) {
	mediaType, params := r.typeOf(contentType)
	switch {
	case isMedia(mediaType):
		return apply(p, r.blob(p))
	case mediaType == "text/event-stream":
		return r.eventStream(p)
	case mediaType == "application/x-www-form-urlencoded":
		return apply(p, r.text(p, true))
	case mediaType == "multipart/form-data":
		return apply(p, r.multipart(p, params))
	case isProtobufType(mediaType):
		return r.protobuf(p)
	case isJSONType(mediaType) || looksJSON(p):
		if ends := jsonStream(p); ends != nil {
			return r.pieces(p, ends, values)
		}
		return apply(p, r.json(p))
	}
	return apply(p, r.text(p, false))
}

// typeOf is splitType with a memory: types come again and again.
func (r *Redactor) typeOf(s string) (mediaType, params string) {
	for i := range r.types {
		if t := &r.types[i]; t.text == s && t.media != "" {
			return t.media, t.params
		}
	}
	mediaType, params = splitType(s)
	if len(s) <= maxField {
		s = strings.Clone(s)
		_, params, _ = strings.Cut(s, ";")
		r.types[0], r.types[1] = typeOf{s, mediaType, params}, r.types[0]
	}
	return mediaType, params
}

// splitType parts a media type from its parameters.
func splitType(s string) (mediaType, params string) {
	b := []byte(s)
	if i := bytes.IndexByte(b, ';'); i >= 0 {
		b, params = b[:i], s[i+1:]
	}
	return string(bytes.ToLower(bytes.TrimSpace(b))), params
}

// isMedia reports whether the type is of pictures, sound and the like, in
// which only remembered values are looked for.
func isMedia(t string) bool {
	for _, p := range []string{"image/", "audio/", "video/", "font/"} {
		if hasPrefix([]byte(t), p) {
			return t != "image/svg+xml"
		}
	}
	return t == "application/zip" || t == "application/gzip" || t == "application/wasm"
}

func isJSONType(t string) bool {
	return t == "application/json" || hasSuffix([]byte(t), "+json") || hasSuffix([]byte(t), "ndjson") || hasSuffix([]byte(t), "jsonl")
}

// looksJSON reports whether p begins as a JSON object or array does.
func looksJSON(p []byte) bool {
	for _, c := range p {
		if !space.has(c) {
			return c == '{' || c == '['
		}
	}
	return false
}
