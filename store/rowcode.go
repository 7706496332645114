package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A batch carries rows from a Feed to a Copy: where it leads to, as three varints,
// and then rows. A row is the number of its table, that of its columns, and each
// column as the type that SQLite keeps it in and its value.

// rowTable names what a row is for.
type rowTable byte

// The rows of a batch, in the order of copyInto but for the first two.
const (
	rowSession rowTable = iota + 1
	rowTail             // of a flow: what is in tail of it is all that follows
	rowPack
	rowConn
	rowFlow
	rowTouched // id of a flow of which only tail has news
	rowDetail
	rowBody
	rowTailPiece
	rowNote
	rowCall
)

// rowColumns is how many columns each has.
var rowColumns = [...]int{
	rowSession: 14, rowTail: 1, rowPack: 5, rowConn: 11, rowFlow: 23, rowTouched: 1, rowDetail: 2, rowBody: 8, rowTailPiece: 10, rowNote: 5, rowCall: 2,
}

// The types of columns.
const (
	columnNull = iota
	columnInt
	columnReal
	columnText
	columnBlob
)

var errBatch = errors.New("damaged batch")

// appendRow encodes a row.
func appendRow(b []byte, t rowTable, r row) []byte {
	b = append(b, byte(t), byte(len(r)))
	for _, v := range r {
		switch v := v.(type) {
		case int64:
			b = binary.AppendVarint(append(b, columnInt), v)
		case float64:
			b = binary.BigEndian.AppendUint64(append(b, columnReal), math.Float64bits(v))
		case string:
			b = append(binary.AppendUvarint(append(b, columnText), uint64(len(v))), v...)
		case []byte:
			b = append(binary.AppendUvarint(append(b, columnBlob), uint64(len(v))), v...)
		default:
			b = append(b, columnNull)
		}
	}
	return b
}

// parseRow decodes the row that b begins with and returns the rest. Blobs in the
// row are parts of b.
func parseRow(b []byte, r row) (t rowTable, _ row, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, nil, errBatch
	}
	t = rowTable(b[0])
	if int(t) >= len(rowColumns) || rowColumns[t] != int(b[1]) {
		return 0, nil, nil, fmt.Errorf("%w: table %d with %d columns", errBatch, b[0], b[1])
	}
	r = r[:0]
	n := int(b[1])
	for b = b[2:]; n > 0; n-- {
		var v any
		if v, b, err = parseColumn(b); err != nil {
			return 0, nil, nil, err
		}
		r = append(r, v)
	}
	return t, r, b, nil
}

func parseColumn(b []byte) (v any, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errBatch
	}
	kind := b[0]
	b = b[1:]
	switch kind {
	case columnNull:
		return nil, b, nil
	case columnInt:
		n, k := binary.Varint(b)
		if k <= 0 {
			return nil, nil, errBatch
		}
		return n, b[k:], nil
	case columnReal:
		if len(b) < 8 {
			return nil, nil, errBatch
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), b[8:], nil
	case columnText, columnBlob:
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return nil, nil, errBatch
		}
		p := b[k : k+int(n) : k+int(n)]
		if kind == columnText {
			return string(p), b[k+int(n):], nil
		}
		return p, b[k+int(n):], nil
	}
	return nil, nil, fmt.Errorf("%w: column of type %d", errBatch, kind)
}

// A feedPosition is how far a session was copied: the numbers of a burst of the
// one who records, of a note and of the chunk that comes next.
type feedPosition struct{ rev, note, pack int64 }

func (p feedPosition) String() string { return fmt.Sprintf("%d.%d.%d", p.rev, p.note, p.pack) }

func parsePosition(s string) (p feedPosition, err error) {
	if _, err = fmt.Sscanf(s, "%d.%d.%d", &p.rev, &p.note, &p.pack); err != nil || p.String() != s || p.rev < 0 || p.note < 0 || p.pack < 0 {
		return p, fmt.Errorf("position %q: not one of a session", s)
	}
	return p, nil
}

func (p feedPosition) append(b []byte) []byte {
	return binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(b, p.rev), p.note), p.pack)
}

func parseBatch(b []byte) (p feedPosition, rows []byte, err error) {
	for _, v := range []*int64{&p.rev, &p.note, &p.pack} {
		n, k := binary.Varint(b)
		if k <= 0 || n < 0 {
			return p, nil, errBatch
		}
		*v, b = n, b[k:]
	}
	return p, b, nil
}
