package redact

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"

	"trace/flow"
)

// Head returns h with its secrets replaced, and in how many places; h itself
// if there are none. Values that names gave away are remembered, so the head
// of a message goes before its body.
func (r *Redactor) Head(h *flow.Head, response bool) (out *flow.Head, n int) {
	if h == nil {
		return nil, 0
	}
	defer r.fail(func() {
		out, n = &flow.Head{
			Method: h.Method, Scheme: h.Scheme, Host: h.Host, Port: h.Port, Target: Withheld, Path: Withheld,
			Status: h.Status, Version: h.Version, Streaming: h.Streaming, Framing: h.Framing, Stream: h.Stream,
		}, 1
		if h.Protocol == "websocket" {
			out.Protocol = h.Protocol // its messages are judged by it
		}
	})
	learnt := r.known.learnt
	out, n = r.head(h)
	if r.known.learnt != learnt {
		out, n = r.head(h) // what one field gave away may stand in another
	}
	return out, n
}

func (r *Redactor) head(h *flow.Head) (*flow.Head, int) {
	c := *h
	n, m := 0, 0
	c.Fields, n = r.fields(h.Fields)
	c.Target, n = r.url(h.Target, n)
	if h.Method == "CONNECT" {
		c.Target, n = r.authority(c.Target, n)
	}
	if h.Path == h.Target && h.Method != "CONNECT" {
		c.Path = c.Target
	} else if c.Path, m = r.url(h.Path, 0); c.Target == h.Target { // else the same secrets as in Target
		n += m
	}
	c.Authority, n = r.authority(h.Authority, n)
	c.Host, m = r.authority(h.Host, 0)
	if c.Authority == h.Authority {
		n += m
	}
	c.Reason, n = r.plain(h.Reason, n)
	c.Method, n = r.plain(h.Method, n)
	c.Scheme, n = r.plain(h.Scheme, n)
	c.Protocol, n = r.plain(h.Protocol, n)
	if n == 0 {
		return h, 0
	}
	changed := new(flow.Head) // only now: most heads stay as they are
	*changed = c
	return changed, n
}

// Fields is Head for header or trailer fields alone.
func (r *Redactor) Fields(fs []flow.Field, response bool) (out []flow.Field, n int) {
	defer r.fail(func() { out, n = []flow.Field{{Name: "x-trace", Value: Withheld}}, 1 })
	return r.fields(fs)
}

// fields judges each field by its name. That of a request and that of an
// answer are one set: none is secret in one direction and plain in the other.
func (r *Redactor) fields(fs []flow.Field) ([]flow.Field, int) {
	n := 0
	out := fs
	for i, f := range fs {
		name, v, m := r.nameAndField(f.Name, f.Value)
		if m == 0 {
			continue
		}
		if n == 0 {
			out = slices.Clone(fs)
		}
		out[i].Name, out[i].Value = name, v
		n += m
	}
	return out, n
}

// authority replaces those of the authority of a URL (RFC 3986 section 3.2),
// which may begin with a user and a password.
func (r *Redactor) authority(s string, n int) (string, int) {
	if i := strings.LastIndexByte(s, '@'); i > 0 && !isPlaceholder([]byte(s[:i])) {
		if _, password, ok := strings.Cut(s[:i], ":"); ok {
			r.known.remember([]byte(password), kindUserinfo)
		}
		s = opening + r.value([]byte(s[:i]), kindUserinfo) + closing + s[i:]
		n++
	}
	return r.plain(s, n)
}

// url replaces the secrets of a URL and adds their number to n.
func (r *Redactor) url(s string, n int) (string, int) { return r.settle(s, n, true) }

// plain replaces those of a text.
func (r *Redactor) plain(s string, n int) (string, int) { return r.settle(s, n, false) }

func (r *Redactor) settle(s string, n int, url bool) (string, int) {
	if r.isClean(viewOf(s)) {
		return s, n
	}
	p, m := settle(viewOf(s), func(p []byte) ([]byte, int) { return apply(p, r.text(p, url)) })
	if m == 0 {
		return s, n
	}
	return string(p), n + m
}

