package export

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"trace/flow"
)

// The objects of HAR 1.2, as far as they are written.

type harStart struct {
	Started string          `json:"startedDateTime"`
	Time    json.RawMessage `json:"time"`
}

type harPair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type harCookie struct {
	Name     string  `json:"name"`
	Value    string  `json:"value"`
	Path     string  `json:"path,omitempty"`
	Domain   string  `json:"domain,omitempty"`
	Expires  *string `json:"expires,omitempty"`
	HTTPOnly bool    `json:"httpOnly,omitempty"`
	Secure   bool    `json:"secure,omitempty"`
	SameSite string  `json:"sameSite,omitempty"`
}

type harRequest struct {
	Method      string      `json:"method"`
	URL         string      `json:"url"`
	Version     string      `json:"httpVersion"`
	Cookies     []harCookie `json:"cookies"`
	Headers     []harPair   `json:"headers"`
	QueryString []harPair   `json:"queryString"`
	HeadersSize int64       `json:"headersSize"`
	BodySize    int64       `json:"bodySize"`
	Target      string      `json:"_target,omitempty"`    // as sent, where the URL does not say it
	Authority   string      `json:"_authority,omitempty"` // :authority, likewise
	Stream      int64       `json:"_streamId,omitempty"`
	Protocol    string      `json:"_protocol,omitempty"` // of an extended CONNECT
	Trailers    []harPair   `json:"_trailers,omitempty"`
	SHA256      string      `json:"_bodySha256,omitempty"`
	Framing     string      `json:"_framing,omitempty"` // of events, but that of SSE
}

type harPostData struct {
	MimeType  string `json:"mimeType"`
	Encoding  string `json:"_encoding,omitempty"`
	Truncated *int64 `json:"_truncated,omitempty"`
	Comment   string `json:"comment,omitempty"`
}

type harResponse struct {
	Status        int         `json:"status"`
	StatusText    string      `json:"statusText"`
	Version       string      `json:"httpVersion"`
	Cookies       []harCookie `json:"cookies"`
	Headers       []harPair   `json:"headers"`
	RedirectURL   string      `json:"redirectURL"`
	HeadersSize   int64       `json:"headersSize"`
	BodySize      int64       `json:"bodySize"`
	TransferSize  int64       `json:"_transferSize"`
	Error         string      `json:"_error,omitempty"`
	Protocol      string      `json:"_protocol,omitempty"` // what was switched to
	Informational []harHead   `json:"_informational,omitempty"`
	Trailers      []harPair   `json:"_trailers,omitempty"`
	SHA256        string      `json:"_bodySha256,omitempty"`
	Streaming     bool        `json:"_streaming,omitempty"`
	Framing       string      `json:"_framing,omitempty"`
	GRPC          *harGRPC    `json:"_grpc,omitempty"`
}

type harGRPC struct {
	Status  int    `json:"status"`
	Message string `json:"message,omitempty"`
}

type harHead struct {
	Status     int       `json:"status"`
	StatusText string    `json:"statusText"`
	Headers    []harPair `json:"headers"`
}

type harContent struct {
	Size        int64  `json:"size"`
	MimeType    string `json:"mimeType"`
	Compression *int64 `json:"compression,omitempty"`
	Encoding    string `json:"encoding,omitempty"`
	Truncated   *int64 `json:"_truncated,omitempty"`
	Comment     string `json:"comment,omitempty"`
}

type harTimings struct {
	Blocked json.RawMessage `json:"blocked"`
	DNS     json.RawMessage `json:"dns"`
	Connect json.RawMessage `json:"connect"`
	SSL     json.RawMessage `json:"ssl"`
	Send    json.RawMessage `json:"send"`
	Wait    json.RawMessage `json:"wait"`
	Receive json.RawMessage `json:"receive"`
}

// harRest is what follows the timings of an entry.
type harRest struct {
	ServerIP     string        `json:"serverIPAddress,omitempty"`
	Connection   string        `json:"connection,omitempty"`
	ResourceType string        `json:"_resourceType"`
	ID           string        `json:"_id"`
	Started      string        `json:"_started"` // to the microsecond, without the connection's making
	ConnectionID string        `json:"_connectionId,omitempty"`
	Client       string        `json:"_clientAddress,omitempty"`
	ServerPort   uint16        `json:"_serverPort,omitempty"`
	Security     string        `json:"_securityState,omitempty"`
	Details      *harSecurity  `json:"_securityDetails,omitempty"`
	Process      *flow.Process `json:"_process,omitempty"`
	Redacted     int           `json:"_redacted,omitempty"`
	State        string        `json:"_state,omitempty"` // unless it is complete
	Failure      *flow.Error   `json:"_failure,omitempty"`
	Marks        []harMark     `json:"_marks,omitempty"`
}

type harMark struct {
	Time json.RawMessage `json:"time"`
	*flow.Error
}

type harSecurity struct {
	Protocol string          `json:"protocol,omitempty"`
	Subject  string          `json:"subjectName,omitempty"`
	Issuer   string          `json:"issuer,omitempty"`
	From     json.RawMessage `json:"validFrom,omitempty"`
	To       json.RawMessage `json:"validTo,omitempty"`
}

