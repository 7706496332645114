package llm

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// An object is a JSON object with its members in the order in which they stand,
// duplicates too. The values are the bytes as sent: numbers keep their digits.
type object []Param

// parseJSON makes valid JSON of p, which may be cut off in the middle, hold
// bytes that are no UTF-8, or be followed by something else: what is there up to
// the first fault is kept. cut tells that it was not whole; nil is returned if
// nothing could be kept.
func parseJSON(p []byte) (raw json.RawMessage, cut bool) {
	p = bytes.TrimSpace(bytes.TrimPrefix(p, []byte("\ufeff")))
	if !utf8.Valid(p) {
		p = bytes.ToValidUTF8(p, []byte("\ufffd"))
	}
	if valid(p) {
		return p, false
	}
	return mend(p), true
}

// parseObject reads p as an object; nil if it is none.
func parseObject(p []byte) (o object, cut bool) {
	raw, cut := parseJSON(p)
	return members(raw), cut
}

// members returns the members of raw, which is valid JSON; nil if it is not an
// object. One without members is empty, not nil.
func members(raw json.RawMessage) object {
	if kind(raw) != '{' {
		return nil
	}
	o := object{}
	i := space(raw, space(raw, 0)+1)
	for i < len(raw) && raw[i] == '"' {
		end := skip(raw, i)
		name := text(raw[i:end])
		i = space(raw, space(raw, end)+1)
		end = skip(raw, i)
		o = append(o, Param{name, raw[i:end:end]})
		if i = space(raw, end); i < len(raw) && raw[i] == ',' {
			i = space(raw, i+1)
		}
	}
	return o
}

// elements returns the elements of raw, which is valid JSON; nil if it is not
// an array.
func elements(raw json.RawMessage) []json.RawMessage {
	if kind(raw) != '[' {
		return nil
	}
	list := []json.RawMessage{}
	i := space(raw, space(raw, 0)+1)
	for i < len(raw) && raw[i] != ']' {
		end := skip(raw, i)
		list = append(list, raw[i:end:end])
		if i = space(raw, end); i < len(raw) && raw[i] == ',' {
			i = space(raw, i+1)
		}
	}
	return list
}

// kind returns the byte that valid JSON begins with: one of {["tfn-, or '0'
// for any digit; 0 for nothing.
func kind(raw json.RawMessage) byte {
	i := space(raw, 0)
	if i == len(raw) {
		return 0
	}
	if raw[i] >= '0' && raw[i] <= '9' {
		return '0'
	}
	return raw[i]
}

// absent reports whether there is no value, or null.
func absent(raw json.RawMessage) bool {
	k := kind(raw)
	return k == 0 || k == 'n'
}

// text returns the string that raw is, or "" if it is none.
func text(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	in := raw[1 : len(raw)-1]
	if bytes.IndexByte(in, '\\') < 0 {
		return string(in)
	}
	return unquote(in)
}

// integer returns the whole number that raw is: 0 if it is none. Numbers in
// strings (int64 of proto3) and with fractions are borne.
func integer(raw json.RawMessage) int64 {
	s := string(bytes.TrimSpace(raw))
	if kind(raw) == '"' {
		s = text(raw)
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f >= 1<<63 || f < -1<<63 {
		return 0
	}
	return int64(f)
}

// quote returns s as JSON.
func quote(s string) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return json.RawMessage(`""`) // of a string it cannot be
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// get returns the value of a member, nil if there is none. Of several the last
// counts, as it does for JSON.parse.
func (o object) get(name string) json.RawMessage {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].Name == name {
			return o[i].Value
		}
	}
	return nil
}

// at follows a path of names through nested objects.
func (o object) at(names ...string) json.RawMessage {
	for i, name := range names {
		raw := o.get(name)
		if i == len(names)-1 {
			return raw
		}
		o = members(raw)
	}
	return nil
}

func (o object) has(name string) bool            { return o.get(name) != nil }
func (o object) text(name string) string         { return text(o.get(name)) }
func (o object) integer(name string) int64       { return integer(o.get(name)) }
func (o object) truth(name string) bool          { return kind(o.get(name)) == 't' }
func (o object) object(name string) object       { return members(o.get(name)) }
func (o object) list(n string) []json.RawMessage { return elements(o.get(n)) }

// mark returns a member that is not null.
func (o object) mark(name string) json.RawMessage {
	if raw := o.get(name); !absent(raw) {
		return raw
	}
	return nil
}

// without returns the members of other names, in order; nil if none is left.
func (o object) without(names ...string) []Param {
	var rest []Param
	for _, m := range o {
		if !contains(names, m.Name) {
			rest = append(rest, m)
		}
	}
	return rest
}

// maxSearched bounds what set looks through: beyond it there are more members
// than any format has, and the last of a name counts anyway.
const maxSearched = 1000

// set replaces a member, or appends it.
func (o object) set(name string, value json.RawMessage) object {
	if len(o) > maxSearched {
		return append(o, Param{name, value})
	}
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].Name == name {
			o[i].Value = value
			return o
		}
	}
	return append(o, Param{name, value})
}

// raw returns o as JSON.
func (o object) raw() json.RawMessage {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, quote(m.Name)...), ':')
		if len(m.Value) == 0 { // it was never told
			b = append(b, "null"...)
		}
		b = append(b, m.Value...)
	}
	return append(b, '}')
}

// array returns the elements as JSON.
func array(list []json.RawMessage) json.RawMessage {
	b := []byte{'['}
	for i, raw := range list {
		if i > 0 {
			b = append(b, ',')
		}
		if len(raw) == 0 {
			b = append(b, "null"...)
		}
		b = append(b, raw...)
	}
	return append(b, ']')
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// space returns the index of the first byte of p from i on that is no white
// space.
func space(p []byte, i int) int {
	for i < len(p) && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r') {
		i++
	}
	return min(i, len(p))
}

// skip returns the index behind the value that begins at p[i]. p is valid JSON;
// in anything else it may stop anywhere up to the end.
func skip(p []byte, i int) int {
	depth := 0
	for i < len(p) {
		switch p[i] {
		case '"':
			i = skipString(p, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			i++
			continue
		default:
			for i < len(p) && !delimiter(p[i]) {
				i++
			}
		}
		if depth <= 0 {
			break
		}
	}
	return min(i, len(p))
}

// skipString returns the index behind the string that begins at p[i].
func skipString(p []byte, i int) int {
	for i++; i < len(p); {
		n := bytes.IndexByte(p[i:], '"')
		if n < 0 {
			return len(p)
		}
		escapes := 0
		for j := i + n - 1; j >= i && p[j] == '\\'; j-- {
			escapes++
		}
		if i += n + 1; escapes%2 == 0 {
			return i
		}
	}
	return len(p)
}
