package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"time"
	"unicode/utf8"

	"trace/flow"
)

// maxMessage bounds what is handed over of one message of a WebSocket. The rest
// is counted and hashed.
const maxMessage = 16 << 20

// maxPooled is how large a buffer may be to be used again for another message.
const maxPooled = 2 << 20

// gathered are the buffers that messages are put together in.
var gathered = sync.Pool{New: func() any { return new([]byte) }}

// A message is one message while its frames pass: unmasked, and inflated.
type message struct {
	in         *frames
	opcode     byte
	compressed bool // by permessage-deflate
	inflates   bool // and it can be undone
	coded      bool // in a way that cannot be undone: nobody could look for secrets in it

	passed   int64     // payload as it passed
	inflater *inflater // nil before the first byte of a message that inflates
	failed   error     // why not all of it was inflated

	buf  *[]byte   // what data lies in; nil before the first byte
	data []byte    // the first maxMessage bytes
	size int64     // of all
	sum  hash.Hash // of all; nil while data is all
	text textCheck
}

// begin makes m ready for a message of in.
func (m *message) begin(in *frames, opcode byte, compressed bool) {
	*m = message{in: in, opcode: opcode, compressed: compressed}
	m.inflates = compressed && !in.spoilt
	m.coded = compressed && in.spoilt
}

// write takes unmasked bytes of the payload; last says that these are the last.
func (m *message) write(p []byte, last bool) {
	whole := last && m.passed == 0
	m.passed += int64(len(p))
	switch {
	case !m.inflates:
		m.take(p)
	case m.failed != nil:
	case whole:
		m.failed = inflateWhole(p, m.window(), m.take)
	default:
		if m.inflater == nil {
			m.inflater = newInflater(m.window(), m.take)
		}
		if m.inflater.feed(p) {
			m.failed = m.inflater.err
		}
	}
}

// window returns what outlives the message, or nil.
func (m *message) window() *[]byte {
	if !m.in.takeover {
		return nil
	}
	return &m.in.window
}

// take takes bytes of the message itself.
func (m *message) take(p []byte) {
	m.size += int64(len(p))
	if m.hidden() {
		return
	}
	if m.opcode == opText {
		m.text.push(p)
	}
	d := m.in.w.x.d
	n := min(len(p), maxMessage-len(m.data), maxGathered-d.gathered)
	d.gathered += n
	if n < len(p) && m.sum == nil {
		m.sum = sha256.New()
		m.sum.Write(m.data)
		m.sum.Write(p[:n])
	} else if m.sum != nil {
		m.sum.Write(p[:n])
	}
	if m.buf == nil && n > 0 {
		m.buf = gathered.Get().(*[]byte)
		m.data = (*m.buf)[:0]
	}
	m.data = append(m.data, p[:n]...)
	if m.sum != nil {
		m.sum.Write(p[n:])
	}
}

// hidden reports whether the record must not hold the message.
func (m *message) hidden() bool { return m.coded && !m.in.w.x.d.Secrets }

// end ends the message: what the inflater still holds comes out. whole says
// that its last frame came.
func (m *message) end(whole bool) {
	if m.inflater != nil && m.failed == nil {
		m.failed = m.inflater.end(whole)
		m.inflater = nil
	}
}

// event returns what is handed over.
func (m *message) event(at time.Time, whole bool) flow.Event {
	e := flow.Event{
		Kind: flow.Message, At: at, Flow: m.in.w.x.id, Side: m.in.side, Opcode: m.opcode,
		Data: m.data, Size: m.size, Compressed: m.compressed,
	}
	if m.hidden() {
		e.Data = nil
		return e
	}
	if e.HasSum = whole && m.failed == nil; !e.HasSum {
		return e
	}
	if m.sum != nil {
		m.sum.Sum(e.SHA256[:0])
	} else {
		e.SHA256 = sha256.Sum256(m.data)
	}
	return e
}

// abort frees what the message holds.
func (m *message) abort() {
	if m.inflater != nil {
		m.inflater.stop()
	}
	m.release()
}

// release forgets the message.
func (m *message) release() {
	if m.in != nil {
		m.in.w.x.d.gathered -= len(m.data)
	}
	*m = message{}
}

// handOver ends m and hands it over. whole says that its last frame came.
func (in *frames) handOver(at time.Time, m *message, whole bool) {
	m.end(whole)
	in.w.x.d.emit(m.event(at, whole))
	switch {
	case m.failed != nil:
		in.fault(at, m)
	case m.inflates && m.passed == 0 && whole:
		in.odd(at, oddEmpty)
	}
	if m.opcode == opText && !m.coded && m.failed == nil && m.text.invalid(whole) {
		in.odd(at, oddText)
	}
	if m.opcode == opClose && whole {
		in.closed = true
		if !validClose(m.data) {
			in.odd(at, oddClose)
		}
	}
	if m.compressed && !whole && in.takeover {
		in.spoil()
	}
	if m.buf != nil && cap(m.data) <= maxPooled {
		*m.buf = m.data[:0]
		gathered.Put(m.buf)
	}
	m.release()
}

