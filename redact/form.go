package redact

import (
	"bytes"
	"slices"
)

// multipart returns the spans of a multipart/form-data body (RFC 7578): its
// fields by name, all of it by patterns.
func (r *Redactor) multipart(b []byte, params string) []span {
	spans := slices.Clone(r.text(b, false))
	boundary := param([]byte(params), "boundary")
	if len(boundary) == 0 {
		return spans
	}
	mark := append([]byte("--"), boundary...)
	for at := 0; ; {
		i := bytes.Index(b[at:], mark)
		if i < 0 {
			return normalize(spans)
		}
		from := at + i + len(mark)
		to := bytes.Index(b[from:], mark)
		if to < 0 {
			to = len(b)
		} else {
			to += from
		}
		spans = append(spans, r.formPart(b, from, to)...)
		at = from
	}
}

// formPart judges the part b[from:to] of a form.
func (r *Redactor) formPart(b []byte, from, to int) []span {
	head, _, ok := bytes.Cut(b[from:to], []byte("\r\n\r\n"))
	if !ok {
		return nil
	}
	from += len(head) + 4
	to -= len(b[from:to]) - len(bytes.TrimSuffix(b[from:to], []byte("\r\n")))
	v := b[from:to]
	name := param(head, "name")
	if len(v) > 0 && (isSecretKey(name) || isFormKey(name)) {
		if isPlaceholder(v) {
			return nil
		}
		return []span{{start: from, end: to, kind: r.value(v, kindForm)}}
	}
	if !looksJSON(v) {
		return nil
	}
	spans := append([]span(nil), r.json(v)...)
	for i := range spans {
		spans[i].start += from
		spans[i].end += from
	}
	return spans
}

// param returns the value of a parameter such as name="value".
func param(b []byte, name string) []byte {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(name+"="))
		if i < 0 {
			return nil
		}
		i += at
		at = i + len(name) + 1
		if i > 0 && word.has(b[i-1]) {
			continue // filename=
		}
		v := b[at:]
		if len(v) > 0 && v[0] == '"' {
			v, _, _ = bytes.Cut(v[1:], []byte{'"'})
			return v
		}
		v, _, _ = bytes.Cut(v, []byte{';'})
		return bytes.TrimSpace(v)
	}
}
