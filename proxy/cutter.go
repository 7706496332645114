package proxy

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// An eventCutter finds the end of the event of a stream after which that is cut.
type eventCutter struct {
	left   int
	frames func(head []byte) (size int) // of framings by length; 0: more is needed. nil: lines
	blocks bool                         // events end with an empty line

	head  []byte // of a frame that has begun
	skip  int    // bytes of it to come
	line  []byte // that has begun; of a block only its beginning
	cr    bool   // the last line ended with a carriage return
	holds bool   // the block has something in it
}

// newEventCutter returns what cuts a stream of a content type after so many events, nil if
// it is none.
func newEventCutter(kind string, events int) *eventCutter {
	kind, _, _ = strings.Cut(strings.ToLower(kind), ";")
	c := &eventCutter{left: events}
	switch kind = strings.TrimSpace(kind); {
	case kind == "text/event-stream":
		c.blocks = true
	case kind == "application/x-ndjson", kind == "application/ndjson", kind == "application/jsonl", kind == "application/stream+json":
	case kind == "application/vnd.amazon.eventstream":
		c.frames = func(head []byte) int {
			if len(head) < 4 {
				return 0
			}
			return int(max(binary.BigEndian.Uint32(head), 4))
		}
	case kind == "application/grpc", strings.HasPrefix(kind, "application/grpc+"):
		c.frames = func(head []byte) int {
			if len(head) < 5 {
				return 0
			}
			return 5 + int(binary.BigEndian.Uint32(head[1:]))
		}
	default:
		return nil
	}
	return c
}

// take returns how much of p goes on, and whether the stream ends there.
func (c *eventCutter) take(p []byte) (n int, cut bool) {
	for n < len(p) {
		if c.frames != nil {
			n += c.frame(p[n:])
		} else {
			n += c.text(p[n:])
		}
		if c.left <= 0 {
			return n, true
		}
	}
	return n, false
}

func (c *eventCutter) frame(p []byte) (n int) {
	if c.skip == 0 {
		c.head = append(c.head, p[0])
		size := c.frames(c.head)
		if size == 0 {
			return 1
		}
		c.skip = size - len(c.head)
		c.head = c.head[:0]
		n = 1
	} else {
		n = min(c.skip, len(p))
		c.skip -= n
	}
	if c.skip == 0 {
		c.left--
	}
	return n
}

// text takes up to a line.
func (c *eventCutter) text(p []byte) (n int) {
	if c.cr && p[0] == '\n' { // the rest of a line break
		c.cr = false
		return 1
	}
	c.cr = false
	end := bytes.IndexAny(p, "\r\n")
	if !c.blocks {
		end = bytes.IndexByte(p, '\n')
	}
	if end < 0 {
		c.line = append(c.line, p[:1]...)
		return len(p)
	}
	c.line = append(c.line, p[:min(end, 1)]...)
	empty, comment := len(c.line) == 0, len(c.line) > 0 && c.line[0] == ':'
	c.line = c.line[:0]
	n = end + 1
	c.cr = p[end] == '\r'
	switch {
	case !c.blocks:
		if !empty {
			c.left--
		}
	case empty:
		if c.holds {
			c.left--
		}
		c.holds = false
	case !comment:
		c.holds = true
	}
	if c.left == 0 && c.cr && n < len(p) && p[n] == '\n' {
		n++
		c.cr = false
	}
	return n
}
