package wire

import (
	"bytes"

	"trace/flow"
)

// An sseCutter cuts an event stream (HTML standard, section 9.2) behind each empty
// line, in any split and with any of the line ends LF, CRLF and CR. Blocks that
// are events go out as StreamEvent, others and the unfinished rest as Body.
//
// A CR that makes a line empty ends its block at once, though an LF may belong
// to it: that LF then begins the next block, where it means nothing. Only where
// the line before ended in CRLF the LF is waited for, so that the events of a
// CRLF stream are whole however it is split.
type sseCutter struct {
	gatherer // of the block

	text  bool // the line has text
	cr    bool // the byte before was a CR that ended a line
	crlf  bool // the line before ended in CRLF
	close bool // a CR made the line empty; an LF is waited for
}

// push takes the next bytes of the stream.
func (c *sseCutter) push(p []byte) {
	start, lf := 0, -1
	for i := 0; i < len(p); {
		b := p[i]
		switch {
		case c.close:
			if b == '\n' {
				i++
			}
			c.close, c.crlf = false, b == '\n'
			c.finish(p[start:i])
			start = i
		case c.cr && b == '\n':
			c.cr, c.crlf = false, true
			i++
		case c.text:
			if lf < i {
				lf = i + bytes.IndexByte(p[i:], '\n')
				if lf < i {
					lf = len(p)
				}
			}
			if j := bytes.IndexByte(p[i:lf], '\r'); j >= 0 {
				i += j
			} else {
				i = lf
			}
			if i < len(p) {
				c.text, c.cr, c.crlf = false, p[i] == '\r', false
				i++
			}
		case b == '\n':
			i++
			c.crlf = false
			c.finish(p[start:i])
			start = i
		case b == '\r':
			i++
			if c.crlf {
				c.close = true
				break
			}
			c.cr = true
			c.finish(p[start:i])
			start = i
		default:
			c.text, c.cr = true, false
		}
	}
	c.keep(p[start:])
}

// finish hands over the block that p ends.
func (c *sseCutter) finish(p []byte) {
	switch p = c.whole(p); {
	case isEvent(p):
		c.b.piece(flow.StreamEvent, p)
	default:
		c.between(p)
	}
	c.done()
}

// end hands over what is left.
func (c *sseCutter) end(bool) {
	if c.close {
		c.finish(nil)
	}
	c.drop()
}

// isEvent reports what flow.ParsedEvent.Dispatched does: whether block has data.
func isEvent(block []byte) bool {
	block = bytes.TrimPrefix(block, []byte("\ufeff"))
	lf := -1
	for i := 0; i < len(block); i++ { // i stands at the beginning of a line
		line := block[i:]
		if bytes.HasPrefix(line, []byte("data")) && (len(line) == 4 || line[4] == ':' || line[4] == '\n' || line[4] == '\r') {
			return true
		}
		if lf < i {
			if lf = i + bytes.IndexByte(line, '\n'); lf < i {
				lf = len(block)
			}
		}
		if j := bytes.IndexByte(block[i:lf], '\r'); j >= 0 {
			i += j
		} else {
			i = lf
		}
	}
	return false
}
