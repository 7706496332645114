package flow

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// What of a message is shown field by field.
const (
	maxProtobuf = 4 << 20  // bytes of a message
	maxNumbers  = 64 << 10 // fields of one
	maxNested   = 40       // messages and groups inside each other
)

// Protobuf shows a message of protocol buffers as JSON without knowing its
// schema, by its wire types alone; ok is false if p is none. The keys are the
// numbers of the fields in the order in which they first stand; a field that
// stands more than once is an array.
//
//   - A varint is a number; one of 2^63 and above is the negative number that
//     it is as an int64. Nobody can tell bool, enum or sint from it.
//   - A fixed32 is {"fixed32": n, "float": x}, a fixed64 {"fixed64": n,
//     "double": x}: one of the two was meant. x is absent if it is not finite.
//   - Bytes are a string where they are printable text, a nested object where
//     they parse as a message, else {"base64": …}. Packed numbers are not told
//     from bytes.
//   - A group is an object.
func Protobuf(p []byte) (text []byte, ok bool) {
	if len(p) > maxProtobuf {
		return nil, false
	}
	m, rest, ok := parseMessage(p, 0, 0)
	if !ok || len(rest) > 0 {
		return nil, false
	}
	return m.json(nil, 0), true
}

// A protoMessage is the fields of a message in their order.
type protoMessage []protoField

type protoField struct {
	number uint64
	wire   byte
	value  uint64       // of varint, fixed32, fixed64
	bytes  []byte       // of length-delimited
	group  protoMessage // of a group
}

// The wire types.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireGroup   = 3
	wireEnd     = 4
	wireFixed32 = 5
)

// parseMessage reads fields up to the end of p, or, inside the group of that
// number, up to its end. It does not look into bytes.
func parseMessage(p []byte, group uint64, depth int) (m protoMessage, rest []byte, ok bool) {
	for len(p) > 0 {
		tag, n := binary.Uvarint(p)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 || len(m) == maxNumbers {
			return nil, nil, false
		}
		p = p[n:]
		f := protoField{number: tag >> 3, wire: byte(tag & 7)}
		switch f.wire {
		case wireVarint:
			if f.value, n = binary.Uvarint(p); n <= 0 {
				return nil, nil, false
			}
			p = p[n:]
		case wireFixed64:
			if len(p) < 8 {
				return nil, nil, false
			}
			f.value, p = binary.LittleEndian.Uint64(p), p[8:]
		case wireFixed32:
			if len(p) < 4 {
				return nil, nil, false
			}
			f.value, p = uint64(binary.LittleEndian.Uint32(p)), p[4:]
		case wireBytes:
			size, n := binary.Uvarint(p)
			if n <= 0 || size > uint64(len(p)-n) {
				return nil, nil, false
			}
			f.bytes, p = p[n:n+int(size)], p[n+int(size):]
		case wireGroup:
			if depth == maxNested {
				return nil, nil, false
			}
			if f.group, p, ok = parseMessage(p, f.number, depth+1); !ok {
				return nil, nil, false
			}
		case wireEnd:
			return m, p, group == f.number
		default:
			return nil, nil, false
		}
		m = append(m, f)
	}
	return m, nil, group == 0
}

// json appends the object that shows m.
func (m protoMessage) json(b []byte, depth int) []byte {
	if !slices.IsSortedFunc(m, func(x, y protoField) int { return cmp.Compare(x.number, y.number) }) {
		m = m.gather()
	}
	b = append(b, '{')
	for i := 0; i < len(m); {
		j := i + 1
		for j < len(m) && m[j].number == m[i].number {
			j++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = strconv.AppendUint(b, m[i].number, 10)
		b = append(b, '"', ':')
		if j > i+1 {
			b = append(b, '[')
		}
		for k := i; k < j; k++ {
			if k > i {
				b = append(b, ',')
			}
			b = m[k].json(b, depth)
		}
		if j > i+1 {
			b = append(b, ']')
		}
		i = j
	}
	return append(b, '}')
}

// gather returns m with the fields of each number together.
func (m protoMessage) gather() protoMessage {
	place := map[uint64]int{} // of a number among them
	var sizes []int
	for _, f := range m {
		i, seen := place[f.number]
		if !seen {
			i = len(sizes)
			place[f.number] = i
			sizes = append(sizes, 0)
		}
		sizes[i]++
	}
	next := 0
	for i, n := range sizes {
		sizes[i], next = next, next+n
	}
	gathered := make(protoMessage, len(m))
	for _, f := range m {
		i := place[f.number]
		gathered[sizes[i]] = f
		sizes[i]++
	}
	return gathered
}

// json appends the value of f.
func (f *protoField) json(b []byte, depth int) []byte {
	switch f.wire {
	case wireVarint:
		return strconv.AppendInt(b, int64(f.value), 10)
	case wireFixed32:
		return appendFixed(b, "fixed32", f.value, "float", float64(math.Float32frombits(uint32(f.value))), 32)
	case wireFixed64:
		return appendFixed(b, "fixed64", f.value, "double", math.Float64frombits(f.value), 64)
	case wireGroup:
		return f.group.json(b, depth+1)
	}
	text, control := printable(f.bytes)
	if !text || control {
		if len(f.bytes) > 0 && depth < maxNested {
			if m, _, ok := parseMessage(f.bytes, 0, depth+1); ok {
				return m.json(b, depth+1)
			}
		}
	}
	if text {
		return appendString(b, string(f.bytes))
	}
	b = append(b, `{"base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, f.bytes)
	return append(b, `"}`...)
}

// printable reports whether p is text that people write, and whether that has
// line ends or tabs: the tag of field 1 looks like one, so such text may be a
// message just as well.
func printable(p []byte) (text, control bool) {
	if !utf8.Valid(p) {
		return false, false
	}
	for _, c := range p {
		switch {
		case c == '\n' || c == '\r' || c == '\t':
			control = true
		case c < ' ' || c == 0x7f:
			return false, false
		}
	}
	return true, control
}

func appendFixed(b []byte, fixed string, n uint64, float string, x float64, bits int) []byte {
	b = append(append(append(b, '{', '"'), fixed...), '"', ':')
	b = strconv.AppendUint(b, n, 10)
	if !math.IsNaN(x) && !math.IsInf(x, 0) {
		b = append(append(append(b, ',', '"'), float...), '"', ':')
		b = strconv.AppendFloat(b, x, 'g', -1, bits)
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			text, err := MarshalJSON(s)
			if err != nil {
				text = []byte(`""`) // of a string it cannot be
			}
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
