package store

import (
	"encoding/binary"
	"errors"
	"time"

	"trace/flow"
)

// A piece is an event, a message, or bytes of an event stream that are no
// event, on its way into the file. Its fields are those of tail.
type piece struct {
	idx    int64 // among the events, of both sides, or messages; of plain bytes: of the next event
	ord    int64 // among the pieces of its part
	seq    int64 // of its latest row in tail
	gone   bool  // it has moved to a segment
	at     int64 // microseconds
	flags  byte
	opcode uint8
	size   int64
	sum    []byte
	data   []byte

	due     []byte // sum, until redaction has decided on all of the message
	changed bool   // by redaction
}

// Flags of a piece.
const (
	fromServer = 1 << iota
	isPartial  // the end is held back
	isPlain    // bytes between events: no event by itself
	isMessage  // opcode and size are set
	isDeflated // a message that came compressed
	isNumbered // in a table only: the distance from the index that was due follows
)

// partOf returns the part that a piece with these flags belongs to.
func partOf(flags byte) int {
	switch {
	case flags&isMessage != 0:
		return partMessages
	case flags&fromServer != 0:
		return partResponse
	}
	return partRequest
}

var errTimes = errors.New("damaged time table")

// maxGap bounds the distance of two indexes in a table: files may come from
// anyone.
const maxGap = 1 << 40

// appendTimes encodes the table of a segment whose first index is first: per
// piece flags, where indexes are left out (they are of the other side) how
// many, length of its bytes, distance in time from the piece before it
// (zigzag), and for messages opcode, size and hash. The first distance in time
// counts from 1970.
func appendTimes(b []byte, ps []*piece, first int64) []byte {
	var base int64
	for _, p := range ps {
		flags, gap := p.flags, p.idx-first
		if p.flags&isPlain != 0 {
			gap = 0
		}
		if gap > 0 {
			flags |= isNumbered
		}
		b = append(b, flags)
		if gap > 0 {
			b = binary.AppendUvarint(b, uint64(gap))
		}
		if p.flags&isPlain == 0 {
			first = p.idx + 1
		}
		b = binary.AppendUvarint(b, uint64(len(p.data)))
		b = binary.AppendVarint(b, p.at-base)
		base = p.at
		if p.flags&isMessage != 0 {
			b = append(b, p.opcode)
			b = binary.AppendVarint(b, p.size)
			b = append(b, byte(len(p.sum)))
			b = append(b, p.sum...)
		}
	}
	return b
}

// parseTimes reads a table and hands out the pieces with their bytes, which
// lie in body one after the other.
func parseTimes(b, body []byte, first int64) ([]*piece, error) {
	var ps []*piece
	var base int64
	for len(b) > 0 {
		p := &piece{flags: b[0] &^ isNumbered, idx: first}
		numbered := b[0]&isNumbered != 0
		b = b[1:]
		if numbered {
			gap, w := binary.Uvarint(b)
			if w <= 0 || gap > maxGap {
				return nil, errTimes
			}
			first += int64(gap)
			p.idx, b = first, b[w:]
		}
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(body)) {
			return nil, errTimes
		}
		p.data, body, b = body[:n:n], body[n:], b[w:]
		d, w := binary.Varint(b)
		if w <= 0 {
			return nil, errTimes
		}
		base += d
		p.at, b = base, b[w:]
		if p.flags&isMessage != 0 {
			if len(b) == 0 {
				return nil, errTimes
			}
			p.opcode, b = b[0], b[1:]
			if p.size, w = binary.Varint(b); w <= 0 || len(b) < w+1 || len(b) < w+1+int(b[w]) {
				return nil, errTimes
			}
			n := int(b[w])
			p.sum, b = b[w+1:w+1+n], b[w+1+n:]
		}
		if p.flags&isPlain == 0 {
			first++
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// public returns the piece as readers see it.
func (p *piece) public() flow.Piece {
	q := flow.Piece{Index: int(p.idx), At: time.UnixMicro(p.at).UTC(), Opcode: p.opcode, Compressed: p.flags&isDeflated != 0,
		Data: p.data, Size: p.size, Partial: p.flags&isPartial != 0}
	if p.flags&fromServer != 0 {
		q.Side = flow.Server
	}
	if p.flags&isMessage == 0 {
		q.Size = int64(len(p.data))
	}
	if len(p.sum) == len(q.SHA256) {
		q.HasSum = true
		copy(q.SHA256[:], p.sum)
	}
	return q
}
