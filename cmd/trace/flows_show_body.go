package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"trace/flow"
)

// On a terminal this much of a body and of a list of events is shown; what is
// piped is whole.
const (
	maxBodyLines  = 200
	maxBodyBytes  = 32 << 10
	maxEventLines = 200
)

// part prints a request or an answer. flag is the beginning of the flag that
// prints its body alone.
func (p *printer) part(title, flag string, x *flow.Exchange, part *flow.Part, body []byte) {
	p.line("")
	p.line("%s%s", p.w.paint(bold, title), p.w.paint(faint, bodyFacts(part, x.Redacted > 0)))
	p.head(part)
	p.body(body, fmt.Sprintf("trace flows show %s/%d --%s-body", x.Session, x.ID, flag))
}

// request prints the request. Events of it stand with those of the answer.
func (p *printer) request(d *flow.Detail) {
	body := d.RequestBody
	if slices.ContainsFunc(d.Events, func(e flow.Piece) bool { return e.Side == flow.Client }) {
		body = nil
	}
	p.part("Request", "request", &d.Exchange, d.Request, body)
}

func (p *printer) response(d *flow.Detail) {
	if d.Response == nil {
		p.line("")
		p.line("%s", p.w.paint(bold, map[bool]string{true: "No answer", false: "No answer yet"}[ended(&d.Exchange)]))
	} else {
		body := d.ResponseBody
		if len(d.Events) > 0 {
			body = nil
		}
		p.part("Response", "response", &d.Exchange, d.Response, body)
	}
	p.events(d)
}

// bodyFacts says in brackets what is known of a body. Its hash is not known if it
// was redacted, or imported from a file that does not tell.
func bodyFacts(part *flow.Part, redacted bool) string {
	b := part.Body
	if b == nil {
		return " (body not complete)"
	}
	if b.Size == 0 {
		return ""
	}
	facts := []string{bytesText(b.Size)}
	if b.Encoding != "" {
		facts = append(facts, printable(b.Encoding)+" of "+bytesText(b.Decoded))
	}
	if b.Truncated {
		facts = append(facts, "kept "+bytesText(b.Kept))
	}
	if b.Cut {
		facts = append(facts, "cut short")
	}
	switch {
	case !part.Withheld:
		facts = append(facts, fmt.Sprintf("sha256 %x", b.SHA256))
	case redacted:
		facts = append(facts, "redacted")
	default:
		facts = append(facts, "hash not known")
	}
	return " (" + strings.Join(facts, ", ") + ")"
}

// head prints the start line and the fields, as they were.
func (p *printer) head(part *flow.Part) {
	for _, h := range part.Informational {
		p.oneHead(h)
	}
	p.oneHead(part.Head)
	if b := part.Body; b != nil {
		for _, f := range b.Trailers {
			p.field(f, " (trailer)")
		}
	}
}

func (p *printer) oneHead(h *flow.Head) {
	if h == nil {
		return
	}
	start := h.Method + " " + h.Target + " HTTP/" + h.Version
	if h.Status != 0 {
		start = strings.TrimSpace(fmt.Sprintf("HTTP/%s %d %s", h.Version, h.Status, h.Reason))
	}
	p.line("  %s", w1(p.w, start))
	for _, f := range h.Fields {
		p.field(f, "")
	}
}

func (p *printer) field(f flow.Field, note string) {
	p.line("  %s %s%s", p.w.paint(cyan, w1(p.w, f.Name)+":"), w1(p.w, f.Value), note)
}

// body prints a body: JSON indented, text as it is, anything else as its
// length. more is the command that prints all of it.
func (p *printer) body(body []byte, more string) {
	if len(body) == 0 {
		return
	}
	p.line("")
	if !utf8.Valid(body) {
		p.line("%s", p.w.paint(faint, fmt.Sprintf("binary, %d bytes: %s", len(body), more)))
		return
	}
	text := string(body)
	if raw, ok := flow.TextValue(text).(json.RawMessage); ok {
		var b bytes.Buffer
		if json.Indent(&b, raw, "", "  ") == nil {
			text = b.String()
		}
	}
	text = strings.TrimSuffix(text, "\n")
	rest := 0
	if p.w.tty {
		text, rest = begin(text)
	}
	p.line("%s", p.w.text(text))
	if rest > 0 {
		p.line("%s", p.w.paint(faint, fmt.Sprintf("… %s more: %s", bytesText(int64(rest)), more)))
	}
}

// begin returns the first lines of a text, and the number of bytes that are
// left.
func begin(text string) (string, int) {
	end := min(len(text), maxBodyBytes)
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	lines := 0
	for i := range end {
		if text[i] != '\n' {
			continue
		}
		if lines++; lines == maxBodyLines {
			end = i
			break
		}
	}
	return text[:end], len(text) - end
}
