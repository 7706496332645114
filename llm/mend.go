package llm

import (
	"bytes"
	"encoding/json"
)

// maxNested bounds how deep what is mended may be nested; encoding/json's own
// bound is 10 000.
const maxNested = 1000

// mend returns the longest beginning of p that can be made valid JSON by
// closing what is open: a string ends where it was cut, a member without a value
// goes. nil if nothing is left.
func mend(p []byte) json.RawMessage {
	m := mender{in: p}
	m.value(0)
	if out := bytes.TrimSpace(m.out); len(out) > 0 && json.Valid(out) {
		return out
	}
	return nil
}

// A mender copies what it understands of in to out. Each method reports whether
// what it read was whole; what it wrote is valid either way, and nothing at all
// was written for a value that has no beginning.
type mender struct {
	in  []byte
	at  int
	out []byte
}

func (m *mender) value(depth int) bool {
	m.at = space(m.in, m.at)
	if m.at == len(m.in) || depth == maxNested {
		return false
	}
	switch m.in[m.at] {
	case '{':
		return m.object(depth)
	case '[':
		return m.array(depth)
	case '"':
		return m.text()
	}
	end := skip(m.in, m.at)
	word := m.in[m.at:end]
	if !json.Valid(word) {
		return false
	}
	m.at, m.out = end, append(m.out, word...)
	// A number that ends with the input may have gone on.
	return true
}

func (m *mender) object(depth int) bool {
	m.at, m.out = m.at+1, append(m.out, '{')
	for first := true; ; first = false {
		m.at = space(m.in, m.at)
		if m.next('}') {
			m.out = append(m.out, '}')
			return true
		}
		if !first && !m.next(',') {
			break
		}
		keep := len(m.out)
		if !first {
			m.out = append(m.out, ',')
		}
		m.at = space(m.in, m.at)
		if m.at == len(m.in) || m.in[m.at] != '"' || !m.text() {
			m.out = m.out[:keep]
			break
		}
		m.at = space(m.in, m.at)
		if !m.next(':') {
			m.out = m.out[:keep]
			break
		}
		m.out = append(m.out, ':')
		before := len(m.out)
		whole := m.value(depth + 1)
		if len(m.out) == before {
			m.out = m.out[:keep]
		}
		if !whole {
			break
		}
	}
	m.out = append(m.out, '}')
	return false
}

func (m *mender) array(depth int) bool {
	m.at, m.out = m.at+1, append(m.out, '[')
	for first := true; ; first = false {
		m.at = space(m.in, m.at)
		if m.next(']') {
			m.out = append(m.out, ']')
			return true
		}
		if !first && !m.next(',') {
			break
		}
		keep := len(m.out)
		if !first {
			m.out = append(m.out, ',')
		}
		before := len(m.out)
		whole := m.value(depth + 1)
		if len(m.out) == before {
			m.out = m.out[:keep]
		}
		if !whole {
			break
		}
	}
	m.out = append(m.out, ']')
	return false
}

// text copies a string; bare control characters in it are escaped, a wrong
// escape ends it.
func (m *mender) text() bool {
	m.at, m.out = m.at+1, append(m.out, '"')
	for m.at < len(m.in) {
		c := m.in[m.at]
		switch {
		case c == '"':
			m.at, m.out = m.at+1, append(m.out, '"')
			return true
		case c == '\\':
			n := 2
			if m.at+1 < len(m.in) && m.in[m.at+1] == 'u' {
				n = 6
			}
			if m.at+n > len(m.in) || !json.Valid([]byte(`"`+string(m.in[m.at:m.at+n])+`"`)) {
				m.at = len(m.in)
				continue
			}
			m.out = append(m.out, m.in[m.at:m.at+n]...)
			m.at += n
			continue
		case c < ' ':
			m.out = append(m.out, `\u00`...)
			m.out = append(m.out, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			m.out = append(m.out, c)
		}
		m.at++
	}
	m.out = append(m.out, '"')
	return false
}

// next takes c if it comes next.
func (m *mender) next(c byte) bool {
	if m.at < len(m.in) && m.in[m.at] == c {
		m.at++
		return true
	}
	return false
}
