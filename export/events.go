package export

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"trace/flow"
)

type sseLine struct {
	base
	Index        int               `json:"index"`
	Framing      string            `json:"framing,omitempty"` // but that of SSE
	Dir          string            `json:"dir,omitempty"`     // where both sides may send events
	Event        string            `json:"event"`
	Data         any               `json:"data"`
	Encoding     string            `json:"encoding,omitempty"` // of Data, where it is no text
	FrameHeaders map[string]string `json:"frame_headers,omitempty"`
	ID           string            `json:"id,omitempty"`
	Retry        *int64            `json:"retry,omitempty"`
	OffsetMS     float64           `json:"offset_ms"`
	Raw          string            `json:"raw,omitempty"` // base64, where Data could not keep its bytes
}

// sseOf makes the line of one event, or nil of a block that is none.
func sseOf(x *flow.Exchange, p *flow.Piece) *sseLine {
	framing := x.Framing(p.Side)
	e := flow.ParseEvent(framing, p.Data)
	if !e.Dispatched {
		return nil
	}
	l := &sseLine{Event: e.Name(), Data: flow.TextValue(e.Data), FrameHeaders: e.HeaderMap(), ID: e.ID, OffsetMS: since(x, p.At)}
	if framing != flow.FramingSSE {
		l.Framing = framing
	}
	if framing == flow.FramingGRPC || p.Side == flow.Client {
		l.Dir = direction(p.Side)
	}
	if e.Binary {
		l.Data, l.Encoding = e.Data, "base64"
	}
	if n, err := strconv.ParseInt(e.Retry, 10, 64); err == nil && n >= 0 {
		l.Retry = &n
	}
	if framing == flow.FramingGRPC || !e.Binary && !utf8.Valid(p.Data) {
		l.Raw = base64.StdEncoding.EncodeToString(p.Data)
	}
	return l
}

type wsOpenLine struct {
	base
	Subprotocol string `json:"subprotocol,omitempty"`
	Extensions  string `json:"extensions,omitempty"`
}

type wsMessageLine struct {
	base
	Index      int     `json:"index"`
	Dir        string  `json:"dir"`
	Opcode     uint8   `json:"opcode"`
	Kind       string  `json:"kind"`
	Data       any     `json:"data"`
	Encoding   string  `json:"encoding,omitempty"`
	Size       int64   `json:"size"`
	SHA256     string  `json:"sha256,omitempty"`
	Compressed bool    `json:"compressed,omitempty"`
	Truncated  *int64  `json:"data_truncated,omitempty"`
	Code       int     `json:"code,omitempty"`
	Reason     string  `json:"reason,omitempty"`
	OffsetMS   float64 `json:"offset_ms"`
}

type wsCloseLine struct {
	base
	Code   int    `json:"code"`
	Reason string `json:"reason"`
	By     string `json:"by,omitempty"`
}

func wsOpenOf(x *flow.Exchange) *wsOpenLine {
	fields := headers(x.Response.Head.Fields)
	return &wsOpenLine{Subprotocol: fields["sec-websocket-protocol"], Extensions: fields["sec-websocket-extensions"]}
}

func wsMessageOf(x *flow.Exchange, p *flow.Piece) *wsMessageLine {
	l := &wsMessageLine{
		Dir: direction(p.Side), Opcode: p.Opcode, Kind: flow.OpcodeName(p.Opcode), Size: p.Size,
		Compressed: p.Compressed, Truncated: p.Truncated(), OffsetMS: since(x, p.At),
	}
	if p.HasSum {
		l.SHA256 = hex.EncodeToString(p.SHA256[:])
	}
	text := utf8.Valid(p.Data) && p.Opcode != flow.OpBinary && p.Opcode != flow.OpClose
	switch l.Data = string(p.Data); {
	case !text:
		l.Data, l.Encoding = base64.StdEncoding.EncodeToString(p.Data), "base64"
	case p.Opcode == flow.OpText && l.Truncated == nil: // half a number is a number too
		if v, ok := flow.TextValue(string(p.Data)).(json.RawMessage); ok {
			l.Data = v
		}
	}
	if p.Opcode == flow.OpClose {
		l.Code, l.Reason = flow.ParseClose(p.Data)
	}
	return l
}

// wsCloseOf makes the line that says how a websocket ended: as its first
// close frame says, or without one. nil if nobody saw its end.
func wsCloseOf(x *flow.Exchange, frame *flow.Piece) *wsCloseLine {
	switch {
	case frame != nil:
		l := &wsCloseLine{By: frame.Side.String()}
		l.Code, l.Reason = flow.ParseClose(frame.Data)
		return l
	case reason(x) == "capture_stopped":
		return nil
	}
	why := x.Error
	for _, n := range x.Marks {
		if why == nil && n.Error != nil && n.Error.Detail == strconv.Itoa(flow.CloseAbnormal) {
			why = n.Error
		}
	}
	l := &wsCloseLine{Code: flow.CloseAbnormal}
	if why != nil {
		l.By = map[flow.Where]string{flow.AtClient: "client", flow.AtUpstream: "server"}[why.Where]
	}
	return l
}

// since returns the milliseconds from the start of x to t, not negative.
func since(x *flow.Exchange, t time.Time) float64 { return *flow.MS(max(0, t.Sub(x.Started))) }
