package wire

import (
	"bytes"
	"strings"

	"trace/flow"
)

// maxPartHead bounds the head of a part in which its length is looked for.
const maxPartHead = 16 << 10

// A multipartCutter cuts a multipart body (RFC 2046 section 5.1) into its parts.
// An event is a part from its boundary line up to the next, with the line end
// before that. A part whose head tells its length ends with its last byte
// instead, so that the newest image of a multipart/x-mixed-replace is there
// before the boundary that comes with the one after it. Preamble, epilogue and
// the last boundary are Body.
type multipartCutter struct {
	gatherer
	boundary string // the two dashes before it included
	state    partState
	fresh    bool // the next byte begins a line
	held     int  // bytes of a line that may become a boundary, kept nowhere else

	text bool   // the line of the head has text
	head []byte // of the part, as far as it matters
	left int64  // content to come, as the head says; -1: it does not
}

// partState is where in the body the next byte stands.
type partState uint8

const (
	partOutside partState = iota // before the first part, or behind one whose length was known
	partLine                     // in the line of a boundary, behind it
	partHead
	partContent
	partOver // behind the last boundary
)

func newMultipartCutter(g gatherer, boundary string) *multipartCutter {
	return &multipartCutter{gatherer: g, boundary: "--" + boundary, fresh: true}
}

func (c *multipartCutter) push(p []byte) {
	if c.held > 0 {
		p = append([]byte((c.boundary + "-")[:c.held]), p...)
		c.held = 0
	}
	for len(p) > 0 {
		n := c.step(p)
		if n == 0 {
			c.held = len(p)
			return
		}
		p = p[n:]
	}
}

// step takes some bytes of p and says how many, or none if all of p may be the
// beginning of a boundary.
func (c *multipartCutter) step(p []byte) int {
	if c.fresh {
		switch o, last := c.look(p); {
		case o == more:
			return 0
		case o == done:
			c.finish()
			c.fresh = false
			if last {
				c.state = partOver
				return c.put(p[:len(c.boundary)+2])
			}
			c.state = partLine
			return c.put(p[:len(c.boundary)])
		}
	}
	c.fresh = false
	switch c.state {
	case partLine, partHead:
		return c.line(p)
	case partContent:
		if c.left >= 0 && c.left < int64(len(p)) {
			p = p[:c.left]
		}
	}
	n := len(p)
	if c.state != partOver {
		n, c.fresh = nextLine(p)
	}
	c.put(p[:n])
	if c.state == partContent && c.left >= 0 {
		if c.left -= int64(n); c.left == 0 {
			c.finish()
		}
	}
	return n
}

// look tells whether the line that p begins is a boundary, and the last one.
func (c *multipartCutter) look(p []byte) (o outcome, last bool) {
	n := len(c.boundary)
	switch {
	case len(p) <= n && strings.HasPrefix(c.boundary, string(p)):
		return more, false
	case len(p) <= n || string(p[:n]) != c.boundary:
		return invalid, false
	case strings.IndexByte(" \t\r\n", p[n]) >= 0:
		return done, false
	case p[n] != '-':
		return invalid, false
	case len(p) == n+1:
		return more, false
	case p[n+1] != '-':
		return invalid, false
	}
	return done, true
}

// nextLine returns how many bytes of p go before the next line that may be a
// boundary, and whether there is one.
func nextLine(p []byte) (n int, fresh bool) {
	if i := bytes.Index(p, []byte("\n--")); i >= 0 {
		return i + 1, true
	}
	n = len(p)
	switch {
	case p[n-1] == '\n':
		return n, true
	case n > 1 && p[n-1] == '-' && p[n-2] == '\n':
		return n - 1, true
	}
	return n, false
}

// line takes bytes of the line of a boundary or of the head of a part.
func (c *multipartCutter) line(p []byte) int {
	n := bytes.IndexByte(p, '\n') + 1
	if n == 0 {
		n = len(p)
	}
	p = p[:n]
	c.put(p)
	c.fresh = p[n-1] == '\n'
	switch {
	case c.state == partHead:
		c.headLine(p)
	case c.fresh:
		c.state, c.head, c.text, c.left = partHead, c.head[:0], false, -1
	}
	return n
}

// headLine looks at bytes of a line of a head for the end of the head and for
// the length of what follows.
func (c *multipartCutter) headLine(p []byte) {
	if len(c.head) <= maxPartHead {
		c.head = append(c.head, p...)
	}
	c.text = c.text || len(bytes.TrimRight(p, "\r\n")) > 0
	switch {
	case !c.fresh:
	case c.text:
		c.text = false
	default:
		c.state = partContent
		if len(c.head) > maxPartHead {
			return
		}
		h := new(flow.Head)
		h.Fields, _ = parseFields(string(c.head))
		if n, lengths, valid := contentLength(h); lengths > 0 && valid {
			if c.left = n; n == 0 {
				c.finish()
			}
		}
	}
}

// put takes bytes to where they belong, and returns how many.
func (c *multipartCutter) put(p []byte) int {
	if c.state == partOutside || c.state == partOver {
		c.between(p)
	} else {
		c.keep(p)
	}
	return len(p)
}

// finish hands over the part that is complete, if there is one.
func (c *multipartCutter) finish() {
	c.cut(nil)
	c.state = partOutside
}

// end hands over what is left: an event too, if the part may be complete.
func (c *multipartCutter) end(cut bool) {
	if c.held == len(c.boundary) && c.state != partOutside && !cut {
		c.finish() // a boundary without its line end
	}
	c.put([]byte((c.boundary + "-")[:c.held]))
	switch {
	case c.state == partContent && c.left < 0 && !cut:
		c.finish()
	case c.state != partOutside && c.state != partOver:
		c.drop()
		if !cut {
			c.b.mark(flow.CodeTruncated, "the body ends within a part")
		}
	}
}
