package export

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"trace/flow"
)

const hostOS = "linux"

// A line is one JSON object of the log.
type line interface{ common() *base }

// base is what every line carries.
type base struct {
	TS      string          `json:"ts"`
	T       json.RawMessage `json:"t"`
	Seq     int64           `json:"seq,omitempty"`
	Type    string          `json:"type"`
	FlowID  string          `json:"flow_id"`
	ConnID  string          `json:"conn_id,omitempty"`
	Session string          `json:"session,omitempty"`
}

func (b *base) common() *base { return b }

type metaLine struct {
	base
	V       int    `json:"v"`
	Tool    string `json:"tool"`
	Version string `json:"version"`
	Started string `json:"started"`
	HostOS  string `json:"host_os"`
}

type requestLine struct {
	base
	Method          string            `json:"method"`
	Path            string            `json:"path"`
	Scheme          string            `json:"scheme,omitempty"`
	Host            string            `json:"host,omitempty"`
	Port            int               `json:"port,omitempty"`
	URL             string            `json:"url,omitempty"`
	Authority       string            `json:"authority,omitempty"`
	HTTPVersion     string            `json:"http_version,omitempty"`
	StreamID        int64             `json:"stream_id,omitempty"`
	Protocol        string            `json:"protocol,omitempty"`
	Headers         map[string]string `json:"headers"`
	HeadersList     [][2]string       `json:"headers_list"`
	Trailers        map[string]string `json:"trailers,omitempty"`
	ContentEncoding string            `json:"content_encoding,omitempty"`
	bodyPart
	Client   *endpoint `json:"client,omitempty"`
	Server   *endpoint `json:"server,omitempty"`
	Redacted int       `json:"redacted,omitempty"`
	LLM      *llmPart  `json:"llm,omitempty"`
}

// bodyPart is a body with what is known of it. BodySize is absent until the
// last byte passed.
type bodyPart struct {
	Body          any    `json:"body"`
	BodyEncoding  string `json:"body_encoding"`
	BodySize      *int64 `json:"body_size,omitempty"`
	BodySHA256    string `json:"body_sha256,omitempty"`
	BodyTruncated *int64 `json:"body_truncated,omitempty"`
}

type responseHeadLine struct {
	base
	StatusCode    int               `json:"status_code"`
	Reason        string            `json:"reason,omitempty"`
	HTTPVersion   string            `json:"http_version,omitempty"`
	Protocol      string            `json:"protocol,omitempty"`
	Headers       map[string]string `json:"headers"`
	HeadersList   [][2]string       `json:"headers_list"`
	ContentType   string            `json:"content_type,omitempty"`
	Streaming     bool              `json:"streaming"`
	Framing       string            `json:"framing,omitempty"`
	Informational []provisional     `json:"informational,omitempty"`
	TTFB          float64           `json:"ttfb_ms"`
}

type provisional struct {
	StatusCode int               `json:"status_code"`
	Headers    map[string]string `json:"headers"`
}

// endPart is what both lines that end an HTTP flow carry.
type endPart struct {
	Complete    bool              `json:"complete"`
	Reason      string            `json:"reason,omitempty"`
	DecodedSize *int64            `json:"decoded_size,omitempty"`
	Trailers    map[string]string `json:"trailers,omitempty"`
	Timings     timings           `json:"timings"`
	GRPCStatus  *int              `json:"grpc_status,omitempty"`
	GRPCMessage string            `json:"grpc_message,omitempty"`
	LLM         *llmPart          `json:"llm,omitempty"`
	Error       *flow.Error       `json:"error,omitempty"`
}