// fault says why m could not be inflated. Where the next message needs what
// this one was, no more can be.
func (in *frames) fault(at time.Time, m *message) {
	err := &flow.Error{Where: where(in.side), Code: flow.CodeMalformed, Message: "the deflated data of a message is broken: " + m.failed.Error()}
	if m.failed == errBomb {
		err.Where, err.Code, err.Message = flow.AtDecode, flow.CodeLimit, "a message grows beyond measure when inflated: the rest is left out"
	}
	if in.takeover {
		in.spoil()
		err.Message += "; deflated messages of the " + in.side.String() + " that follow are not inflated, as they build on it"
	}
	in.w.x.d.mark(in.w.x.id, in.side, at, err)
}

func (in *frames) spoil() { in.spoilt, in.window = true, nil }

// finish says what stayed incomplete when the direction ended.
func (in *frames) finish(at time.Time) {
	if in.broken == nil && (in.open || in.cur != nil || in.have > 0) {
		in.cut = &flow.Error{Where: where(in.w.first), Code: flow.CodeTruncated, Message: "the " + in.side.String() + "'s last message is incomplete", Detail: detailNoClose}
		if in.w.lost != nil {
			in.cut.Where = in.w.lost.Where
		}
		if in.w.closed() {
			in.cut.Detail = ""
		}
	}
	control := in.cur == &in.control
	if in.open || in.cur == &in.data {
		in.handOver(at, &in.data, false)
	}
	if control {
		in.handOver(at, &in.control, false)
	}
	if in.cut != nil {
		in.w.x.d.mark(in.w.x.id, in.side, at, in.cut)
	}
	in.cur, in.open, in.have = nil, false, 0
	in.window = nil
}

// validClose reports whether p may be the payload of a Close frame (RFC 6455
// sections 5.5.1 and 7.4).
func validClose(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	if len(p) < 2 || !utf8.Valid(p[2:]) {
		return false
	}
	switch code := binary.BigEndian.Uint16(p); {
	case code < 1000, code == 1004, code == 1005, code == 1006, code == 1015, code >= 5000:
		return false
	case code >= 1016 && code < 3000:
		return false
	}
	return true
}

// A textCheck finds out whether text that comes in pieces is UTF-8.
type textCheck struct {
	bad  bool
	rest [utf8.UTFMax]byte // of a character whose end has not come
	n    int
}

func (c *textCheck) push(p []byte) {
	for c.n > 0 && len(p) > 0 && !c.bad {
		c.rest[c.n] = p[0]
		c.n++
		p = p[1:]
		if utf8.FullRune(c.rest[:c.n]) {
			r, n := utf8.DecodeRune(c.rest[:c.n])
			c.bad = r == utf8.RuneError && n <= 1
			c.n = 0
		}
	}
	if c.bad || len(p) == 0 {
		return
	}
	end := len(p)
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if utf8.RuneStart(p[len(p)-i]) {
			if !utf8.FullRune(p[len(p)-i:]) {
				end = len(p) - i
			}
			break
		}
	}
	c.bad = !utf8.Valid(p[:end])
	c.n = copy(c.rest[:], p[end:])
}

// invalid reports whether the text is none; whole says that all of it came.
func (c *textCheck) invalid(whole bool) bool { return c.bad || whole && c.n > 0 }

// unmask writes src without its mask to dst, which is as long. phase says which
// byte of the mask comes first (RFC 6455 section 5.3).
func unmask(dst, src []byte, mask [4]byte, phase int) {
	var turned [8]byte
	for i := range turned {
		turned[i] = mask[(phase+i)&3]
	}
	word := binary.NativeEndian.Uint64(turned[:])
	for len(src) >= 32 && len(dst) >= 32 {
		binary.NativeEndian.PutUint64(dst, binary.NativeEndian.Uint64(src)^word)
		binary.NativeEndian.PutUint64(dst[8:], binary.NativeEndian.Uint64(src[8:])^word)
		binary.NativeEndian.PutUint64(dst[16:], binary.NativeEndian.Uint64(src[16:])^word)
		binary.NativeEndian.PutUint64(dst[24:], binary.NativeEndian.Uint64(src[24:])^word)
		dst, src = dst[32:], src[32:]
	}
	for len(src) >= 8 {
		binary.NativeEndian.PutUint64(dst, binary.NativeEndian.Uint64(src)^word)
		dst, src = dst[8:], src[8:]
	}
	for i := range src {
		dst[i] = src[i] ^ turned[i&7]
	}
}
