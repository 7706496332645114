package flow

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// TimeFormat is how times stand in JSON: RFC 3339 in UTC with six fraction
// digits, so that text sorts as time does.
const TimeFormat = "2006-01-02T15:04:05.000000Z07:00"

// Stamp returns t in TimeFormat.
func Stamp(t time.Time) string { return t.UTC().Format(TimeFormat) }

type jsonExchange struct {
	ID       string    `json:"id"`
	Session  string    `json:"session"`
	Source   Source    `json:"source"`
	Replay   string    `json:"replay_of,omitempty"` // SESSION/ID, or the name of a template
	Kind     string    `json:"kind"`
	State    string    `json:"state"`
	Started  string    `json:"started"`
	Duration *float64  `json:"duration_ms"`
	Process  *Process  `json:"process"`
	Conn     jsonConn  `json:"conn"`
	Request  *jsonPart `json:"request,omitempty"`
	Response *jsonPart `json:"response,omitempty"`
	// Forwarded is the request as it left; of a Detail, where it is recorded.
	Forwarded *jsonPart `json:"forwarded,omitempty"`
	// Original is the answer as the server sent it; of a Detail, where a rule changed it.
	Original  *jsonPart  `json:"original,omitempty"`
	Altered   bool       `json:"altered,omitempty"`
	Reencoded bool       `json:"reencoded,omitempty"`
	Bytes     *jsonBytes `json:"bytes,omitempty"`
	Count     *jsonBytes `json:"message_count,omitempty"` // of a websocket
	DNS       *jsonDNS   `json:"dns,omitempty"`
	Timings   Phases     `json:"timings"`
	LLM       any        `json:"llm,omitempty"`
	Redacted  int        `json:"redacted"`
	Error     *jsonError `json:"error"`
	Marks     []jsonNote `json:"marks,omitempty"`

	Events   []jsonEvent   `json:"events,omitempty"`
	Messages []jsonMessage `json:"messages,omitempty"`
}

type jsonConn struct {
	ID          string   `json:"id"`
	Src         string   `json:"src,omitempty"`
	Dst         string   `json:"dst,omitempty"`
	Host        string   `json:"host,omitempty"`
	SNI         string   `json:"sni,omitempty"`
	ALPN        string   `json:"alpn,omitempty"`
	TLS         string   `json:"tls,omitempty"`
	Protocol    string   `json:"protocol,omitempty"`
	Decrypted   bool     `json:"decrypted"`
	Opaque      string   `json:"opaque,omitempty"`
	Child       *TLS     `json:"child_tls,omitempty"`
	Upstream    *jsonTLS `json:"upstream_tls,omitempty"`
	ClientEnded string   `json:"client_end,omitempty"`
	ServerEnded string   `json:"server_end,omitempty"`
}

// jsonTLS is a leg with its certificates read.
type jsonTLS struct {
	*TLS
	Read []Certificate `json:"chain,omitempty"`
}

type jsonPart struct {
	Method      string       `json:"method,omitempty"`
	Scheme      string       `json:"scheme,omitempty"`
	Host        string       `json:"host,omitempty"`
	Port        int          `json:"port,omitempty"`
	Path        string       `json:"path,omitempty"`
	Authority   string       `json:"authority,omitempty"` // :authority as sent
	Status      int          `json:"status,omitempty"`
	Reason      string       `json:"reason,omitempty"`
	Version     string       `json:"http_version,omitempty"`
	Stream      int64        `json:"stream_id,omitempty"` // HTTP/2
	Protocol    string       `json:"protocol,omitempty"`  // spoken after these heads
	Headers     *[][2]string `json:"headers,omitempty"`
	Trailers    [][2]string  `json:"trailers,omitempty"`
	BodySize    *int64       `json:"body_size,omitempty"`
	BodySHA256  *string      `json:"body_sha256"`
	Encoding    string       `json:"content_encoding,omitempty"`
	DecodedSize *int64       `json:"decoded_size,omitempty"`
	KeptSize    *int64       `json:"kept_size,omitempty"` // decoded bytes kept, where that is not all
	Truncated   bool         `json:"truncated,omitempty"`
	ContentType string       `json:"content_type,omitempty"`
	Streaming   bool         `json:"streaming,omitempty"`
	Framing     string       `json:"framing,omitempty"` // of the events
	Events      *int64       `json:"events,omitempty"`
	GRPCStatus  *int         `json:"grpc_status,omitempty"`
	GRPCMessage string       `json:"grpc_message,omitempty"`
	Body        *any         `json:"body,omitempty"` // of a Detail: never absent, null for none
	Provisional []jsonPart   `json:"informational,omitempty"`
}

