package mcp

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// The limits of a scanner.
const (
	maxDepth   = 10000 // of containers
	maxKey     = 1 << 10
	maxWord    = 256 // of a number
	maxMembers = 60  // children that are named
	beginBytes = 60  // of a child that are shown
)

// A member is a child of a value that was found.
type member struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Size  int64  `json:"bytes"` // as JSON
	Begin string `json:"begin,omitempty"`
}

// A scanner follows a path through JSON that is written to it piece by piece. It
// holds containers that are open, and the beginnings of what it tells of.
type scanner struct {
	path []step
	// sink is given the bytes of the values that the path leads to, as they stand.
	sink func(p []byte)
	// begun and done are called around each of them.
	begun func(kind string)
	done  func()

	matches  int
	kind     string   // of the last value
	size     int64    // of it as JSON
	members  []member // its children
	children int      // all of them

	offset int64 // of the piece that is read
	stack  []frame
	state  scanState
	key    []byte
	word   []byte // a literal or number
	inKey  bool
	copied int   // where in the piece the next byte for sink is; -1: none is wanted
	target int   // depth of the value that is found; -1: none is open
	start  int64 // of it
	child  int64 // start of the child that is open; -1: none is
	begin  []byte
	over   bool // the path can lead nowhere else
}

// A frame is a container that is open.
type frame struct {
	array bool
	found bool // a value that the path leads to
	want  int  // the step that chooses among its children; -1: none of them is wanted
	n     int  // children so far
}

type scanState uint8

// What is expected next.
const (
	aValue scanState = iota
	anElement
	aKey
	aMember
	aColon
	aComma
	inString
	inEscape
	inLiteral
	nothing
)

func newScanner(path []step) *scanner {
	return &scanner{path: path, target: -1, child: -1, copied: -1}
}

