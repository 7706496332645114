package proxy

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// Limits of what is held of a message.
const (
	maxHead      = 1 << 20
	maxChunkLine = 16 << 10
)

var errFraming = errors.New("the message has no framing that can be followed")

// headEnd returns the length of the head at the start of p, 0 if it is not
// whole. Empty lines before it belong to it.
func headEnd(p []byte) int { return new(headSeeker).end(p) }

// A headSeeker looks for the end of a head that comes in pieces, at each octet once:
// whoever sends it one by one is no more work than others.
type headSeeker struct {
	start int // of the first line that is not empty
	line  int // where the current line begins
	seen  int
}

// end returns what headEnd does. p is what it was before, with more behind it.
func (h *headSeeker) end(p []byte) int {
	for h.start == h.seen && h.start < len(p) && (p[h.start] == '\r' || p[h.start] == '\n') {
		h.start++
		h.line, h.seen = h.start, h.start
	}
	for h.seen < len(p) {
		j := bytes.IndexByte(p[h.seen:], '\n')
		if j < 0 {
			h.seen = len(p)
			return 0
		}
		line := p[h.line : h.seen+j]
		if h.line > h.start && len(bytes.TrimRight(line, "\r")) == 0 {
			return h.seen + j + 1
		}
		h.line = h.seen + j + 1
		h.seen = h.line
	}
	return 0
}

// begun tells whether a line is whole.
func (h *headSeeker) begun() bool { return h.line > h.start }

// A request is a head taken apart, as far as it matters for carrying it.
type request struct {
	method, target string
	lead           int // where the request line begins
	lineEnd        int // where it ends, its line break included
	body           body
}

// parseRequest reads a head (RFC 9112 section 3).
func parseRequest(head []byte) (r request, err error) {
	for head[r.lead] == '\r' || head[r.lead] == '\n' {
		r.lead++
	}
	r.lineEnd = r.lead + bytes.IndexByte(head[r.lead:], '\n') + 1
	words := strings.FieldsFunc(string(head[r.lead:r.lineEnd]), isSpace)
	if len(words) != 3 || !strings.HasPrefix(words[2], "HTTP/1.") {
		return r, errors.New("this is no request of HTTP/1.1")
	}
	r.method, r.target = words[0], words[1]
	r.body, err = framed(head[r.lineEnd:])
	r.body.left = max(r.body.left, 0)
	return r, err
}