// harTime is how a start stands in an entry: to the millisecond, as everybody
// reads it.
const harTime = "2006-01-02T15:04:05.000Z07:00"

// harStartOf makes the beginning of an entry: it starts with the making of the
// connection, where that was for its sake, since its time includes that.
func harStartOf(x *flow.Exchange) harStart {
	tm := x.Timings()
	before := max(0, tm.DNS) + max(0, tm.Connect)
	sum := before + max(0, tm.Send) + max(0, tm.Wait) + max(0, tm.Receive)
	return harStart{x.Started.Add(-before).UTC().Format(harTime), milliseconds(sum)}
}

func harTimingsOf(x *flow.Exchange) harTimings {
	tm := x.Timings()
	return harTimings{
		Blocked: milliseconds(-1), DNS: milliseconds(tm.DNS), Connect: milliseconds(tm.Connect), SSL: milliseconds(tm.SSL),
		Send: milliseconds(max(0, tm.Send)), Wait: milliseconds(max(0, tm.Wait)), Receive: milliseconds(max(0, tm.Receive)),
	}
}

// milliseconds writes d with as many fraction digits as it needs, -1 if it is
// negative.
func milliseconds(d time.Duration) json.RawMessage {
	if d < 0 {
		return json.RawMessage("-1")
	}
	return strconv.AppendFloat(nil, float64(d.Microseconds())/1000, 'f', -1, 64)
}

func harRequestOf(x *flow.Exchange) harRequest {
	h := x.Request.Head
	r := harRequest{
		Method: text(h.Method), URL: webAddress(x), Version: harVersion(h.Version), Headers: harPairs(h.Fields),
		Cookies: requestCookies(h), QueryString: queryString(h.Path), HeadersSize: -1, BodySize: -1,
		Stream: h.Stream, Protocol: h.Protocol, Framing: otherFraming(h),
	}
	if target := cmp.Or(h.Target, h.Path); !strings.HasPrefix(target, "/") || !strings.HasSuffix(r.URL, target) {
		r.Target = text(target)
	}
	if h.Authority != "" && !strings.Contains(r.URL, "://"+h.Authority+"/") {
		r.Authority = text(h.Authority)
	}
	if b := x.Request.Body; b != nil {
		r.BodySize, r.Trailers, r.SHA256 = b.Size, trailers(b), sumOf(x.Request)
	}
	return r
}

func harResponseOf(x *flow.Exchange) harResponse {
	r := harResponse{Cookies: []harCookie{}, Headers: []harPair{}, HeadersSize: -1, BodySize: -1, Error: harError(x)}
	p := x.Response
	if p == nil {
		return r
	}
	for _, h := range p.Informational {
		r.Informational = append(r.Informational, harHead{h.Status, text(h.Reason), harPairs(h.Fields)})
	}
	h := p.Head
	if h == nil {
		return r
	}
	r.Status, r.StatusText, r.Version = h.Status, text(h.Reason), harVersion(h.Version)
	r.Headers, r.Cookies = harPairs(h.Fields), responseCookies(h)
	r.RedirectURL, r.Protocol, r.Streaming = text(h.Get("location")), h.Protocol, h.Streaming
	r.Framing = otherFraming(h)
	r.TransferSize = -1
	if b := p.Body; b != nil {
		r.BodySize, r.TransferSize, r.Trailers, r.SHA256 = b.Size, b.Size, trailers(b), sumOf(p)
	}
	if g := p.GRPC(); g != nil {
		r.GRPC = &harGRPC{g.Code, text(g.Message)}
	}
	return r
}

func otherFraming(h *flow.Head) string {
	if h.Framing == flow.FramingSSE {
		return ""
	}
	return h.Framing
}

// harError says why there is no proper answer, "" where there is.
func harError(x *flow.Exchange) string {
	switch {
	case x.Error != nil:
		return text(x.Error.Message)
	case x.Response == nil && x.State == flow.StateOpen:
		return "no answer yet"
	case x.Response == nil || x.Response.Head == nil:
		return "no answer"
	}
	return ""
}

// unknownType is what Chrome writes for the type of a body that it does not know.
const unknownType = "x-unknown"

func harContentOf(x *flow.Exchange, body *content) harContent {
	c := harContent{MimeType: unknownType, Encoding: encodingOf(body), Size: body.size}
	p := x.Response
	if p == nil || p.Head == nil {
		return c
	}
	c.MimeType = text(cmp.Or(p.Head.Get("content-type"), unknownType))
	if b := p.Body; b != nil {
		c.Size = b.Decoded
		if b.Encoding != "" {
			c.Compression = new(b.Decoded - b.Size)
		}
		c.Truncated, c.Comment = truncation(p, body)
	}
	return c
}