// jsonBytes counts what passed, each way.
type jsonBytes struct {
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

type jsonDNS struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Rcode   string   `json:"rcode"`
	Answers []string `json:"answers"`
}

// Phases are Timings in milliseconds, nil where they do not apply.
type Phases struct {
	DNS        *float64 `json:"dns,omitempty"`
	Connect    *float64 `json:"connect,omitempty"`
	SSL        *float64 `json:"ssl,omitempty"`
	Send       *float64 `json:"send,omitempty"`
	Wait       *float64 `json:"wait,omitempty"`
	Receive    *float64 `json:"receive,omitempty"`
	FirstEvent *float64 `json:"first_event,omitempty"`
}

// jsonError is Error with all its keys, so that a script may ask for each.
type jsonError struct {
	Where   Where  `json:"where"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
	Detail  string `json:"detail,omitempty"`
}

type jsonNote struct {
	At string `json:"at"`
	jsonError
}

type jsonEvent struct {
	AtMS         float64           `json:"at_ms"`
	Dir          string            `json:"dir,omitempty"`     // where both sides may send events
	Framing      string            `json:"framing,omitempty"` // but that of SSE
	Event        string            `json:"event"`
	ID           string            `json:"id,omitempty"`
	Retry        string            `json:"retry,omitempty"`
	FrameHeaders map[string]string `json:"frame_headers,omitempty"`
	Data         any               `json:"data"`
}

type jsonMessage struct {
	Dir        string  `json:"dir"`
	Opcode     *uint8  `json:"opcode,omitempty"` // of a websocket
	Type       string  `json:"type,omitempty"`   // its name
	Size       int64   `json:"size"`
	Compressed bool    `json:"compressed,omitempty"`
	Code       int     `json:"code,omitempty"` // of a close frame
	Reason     string  `json:"reason,omitempty"`
	Truncated  *int64  `json:"truncated,omitempty"` // bytes kept, where that is not all
	SHA256     *string `json:"sha256"`              // null where redaction changed it, or of a piece of an opaque connection
	AtMS       float64 `json:"at_ms"`
	Data       any     `json:"data"`
}

// MarshalJSON writes the object of `flows list --json` (docs/cli.md).
func (x *Exchange) MarshalJSON() ([]byte, error) { return MarshalJSON(x.json()) }

// MarshalJSON encodes v as json.Marshal does but leaves '<', '>' and '&' as
// they are: what was captured is shown as it was, nothing of ours is HTML.
func MarshalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// MarshalJSON writes the object of `flows show --json`: that of the list with
// bodies, events and messages.
func (d *Detail) MarshalJSON() ([]byte, error) {
	j := d.json()
	if d.Forwarded != nil {
		j.Forwarded = d.Forwarded.json(true)
	}
	if d.Original != nil {
		j.Original = d.Original.json(false)
	}
	if j.Request != nil {
		j.Request.Body = new(BodyValue(d.RequestBody))
	}
	if j.Response != nil {
		j.Response.Body = new(BodyValue(d.ResponseBody))
	}
	for _, p := range d.Events {
		framing := d.Framing(p.Side)
		e := ParseEvent(framing, p.Data)
		if !e.Dispatched {
			continue // a comment or a lone field: not an event
		}
		v := jsonEvent{AtMS: d.since(p.At), Event: e.Name(), ID: e.ID, Retry: e.Retry, FrameHeaders: e.HeaderMap(), Data: e.Value()}
		if framing != FramingSSE {
			v.Framing = framing
		}
		if framing == FramingGRPC || p.Side == Client {
			v.Dir = p.Side.Dir()
		}
		j.Events = append(j.Events, v)
	}
	for _, p := range d.Messages {
		j.Messages = append(j.Messages, d.message(p))
	}
	return MarshalJSON(j)
}

func (d *Detail) message(p Piece) jsonMessage {
	m := jsonMessage{Dir: p.Side.Dir(), Size: p.Size, AtMS: d.since(p.At), Data: BodyValue(p.Data), Compressed: p.Compressed, Truncated: p.Truncated()}
	if d.IsWebSocket() {
		m.Opcode, m.Type = &p.Opcode, OpcodeName(p.Opcode)
		if p.Opcode == OpClose {
			m.Code, m.Reason = ParseClose(p.Data)
		}
	}
	if m.Truncated != nil && len(p.Data) > 0 || m.Type == "text" && len(p.Data) == 0 {
		m.Data = textOrBase64(p.Data) // half a number is a number too
	}
	if p.HasSum {
		m.SHA256 = new(hex.EncodeToString(p.SHA256[:]))
	}
	return m
}

// since returns the milliseconds from the start of x to t, not negative.
func (x *Exchange) since(t time.Time) float64 { return *MS(max(0, t.Sub(x.Started))) }

func (x *Exchange) json() *jsonExchange {
	j := &jsonExchange{
		ID: strconv.FormatInt(x.ID, 10), Session: x.Session, Source: x.Conn.Source, Replay: x.Conn.Replay,
		Kind: x.Kind, State: x.State, Started: Stamp(x.Started),
		Process: x.Conn.Process, Conn: x.Conn.json(),
		Request: x.Request.json(true), Response: x.Response.json(false),
		LLM: x.LLM, Redacted: x.Redacted, Error: x.Error.json(),
	}
	if !x.Ended.IsZero() {
		j.Duration = MS(x.Duration())
	}
	if x.Kind == KindTCP || x.Kind == KindUDP {
		j.Bytes = &jsonBytes{x.Conn.Sent, x.Conn.Received}
	}
	if x.IsWebSocket() {
		sent, received := x.Tally[Client], x.Tally[Server]
		j.Bytes, j.Count = &jsonBytes{sent.Bytes, received.Bytes}, &jsonBytes{sent.Messages, received.Messages}
	}
	if d := x.DNS; d != nil {
		j.DNS = &jsonDNS{d.Name, d.Type, d.Rcode, d.Answers}
	}
	j.Timings = x.Timings().Phases()
	for _, n := range x.Marks {
		if n.Error != nil {
			j.Altered = j.Altered || n.Error.Code == CodeAltered
			j.Reencoded = j.Reencoded || n.Error.Code == CodeReencoded
			j.Marks = append(j.Marks, jsonNote{Stamp(n.At), *n.Error.json()})
		}
	}
	return j
}

// Phases returns t as it stands in JSON.
func (t Timings) Phases() Phases {
	return Phases{MS(t.DNS), MS(t.Connect), MS(t.SSL), MS(t.Send), MS(t.Wait), MS(t.Receive), MS(t.FirstEvent)}
}

func (e *Error) json() *jsonError {
	if e == nil {
		return nil
	}
	return &jsonError{e.Where, e.Code, e.Message, e.Hint, e.Detail}
}

func (c *Conn) json() jsonConn {
	j := jsonConn{
		ID: strconv.FormatInt(c.ID, 10), Src: addr(c.Src), Dst: addr(c.Dst), Host: c.Host,
		SNI: c.Child.SNI, ALPN: c.Child.ALPN, TLS: c.Child.Version,
		Protocol: c.Protocol, Decrypted: c.Decrypted, Opaque: c.Opaque,
	}
	if !c.Ended.IsZero() {
		j.ClientEnded, j.ServerEnded = c.ChildEnd.String(), c.SrvEnd.String()
	}
	if c.Child.Version != "" || c.Child.SNI != "" || c.Child.JA4 != "" {
		j.Child = &c.Child
	}
	if c.Upstream.Version != "" || c.Upstream.Verdict != "" {
		j.Upstream = &jsonTLS{&c.Upstream, c.Upstream.Certificates()}
	}
	return j
}

func (p *Part) json(request bool) *jsonPart {
	if p == nil {
		return nil
	}
	j := &jsonPart{ContentType: p.ContentType}
	if h := p.Head; h != nil {
		if request {
			j.Method, j.Scheme, j.Host, j.Port, j.Path, j.Authority, j.Stream = h.Method, h.Scheme, h.Host, h.Port, h.Path, h.Authority, h.Stream
		} else {
			j.Status, j.Reason, j.Streaming = h.Status, h.Reason, h.Streaming
			if g := p.GRPC(); g != nil {
				j.GRPCStatus, j.GRPCMessage = &g.Code, g.Message
			}
		}
		j.Version, j.Protocol, j.Framing = h.Version, h.Protocol, h.Framing
		fs := Pairs(h.Fields)
		j.Headers = &fs
	}
	if b := p.Body; b != nil {
		j.BodySize, j.Encoding, j.Truncated = &b.Size, b.Encoding, b.Truncated || b.Cut
		if !p.Withheld {
			s := hex.EncodeToString(b.SHA256[:])
			j.BodySHA256 = &s
		}
		if b.Encoding != "" {
			j.DecodedSize = &b.Decoded
		}
		if b.Truncated {
			j.KeptSize = &b.Kept
		}
		if b.Events > 0 || j.Streaming {
			j.Events = &b.Events
		}
		if len(b.Trailers) > 0 {
			j.Trailers = Pairs(b.Trailers)
		}
	}
	for _, h := range p.Informational {
		j.Provisional = append(j.Provisional, *(&Part{Head: h}).json(false))
	}
	return j
}

// Pairs returns fields as the pairs that stand in JSON, never nil.
func Pairs(fs []Field) [][2]string {
	ps := make([][2]string, 0, len(fs))
	for _, f := range fs {
		ps = append(ps, [2]string{f.Name, f.Value})
	}
	return ps
}

// BodyValue returns what stands for a body in JSON: nil for none, the JSON
// value itself where it is one, a string for text, {"base64": …} for the rest.
func BodyValue(p []byte) any {
	if len(p) == 0 {
		return nil
	}
	if utf8.Valid(p) {
		return TextValue(string(p))
	}
	return textOrBase64(p)
}

func textOrBase64(p []byte) any {
	if utf8.Valid(p) {
		return string(p)
	}
	return map[string]string{"base64": base64.StdEncoding.EncodeToString(p)}
}

// maxDepth is how deeply nested a value may be to stand as JSON in our JSON.
// jq 1.6 gives up on the whole input at 256, Python at about 1000: one hostile
// body must not cost a consumer the rest of the record.
const maxDepth = 200

// TextValue returns s as raw JSON where it is one JSON value, and the string
// itself otherwise. Numbers keep their text.
func TextValue(s string) any {
	b := bytes.TrimSpace([]byte(s))
	if len(b) > 0 && utf8.Valid(b) && json.Valid(b) && Depth(b) <= maxDepth {
		return json.RawMessage(b)
	}
	return s
}

// Depth returns how deep the valid JSON text b is nested at its deepest.
func Depth(b []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}', c == ']':
			now--
		}
	}
	return deepest
}

func addr(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// MS returns d in milliseconds with microsecond resolution, nil if negative.
func MS(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	f := float64(d.Microseconds()) / 1000
	return &f
}
