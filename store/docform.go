package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"trace/flow"
)

// docForm is the first byte of the documents described here. Those of files of
// version 1 are JSON.
const docForm = 2

var errDoc = errors.New("damaged document")

// A docCoder writes the part of an exchange that no column holds, or reads it:
// each method does either, so that the layout is described once. Numbers are
// varints. A string is one of docWords, one that stood in the document before,
// or its bytes. What a later version adds goes to the end.
type docCoder struct {
	b       []byte // written so far, or not read yet
	reading bool
	bad     bool     // what is read is damaged
	said    []string // the first strings that were given by their bytes
}

// maxSaid bounds said, which is searched from end to end.
const maxSaid = 32

// The low bits of the number with which a string begins.
const (
	saidBytes = iota // the rest is the length
	saidWord         // the index in docWords
	saidAgain        // the index in said
	saidBits  = 2
)

// exchange is the document.
func (c *docCoder) exchange(x *flow.Exchange) {
	c.part(&x.Request)
	c.part(&x.Response)
	c.times(&x.RequestEnded, &x.Responded, &x.FirstEvent)
	for i := range x.Tally {
		c.int(&x.Tally[i].Messages)
		c.int(&x.Tally[i].Bytes)
	}
	if c.present(x.DNS != nil) {
		c.json(&x.DNS)
	}
	notes := toNotes(x.Marks)
	if c.present(len(notes) > 0) {
		c.json(&notes)
		if c.reading {
			x.Marks = fromNotes(notes)
		}
	}
	if c.reading && len(c.b) == 0 || !c.reading && x.Forwarded == nil && x.Original == nil {
		return // of a version that had none, or there is none
	}
	c.part(&x.Forwarded)
	if c.reading && len(c.b) == 0 || !c.reading && x.Original == nil {
		return
	}
	c.part(&x.Original)
}

func (c *docCoder) part(p **flow.Part) {
	if !c.present(*p != nil) {
		return
	}
	if c.reading {
		*p = new(flow.Part)
	}
	q := *p
	c.flags(&q.Withheld)
	c.head(&q.Head)
	c.string(&q.ContentType)
	c.ended(&q.Body, q.Withheld)
	n := c.count(len(q.Informational))
	if c.reading && n > 0 {
		q.Informational = make([]*flow.Head, n)
	}
	for i := range q.Informational {
		c.head(&q.Informational[i])
	}
}

func (c *docCoder) head(p **flow.Head) {
	if !c.present(*p != nil) {
		return
	}
	if c.reading {
		*p = new(flow.Head)
	}
	h := *p
	c.flags(&h.Streaming)
	for _, s := range []*string{&h.Method, &h.Target, &h.Scheme, &h.Host, &h.Path, &h.Reason, &h.Version, &h.Authority, &h.Framing, &h.Protocol} {
		c.string(s)
	}
	c.small(&h.Port)
	c.small(&h.Status)
	c.int(&h.Stream)
	c.fields(&h.Fields)
}

func (c *docCoder) fields(fs *[]flow.Field) {
	n := c.count(len(*fs))
	if c.reading && n > 0 {
		*fs = make([]flow.Field, n)
	}
	for i := range *fs {
		c.string(&(*fs)[i].Name)
		c.string(&(*fs)[i].Value)
	}
}

// ended is what is known of a body. The hash of a withheld one would let its
// secret be guessed.
func (c *docCoder) ended(p **flow.Ended, withheld bool) {
	if !c.present(*p != nil) {
		return
	}
	if c.reading {
		*p = new(flow.Ended)
	}
	e := *p
	c.flags(&e.Truncated, &e.Cut)
	for _, n := range []*int64{&e.Size, &e.Decoded, &e.Kept, &e.Events} {
		c.int(n)
	}
	c.string(&e.Encoding)
	c.fields(&e.Trailers)
	switch {
	case withheld:
	case !c.reading:
		c.b = append(c.b, e.SHA256[:]...)
	default:
		copy(e.SHA256[:], c.take(uint64(len(e.SHA256))))
	}
}

// times are each given as the distance from the one before.
func (c *docCoder) times(ts ...*time.Time) {
	var base int64
	for _, t := range ts {
		us := micros(*t)
		if !c.present(us != 0) {
			continue
		}
		us -= base
		c.int(&us)
		base += us
		if c.reading {
			*t = fromMicros(base)
		}
	}
}

// json is for what is rare.
func (c *docCoder) json(v any) {
	var s string
	if !c.reading {
		p, _ := json.Marshal(v) // strings and numbers: cannot fail
		s = string(p)
	}
	c.string(&s)
	if c.reading && !c.bad && json.Unmarshal([]byte(s), v) != nil {
		c.bad = true
	}
}

// present writes or reads whether something follows.
func (c *docCoder) present(is bool) bool {
	c.flags(&is)
	return is
}

func (c *docCoder) flags(fs ...*bool) {
	var n uint64
	for i, f := range fs {
		if *f {
			n |= 1 << i
		}
	}
	if c.uint(&n); !c.reading {
		return
	}
	for i, f := range fs {
		*f = n>>i&1 != 0
	}
}

// count writes or reads the length of a list whose elements take a byte each
// at least.
func (c *docCoder) count(n int) int {
	v := uint64(n)
	c.uint(&v)
	if c.reading && v > uint64(len(c.b)) {
		c.bad, v = true, 0
	}
	return int(v)
}

func (c *docCoder) small(v *int) {
	n := int64(*v)
	if c.int(&n); c.reading {
		*v = int(n)
	}
}

func (c *docCoder) int(v *int64) {
	n := uint64(*v<<1) ^ uint64(*v>>63) // zigzag
	if c.uint(&n); c.reading {
		*v = int64(n>>1) ^ -int64(n&1)
	}
}

func (c *docCoder) uint(v *uint64) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	n, w := binary.Uvarint(c.b)
	if w <= 0 {
		c.bad, c.b, n, w = true, nil, 0, 0
	}
	*v, c.b = n, c.b[w:]
}

func (c *docCoder) string(s *string) {
	if c.reading {
		*s = c.readString()
		return
	}
	c.writeString(*s)
}

func (c *docCoder) writeString(s string) {
	n := uint64(len(s)) << saidBits // saidBytes
	if i, ok := wordIndex(s); ok {
		n = i<<saidBits | saidWord
	} else if i := c.before(s); i >= 0 {
		n = uint64(i)<<saidBits | saidAgain
	}
	c.b = binary.AppendUvarint(c.b, n)
	if n&(1<<saidBits-1) == saidBytes {
		c.b = append(c.b, s...)
		c.remember(s)
	}
}

func (c *docCoder) readString() string {
	var n uint64
	c.uint(&n)
	how, n := n&(1<<saidBits-1), n>>saidBits
	switch {
	case how == saidBytes:
		s := string(c.take(n))
		c.remember(s)
		return s
	case how == saidWord && n < uint64(len(docWords)):
		return docWords[n]
	case how == saidAgain && n < uint64(len(c.said)):
		return c.said[n]
	}
	c.bad = true
	return ""
}

func (c *docCoder) before(s string) int {
	for i, t := range c.said {
		if s == t {
			return i
		}
	}
	return -1
}

func (c *docCoder) remember(s string) {
	if len(c.said) < maxSaid {
		c.said = append(c.said, s)
	}
}

// take reads n bytes.
func (c *docCoder) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

// encode writes the part of x that no column holds, behind b. It changes
// nothing of x: heads are shared with the road. A coder may be used again.
func (c *docCoder) encode(b []byte, x *flow.Exchange) []byte {
	clear(c.said)
	*c = docCoder{b: append(b, docForm), said: c.said[:0]}
	c.exchange(x)
	b, c.b = c.b, nil
	return b
}

// decodeDoc fills x from its document.
func decodeDoc(p []byte, x *flow.Exchange) error {
	if len(p) == 0 || p[0] != docForm {
		return decodeOldDoc(p, x)
	}
	c := docCoder{b: p[1:], reading: true, said: make([]string, 0, maxSaid)}
	c.exchange(x)
	if c.bad {
		return errDoc
	}
	return nil
}