// field replaces the secrets of one header field.
func (r *Redactor) field(name, value string) (string, int) {
	switch r.name(name).class {
	case fieldAuth:
		return r.auth(value)
	case fieldSecret:
		return r.secret(value, kindHeader)
	case fieldSuspect:
		if isID(name, value) {
			return r.plain(value, 0)
		}
		return r.secret(value, kindHeader)
	case fieldCookie:
		return r.cookies(value)
	case fieldSet:
		return r.setCookie(value)
	case fieldURL:
		return r.url(value, 0)
	case fieldHost:
		return r.authority(value, 0)
	case fieldPersonal:
		if r.Personal {
			return r.secret(value, kindPersonal)
		}
	}
	if hasSuffix([]byte(name), "-bin") && len(value) >= minText {
		return r.binary(value)
	}
	return r.plain(value, 0)
}

// binary replaces the secrets of a field of gRPC whose value is base64, most
// often of a protobuf message.
func (r *Redactor) binary(value string) (string, int) {
	enc := base64.RawStdEncoding
	if strings.HasSuffix(value, "=") {
		enc = base64.StdEncoding
	}
	if p, err := enc.DecodeString(value); err == nil {
		if p, n := settle(p, r.protobuf); n > 0 {
			return enc.EncodeToString(p), n
		}
	}
	return r.plain(value, 0)
}

// secret replaces a whole value and remembers it.
func (r *Redactor) secret(v, kind string) (string, int) {
	t := strings.TrimSpace(v)
	if t == "" || isPlaceholder([]byte(t)) {
		return v, 0
	}
	return opening + r.value([]byte(t), kind) + closing, 1
}

// auth replaces credentials (RFC 9110 section 11.4); their scheme stays.
func (r *Redactor) auth(v string) (string, int) {
	trimmed := strings.TrimLeft(v, " \t")
	k := schemeLen([]byte(trimmed))
	scheme, rest := trimmed[:k], trimmed[k:]
	if k == 0 {
		return r.secret(v, kindHeader)
	}
	kind := kindHeader
	switch name := strings.ToLower(strings.TrimSpace(scheme)); {
	case name == "basic":
		kind = "basic"
		r.basic(rest)
	case strings.HasPrefix(name, "aws4-"):
		if isPlaceholder([]byte(rest)) {
			return v, 0
		}
		return scheme + opening + kindSigV4 + closing, 1 // its signature is good for once
	}
	out, n := r.secret(rest, kind)
	if n == 0 {
		return v, 0
	}
	return scheme + out, n
}

// basic remembers user:password and the password (RFC 7617).
func (r *Redactor) basic(v string) {
	p, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(v), "="))
	if err != nil {
		return
	}
	r.known.remember(p, "basic")
	if _, password, ok := bytes.Cut(p, []byte{':'}); ok {
		r.known.remember(password, "basic")
	}
}

// cookies replaces the values of a Cookie field (RFC 6265 section 4.2).
func (r *Redactor) cookies(v string) (string, int) {
	n := 0
	parts := strings.Split(v, ";")
	for i, p := range parts {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			name, value = "", p
		} else {
			name += "="
		}
		out, m := r.secret(value, kindCookie)
		if m > 0 {
			if !ok && strings.HasPrefix(value, " ") {
				out = " " + out
			}
			parts[i] = name + out
			n += m
		}
	}
	if n == 0 {
		return v, 0
	}
	return strings.Join(parts, ";"), n
}

// setCookie replaces the value of a Set-Cookie field (RFC 6265 section 4.1);
// its attributes stay.
func (r *Redactor) setCookie(v string) (string, int) {
	pair, attrs, _ := strings.Cut(v, ";")
	name, value, ok := strings.Cut(pair, "=")
	if !ok {
		name, value = "", pair
	} else {
		name += "="
	}
	out, n := r.secret(value, kindCookie)
	if n == 0 {
		return v, 0
	}
	if len(pair) < len(v) {
		var m int
		attrs, m = r.plain(attrs, 0)
		return name + out + ";" + attrs, n + m
	}
	return name + out, n
}
