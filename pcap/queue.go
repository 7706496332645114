package pcap

import (
	"encoding/binary"
	"time"
)

const (
	// chunkSize is what the queue allocates at a time, in bytes: more than one
	// packet takes.
	chunkSize = 256 << 10

	// maxSpare bounds the chunks that are kept for later.
	maxSpare = 16
)

// A queue holds blocks of packets, oldest first. Blocks that were taken stay
// where they are until the next take: a chunk may be written out in front
// while blocks are added behind. It is guarded by its Writer.
type queue struct {
	chunks []*chunk
	taken  []*chunk // by the last take, to be used again
	spare  []*chunk
	size   int // bytes of blocks that are not written yet
}

type chunk struct {
	buf  []byte // whole blocks
	next int    // where the first one stands that was not taken
}

// room returns a buffer to which size bytes can be appended in place.
func (q *queue) room(size int) *[]byte {
	if n := len(q.chunks); n > 0 {
		if c := q.chunks[n-1]; cap(c.buf)-len(c.buf) >= size {
			return &c.buf
		}
	}
	var c *chunk
	if n := len(q.spare); n > 0 && size <= chunkSize {
		c, q.spare = q.spare[n-1], q.spare[:n-1]
	} else {
		c = &chunk{buf: make([]byte, 0, max(size, chunkSize))}
	}
	q.chunks = append(q.chunks, c)
	return &c.buf
}

// oldest returns the time of the first block that was not taken.
func (q *queue) oldest() (time.Time, bool) {
	for _, c := range q.chunks {
		if c.next < len(c.buf) {
			return timeOf(c.buf[c.next:]), true
		}
	}
	return time.Time{}, false
}

// take returns the blocks from the first on for which due is true; it is told
// how many bytes wait. They are valid until the next take.
func (q *queue) take(due func(block []byte, waiting int) bool) [][]byte {
	q.recycle()
	left := q.size // the last take was written
	var blocks [][]byte
	for len(q.chunks) > 0 {
		c := q.chunks[0]
		end := c.next
		for end < len(c.buf) {
			n := lengthOf(c.buf[end:])
			if !due(c.buf[end:end+n], left) {
				break
			}
			end += n
			left -= n
		}
		if end > c.next {
			blocks = append(blocks, c.buf[c.next:end:end])
			c.next = end
		}
		if end < len(c.buf) || len(q.chunks) == 1 {
			break
		}
		q.taken = append(q.taken, c)
		q.chunks = q.chunks[1:]
	}
	return blocks
}

// recycle frees what the last take returned.
func (q *queue) recycle() {
	for _, c := range q.taken {
		if len(q.spare) < maxSpare && cap(c.buf) == chunkSize {
			c.buf, c.next = c.buf[:0], 0
			q.spare = append(q.spare, c)
		}
	}
	q.taken = q.taken[:0]
	if len(q.chunks) == 1 && q.chunks[0].next == len(q.chunks[0].buf) {
		c := q.chunks[0]
		c.buf, c.next = c.buf[:0], 0
	}
}

// lengthOf, timeOf and dataOf read an Enhanced Packet Block.
func lengthOf(block []byte) int { return int(binary.LittleEndian.Uint32(block[4:])) }

func timeOf(block []byte) time.Time {
	high, low := binary.LittleEndian.Uint32(block[12:]), binary.LittleEndian.Uint32(block[16:])
	return time.Unix(0, int64(uint64(high)<<32|uint64(low)))
}

func dataOf(block []byte) []byte {
	return block[packetFixed : packetFixed+int(binary.LittleEndian.Uint32(block[20:]))]
}