type responseLine struct {
	base
	StatusCode int               `json:"status_code,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	bodyPart
	endPart
}

type streamEndLine struct {
	base
	endPart
	BodySize   *int64 `json:"body_size,omitempty"`
	BodySHA256 string `json:"body_sha256,omitempty"`
	SSECount   int    `json:"sse_count"`
	WSCount    int    `json:"ws_count,omitempty"`
	// Of a body that was announced as a stream and holds no event, as one
	// that tells of an error: no other line has it.
	Body         any    `json:"body,omitempty"`
	BodyEncoding string `json:"body_encoding,omitempty"`
}

type timings struct {
	flow.Phases
	Total *float64 `json:"total,omitempty"`
}

type errorLine struct {
	base
	*flow.Error
	Fatal bool `json:"fatal"`
}

type dnsLine struct {
	base
	Name    string   `json:"name"`
	QType   string   `json:"qtype"`
	Rcode   string   `json:"rcode"`
	Answers []string `json:"answers"`
}

// markLine is a point of the run that a person named.
type markLine struct {
	base
	Mark string `json:"mark"` // its other name, as of m7
	Text string `json:"text"`
}

type dropLine struct {
	base
	Count  int64  `json:"count,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Reason string `json:"reason"`
}

// requestOf makes the line of a request.
func requestOf(x *flow.Exchange, body []byte) *requestLine {
	h := x.Request.Head
	l := &requestLine{
		Method: h.Method, Path: h.Path, Scheme: h.Scheme, Host: h.Host, Port: h.Port,
		URL: address(h), Authority: cmp.Or(h.Authority, h.Get("host")), HTTPVersion: h.Version,
		StreamID: h.Stream, Protocol: h.Protocol,
		Headers: headers(h.Fields), HeadersList: flow.Pairs(h.Fields),
		ContentEncoding: h.Get("content-encoding"),
		bodyPart:        bodyOf(x.Request, body),
		Redacted:        x.Redacted,
	}
	l.Client, l.Server = endpoints(&x.Conn)
	if b := x.Request.Body; b != nil {
		l.Trailers = headers(b.Trailers)
	}
	return l
}

// bodyOf makes the fields of a body. One that is not there in full is never
// read as JSON: half a number is a number too.
func bodyOf(p *flow.Part, body []byte) bodyPart {
	kept := int64(len(body))
	b := bodyPart{BodyEncoding: "none"}
	whole := false
	if p != nil && p.Body != nil {
		b.BodySize = &p.Body.Size
		whole = !p.Body.Truncated && !p.Body.Cut
		if !p.Withheld {
			b.BodySHA256 = fmt.Sprintf("%x", p.Body.SHA256)
		}
	}
	if p != nil && (p.Body == nil || p.Body.Truncated) {
		b.BodyTruncated = &kept
	}
	switch {
	case len(body) == 0:
	case !utf8.Valid(body):
		b.Body, b.BodyEncoding = base64.StdEncoding.EncodeToString(body), "base64"
	default:
		b.Body, b.BodyEncoding = string(body), "text"
		if v, ok := flow.TextValue(string(body)).(json.RawMessage); ok && whole {
			b.Body, b.BodyEncoding = v, "json"
		}
	}
	return b
}

func responseHeadOf(x *flow.Exchange) *responseHeadLine {
	h := x.Response.Head
	l := &responseHeadLine{
		StatusCode: h.Status, Reason: h.Reason, HTTPVersion: h.Version, Protocol: h.Protocol,
		Headers: headers(h.Fields), HeadersList: flow.Pairs(h.Fields),
		ContentType: h.Get("content-type"), Streaming: h.Streaming, Framing: h.Framing,
		TTFB: *flow.MS(max(0, x.Responded.Sub(x.Started))),
	}
	for _, i := range x.Response.Informational {
		l.Informational = append(l.Informational, provisional{i.Status, headers(i.Fields)})
	}
	return l
}

func dnsOf(x *flow.Exchange) *dnsLine {
	d := x.DNS
	return &dnsLine{Name: d.Name, QType: d.Type, Rcode: d.Rcode, Answers: append([]string{}, d.Answers...)}
}

