package wire

import (
	"strconv"
	"strings"

	"trace/flow"
)

// maxFields bounds the fields of one head or trailer section that are kept.
// What follows is left out of the record and ignored.
const maxFields = 10000

// oddities are the ways in which a head departs from its grammar without
// making the message unreadable. Each is told once a head.
type oddities uint32

const (
	oddTarget oddities = 1 << iota
	oddColon
	oddName
	oddFold
	oddNUL
	oddCR
	oddFields
	oddHost
	oddLength
	oddBoth
	oddTransfer

	// Of HTTP/2 only.
	oddLong
	oddLine
	oddPseudo
	oddUpper
	oddConnection
	oddMissing
	oddLengthValue
	oddSwitch
	oddTrailers
)

var oddityText = []string{
	"the request target contains white space",
	"a header line has no colon",
	"a field name is not a token",
	"a header begins with a folded line",
	"a field contains NUL",
	"a field contains a bare CR",
	"more fields than " + strconv.Itoa(maxFields) + ": the rest is left out",
	"more than one Host",
	"more than one Content-Length, all equal",
	"both Transfer-Encoding and Content-Length: the former is followed",
	"Transfer-Encoding is not as HTTP/1.1 allows",
	"the header is too long: some of its fields are left out",
	"a field contains CR or LF",
	"a pseudo-header field is unknown, repeated or out of place",
	"a field name is not in lower case",
	"a field of HTTP/1's connections has no place in HTTP/2",
	"a pseudo-header field is missing",
	"Content-Length is not a number, or says two",
	"HTTP/2 cannot switch protocols",
	"trailers do not end their message, or come twice",
}

// each calls f for every oddity.
func (o oddities) each(f func(code, text string)) {
	for i, text := range oddityText {
		if bit := oddities(1) << i; o&bit != 0 {
			code := flow.CodeMalformed
			if bit == oddFields || bit == oddLong {
				code = flow.CodeLimit
			}
			f(code, text)
		}
	}
}

// parseRequest reads the head of a request. raw is the whole of it, or the
// complete lines that came. It fails if the request line is none.
func parseRequest(raw string) (h *flow.Head, odd oddities, ok bool) {
	line, raw := cutLine(raw)
	method, target, version, ok := parseRequestLine(line)
	if !ok {
		return nil, 0, false
	}
	h = &flow.Head{Method: method, Target: target, Version: version}
	h.Fields, odd = parseFields(raw)
	if strings.ContainsAny(target, " \t") {
		odd |= oddTarget
	}
	return h, odd, true
}

// parseResponse reads the head of an answer as parseRequest reads a request's.
func parseResponse(raw string) (h *flow.Head, odd oddities, ok bool) {
	line, raw := cutLine(raw)
	h = new(flow.Head)
	h.Version, h.Status, h.Reason, ok = parseStatusLine(line)
	if !ok {
		return nil, 0, false
	}
	h.Fields, odd = parseFields(raw)
	return h, odd, true
}

// cutLine cuts the first line off s, without its LF or CRLF.
func cutLine(s string) (line, rest string) {
	line, rest, _ = strings.Cut(s, "\n")
	return strings.TrimSuffix(line, "\r"), rest
}

// parseRequestLine reads a request line (RFC 9112 section 3). White space may
// be more than one space, as that section's robustness rule says.
func parseRequestLine(line string) (method, target, version string, ok bool) {
	line = strings.TrimRight(line, " \t\r")
	i, j := strings.IndexAny(line, " \t"), strings.LastIndexAny(line, " \t")
	if i <= 0 || i > maxMethod || i == j {
		return "", "", "", false
	}
	for k := range i {
		if !isToken(line[k]) {
			return "", "", "", false
		}
	}
	target = strings.Trim(line[i:j], " \t")
	for k := range len(target) {
		if c := target[k]; c < ' ' && c != '\t' || c == 0x7f {
			return "", "", "", false
		}
	}
	version, ok = parseVersion(line[j+1:])
	return line[:i], target, version, ok && target != ""
}

