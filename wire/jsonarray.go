package wire

import (
	"bytes"

	"trace/flow"
)

// A jsonArrayCutter cuts the elements out of one JSON array: each is an event
// as soon as it is complete. Brackets, commas and white space of the array are
// Body, and so is a body that is no array, as the object that tells of an error
// instead of a stream.
type jsonArrayCutter struct {
	gatherer
	lex   jsonLexer
	state arrayState
}

// arrayState is where in the array the next byte stands.
type arrayState uint8

const (
	arrayBefore  arrayState = iota
	arrayBetween            // elements
	arrayNested             // in an element that is an object, an array or a string
	arrayScalar             // in one that is none: what follows ends it
	arrayAfter              // or where it is none
)

func (c *jsonArrayCutter) push(p []byte) {
	start := 0
	for i := 0; i < len(p); {
		switch b := p[i]; c.state {
		case arrayBefore:
			switch {
			case b == '[':
				c.state = arrayBetween
			case !isJSONSpace(b) && bytes.IndexByte([]byte("\ufeff"), b) < 0:
				c.state = arrayAfter
			}
			i++
		case arrayBetween:
			switch {
			case b == ']':
				c.state = arrayAfter
				i++
			case b == ',' || isJSONSpace(b):
				i++
			case b == '}' || b == ':':
				c.between(p[start:i])
				start = i
				c.b.mark(flow.CodeMalformed, "the array of the body is not JSON")
				c.state = arrayAfter
			default:
				c.between(p[start:i])
				start = i
				c.begin(b)
			}
		case arrayNested:
			if n := c.lex.plain(p[i:]); n > 0 {
				i += n
				continue
			}
			i++
			if closed := c.lex.next(b); closed || c.lex.depth == 0 && !c.lex.quoted {
				c.cut(p[start:i])
				start, c.state = i, arrayBetween
			}
		case arrayScalar:
			if b != ',' && b != ']' && !isJSONSpace(b) {
				i++
				continue
			}
			c.cut(p[start:i])
			start, c.state = i, arrayBetween
		case arrayAfter:
			i = len(p)
		}
	}
	if c.state == arrayNested || c.state == arrayScalar {
		c.keep(p[start:])
	} else {
		c.between(p[start:])
	}
}

// begin begins the element whose first byte is b.
func (c *jsonArrayCutter) begin(b byte) {
	c.lex, c.state = jsonLexer{}, arrayScalar
	if b == '{' || b == '[' || b == '"' {
		c.state = arrayNested
	}
}

// end hands over what is left of an element.
func (c *jsonArrayCutter) end(cut bool) {
	c.drop()
	if !cut && c.state != arrayBefore && c.state != arrayAfter {
		c.b.mark(flow.CodeTruncated, "the body ends before its JSON array does")
	}
}

func isJSONSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }
