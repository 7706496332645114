package export

import (
	"bytes"
	"encoding/base64"
	"io"
	"unicode/utf8"

	"trace/flow"
)

// maxHeldBody is how much of a body is held; a longer one is read twice.
const maxHeldBody = 4 << 20

// A content is a body that has been looked at.
type content struct {
	size int64 // as far as it was kept
	text bool  // it can stand as a string
	head byte  // the first that is no space
	held []byte
	tail []byte // the beginning of a character
	from func(w io.Writer) error
}

// contentOf reads the body of one side of a flow. A body is text if all of it
// is UTF-8 without NUL and the two noncharacters that JSON readers refuse.
func contentOf(src Source, id int64, side flow.Side) (*content, error) {
	c := &content{text: true}
	c.from = func(w io.Writer) error {
		_, err := src.WriteBody(w, id, side)
		return err
	}
	if err := c.from(c); err != nil {
		return nil, &BodyError{id, err}
	}
	c.text = c.text && len(c.tail) == 0
	if c.size > maxHeldBody {
		c.held = nil
	}
	return c, nil
}

// Write looks at the next piece.
func (c *content) Write(p []byte) (int, error) {
	if c.head == 0 {
		if begin := bytes.TrimLeft(p, " \t\r\n"); len(begin) > 0 {
			c.head = begin[0]
		}
	}
	c.size += int64(len(p))
	if c.size <= maxHeldBody {
		c.held = append(c.held, p...)
	}
	if !c.text {
		return len(p), nil
	}
	q := p
	if len(c.tail) > 0 {
		q = append(c.tail, p...)
		c.tail = nil
	}
	for len(q) > 0 {
		if q[0] < utf8.RuneSelf {
			if q[0] == 0 {
				c.text = false
				break
			}
			q = q[1:]
			continue
		}
		if !utf8.FullRune(q) {
			c.tail = bytes.Clone(q)
			break
		}
		r, n := utf8.DecodeRune(q)
		if r == utf8.RuneError && n == 1 || r == '\ufffe' || r == '\uffff' {
			c.text = false
			break
		}
		q = q[n:]
	}
	return len(p), nil
}

// jsonLike reports whether the body may be JSON, by its first character.
func (c *content) jsonLike() bool { return bytes.IndexByte([]byte("{[\"-0123456789tfn"), c.head) >= 0 }

// bytes writes the body to w: exactly what was looked at, also where a running
// flow has got more since.
func (c *content) bytes(w io.Writer) error {
	if c.size <= maxHeldBody {
		_, err := w.Write(c.held)
		return err
	}
	return c.from(&firstBytes{w, c.size})
}

// json writes the body as what stands between the quotes of a JSON string:
// itself where it is text, else base64.
func (c *content) json(w io.Writer) error {
	if c.text {
		return c.bytes(jsonText{w})
	}
	e := base64.NewEncoder(base64.StdEncoding, w)
	if err := c.bytes(e); err != nil {
		return err
	}
	return e.Close()
}

// firstBytes passes on the first n bytes.
type firstBytes struct {
	w io.Writer
	n int64
}

func (f *firstBytes) Write(p []byte) (int, error) {
	q := p[:min(int64(len(p)), f.n)]
	f.n -= int64(len(q))
	if _, err := f.w.Write(q); err != nil {
		return 0, err
	}
	return len(p), nil
}

// jsonText escapes UTF-8 as JSON wants it within a string (RFC 8259 section 7).
type jsonText struct{ w io.Writer }

const hexDigits = "0123456789abcdef"

func (j jsonText) Write(p []byte) (int, error) {
	b := make([]byte, 0, len(p)+len(p)/8+16)
	for _, c := range p {
		switch {
		case c == '"', c == '\\':
			b = append(b, '\\', c)
		case c >= ' ':
			b = append(b, c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&15])
		}
	}
	if _, err := j.w.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A jsonWriter writes JSON a part at a time. The first error stays.
type jsonWriter struct {
	w   io.Writer
	err error
}

func (j *jsonWriter) raw(s string) {
	if j.err == nil {
		_, j.err = io.WriteString(j.w, s)
	}
}

// value writes v.
func (j *jsonWriter) value(v any) {
	text, err := flow.MarshalJSON(v)
	if j.err == nil {
		j.err = err
	}
	j.raw(string(text))
}

// open writes the object v but for its closing brace, so that members can
// follow.
func (j *jsonWriter) open(v any) {
	text, err := flow.MarshalJSON(v)
	if j.err == nil {
		j.err = err
	}
	j.raw(string(bytes.TrimSuffix(text, []byte("}"))))
}

// text writes the member "text" of an open object.
func (j *jsonWriter) text(c *content) {
	j.raw(`,"text":"`)
	if j.err == nil {
		j.err = c.json(j.w)
	}
	j.raw(`"`)
}
