package main

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"trace/flow"
)

// A bothways is what the child sent beside what left for the server, as
// `flows compare --json` prints it.
type bothways struct {
	ID      string      `json:"id"`
	Session string      `json:"session"`
	Source  flow.Source `json:"source"`
	// Identical says that the bytes of both legs are the same; null where
	// nothing left.
	Identical   *bool          `json:"identical"`
	Reason      string         `json:"reason"`
	Request     *bothSides     `json:"request,omitempty"`
	Response    *bothSides     `json:"response,omitempty"`
	Bytes       *jsonTraffic   `json:"bytes,omitempty"` // payload of a connection that was not decoded
	TLS         *bothLegs      `json:"tls,omitempty"`
	Differences []disagreement `json:"differences"`
}

// bothSides is a request or an answer as it passed on each side of trace.
type bothSides struct {
	Child     sidePart `json:"child"`
	Forwarded sidePart `json:"forwarded"`
}

// sidePart is what passed on one side.
type sidePart struct {
	Line       string  `json:"line"`
	Headers    int     `json:"headers"`
	BodySize   *int64  `json:"body_size"`
	BodySHA256 *string `json:"body_sha256"` // null where redaction changed the body, and before it ended
}

// bothLegs are the TLS of the child's leg and of the server's.
type bothLegs struct {
	Terminated bool              `json:"terminated"` // by trace; else it is one connection from end to end
	Child      leg               `json:"child"`
	Server     leg               `json:"server"`
	Cert       *flow.Certificate `json:"certificate,omitempty"` // of the server
}

type leg struct {
	Version string   `json:"version"`
	Cipher  string   `json:"cipher"`
	ALPN    string   `json:"alpn"`
	SNI     string   `json:"sni,omitempty"`
	Offered []string `json:"alpn_offered,omitempty"`
	Hello   []string `json:"versions_offered,omitempty"`
	Resumed bool     `json:"resumed"`
	ECH     bool     `json:"ech"`
	JA3     string   `json:"ja3,omitempty"`
	JA4     string   `json:"ja4,omitempty"`
	Verdict string   `json:"verdict,omitempty"`
}

// disagreement is a field that the two sides do not agree in.
type disagreement struct {
	Field     string `json:"field"`
	Child     string `json:"child"`
	Forwarded string `json:"forwarded"`
}

// compare puts the two sides of a flow beside each other.
func compare(x *flow.Exchange) *bothways {
	c := &bothways{ID: fmt.Sprint(x.ID), Session: x.Session, Source: x.Conn.Source, Differences: []disagreement{}}
	c.Identical, c.Reason = sameBytes(x)
	if x.Request != nil {
		c.Request, c.Response = twice(x.Request, true), twice(x.Response, false)
		if x.Forwarded != nil && c.Request != nil {
			c.forwarded(x)
		}
		c.altered(x)
	} else if x.DNS == nil {
		c.Bytes = &jsonTraffic{x.Conn.Sent, x.Conn.Received}
	}
	if t := x.Conn; t.Source != flow.SourceReverse && t.Child.Version+t.Child.SNI+t.Child.JA4+t.Upstream.Version+t.Upstream.Verdict != "" {
		c.TLS = &bothLegs{Terminated: t.Decrypted, Child: legOf(&t.Child), Server: legOf(&t.Upstream)}
		if certs := t.Upstream.Certificates(); len(certs) > 0 {
			c.TLS.Cert = &certs[0]
		}
		if t.Decrypted {
			c.Differences = append(c.Differences, differing(&t.Child, &t.Upstream)...)
		}
	}
	return c
}

// forwarded puts what left beside what the child sent, where both are recorded.
func (c *bothways) forwarded(x *flow.Exchange) {
	c.Request.Forwarded = oneSide(x.Forwarded, true)
	c.Differences = append(requestDifferences(x.Request.Head, x.Forwarded.Head), c.Differences...)
	a, b := c.Request.Child.BodySHA256, c.Request.Forwarded.BodySHA256
	if x.Request.Body != nil && x.Forwarded.Body != nil {
		if n, m := x.Request.Body.Size, x.Forwarded.Body.Size; n != m {
			c.Differences = append(c.Differences, disagreement{"body_size", fmt.Sprint(n), fmt.Sprint(m)})
		}
		if a != nil && b != nil && *a != *b {
			c.Differences = append(c.Differences, disagreement{"body_sha256", *a, *b})
		}
	}
	c.Identical = new(len(c.Differences) == 0)
	c.Reason = "the request is addressed to the server; all else is carried as it is"
	for _, d := range c.Differences {
		if d.Field != "path" && d.Field != "host" && d.Field != ":authority" {
			c.Reason = "the request left with more changes than its address"
		}
	}
}