// kinds of values by their first byte.
func kindOf(c byte) string {
	switch c {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	if c == '-' || c >= '0' && c <= '9' {
		return "number"
	}
	return ""
}

// Write reads the next piece. What follows the first value is not looked at.
func (s *scanner) Write(p []byte) (int, error) {
	if s.copied >= 0 {
		s.copied = 0
	}
	if s.offset == 0 {
		p = bytes.TrimPrefix(p, []byte("\xef\xbb\xbf"))
	}
	for i := 0; i < len(p) && s.state != nothing; {
		n, err := s.step(p, i)
		if err != nil {
			return i, fmt.Errorf("no JSON at byte %d: %w", s.offset+int64(i), err)
		}
		i = n
	}
	s.emit(p, len(p))
	s.offset += int64(len(p))
	return len(p), nil
}

// emit passes on what was read of a value up to i.
func (s *scanner) emit(p []byte, i int) {
	if s.copied < 0 {
		return
	}
	part := p[s.copied:i]
	s.copied = i
	if s.sink != nil && len(part) > 0 {
		s.sink(part)
	}
	if s.child >= 0 && len(s.begin) < beginBytes {
		from := max(0, int(s.child-s.offset)) // in p
		from = max(from, i-len(part))
		if from < i {
			s.begin = append(s.begin, p[from:min(i, from+beginBytes-len(s.begin))]...)
		}
	}
}

// step reads on at p[i] and returns where the next step begins.
func (s *scanner) step(p []byte, i int) (int, error) {
	c := p[i]
	switch s.state {
	case inString:
		return s.text(p, i), nil
	case inEscape:
		s.state = inString
		s.keep(p[i : i+1])
		return i + 1, nil
	case inLiteral:
		for ; i < len(p); i++ {
			if c := p[i]; c <= ' ' || c == ',' || c == ']' || c == '}' {
				if !s.isLiteral() {
					return i, fmt.Errorf("%q is no value", s.word)
				}
				s.end(p, i)
				return i, nil
			}
			if len(s.word) < maxWord {
				s.word = append(s.word, p[i])
			}
		}
		return i, nil
	}
	if c == ' ' || c == '\n' || c == '\t' || c == '\r' {
		return i + 1, nil
	}
	switch s.state {
	case aComma:
		top := &s.stack[len(s.stack)-1]
		switch {
		case c == ',' && top.array:
			s.state = aValue
			return i + 1, nil
		case c == ',':
			s.state = aKey
			return i + 1, nil
		}
		return s.close(p, i, c)
	case aColon:
		if c == ':' {
			s.state = aValue
			return i + 1, nil
		}
	case aMember, aKey:
		if c == '"' {
			s.state, s.inKey, s.key = inString, true, s.key[:0]
			return i + 1, nil
		}
		if s.state == aMember {
			return s.close(p, i, c)
		}
	case anElement:
		if c == ']' {
			return s.close(p, i, c)
		}
		return s.open(p, i)
	case aValue:
		return s.open(p, i)
	}
	return i, fmt.Errorf("%q is not expected", c)
}

// text reads on in a string.
func (s *scanner) text(p []byte, i int) int {
	rest := p[i:]
	n := bytes.IndexByte(rest, '"')
	if n < 0 {
		n = len(rest)
	}
	if k := bytes.IndexByte(rest[:n], '\\'); k >= 0 {
		s.keep(rest[:k+1])
		s.state = inEscape
		return i + k + 1
	}
	s.keep(rest[:n])
	if n == len(rest) {
		return i + n
	}
	i += n + 1
	if s.inKey {
		s.inKey, s.state = false, aColon
		return i
	}
	s.end(p, i)
	return i
}

// keep keeps a part of a key.
func (s *scanner) keep(p []byte) {
	if s.inKey && len(s.key) <= maxKey {
		s.key = append(s.key, p...)
	}
}

// name is the key that was read.
func (s *scanner) name() string {
	if bytes.IndexByte(s.key, '\\') < 0 {
		return string(s.key)
	}
	var name string
	if json.Unmarshal(append(append([]byte{'"'}, s.key...), '"'), &name) != nil {
		return string(s.key)
	}
	return name
}

// open begins a value.
func (s *scanner) open(p []byte, i int) (int, error) {
	c := p[i]
	kind := kindOf(c)
	if kind == "" {
		return i, fmt.Errorf("%q begins no value", c)
	}
	want := 0 // of the outermost value
	if len(s.stack) > 0 {
		top := &s.stack[len(s.stack)-1]
		if want = -1; top.want >= 0 && s.path[top.want].fits(top.array, s.name(), top.n) {
			want = top.want + 1
		}
		if top.found {
			s.emit(p, i)
			s.open1(top, kind, i)
		}
		top.n++
	}
	found := want == len(s.path)
	if found {
		s.target, s.start, s.copied = len(s.stack), s.offset+int64(i), i
		s.kind, s.members, s.children = kind, nil, 0
		s.matches++
		if s.begun != nil {
			s.begun(kind)
		}
		want = -1
	}
	switch c {
	case '{', '[':
		if len(s.stack) == maxDepth {
			return i, fmt.Errorf("more than %d containers in each other", maxDepth)
		}
		s.stack = append(s.stack, frame{array: c == '[', found: found, want: want})
		if s.state = aMember; c == '[' {
			s.state = anElement
		}
	case '"':
		s.state = inString
	default:
		s.state, s.word = inLiteral, append(s.word[:0], c)
	}
	return i + 1, nil
}

// open1 begins a child of a value that was found.
func (s *scanner) open1(top *frame, kind string, i int) {
	if s.children++; s.children > maxMembers {
		return
	}
	name := fmt.Sprintf("[%d]", top.n)
	if !top.array {
		name = clip(s.name(), 100)
	}
	s.members = append(s.members, member{Name: name, Kind: kind})
	s.child, s.begin = s.offset+int64(i), s.begin[:0]
}

// close ends a container.
func (s *scanner) close(p []byte, i int, c byte) (int, error) {
	top := s.stack[len(s.stack)-1]
	if top.array && c != ']' || !top.array && c != '}' {
		return i, fmt.Errorf("%q is not expected", c)
	}
	s.stack = s.stack[:len(s.stack)-1]
	s.end(p, i+1)
	return i + 1, nil
}

// end ends a value, before p[i].
func (s *scanner) end(p []byte, i int) {
	depth := len(s.stack)
	if s.child >= 0 && depth > 0 && s.stack[depth-1].found {
		s.emit(p, i)
		m := &s.members[len(s.members)-1]
		m.Size = s.offset + int64(i) - s.child
		if m.Kind != "object" && m.Kind != "array" || m.Size <= beginBytes {
			m.Begin = string(s.begin[:cut(string(s.begin), len(s.begin))])
			if m.Size > beginBytes {
				m.Begin = m.Begin[:cut(m.Begin, beginBytes-4)] + "…"
			}
		}
		s.child = -1
	}
	if depth == s.target {
		s.emit(p, i)
		s.size = s.offset + int64(i) - s.start
		s.target, s.copied = -1, -1
		if s.done != nil {
			s.done()
		}
	}
	if s.state = aComma; depth == 0 {
		s.state = nothing
	}
}

// isLiteral tells whether what was read is true, false, null or a number; of a very
// long one that is taken for granted.
func (s *scanner) isLiteral() bool { return len(s.word) == maxWord || json.Valid(s.word) }

// finish ends the text: a number at its end is over. It tells whether the text was
// whole.
func (s *scanner) finish() bool {
	if s.state == inLiteral && len(s.stack) == 0 && s.isLiteral() {
		s.copied = min(s.copied, 0)
		s.end(nil, 0)
	}
	return s.state == nothing
}

// A unescaper makes text of the JSON string that is written to it, quotes and all.
type unescaper struct {
	to    func(p []byte)
	state int // 0: letters, 1: behind a backslash, 2…5: in the digits of \u
	code  rune
	high  rune // the first half of a surrogate pair
}

// write takes the next piece.
func (u *unescaper) write(p []byte) {
	for len(p) > 0 {
		if u.state == 0 {
			n := bytes.IndexAny(p, `"\`)
			if n < 0 {
				n = len(p)
			}
			if n > 0 {
				u.flush()
				u.to(p[:n])
			}
			if p = p[n:]; len(p) == 0 {
				return
			}
			if p[0] == '\\' {
				u.state = 1
			}
			p = p[1:]
			continue
		}
		c := p[0]
		p = p[1:]
		if u.state == 1 {
			u.escape(c)
			continue
		}
		u.code = u.code<<4 | rune(bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)&15)
		if u.state++; u.state == 6 {
			u.state = 0
			u.unit(u.code)
		}
	}
}

// escape takes the letter behind a backslash.
func (u *unescaper) escape(c byte) {
	u.state = 0
	if c == 'u' {
		u.state, u.code = 2, 0
		return
	}
	u.flush()
	if i := bytes.IndexByte([]byte("bfnrt"), c); i >= 0 {
		c = "\b\f\n\r\t"[i]
	}
	u.to([]byte{c})
}

// unit takes a unit of UTF-16.
func (u *unescaper) unit(r rune) {
	switch {
	case u.high != 0 && r >= 0xdc00 && r < 0xe000:
		u.to([]byte(string(0x10000 + (u.high-0xd800)<<10 + r - 0xdc00)))
		u.high = 0
	case r >= 0xd800 && r < 0xdc00:
		u.flush()
		u.high = r
	default:
		u.flush()
		u.to([]byte(string(r))) // a lone second half becomes U+FFFD
	}
}

// flush writes what stands for half a pair.
func (u *unescaper) flush() {
	if u.high != 0 {
		u.high = 0
		u.to([]byte("\ufffd"))
	}
}