// parseStatusLine reads a status line (RFC 9112 section 4). The reason and the
// space before it may be missing.
func parseStatusLine(line string) (version string, status int, reason string, ok bool) {
	word, line, _ := strings.Cut(line, " ")
	if version, ok = parseVersion(word); !ok {
		return "", 0, "", false
	}
	line = strings.TrimLeft(line, " ")
	code, reason, _ := strings.Cut(line, " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || status < 100 {
		return "", 0, "", false
	}
	return version, status, reason, true
}

// parseVersion returns the numbers of HTTP/1.0, HTTP/1.1 and their like.
func parseVersion(s string) (version string, ok bool) {
	if len(s) != len("HTTP/1.1") || s[:7] != "HTTP/1." || s[7] < '0' || s[7] > '9' {
		return "", false
	}
	return s[5:], true
}

// parseFields reads field lines up to an empty line or the end of s (RFC 9112
// section 5). Lines that are no fields are kept under an empty name.
func parseFields(s string) (fs []flow.Field, odd oddities) {
	if strings.IndexByte(s, 0) >= 0 {
		odd |= oddNUL
	}
	fs = make([]flow.Field, 0, min(strings.Count(s, "\n"), 64))
	for s != "" {
		line := fieldLine(s)
		s = s[len(line):]
		if line == "\n" || line == "\r\n" {
			break
		}
		text := strings.Trim(line, " \t\r\n")
		if len(fs) == maxFields {
			return fs, odd | oddFields
		}
		if line[0] == ' ' || line[0] == '\t' {
			odd |= oddFold
			fs = append(fs, flow.Field{Value: text})
			continue
		}
		if bareCR(line) {
			odd |= oddCR
		}
		name, value, ok := strings.Cut(text, ":")
		if !ok {
			odd |= oddColon
			fs = append(fs, flow.Field{Value: text})
			continue
		}
		name = strings.TrimRight(name, " \t\r\n")
		if !isName(name) || len(name) != strings.IndexByte(text, ':') {
			odd |= oddName
		}
		fs = append(fs, flow.Field{Name: name, Value: strings.TrimLeft(value, " \t\r\n")})
	}
	return fs, odd
}

// fieldLine returns the first line of s with its end and with the lines that
// are folded into it (RFC 9112 section 5.2).
func fieldLine(s string) string {
	n := strings.IndexByte(s, '\n') + 1
	if n == 0 {
		return s
	}
	if s[:n] == "\n" || s[:n] == "\r\n" {
		return s[:n]
	}
	for n < len(s) && (s[n] == ' ' || s[n] == '\t') {
		i := strings.IndexByte(s[n:], '\n')
		if i < 0 {
			return s
		}
		n += i + 1
	}
	return s[:n]
}

// bareCR reports whether a CR stands in line that no LF follows.
func bareCR(line string) bool {
	for i := strings.IndexByte(line, '\r'); i >= 0 && i+1 < len(line); {
		if line[i+1] != '\n' {
			return true
		}
		j := strings.IndexByte(line[i+1:], '\r')
		if j < 0 {
			return false
		}
		i += 1 + j
	}
	return false
}

func isName(name string) bool {
	for i := range len(name) {
		if !isToken(name[i]) {
			return false
		}
	}
	return name != ""
}

// parseChunkSize reads a chunk-size line without its extensions (RFC 9112
// section 7.1). White space around the size is tolerated.
func parseChunkSize(line string) (int64, bool) {
	size, _, _ := strings.Cut(line, ";")
	size = strings.Trim(size, " \t\r\n")
	for i := range len(size) {
		if c := size[i] | 0x20; (size[i] < '0' || size[i] > '9') && (c < 'a' || c > 'f') {
			return 0, false // ParseInt would take a sign and underscores
		}
	}
	n, err := strconv.ParseInt(size, 16, 64)
	return n, err == nil
}
