package llm

import (
	"encoding/json"
	"unicode/utf16"
	"unicode/utf8"
)

// What requests repeat is read at every turn, so what looks at every byte is
// written out here: encoding/json goes state by state and looks twice.

// ends tells the bytes that end a run of plain characters in a string: the
// quote, the backslash, and what must be escaped.
var ends = func() (t [256]bool) {
	for c := range ' ' {
		t[c] = true
	}
	t['"'], t['\\'] = true, true
	return t
}()

// valid reports what json.Valid does.
func valid(p []byte) bool {
	i := validValue(p, space(p, 0), 0)
	return i > 0 && space(p, i) == len(p)
}

// maxDepth is that of encoding/json.
const maxDepth = 10000

// validValue returns the index behind the value that begins at p[i]; 0 if there
// is none.
func validValue(p []byte, i, depth int) int {
	if i >= len(p) {
		return 0
	}
	switch c := p[i]; c {
	case '{', '[':
		if depth == maxDepth {
			return 0
		}
		return validMembers(p, space(p, i+1), depth+1, c+2) // the closing one
	case '"':
		return validString(p, i)
	}
	end := i
	for end < len(p) && !delimiter(p[end]) {
		end++
	}
	if !json.Valid(p[i:end]) {
		return 0
	}
	return end
}

// delimiter reports whether c ends a number or a word.
func delimiter(c byte) bool {
	switch c {
	case ',', ':', ']', '}', '[', '{', '"', ' ', '\n', '\t', '\r':
		return true
	}
	return false
}

// validMembers reads what an object or an array holds, up to close.
func validMembers(p []byte, i, depth int, close byte) int {
	if i < len(p) && p[i] == close {
		return i + 1
	}
	for {
		if close == '}' {
			if i >= len(p) || p[i] != '"' {
				return 0
			}
			if i = validString(p, i); i == 0 {
				return 0
			}
			if i = space(p, i); i >= len(p) || p[i] != ':' {
				return 0
			}
			i = space(p, i+1)
		}
		if i = validValue(p, i, depth); i == 0 {
			return 0
		}
		if i = space(p, i); i >= len(p) {
			return 0
		}
		switch p[i] {
		case close:
			return i + 1
		case ',':
			i = space(p, i+1)
		default:
			return 0
		}
	}
}

// validString returns the index behind the string that begins at p[i]; 0 if it
// is none.
func validString(p []byte, i int) int {
	for i++; i < len(p); i++ {
		c := p[i]
		if !ends[c] {
			continue
		}
		if c == '"' {
			return i + 1
		}
		if c != '\\' || i+1 == len(p) {
			return 0
		}
		i++
		switch p[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		case 'u':
			if hex4(p[i+1:]) < 0 {
				return 0
			}
			i += 4
		default:
			return 0
		}
	}
	return 0
}

// hex4 returns the number that four hexadecimal digits are, -1 if they are none.
func hex4(p []byte) rune {
	if len(p) < 4 {
		return -1
	}
	var n rune
	for _, c := range p[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		n = n<<4 | rune(c)
	}
	return n
}

// unquote returns what stands between the quotes of a valid string with its
// escapes undone. Half of a surrogate pair is U+FFFD.
func unquote(in []byte) string {
	out := make([]byte, 0, len(in))
	for i := 0; i < len(in); {
		from := i
		for i < len(in) && in[i] != '\\' {
			i++
		}
		if out = append(out, in[from:i]...); i+1 >= len(in) {
			break
		}
		c := in[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hex4(in[i:])
			i = min(i+4, len(in))
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+1 < len(in) && in[i] == '\\' && in[i+1] == 'u' {
					low = hex4(in[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		out = append(out, c)
	}
	return string(out)
}
