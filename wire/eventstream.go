package wire

import (
	"encoding/binary"
	"hash/crc32"

	"trace/flow"
)

// The parts of a message of an AWS event stream that are always there.
const (
	eventPrelude = 12 // total length, length of the headers, checksum of both
	eventSum     = 4  // checksum of all before it
)

// An eventStreamCutter cuts an AWS event stream into its messages. A message is
// one event, with its lengths and checksums. Once one of those is wrong nobody
// knows where the next message begins: that is marked, and the rest is Body.
type eventStreamCutter struct {
	gatherer
	prelude [eventPrelude]byte
	have    int    // bytes of it
	left    int64  // bytes of the message after it
	sum     uint32 // of what came of the message, without its last four bytes
	last    [eventSum]byte
	lost    bool
}

func (c *eventStreamCutter) push(p []byte) {
	for len(p) > 0 && !c.lost {
		n := 0
		if c.have < eventPrelude {
			n = copy(c.prelude[c.have:], p)
			if c.have += n; c.have == eventPrelude {
				c.begin()
			}
		} else {
			n = int(min(int64(len(p)), c.left))
			c.take(p[:n])
		}
		if c.have == eventPrelude && c.left == 0 && !c.lost {
			c.check()
		}
		switch {
		case c.lost:
			c.drop()
			n = 0
		case c.have == 0:
			c.cut(p[:n])
		default:
			c.keep(p[:n])
		}
		p = p[n:]
	}
	c.between(p)
}

// begin reads the prelude.
func (c *eventStreamCutter) begin() {
	total := binary.BigEndian.Uint32(c.prelude[:])
	headers := binary.BigEndian.Uint32(c.prelude[4:])
	switch {
	case crc32.ChecksumIEEE(c.prelude[:8]) != binary.BigEndian.Uint32(c.prelude[8:]):
		c.fail("the checksum of a prelude of the event stream is wrong")
	case total < eventPrelude+eventSum || headers > total-eventPrelude-eventSum:
		c.fail("the lengths in a prelude of the event stream contradict each other")
	default:
		c.left = int64(total) - eventPrelude
		c.sum = crc32.ChecksumIEEE(c.prelude[:])
	}
}

// take takes bytes after the prelude.
func (c *eventStreamCutter) take(p []byte) {
	n := int(min(int64(len(p)), max(c.left-eventSum, 0)))
	c.sum = crc32.Update(c.sum, crc32.IEEETable, p[:n])
	c.left -= int64(n)
	for _, b := range p[n:] {
		c.last[eventSum-c.left] = b
		c.left--
	}
}

// check ends a message whose last byte came.
func (c *eventStreamCutter) check() {
	if binary.BigEndian.Uint32(c.last[:]) != c.sum {
		c.fail("the checksum of a message of the event stream is wrong")
		return
	}
	c.have = 0
}

func (c *eventStreamCutter) fail(why string) {
	c.b.mark(flow.CodeMalformed, why)
	c.lost = true
}

// end hands over what is left of a message.
func (c *eventStreamCutter) end(cut bool) {
	c.drop()
	if !cut && !c.lost && c.have > 0 {
		c.b.mark(flow.CodeTruncated, "the body ends within a message of the event stream")
	}
}
