package export

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"trace/flow"
)

// A snippet is a request as programs in other languages send it again.
type snippet struct {
	notes   []string // what differs, for the reader
	secrets secrets
	method  string
	version string // of HTTP
	secure  bool
	url     []fragment
	target  string // as sent, where no URL says it
	fields  []snippetField
	body    []byte
	sent    bool // there is a body, perhaps an empty one
	text    bool // body is text
	coded   bool // the client takes compressed answers
	stream  bool // the answer was streamed
	upgrade bool // to a WebSocket
	based   bool // it was addressed to a base URL of ours: its server got another target and Host
}

type snippetField struct {
	name  string
	value []fragment
}

// snippetOf reads the request of x.
func snippetOf(x *flow.Exchange, src Source) (*snippet, error) {
	if x.Request == nil || x.Request.Head == nil {
		return nil, ErrNoPlace
	}
	h := x.Request.Head
	if strings.EqualFold(h.Method, "CONNECT") {
		return nil, ErrNoPlace
	}
	var body bytes.Buffer
	if _, err := src.WriteBody(&body, x.ID, flow.Client); err != nil {
		return nil, &BodyError{x.ID, err}
	}
	s := &snippet{
		method: h.Method, version: h.Version, secure: h.Scheme == "https", body: body.Bytes(), text: isText(body.Bytes()),
		coded: h.Get("accept-encoding") != "", upgrade: x.IsWebSocket(),
	}
	s.secrets.host = h.Host
	s.stream = x.Response != nil && x.Response.Head != nil && x.Response.Head.Streaming && !s.upgrade
	s.sent = len(s.body) > 0 || h.Get("content-length") == "0"
	url := webAddress(x)
	s.url = s.secrets.split(inQuery, "", url)
	s.based = x.Conn.Source == flow.SourceReverse
	if target := h.Target; target != "" && !s.based && !strings.HasSuffix(url, target) && !strings.Contains(target, "://") {
		s.target = target
	}
	decoded := x.Request.Body != nil && x.Request.Body.Encoding != ""
	for _, f := range h.Fields {
		if s.drop(f, h, url, decoded) {
			continue
		}
		f.Value = unfold.Replace(f.Value)
		s.fields = append(s.fields, snippetField{f.Name, s.secrets.field(f)})
	}
	s.tell(x, decoded)
	return s, nil
}

// unfold makes one line of a folded field (RFC 9112 section 5.2).
var unfold = strings.NewReplacer("\r\n", " ", "\r", " ", "\n", " ", "\x00", " ")

// drop reports whether a field is made by whoever sends, and not given to it.
func (s *snippet) drop(f flow.Field, h *flow.Head, url string, decoded bool) bool {
	switch name := strings.ToLower(f.Name); name {
	case "content-length", "transfer-encoding", "keep-alive", "proxy-connection":
		return true
	case "proxy-authorization": // was for a proxy, which is not asked here
		return strings.Contains(h.Target, "://") && !strings.HasPrefix(h.Target, "/")
	case "connection", "upgrade":
		return !s.upgrade
	case "http2-settings":
		return true
	case "content-encoding":
		return decoded
	case "host":
		return s.based || strings.HasPrefix(url, h.Scheme+"://"+f.Value+"/") || strings.EqualFold(f.Value, h.Host)
	}
	return strings.HasPrefix(f.Name, ":")
}

// tell notes where what will be sent is not what was.
func (s *snippet) tell(x *flow.Exchange, decoded bool) {
	note := func(format string, args ...any) { s.notes = append(s.notes, fmt.Sprintf(format, args...)) }
	if decoded {
		note("the body went with content-encoding %s; here it is as it decodes", x.Request.Body.Encoding)
	}
	if b := x.Request.Body; b != nil {
		if b.Truncated || b.Cut {
			note("of the body only the first %d bytes are recorded", len(s.body))
		}
		if len(b.Trailers) > 0 {
			note("the trailers of the request are left out")
		}
	}
	if !s.text && placeholder().Match(s.body) {
		note("the body is binary and secrets in it are still replaced by [REDACTED:...]")
	}
	if s.upgrade {
		note("a WebSocket: this is its handshake")
	}
}

// fragments is the body with variables for its secrets.
func (s *snippet) fragments() []fragment {
	return s.secrets.split(inBody, "", string(s.body))
}

// title is the comment before a snippet, whose variables have all been named.
func (s *snippet) title(w *strings.Builder, mark string, x *flow.Exchange) {
	fmt.Fprintf(w, "%s %s/%d %s\n", mark, x.Session, x.ID, x.Started.UTC().Format(harTime))
	for _, n := range s.notes {
		fmt.Fprintf(w, "%s %s\n", mark, n)
	}
	if len(s.secrets.used) > 0 {
		fmt.Fprintf(w, "%s needs %s in the environment\n", mark, strings.Join(s.secrets.used, ", "))
	}
}

// isText reports whether p can stand in a program: UTF-8 without control
// characters but newline and tab.
func isText(p []byte) bool {
	if !utf8.Valid(p) {
		return false
	}
	for _, r := range string(p) {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r == '\ufffe' || r == '\uffff' {
			return false
		}
	}
	return true
}

// snippets is what the writers of programs have in common.
type snippets struct {
	w      io.Writer
	source Source
	n      int
}

// From says of which session the next flows are.
func (s *snippets) From(_ flow.Session, src Source) error {
	s.source = src
	return nil
}

// write writes the program for one flow.
func (s *snippets) write(text string) error {
	if s.n++; s.n > 1 {
		text = "\n" + text
	}
	_, err := io.WriteString(s.w, text)
	return err
}

// latin returns the string whose characters are the bytes of s: ISO 8859-1, as
// which header fields are sent.
func latin(s string) string {
	rs := make([]rune, 0, len(s))
	for i := range len(s) {
		rs = append(rs, rune(s[i]))
	}
	return string(rs)
}

// quoted is a literal in double quotes. escape writes what cannot stand there
// as it is.
func quoted(s string, escape func(w io.Writer, r rune)) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"', r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			escape(&b, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// pythonText is a literal of Python.
func pythonText(s string) string {
	return quoted(s, func(w io.Writer, r rune) {
		switch {
		case r < 0x100:
			fmt.Fprintf(w, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(w, `\u%04x`, r)
		default:
			fmt.Fprintf(w, `\U%08x`, r)
		}
	})
}

// scriptText is a literal of JavaScript.
func scriptText(s string) string {
	return quoted(s, func(w io.Writer, r rune) {
		if r < 0x10000 {
			fmt.Fprintf(w, `\u%04x`, r)
		} else {
			fmt.Fprintf(w, `\u{%x}`, r)
		}
	})
}

// joined writes fragments as a sum.
func joined(fs []fragment, literal func(string) string, variable func(string) string) string {
	parts := make([]string, 0, len(fs))
	for _, f := range fs {
		if f.variable != "" {
			parts = append(parts, variable(f.variable))
		} else {
			parts = append(parts, literal(f.text))
		}
	}
	return strings.Join(parts, " + ")
}