// altered says what rules have to do with x, and puts the answer of the server beside what
// the child got.
func (c *bothways) altered(x *flow.Exchange) {
	if x.Original != nil && c.Response != nil {
		c.Response.Forwarded = oneSide(x.Original, false)
	}
	for _, n := range x.Marks {
		switch {
		case n.Error == nil:
		case n.Error.Code == flow.CodeAltered:
			c.Identical, c.Reason = new(false), n.Error.Message
			return
		case n.Error.Code == flow.CodeReencoded:
			c.Identical, c.Reason = new(false), n.Error.Message
		}
	}
}

// requestDifferences lists what differs between two heads.
func requestDifferences(child, left *flow.Head) []disagreement {
	var list []disagreement
	note := func(field, a, b string) {
		if a != b {
			list = append(list, disagreement{field, a, b})
		}
	}
	if child == nil || left == nil {
		return nil
	}
	note("method", child.Method, left.Method)
	note("path", child.Target, left.Target)
	note(":authority", child.Authority, left.Authority)
	var names []string
	for _, f := range slices.Concat(child.Fields, left.Fields) {
		if name := strings.ToLower(f.Name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		note(name, strings.Join(child.Values(name), ", "), strings.Join(left.Values(name), ", "))
	}
	return list
}

// sameBytes says whether what the child sent is what left, and why.
func sameBytes(x *flow.Exchange) (*bool, string) {
	switch {
	case x.DNS != nil:
		return nil, "a query that trace answers with the host's resolver"
	case x.Conn.Source == flow.SourceReplay:
		return new(true), "sent by trace itself"
	case x.Conn.Source == flow.SourceReverse:
		return nil, "nothing left: trace answered by itself, or the request was not complete"
	case x.Error != nil && slices.Contains([]string{flow.CodeRefused, flow.CodeUnreachable, flow.CodeDNS, flow.CodeTimeout}, x.Error.Code) && x.Response == nil,
		x.Conn.Opaque == "not_connected":
		return nil, "nothing left: there was no connection to the server"
	}
	return new(true), "relayed byte for byte: what is read from one side is written to the other, and only read along"
}

func twice(p *flow.Part, request bool) *bothSides {
	if p == nil || p.Head == nil {
		return nil
	}
	s := oneSide(p, request)
	return &bothSides{s, s}
}

// oneSide is a request or an answer as it passed on one side.
func oneSide(p *flow.Part, request bool) sidePart {
	h := p.Head
	s := sidePart{Headers: len(h.Fields), Line: strings.TrimSpace(fmt.Sprintf("%d %s", h.Status, h.Reason))}
	if request {
		s.Line = h.Method + " " + h.Target
	}
	if b := p.Body; b != nil {
		s.BodySize = &b.Size
		if !p.Withheld {
			s.BodySHA256 = new(hex.EncodeToString(b.SHA256[:]))
		}
	}
	return s
}

func legOf(t *flow.TLS) leg {
	return leg{t.Version, t.Cipher, t.ALPN, t.SNI, t.Offered, t.Versions, t.Resumed, t.ECH, t.JA3, t.JA4, t.Verdict}
}

// differing lists what the two handshakes did not agree in alike.
func differing(child, server *flow.TLS) (list []disagreement) {
	for _, f := range []disagreement{
		{"tls.version", child.Version, server.Version}, {"tls.cipher", child.Cipher, server.Cipher}, {"tls.alpn", child.ALPN, server.ALPN},
		{"tls.resumed", fmt.Sprint(child.Resumed), fmt.Sprint(server.Resumed)},
	} {
		if f.Child != f.Forwarded {
			list = append(list, f)
		}
	}
	return list
}

// write prints a comparison for reading.
func (c *bothways) write(w *terminal, x *flow.Exchange) error {
	p := &printer{w: w}
	f := factsOf(x)
	p.line("%s", p.w.paint(bold, w1(w, fmt.Sprintf("%d  %s %s%s", x.ID, f.method, f.host, f.path))))
	verdict := "the same bytes on both sides: "
	switch {
	case c.Identical == nil:
		verdict = ""
	case !*c.Identical:
		verdict = "not the same bytes: "
	}
	p.line("%s%s", verdict, c.Reason)
	if p.err == nil && (c.Request != nil || c.Bytes != nil) && c.Identical != nil {
		p.line("")
		p.err = c.sides().write(w)
		for _, d := range c.Differences {
			if !strings.HasPrefix(d.Field, "tls.") && p.err == nil {
				p.line("%s: %s → %s", w1(w, d.Field), w1(w, d.Child), w1(w, d.Forwarded))
			}
		}
	}
	if p.err == nil && c.TLS != nil {
		p.line("")
		if p.err = c.legs().write(w); p.err == nil {
			c.more(p)
		}
	}
	return p.err
}

// sides is the table of requests and answers.
func (c *bothways) sides() *table {
	t := &table{columns: []column{{title: ""}, {title: "CHILD", least: 10, wish: 24}, {title: "SERVER", least: 10, wish: 24}}}
	row := func(name, a, b string) { t.add(cell{name, faint}, cell{text: a}, cell{text: b}) }
	for _, part := range []struct {
		name string
		both *bothSides
	}{{"request", c.Request}, {"answer", c.Response}} {
		if part.both == nil {
			continue
		}
		a, b := &part.both.Child, &part.both.Forwarded
		row(part.name, a.Line, b.Line)
		row("  headers", fmt.Sprint(a.Headers), fmt.Sprint(b.Headers))
		row("  body", a.size(), b.size())
		row("  sha256", a.hash(), b.hash())
	}
	if c.Bytes != nil {
		row("sent", bytesText(c.Bytes.Sent), bytesText(c.Bytes.Sent))
		row("received", bytesText(c.Bytes.Received), bytesText(c.Bytes.Received))
	}
	return t
}

func (p *sidePart) size() string {
	if p.BodySize == nil {
		return "not over"
	}
	return fmt.Sprint(*p.BodySize)
}

func (p *sidePart) hash() string {
	switch {
	case p.BodySize == nil:
		return ""
	case p.BodySHA256 == nil:
		return "(withheld: redacted)"
	}
	return *p.BodySHA256
}

// legs is the table of the TLS of both sides.
func (c *bothways) legs() *table {
	t := &table{columns: []column{{title: "TLS"}, {title: "CHILD", least: 10, wish: 24}, {title: "SERVER", least: 10, wish: 24}}}
	a, b := &c.TLS.Child, &c.TLS.Server
	row := func(name, a, b string, compared bool) {
		if a == "" && b == "" {
			return
		}
		st := plain
		if compared && a != b {
			st = yellow
		}
		t.add(cell{name, faint}, cell{a, st}, cell{b, st})
	}
	both := c.TLS.Terminated
	row("version", a.Version, b.Version, both)
	row("cipher", a.Cipher, b.Cipher, both)
	row("alpn", a.ALPN, b.ALPN, both)
	row("offered", strings.Join(a.Offered, " "), strings.Join(b.Offered, " "), false)
	row("versions", strings.Join(a.Hello, " "), strings.Join(b.Hello, " "), false)
	row("sni", a.SNI, b.SNI, false)
	row("resumed", yesOrNothing(a.Resumed), yesOrNothing(b.Resumed), false)
	row("ech", yesOrNothing(a.ECH), yesOrNothing(b.ECH), false)
	row("ja4", a.JA4, b.JA4, false)
	row("ja3", a.JA3, b.JA3, false)
	row("verdict", a.Verdict, b.Verdict, false)
	return t
}

func yesOrNothing(yes bool) string {
	if yes {
		return "yes"
	}
	return ""
}

// more says what the table of the legs leaves open.
func (c *bothways) more(p *printer) {
	switch {
	case !c.TLS.Terminated:
		p.line("one TLS connection between the command and the server: trace did not take part in it")
		return
	case len(c.Differences) == 0:
		p.line("both handshakes came to the same")
	}
	if cert := c.TLS.Cert; cert != nil && cert.Error == "" {
		p.line("the server's certificate is of %s, issued by %s; the command saw a copy issued by this run's authority", w1(p.w, named(cert.Subject)), w1(p.w, named(cert.Issuer)))
	}
	p.line("the server saw the ClientHello of trace (Go's), not the command's")
}
