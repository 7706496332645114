package wire

import (
	"bytes"
	"encoding/json"
)

// recordSeparator begins a text of a JSON text sequence (RFC 7464).
const recordSeparator = 0x1e

// A jsonLexer follows the nesting of a JSON text without judging it.
type jsonLexer struct {
	depth   int
	quoted  bool
	escaped bool
}

// next takes a byte and reports whether it closes an outermost object or array.
func (l *jsonLexer) next(c byte) (closed bool) {
	switch {
	case l.escaped:
		l.escaped = false
	case l.quoted && c == '\\':
		l.escaped = true
	case c == '"':
		l.quoted = !l.quoted
	case l.quoted:
	case c == '{', c == '[':
		l.depth++
	case c == '}', c == ']':
		if l.depth > 0 {
			l.depth--
			return l.depth == 0
		}
	}
	return false
}

// plain returns how many bytes of p the lexer may skip: text inside a string.
func (l *jsonLexer) plain(p []byte) int {
	if !l.quoted || l.escaped {
		return 0
	}
	for i, c := range p {
		if c == '"' || c == '\\' || c < ' ' {
			return i
		}
	}
	return len(p)
}

// An ndjsonCutter cuts a sequence of JSON texts: behind each LF, and, since
// some servers write no line ends, where an object or array follows another on
// a line. A text that RS begins (RFC 7464) may hold line ends; it ends with the
// first LF outside of its brackets, or with the next RS. Lines without text are
// Body.
type ndjsonCutter struct {
	gatherer
	lex    jsonLexer
	text   bool // the line has text
	record bool // RS began it
	closed bool // it is an outermost object or array, so far
}

func (c *ndjsonCutter) push(p []byte) {
	start := 0
	for i := 0; i < len(p); {
		if n := c.lex.plain(p[i:]); n > 0 {
			i += n
			continue
		}
		switch b := p[i]; {
		case b == '\n' && (!c.record || c.lex.depth == 0):
			i++
			c.finish(p[start:i])
			start = i
			continue
		case b == recordSeparator:
			c.finish(p[start:i])
			start, c.record = i, true
		case b == ' ', b == '\t', b == '\r', b == '\n':
			c.lex.escaped = false
		default:
			if c.closed && (b == '{' || b == '[') {
				c.finish(p[start:i])
				start = i
			}
			c.text = true
			c.closed = c.lex.next(b)
		}
		i++
	}
	c.keep(p[start:])
}

// finish hands over the line that p ends.
func (c *ndjsonCutter) finish(p []byte) {
	if c.text {
		c.cut(p)
	} else {
		c.between(c.whole(p))
		c.done()
	}
	c.lex, c.text, c.record, c.closed = jsonLexer{}, false, false, false
}

// end hands over what is left: an event too, unless it is a fragment.
func (c *ndjsonCutter) end(cut bool) {
	if cut && !json.Valid(bytes.Trim(c.block, "\x1e \t\r\n")) {
		c.text = false
	}
	c.finish(nil)
}
