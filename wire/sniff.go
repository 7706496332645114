package wire

import (
	"bytes"
	"strings"
)

// maxMethod bounds a method name; longer tokens are taken for another protocol.
const maxMethod = 32

// outcome is what a look at the beginning of something can tell.
type outcome uint8

const (
	more    outcome = iota // it may become one
	done                   // it is one
	invalid                // it will never be one
	full                   // it outgrew its limit
	http2                  // it is the preface of HTTP/2
)

// sniff tells whether p begins a request of HTTP/1. It says done once the
// request line is complete, and invalid as soon as that can be known. The
// first seen bytes were sniffed before.
func sniff(p []byte, seen int) outcome {
	method := p[:min(len(p), maxMethod+1)]
	n := 0
	for n < len(method) && isToken(method[n]) {
		n++
	}
	switch {
	case n == len(p):
		return more
	case n == 0, n > maxMethod, p[n] != ' ' && p[n] != '\t':
		return invalid
	}
	from := min(seen, len(p))
	i := bytes.IndexByte(p[from:], '\n')
	if i < 0 {
		return more
	}
	line := string(p[:from+i])
	if strings.TrimRight(line, "\r") == "PRI * HTTP/2.0" {
		return http2
	}
	if _, _, _, ok := parseRequestLine(line); !ok {
		return invalid
	}
	return done
}

// sniffAnswer tells whether p begins an answer of HTTP/1.
func sniffAnswer(p []byte) outcome {
	const name = "HTTP/1."
	n := min(len(p), len(name))
	switch {
	case string(p[:n]) != name[:n]:
		return invalid
	case n < len(name):
		return more
	}
	return done
}

// sniffSettings tells whether p begins the SETTINGS with which a server of
// HTTP/2 begins, in a frame of less than 64 KiB.
func sniffSettings(p []byte) outcome {
	const frame = "\x00..\x04\x00\x00\x00\x00\x00"
	for i := range min(len(p), len(frame)) {
		if i != 1 && i != 2 && p[i] != frame[i] {
			return invalid
		}
	}
	if len(p) < len(frame) {
		return more
	}
	return done
}

// isToken reports whether c may stand in a token (RFC 9110 section 5.6.2).
func isToken(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c != 0 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// blanks returns how many of the first bytes of p are line ends: empty lines
// that may stand before a start line (RFC 9112 section 2.2).
func blanks(p []byte) int {
	n := 0
	for n < len(p) && (p[n] == '\r' || p[n] == '\n') {
		n++
	}
	return n
}

// blockEnd finds the empty line that ends a head, or with trailers a trailer
// section, which may be that line alone. It returns the length of the block
// with that line, or 0 and from where to search when there is more.
func blockEnd(p []byte, from int, trailers bool) (end, scan int) {
	if !trailers {
		from = max(from, blanks(p))
	} else if from == 0 {
		if n := emptyLine(p); n != 0 {
			return max(n, 0), 0
		}
	}
	for {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			return 0, len(p)
		}
		from += i
		switch n := emptyLine(p[from+1:]); {
		case n > 0:
			return from + 1 + n, 0
		case n < 0:
			return 0, from
		}
		from++
	}
}

// emptyLine returns the length of the empty line at the beginning of p, 0 if
// there is none and -1 if it may become one.
func emptyLine(p []byte) int {
	switch {
	case len(p) == 0:
		return -1
	case p[0] == '\n':
		return 1
	case p[0] != '\r':
		return 0
	case len(p) == 1:
		return -1
	case p[1] == '\n':
		return 2
	}
	return 0
}
