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
	inflater *inflater // nil unless a message that inflates passes in pieces
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
		m.feed(p)
	}
}

// feed inflates p, a piece of the message.
func (m *message) feed(p []byte) {
	if m.inflater == nil {
		if m.in.w.x.d.decoding >= maxDecoding {
			m.failed = errCrowd
			return
		}
		m.in.w.x.d.decoding++
		m.inflater = newInflater(m.window(), m.take)
	}
	if m.inflater.feed(p) {
		m.failed = m.inflater.err
		m.stop()
	}
}

// stop ends the inflater, if there is one.
func (m *message) stop() {
	if m.inflater != nil {
		m.inflater.stop()
		m.inflater = nil
		m.in.w.x.d.decoding--
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
	if m.sum == nil {
		d := m.in.w.x.d
		n := max(0, min(len(p), maxMessage-len(m.data), maxGathered-d.gathered))
		if m.buf == nil && n > 0 {
			m.buf = gathered.Get().(*[]byte)
			m.data = (*m.buf)[:0]
		}
		m.data = append(m.data, p[:n]...)
		d.gathered += n
		if n == len(p) {
			return
		}
		m.sum = sha256.New()
		m.sum.Write(m.data)
		p = p[n:]
	}
	m.sum.Write(p)
}

// hidden reports whether the record must not hold the message.
func (m *message) hidden() bool { return m.coded && !m.in.w.x.d.Secrets }

// end ends the message: what the inflater still holds comes out. whole says
// that its last frame came.
func (m *message) end(whole bool) {
	if m.inflater != nil {
		m.failed = m.inflater.end(whole)
		m.stop()
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
	m.stop()
	m.release()
}

// release forgets the message.
func (m *message) release() {
	if m.in != nil {
		m.in.w.x.d.gathered -= len(m.data)
	}
	*m = message{}
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
