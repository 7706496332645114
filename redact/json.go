package redact

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// A token is what a lexer found.
type token uint8

const (
	tokenEnd     token = iota
	tokenBad           // no JSON from here on
	tokenPunct         // one of { } [ ] , :
	tokenString        // from and to stand inside its quotes
	tokenCut           // a string that the text ends in
	tokenLiteral       // number, true, false, null
)

// A lexer reads the tokens of JSON texts (RFC 8259), one after another. It is
// lax about what cannot mislead it: what it lets pass is not changed.
type lexer struct {
	b        []byte
	at       int // behind the token
	from, to int // the token
	escaped  bool
}

func (l *lexer) next() token {
	b := l.b
	for l.at < len(b) && (b[l.at] == ' ' || b[l.at] == '\n' || b[l.at] == '\r' || b[l.at] == '\t') {
		l.at++
	}
	if l.at == len(b) {
		return tokenEnd
	}
	l.from = l.at
	switch c := b[l.at]; c {
	case '{', '}', '[', ']', ',', ':':
		l.at++
		l.to = l.at
		return tokenPunct
	case '"':
		return l.str()
	}
	for l.at < len(b) && (alnum | dash | plus | dot).has(b[l.at]) {
		l.at++
	}
	l.to = l.at
	if l.at == l.from {
		return tokenBad
	}
	return tokenLiteral
}

// str reads a string whose opening quote stands at l.at.
func (l *lexer) str() token {
	b := l.b
	i := l.at + 1
	l.from, l.escaped = i, false
	for {
		q := bytes.IndexByte(b[i:], '"')
		end := i + q
		if q < 0 {
			end = len(b)
		}
		e := bytes.IndexByte(b[i:end], '\\')
		if e < 0 {
			l.to, l.at = end, min(end+1, len(b))
			if q < 0 {
				return tokenCut
			}
			return tokenString
		}
		l.escaped = true
		// Escapes are dense where there are any: go byte by byte.
		for i += e; i < len(b); i++ {
			if b[i] == '\\' {
				i++
				continue
			}
			if b[i] == '"' {
				l.to, l.at = i, i+1
				return tokenString
			}
		}
		l.to, l.at = len(b), len(b)
		return tokenCut
	}
}

// unescape decodes the inside of a JSON string that stands at raw in its text.
func (v *view) unescape(p []byte, raw int) {
	v.reset()
	for i := 0; i < len(p); {
		k := bytes.IndexByte(p[i:], '\\')
		if k < 0 {
			v.copy(p[i:], raw+i)
			break
		}
		v.copy(p[i:i+k], raw+i)
		i += k
		i += v.one(p[i:], raw+i)
	}
	v.close(raw + len(p))
}

// one decodes the escape at the beginning of p and returns its length.
func (v *view) one(p []byte, raw int) int {
	if len(p) < 2 {
		v.escape(raw, '\\')
		return len(p)
	}
	switch c := p[1]; c {
	case 'n':
		v.escape(raw, '\n')
	case 't':
		v.escape(raw, '\t')
	case 'r':
		v.escape(raw, '\r')
	case 'b':
		v.escape(raw, '\b')
	case 'f':
		v.escape(raw, '\f')
	case 'u':
		return v.unicode(p, raw)
	case '"', '\\', '/':
		v.escape(raw, c)
	default:
		v.copy(p[:1], raw) // no escape
		return 1
	}
	return 2
}

func (v *view) unicode(p []byte, raw int) int {
	r := hex4(p[2:])
	if r < 0 {
		v.copy(p[:1], raw)
		return 1
	}
	n := 6
	if utf16.IsSurrogate(r) {
		low := rune(-1)
		if hasPrefix(p[6:], `\u`) {
			low = hex4(p[8:])
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			n = 12
		}
	}
	v.escape(raw, utf8.AppendRune(nil, r)...)
	return n
}

// hex4 reads four hexadecimal digits, -1 if there are none.
func hex4(p []byte) rune {
	if len(p) < 4 {
		return -1
	}
	var r rune
	for _, c := range p[:4] {
		if !isHex(c) {
			return -1
		}
		r = r<<4 | rune(unhex(c))
	}
	return r
}