func harRestOf(x *flow.Exchange) *harRest {
	c := &x.Conn
	r := &harRest{ResourceType: resourceType(x), ID: x.Session + "/" + strconv.FormatInt(x.ID, 10), Started: flow.Stamp(x.Started), Process: c.Process,
		Redacted: x.Redacted, Failure: x.Error, Client: addrText(c.Src)}
	if x.State != flow.StateComplete {
		r.State = x.State
	}
	if c.ID > 0 {
		r.ConnectionID = strconv.FormatInt(c.ID, 10)
	}
	if c.Dst.IsValid() {
		r.ServerIP, r.ServerPort = c.Dst.Addr().WithZone("").String(), c.Dst.Port()
		r.Connection = strconv.Itoa(int(c.Dst.Port()))
	}
	if r.Security = "insecure"; x.Request.Head.Scheme == "https" {
		r.Security = "secure"
	}
	r.Details = harSecurityOf(c)
	for _, n := range x.Marks {
		if n.Error != nil {
			r.Marks = append(r.Marks, harMark{epoch(n.At), n.Error})
		}
	}
	return r
}

func harSecurityOf(c *flow.Conn) *harSecurity {
	version := cmp.Or(c.Upstream.Version, c.Child.Version)
	if version == "" {
		return nil
	}
	s := &harSecurity{Protocol: "TLS " + version}
	if chain := c.Upstream.Certificates(); len(chain) > 0 && chain[0].Error == "" {
		s.Subject, s.Issuer = text(chain[0].Subject), text(chain[0].Issuer)
		s.From, s.To = seconds(chain[0].NotBefore), seconds(chain[0].NotAfter)
	}
	return s
}

// seconds turns a stamp into seconds since 1970.
func seconds(stamp string) json.RawMessage {
	t, err := time.Parse(flow.TimeFormat, stamp)
	if err != nil {
		return nil
	}
	return strconv.AppendInt(nil, t.Unix(), 10)
}

func addrText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// resourceType guesses what Chrome calls the type of a resource.
func resourceType(x *flow.Exchange) string {
	if x.IsWebSocket() {
		return "websocket"
	}
	media := ""
	if x.Response != nil {
		media, _, _ = strings.Cut(strings.ToLower(x.Response.Head.Get("content-type")), ";")
	}
	media = strings.TrimSpace(media)
	kind, _, _ := strings.Cut(media, "/")
	switch {
	case media == "text/html":
		return "document"
	case media == "text/css":
		return "stylesheet"
	case strings.HasSuffix(media, "/javascript"), strings.HasSuffix(media, "/ecmascript"):
		return "script"
	case kind == "image", kind == "font":
		return kind
	case kind == "audio", kind == "video":
		return "media"
	}
	return "fetch"
}

type harMessage struct {
	Type       string          `json:"type"`
	Time       json.RawMessage `json:"time"`
	Opcode     uint8           `json:"opcode"`
	Data       string          `json:"data"`
	Size       *int64          `json:"_size,omitempty"`   // where not all of it is there
	Base64     string          `json:"_base64,omitempty"` // of text that is none
	Compressed bool            `json:"_compressed,omitempty"`
	SHA256     string          `json:"_sha256,omitempty"`
}

// harMessageOf makes a message of a WebSocket: text as it is, all others in
// base64.
func harMessageOf(p flow.Piece) any {
	m := &harMessage{Type: "send", Time: epoch(p.At), Opcode: p.Opcode, Compressed: p.Compressed}
	if p.Side == flow.Server {
		m.Type = "receive"
	}
	switch {
	case p.Opcode != flow.OpText:
		m.Data = base64.StdEncoding.EncodeToString(p.Data)
	case utf8.Valid(p.Data):
		m.Data = string(p.Data)
	default:
		m.Data, m.Base64 = strings.ToValidUTF8(string(p.Data), "\ufffd"), base64.StdEncoding.EncodeToString(p.Data)
	}
	if p.HasSum {
		m.SHA256 = hex.EncodeToString(p.SHA256[:])
	}
	if int64(len(p.Data)) != p.Size {
		m.Size = &p.Size
	}
	return m
}

type harEvent struct {
	Time json.RawMessage `json:"time"`
	Name string          `json:"eventName"`
	ID   string          `json:"eventId"`
	Data string          `json:"data"`
}

// harEventOf makes an event of an event stream, nil of a block that is none.
func harEventOf(p flow.Piece) any {
	e := flow.ParseEvent(flow.FramingSSE, p.Data)
	if !e.Dispatched {
		return nil
	}
	return &harEvent{epoch(p.At), text(e.Name()), text(e.ID), text(e.Data)}
}

type harBlock struct {
	Type     string          `json:"type"`
	Time     json.RawMessage `json:"time"`
	Data     string          `json:"data"`
	Encoding string          `json:"encoding,omitempty"`
}

// harBlockOf makes an event of any other framing, as it was in the body.
func harBlockOf(p flow.Piece) any {
	b := &harBlock{Type: "send", Time: epoch(p.At), Data: string(p.Data)}
	if p.Side == flow.Server {
		b.Type = "receive"
	}
	if !utf8.Valid(p.Data) || strings.ContainsRune(b.Data, 0) {
		b.Data, b.Encoding = base64.StdEncoding.EncodeToString(p.Data), "base64"
	}
	return b
}