func responseOf(x *flow.Exchange, end endPart, body []byte) *responseLine {
	l := &responseLine{endPart: end, bodyPart: bodyOf(x.Response, body)}
	if x.Response != nil && x.Response.Head != nil {
		l.StatusCode, l.Headers = x.Response.Head.Status, headers(x.Response.Head.Fields)
	}
	return l
}

func streamEndOf(x *flow.Exchange, end endPart, count int) *streamEndLine {
	l := &streamEndLine{endPart: end}
	if x.IsWebSocket() {
		l.WSCount = count
	} else {
		l.SSECount = count
	}
	if b := x.Response.Body; b != nil {
		l.BodySize = &b.Size
		if !x.Response.Withheld {
			l.BodySHA256 = fmt.Sprintf("%x", b.SHA256)
		}
	}
	return l
}

// endOf makes the fields that end an HTTP flow.
func endOf(x *flow.Exchange) endPart {
	e := endPart{Complete: x.State == flow.StateComplete, Reason: reason(x), Error: x.Error, Timings: timings{Phases: x.Timings().Phases()}}
	if !x.Ended.IsZero() {
		e.Timings.Total = flow.MS(x.Duration())
	}
	if g := x.Response.GRPC(); g != nil {
		e.GRPCStatus, e.GRPCMessage = &g.Code, g.Message
	}
	if x.Response != nil && x.Response.Body != nil {
		e.DecodedSize = &x.Response.Body.Decoded
		e.Trailers = headers(x.Response.Body.Trailers)
	}
	return e
}

// reason returns the word for how an exchange ended, "" where none fits.
func reason(x *flow.Exchange) string {
	if x.State == flow.StateComplete {
		return "eof"
	}
	if x.State == flow.StateOpen || x.Conn.ChildEnd == flow.Stopped || x.Conn.SrvEnd == flow.Stopped {
		return "capture_stopped"
	}
	if x.Error == nil {
		return ""
	}
	switch code, client := x.Error.Code, x.Error.Where == flow.AtClient; {
	case x.Error.Where == flow.AtCapture:
		return "capture_stopped" // the run was killed
	case client && (code == flow.CodeReset || code == flow.CodeTruncated):
		return "client_abort"
	case code == flow.CodeReset:
		return "reset"
	case code == flow.CodeTruncated:
		return "server_abort"
	case code == flow.CodeTimeout:
		return "timeout"
	}
	return ""
}

// headers joins fields as scripts look them up: names in lower case, values
// of one name joined by ", ", those of set-cookie by a newline because cookies
// hold commas. nil only of no fields.
func headers(fields []flow.Field) map[string]string {
	m := make(map[string]string, len(fields))
	for _, f := range fields {
		name := strings.ToLower(f.Name)
		old, twice := m[name]
		switch {
		case !twice:
			m[name] = f.Value
		case name == "set-cookie":
			m[name] = old + "\n" + f.Value
		default:
			m[name] = old + ", " + f.Value
		}
	}
	return m
}

// address returns the absolute URL of a request, "" where it has none.
func address(h *flow.Head) string {
	if h.Scheme == "" || h.Host == "" {
		return ""
	}
	host := h.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if p := strconv.Itoa(h.Port); h.Port != 0 && !(h.Scheme == "https" && h.Port == 443) && !(h.Scheme == "http" && h.Port == 80) {
		host = net.JoinHostPort(h.Host, p)
	}
	target := h.Path
	if !strings.HasPrefix(target, "/") {
		target = "" // "*" of OPTIONS, the authority of CONNECT
	}
	return h.Scheme + "://" + host + target
}

// direction returns the word of the log for what side sent.
func direction(side flow.Side) string {
	if side == flow.Client {
		return "c2s"
	}
	return "s2c"
}

// epoch returns t in seconds with six fraction digits: written as digits
// because a float would print them as it likes.
func epoch(t time.Time) json.RawMessage {
	us := t.UnixMicro()
	if us < 0 {
		us = 0 // unknown: the zero time
	}
	return fmt.Appendf(nil, "%d.%06d", us/1e6, us%1e6)
}
