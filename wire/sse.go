package wire

import (
	"bytes"

	"trace/flow"
)

// maxEvent bounds one event of an event stream. A longer one is handed over as
// pieces of the body.
const maxEvent = 16 << 20

// An sseCutter cuts an event stream (HTML standard, section 9.2) behind each empty
// line, in any split and with any of the line ends LF, CRLF and CR. Blocks that
// are events go out as StreamEvent, others and the unfinished rest as Body.
//
// A CR that makes a line empty ends its block at once, though an LF may belong
// to it: that LF then begins the next block, where it means nothing. Only where
// the line before ended in CRLF the LF is waited for, so that the events of a
// CRLF stream are whole however it is split.
type sseCutter struct {
	out   func(kind flow.Kind, p []byte)
	block []byte // of the block, what came in earlier pushes
	long  bool   // the block is too long and goes out in pieces

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
			c.cut(p[start:i])
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
			c.cut(p[start:i])
			start = i
		case b == '\r':
			i++
			if c.crlf {
				c.close = true
				break
			}
			c.cr = true
			c.cut(p[start:i])
			start = i
		default:
			c.text, c.cr = true, false
		}
	}
	c.keep(p[start:])
}

// keep remembers the beginning of a block.
func (c *sseCutter) keep(p []byte) {
	if len(p) == 0 {
		return
	}
	if !c.long && len(c.block)+len(p) > maxEvent {
		c.long = true
		c.out(flow.Mark, nil)
		if len(c.block) > 0 {
			c.out(flow.Body, c.block)
		}
		c.block = nil
	}
	if c.long {
		c.out(flow.Body, p)
		return
	}
	c.block = append(c.block, p...)
}

// cut hands over the block that p ends.
func (c *sseCutter) cut(p []byte) {
	if c.long || len(c.block) > 0 || len(p) > maxEvent {
		c.keep(p)
		p = c.block
	}
	switch {
	case c.long:
		c.long = false
	case isEvent(p):
		c.out(flow.StreamEvent, p)
	case len(p) > 0:
		c.out(flow.Body, p)
	}
	if c.block = c.block[:0]; cap(c.block) > 4<<10 {
		c.block = nil
	}
}

// end hands over what is left.
func (c *sseCutter) end() {
	switch {
	case c.close:
		c.cut(nil)
	case len(c.block) > 0:
		c.out(flow.Body, c.block)
	}
	c.block = nil
}

// isEvent reports what flow.SSE.Dispatched does: whether block has data.
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
