package wire

import (
	"net/netip"
	"strconv"
	"strings"

	"trace/flow"
)

// frameKind says how the end of a message's content is found.
type frameKind uint8

const (
	frameNone    frameKind = iota // there is no content
	frameLength                   // Content-Length
	frameChunked                  // the chunked coding ends it
	frameClose                    // the end of the connection
	frameUnknown                  // cannot be known
)

// framing is what RFC 9112 section 6.3 makes of a head.
type framing struct {
	kind    frameKind
	length  int64    // of frameLength
	codings []string // transfer codings beneath chunked, in order of application
	odd     oddities
}

// frameRequest works out the framing of a request.
func frameRequest(h *flow.Head) framing {
	f := frameFields(h)
	switch f.kind {
	case frameClose: // a request cannot be ended by closing
		f.kind, f.odd = frameUnknown, f.odd|oddTransfer
	}
	if count(h, "Host") > 1 {
		f.odd |= oddHost
	}
	return f
}

// frameResponse works out the framing of a final answer to method.
func frameResponse(h *flow.Head, method string) framing {
	switch {
	case method == "HEAD", h.Status == 204, h.Status == 304, h.Status < 200:
		return framing{}
	case method == "CONNECT" && h.Status < 300:
		return framing{}
	}
	f := frameFields(h)
	if f.kind == frameNone {
		f.kind = frameClose
	}
	return f
}

// frameFields looks at Transfer-Encoding and Content-Length alone. Without
// either it says frameNone.
func frameFields(h *flow.Head) framing {
	length, lengths, valid := contentLength(h)
	if count(h, "Transfer-Encoding") == 0 {
		switch {
		case lengths == 0:
			return framing{}
		case !valid:
			return framing{kind: frameUnknown}
		case lengths > 1:
			return framing{kind: frameLength, length: length, odd: oddLength}
		}
		return framing{kind: frameLength, length: length}
	}
	f := framing{kind: frameClose}
	if lengths > 0 {
		f.odd |= oddBoth
	}
	if h.Version == "1.0" {
		f.odd |= oddTransfer
	}
	codings := tokens(h, "Transfer-Encoding")
	if n := len(codings); n > 0 && codings[n-1] == "chunked" {
		f.kind, codings = frameChunked, codings[:n-1]
	}
	for _, c := range codings {
		switch c {
		case "identity": // of RFC 2616, gone since
			f.odd |= oddTransfer
		case "chunked": // twice, or not the last
			f.kind, f.odd = frameUnknown, f.odd|oddTransfer
		default:
			f.codings = append(f.codings, c)
		}
	}
	if len(f.codings) == 0 && f.kind == frameClose && lengths > 0 && valid {
		f.kind, f.length = frameLength, length // nothing but identity
	}
	return f
}

// contentLength returns the length, how often it was said, and whether all
// said the same number (RFC 9110 section 8.6).
func contentLength(h *flow.Head) (length int64, lengths int, valid bool) {
	valid = true
	for _, v := range h.Fields {
		if !fold(v.Name, "Content-Length") {
			continue
		}
		for part := range strings.SplitSeq(v.Value, ",") {
			part = strings.Trim(part, " \t\r\n")
			n, err := strconv.ParseInt(part, 10, 64)
			if err != nil || part[0] == '+' || part[0] == '-' || lengths > 0 && n != length {
				valid = false
			}
			length = n
			lengths++
		}
	}
	return length, lengths, valid
}

// tokens returns the members of a list field in order, lower-case and without
// parameters.
func tokens(h *flow.Head, name string) []string {
	var list []string
	for _, f := range h.Fields {
		if !fold(f.Name, name) {
			continue
		}
		for part := range strings.SplitSeq(f.Value, ",") {
			part, _, _ = strings.Cut(part, ";")
			if part = strings.ToLower(strings.Trim(part, " \t\r\n")); part != "" {
				list = append(list, part)
			}
		}
	}
	return list
}

func count(h *flow.Head, name string) (n int) {
	for i := range h.Fields {
		if fold(h.Fields[i].Name, name) {
			n++
		}
	}
	return n
}

// fold compares ASCII names without case.
func fold(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// address fills in what a request addresses: Scheme, Host, Port and Path, by
// the four forms of RFC 9112 section 3.2 and section 3.3.
func (d *Decoder) address(h *flow.Head) {
	h.Scheme = d.scheme()
	authority := ""
	if scheme, rest, ok := strings.Cut(h.Target, "://"); ok && isScheme(scheme) {
		h.Scheme = strings.ToLower(scheme)
		authority, h.Path = rest, "/"
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			authority, h.Path = rest[:i], rest[i:]
		}
		if h.Path[0] != '/' {
			h.Path = "/" + h.Path
		}
		authority = authority[strings.LastIndexByte(authority, '@')+1:]
	} else if h.Method == "CONNECT" {
		authority = h.Target
	} else {
		h.Path = h.Target
		authority = strings.Trim(h.Get("Host"), " \t\r\n")
	}
	d.locate(h, authority)
}

// scheme is that of a request that does not say.
func (d *Decoder) scheme() string {
	if d.Conn.Decrypted && !d.inner {
		return "https"
	}
	return "http"
}

// locate fills in Host and Port, by the authority of a request and by the
// connection.
func (d *Decoder) locate(h *flow.Head, authority string) {
	h.Port = 80
	if h.Scheme == "https" {
		h.Port = 443
	}
	host, port := splitAuthority(authority)
	if port > 0 {
		h.Port = port
	}
	if host == "" {
		host, port = d.peer(port)
		if port > 0 {
			h.Port = port
		}
	}
	h.Host = strings.ToLower(host)
}

// peer returns the host and port that the connection leads to, for a request
// that does not say; port, if it is not 0, stands.
func (d *Decoder) peer(port int) (string, int) {
	c, host := d.Conn, d.host
	switch {
	case d.inner && port == 0:
		port = d.port
	case !d.inner:
		host = c.Host
		if host == "" && c.Dst.IsValid() {
			host = c.Dst.Addr().Unmap().String()
		}
		if port == 0 && c.Dst.IsValid() {
			port = int(c.Dst.Port())
		}
	}
	return host, port
}

// splitAuthority splits host and port. An IPv6 address loses its brackets; a
// port that is none is part of the host, as it is no use otherwise.
func splitAuthority(s string) (host string, port int) {
	i := strings.LastIndexByte(s, ':')
	if i >= 0 && i > strings.LastIndexByte(s, ']') {
		switch n, err := strconv.ParseUint(s[i+1:], 10, 16); {
		case err == nil && strings.IndexByte(s[:i], ':') < 0 || err == nil && s[0] == '[':
			s, port = s[:i], int(n)
		case s[i+1:] == "":
			s = s[:i]
		}
	}
	if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : n-1]); err == nil {
			s = a.String()
		}
	}
	return s, port
}

// isScheme reports whether s is a URI scheme (RFC 3986 section 3.1).
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (i == 0 || (s[i] < '0' || s[i] > '9') && strings.IndexByte("+-.", s[i]) < 0) {
			return false
		}
	}
	return s != ""
}
