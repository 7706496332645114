package wire

import (
	"errors"

	"trace/flow"
)

// maxString bounds a name or value of a header block that is kept.
const maxString = maxHead

var (
	errIndex      = errors.New("a header block refers to an entry that the table does not have")
	errTableShort = errors.New("a header block refers to an entry that a limit kept out of the table")
	errInteger    = errors.New("a header block contains an integer beyond measure")
	errTableSize  = errors.New("a header block makes the table larger than the other side allows")
	errBlockEnd   = errors.New("a header block ends within a field")
)

// An hpackDecoder decodes the header blocks of one direction (RFC 7541), in any
// split. What it cannot keep it skips, so that its table stays right. After an
// error it is of no use.
type hpackDecoder struct {
	// field takes the fields of the block. A field that is too long to be
	// kept comes without its bytes.
	field func(f flow.Field, long bool)
	// allowed is the largest table that the other side ever announced; the
	// moment at which a smaller one begins to hold cannot be known here.
	allowed uint64
	table   hpackTable

	state  func(d *hpackDecoder, p []byte) (n int, err error)
	inside bool // a field or a change of the table's size

	number uint64 // the integer that is read
	shift  uint
	then   func(d *hpackDecoder, v uint64) error

	indexed bool // the field is to be added to the table
	valued  bool // the string that is read is the value
	long    bool // the name or the value is too long to be kept
	f       flow.Field

	left    uint64 // bytes of the string to come
	coded   bool   // by Huffman
	huff    huffman
	buf     []byte // the string so far
	skipped bool   // because it is too long
}

// init makes d ready. The size of the table is what it is before any SETTINGS
// (RFC 9113 section 6.5.2).
func (d *hpackDecoder) init(field func(f flow.Field, long bool)) {
	const size = 4096
	*d = hpackDecoder{field: field, allowed: size, state: (*hpackDecoder).begin}
	d.table.max = size
}

// write takes the next bytes of the block. It returns how many were taken
// before an error was met.
func (d *hpackDecoder) write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = d.state(d, p[n:])
		n += k
	}
	return n, err
}

// end says that the block is over.
func (d *hpackDecoder) end() error {
	if d.inside {
		return errBlockEnd
	}
	d.buf = nil // an idle connection holds nothing
	return nil
}

// begin takes the first byte of a representation (section 6).
func (d *hpackDecoder) begin(p []byte) (int, error) {
	d.inside, d.valued, d.long, d.indexed = true, false, false, false
	switch b := p[0]; {
	case b&0x80 != 0:
		return d.integer(b, 7, (*hpackDecoder).entry)
	case b&0x40 != 0:
		d.indexed = true
		return d.integer(b, 6, (*hpackDecoder).name)
	case b&0x20 != 0:
		return d.integer(b, 5, (*hpackDecoder).resize)
	default: // not indexed, or never
		return d.integer(b, 4, (*hpackDecoder).name)
	}
}

// integer takes the first byte of an integer (section 5.1), whose prefix has
// so many bits, and goes on to then.
func (d *hpackDecoder) integer(b byte, prefix uint, then func(*hpackDecoder, uint64) error) (int, error) {
	full := uint64(1)<<prefix - 1
	if v := uint64(b) & full; v < full {
		return 1, then(d, v)
	}
	d.number, d.shift, d.then = full, 0, then
	d.state = (*hpackDecoder).digit
	return 1, nil
}

// digit takes a further byte of an integer.
func (d *hpackDecoder) digit(p []byte) (int, error) {
	if d.shift > 56 {
		return 0, errInteger
	}
	d.number += uint64(p[0]&0x7f) << d.shift
	d.shift += 7
	if p[0]&0x80 != 0 {
		return 1, nil
	}
	return 1, d.then(d, d.number)
}

// resize changes the size of the table (section 6.3).
func (d *hpackDecoder) resize(size uint64) error {
	if size > d.allowed {
		return errTableSize
	}
	d.table.resize(size)
	d.inside, d.state = false, (*hpackDecoder).begin
	return nil
}

// entry hands over a field that stands in a table.
func (d *hpackDecoder) entry(i uint64) error {
	f, err := d.table.get(i)
	if err != nil {
		return err
	}
	d.f = f
	d.over()
	return nil
}

// name takes the number of a field's name; 0: it follows as a string.
func (d *hpackDecoder) name(i uint64) error {
	d.state = (*hpackDecoder).length
	d.f = flow.Field{}
	if i == 0 {
		return nil
	}
	f, err := d.table.get(i)
	d.f.Name, d.valued = f.Name, true
	return err
}

// length takes the first byte of a string (section 5.2).
func (d *hpackDecoder) length(p []byte) (int, error) {
	d.coded = p[0]&0x80 != 0
	return d.integer(p[0], 7, (*hpackDecoder).sized)
}

func (d *hpackDecoder) sized(n uint64) error {
	d.left, d.buf, d.huff, d.skipped = n, d.buf[:0], huffman{}, false
	d.state = (*hpackDecoder).octets
	if n == 0 {
		return d.ended()
	}
	return nil
}

// octets takes bytes of a string.
func (d *hpackDecoder) octets(p []byte) (int, error) {
	p = p[:min(uint64(len(p)), d.left)]
	n := len(p)
	switch {
	case d.skipped:
	case d.coded:
		var err error
		if d.buf, n, err = d.huff.decode(d.buf, p, maxString); err != nil {
			return n, err
		}
	default:
		n = min(n, maxString+1-len(d.buf))
		d.buf = append(d.buf, p[:n]...)
	}
	if len(d.buf) > maxString {
		d.buf, d.skipped = nil, true
	}
	d.left -= uint64(n)
	if d.left > 0 {
		return n, nil
	}
	return n, d.ended()
}

// ended takes the end of a string.
func (d *hpackDecoder) ended() error {
	if d.coded && !d.skipped {
		var err error
		if d.buf, err = d.huff.end(d.buf); err != nil {
			return err
		}
	}
	d.long = d.long || d.skipped
	if !d.valued {
		d.f.Name, d.valued = string(d.buf), true
		d.state = (*hpackDecoder).length
		return nil
	}
	d.f.Value = string(d.buf)
	if d.indexed {
		d.table.add(d.f, d.long)
	}
	d.over()
	return nil
}

// over hands the field over.
func (d *hpackDecoder) over() {
	f := d.f
	d.f = flow.Field{}
	d.inside, d.state = false, (*hpackDecoder).begin
	if d.long {
		f = flow.Field{}
	}
	d.field(f, d.long)
}