// isSpace tells what may separate the words of a request line (RFC 9112 section 3).
// Spaces beyond ASCII are part of a target, wrongly, but the server's to judge.
func isSpace(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' }

// field returns the value of the first field of a name; ok says that there is
// one.
func (r *request) field(head []byte, name string) (value string, ok bool) {
	for line := range bytes.Lines(head[r.lineEnd:]) {
		n, v, colon := bytes.Cut(line, []byte(":"))
		if colon && strings.EqualFold(string(bytes.TrimRight(n, " \t")), name) {
			return strings.TrimSpace(string(v)), true
		}
	}
	return "", false
}

// isForProxy tells the fields of a request that end at a proxy (RFC 9110 section
// 11.7.2; Proxy-Connection is what old clients say for Connection).
func isForProxy(name []byte) bool {
	return bytes.EqualFold(name, []byte("proxy-authorization")) || bytes.EqualFold(name, []byte("proxy-connection"))
}

// rewritten returns the head as it leaves: with the target of d, and its name
// in Host.
func (r *request) rewritten(head []byte, d destination) []byte {
	line := head[r.lead:r.lineEnd]
	i := bytes.Index(line[len(r.method):], []byte(r.target)) + len(r.method)
	out := append([]byte(nil), line[:i]...)
	out = append(out, d.target...)
	out = append(out, line[i+len(r.target):]...)
	after, named, dropped := len(out), false, false
	for rest := head[r.lineEnd:]; len(rest) > 0; {
		line := rest[:bytes.IndexByte(rest, '\n')+1]
		rest = rest[len(line):]
		if dropped && (line[0] == ' ' || line[0] == '\t') {
			continue // obs-fold (RFC 9112 section 5.2)
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if dropped = ok && d.proxied && isForProxy(bytes.TrimRight(name, " \t")); dropped {
			continue
		}
		if !ok || !strings.EqualFold(string(name), "host") {
			out = append(out, line...)
			continue
		}
		named = true
		trimmed := bytes.TrimSpace(value)
		lead := len(value) - len(bytes.TrimLeft(value, " \t"))
		if len(trimmed) == 0 {
			lead = 0
			out = append(append(out, name...), ": "...)
		} else {
			out = append(append(out, name...), ':')
			out = append(out, value[:lead]...)
		}
		out = append(out, d.authority...)
		if len(trimmed) == 0 {
			out = append(out, "\r\n"...)
		} else {
			out = append(out, value[lead+len(trimmed):]...)
		}
	}
	if !named {
		rest := append([]byte("Host: "+d.authority+"\r\n"), out[after:]...)
		out = append(out[:after], rest...)
	}
	return out
}

// A body follows the framing of a message body.
type body struct {
	left    int64 // bytes to come; of a chunk where it is chunked
	chunked bool
	close   bool // it lasts until the end of the connection
	line    []byte
	state   int

	got      func([]byte) // gets the data; nil: nobody looks
	trailers []byte       // lines, where got is set
}

// States of a chunked body.
const (
	chunkSize = iota
	chunkData
	chunkEnd
	chunkTrailers
	chunkDone
)

// over tells whether no byte of it is left to come.
func (b *body) over() bool {
	switch {
	case b.close:
		return false
	case b.chunked:
		return b.state == chunkDone
	}
	return b.left == 0
}

// framed reads the framing of a request, or of an answer that has a body, from
// its field lines (RFC 9112 section 6.3).
func framed(fields []byte) (b body, err error) {
	length := ""
	for line := range bytes.Lines(fields) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		v := strings.TrimSpace(string(value))
		switch strings.ToLower(string(bytes.TrimRight(name, " \t"))) {
		case "transfer-encoding":
			last := v[strings.LastIndexByte(v, ',')+1:]
			b.chunked = strings.EqualFold(strings.TrimSpace(last), "chunked")
			if !b.chunked {
				return b, errFraming
			}
		case "content-length":
			for _, one := range strings.Split(v, ",") {
				one = strings.TrimSpace(one)
				if length != "" && length != one {
					return b, errFraming
				}
				length = one
			}
		}
	}
	if length != "" && !b.chunked {
		n, err := strconv.ParseUint(length, 10, 63)
		if err != nil {
			return b, errFraming
		}
		b.left = int64(n)
	} else if length == "" && !b.chunked {
		b.left = -1
	}
	return b, nil
}

// take returns how many bytes of p belong to the body.
func (b *body) take(p []byte) (int, error) {
	if b.close {
		b.saw(p)
		return len(p), nil
	}
	if !b.chunked {
		n := int(min(b.left, int64(len(p))))
		b.saw(p[:n])
		b.left -= int64(n)
		return n, nil
	}
	taken := 0
	for taken < len(p) && b.state != chunkDone {
		if b.state == chunkData {
			n := int(min(b.left, int64(len(p)-taken)))
			b.saw(p[taken : taken+n])
			b.left -= int64(n)
			if taken += n; b.left == 0 {
				b.state = chunkEnd
			}
			continue
		}
		n := bytes.IndexByte(p[taken:], '\n') + 1
		if n == 0 {
			n = len(p) - taken
		}
		b.line = append(b.line, p[taken:taken+n]...)
		taken += n
		if len(b.line) > maxChunkLine && b.state != chunkTrailers || len(b.line) > maxHead {
			return taken, errFraming
		}
		if b.line[len(b.line)-1] != '\n' {
			continue
		}
		line := strings.TrimRight(string(b.line), "\r\n")
		b.line = b.line[:0]
		if b.got != nil && b.state == chunkTrailers && line != "" {
			b.trailers = append(b.trailers, line+"\r\n"...)
		}
		if err := b.lineRead(line); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// saw shows data.
func (b *body) saw(p []byte) {
	if b.got != nil && len(p) > 0 {
		b.got(p)
	}
}

// lineRead takes a whole line between chunks.
func (b *body) lineRead(line string) error {
	switch b.state {
	case chunkSize:
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 62)
		if err != nil {
			return errFraming
		}
		b.left, b.state = int64(n), chunkData
		if n == 0 {
			b.state = chunkTrailers
		}
	case chunkEnd:
		if line != "" {
			return errFraming
		}
		b.state = chunkSize
	case chunkTrailers:
		if line == "" {
			b.state = chunkDone
		}
	}
	return nil
}

// answers follows what a server sends, to know when an answer is over.
type answers struct {
	method string // of the request that is answered
	busy   bool   // one is awaited
	head   []byte
	seek   headSeeker // in head
	in     bool       // the head is over
	body   body
	lost   bool // the framing cannot be followed: until close
}

// expect says that the answer to a request of method is to come.
func (a *answers) expect(method string) { a.method, a.busy, a.in = method, true, false }

// step takes p. It tells whether the answer is over, or the connection became
// a tunnel.
func (a *answers) step(p []byte) (over, tunnel bool) {
	for len(p) > 0 && a.busy && !a.lost {
		if a.in {
			n, err := a.body.take(p)
			p = p[n:]
			a.lost = err != nil
			if a.body.over() {
				a.busy = false
				return true, false
			}
			continue
		}
		old := len(a.head)
		a.head = append(a.head, p...)
		n := a.seek.end(a.head)
		if n == 0 {
			a.lost = len(a.head) > maxHead
			return false, false
		}
		head := a.head[:n]
		p = p[n-old:]
		status := statusOf(head)
		a.head, a.seek = nil, headSeeker{}
		if status >= 100 && status < 200 && status != 101 {
			continue
		}
		if status == 101 || a.method == "CONNECT" && status/100 == 2 {
			return false, true
		}
		if a.begin(head, status); a.body.over() {
			a.busy = false
			return true, false
		}
	}
	return false, false
}

// begin works out the body of an answer (RFC 9112 section 6.3).
func (a *answers) begin(head []byte, status int) {
	a.in = true
	if a.method == "HEAD" || status == 204 || status == 304 {
		a.body = body{}
		return
	}
	var err error
	a.body, err = framed(head[bytes.IndexByte(head, '\n')+1:])
	if err != nil || a.body.left < 0 {
		a.body = body{close: true}
	}
}

// statusOf reads the status line of a head, 0 if it is none.
func statusOf(head []byte) int {
	line, _, _ := bytes.Cut(bytes.TrimLeft(head, "\r\n"), []byte("\n"))
	words := bytes.Fields(line)
	if len(words) < 2 || !bytes.HasPrefix(words[0], []byte("HTTP/1.")) {
		return 0
	}
	n, err := strconv.Atoi(string(words[1]))
	if err != nil {
		return 0
	}
	return n
}
