package redact

import (
	"bytes"
	"strings"
)

// part judges one part of a multipart body (RFC 2046 section 5.1), with the
// boundary before it: its head, and its content as the head says.
func (e *Events) part(rec *record) {
	b := rec.raw
	at, name, contentType := e.partHead(rec)
	content := b[at:]
	t := &text{from: at, n: len(content), held: -1}
	mediaType, params := splitType(contentType)
	switch {
	case len(content) == 0:
	case isSecretKey(name) || isFormKey(name):
		v := bytes.TrimRight(content, "\r\n")
		if len(v) > 0 && !isPlaceholder(v) {
			rec.edits = append(rec.edits, span{start: at, end: at + len(v), kind: e.r.value(v, kindForm)})
		}
	case isMedia(mediaType):
		e.judged(rec, t, e.r.blob(content))
	case mediaType == "application/x-www-form-urlencoded":
		e.judged(rec, t, e.r.text(content, true))
	case hasPrefix([]byte(mediaType), "multipart/"):
		e.judged(rec, t, e.r.multipart(content, params))
	default:
		rec.base = at
		if data := bytes.TrimRight(content, "\r\n"); len(data) > 0 {
			e.data(rec, data)
		}
	}
}

// partHead judges the boundary and the head and returns where the content
// begins, the name of a part of a form, and the content type.
func (e *Events) partHead(rec *record) (at int, name []byte, contentType string) {
	b := rec.raw
	if !hasPrefix(b, "--") {
		return 0, nil, "" // no part, or the rest of one
	}
	for first := true; at < len(b); first = false {
		end := bytes.IndexByte(b[at:], '\n') + 1
		if end == 0 {
			end = len(b) - at
		}
		line := bytes.TrimRight(b[at:at+end], "\r\n")
		from := at
		at += end
		if len(line) == 0 {
			break
		}
		i := bytes.IndexByte(line, ':')
		if first || i < 0 {
			continue
		}
		switch strings.ToLower(string(line[:i])) {
		case "content-type":
			contentType = string(line[i+1:])
		case "content-disposition":
			name = param(line, "name")
		}
		e.partField(rec, line, from, i)
	}
	// Lines that are no fields, as those behind the last boundary, and all others.
	rec.edits = append(rec.edits, e.r.text(b[:at], false)...)
	return at, name, contentType
}

// partField judges the field of a head that stands at from, its colon at i, by
// its name.
func (e *Events) partField(rec *record, line []byte, from, i int) {
	value := bytes.TrimSpace(line[i+1:])
	switch classify(string(line[:i])) {
	case fieldAuth, fieldSecret, fieldCookie, fieldSet:
		if len(value) > 0 && !isPlaceholder(value) {
			to := from + len(bytes.TrimRight(line, " \t"))
			rec.edits = append(rec.edits, span{start: to - len(value), end: to, kind: e.r.value(value, kindHeader)})
		}
	}
}
