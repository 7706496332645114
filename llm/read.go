package llm

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"trace/flow"
)

// Read makes calls of a recorded exchange: usually one, several of a WebSocket
// on which one was asked after the other, none if it is no call to a language
// model. A call that is still going on is read as far as it came.
func Read(d *flow.Detail) []*Call {
	if d == nil || d.Request == nil || d.Request.Head == nil {
		return nil
	}
	var in *input
	for _, f := range recognized(newRoute(d.Request.Head)) {
		if in == nil {
			in = newInput(d)
		}
		in.provider, in.api = f.provider, f.api
		if calls := f.read(in); calls != nil {
			for _, c := range calls {
				if c.Asked.IsZero() { // as on a WebSocket it is not
					c.Asked = d.Started
				}
			}
			return calls
		}
	}
	return nil
}

// An input is an exchange as formats read it.
type input struct {
	detail        *flow.Detail
	route         *route
	provider, api string

	request object // the body; nil if it is no object
	status  int    // of the answer; 0 before there is one

	// The answer: its events where it was streamed, else the body. Both may be
	// there for what a server sends that does not know what it says. body is
	// as it came, answer is it as JSON, nil if it is none.
	events    []event
	body      []byte
	answer    json.RawMessage
	answerCut bool // it was not whole

	// ended tells that no more of the answer comes; whole that it ended as its
	// framing wants. An answer may still lack the end that its format wants.
	ended, whole bool
}

// An event is one of a streamed answer, or a message of a WebSocket.
type event struct {
	name string // "" where the framing has no names
	at   time.Time
	side flow.Side
	text string          // the data: JSON, or "[DONE]" or whatever was sent
	raw  json.RawMessage // text as JSON, nil if it is none
	data object          // raw as object, nil if it is none
	head []flow.Field    // of AWS event streams
	cut  bool            // the JSON was not whole
}

func newInput(d *flow.Detail) *input {
	in := &input{detail: d, route: newRoute(d.Request.Head)}
	in.request, _ = parseObject(d.RequestBody)
	in.ended = d.State != flow.StateOpen
	if d.Response == nil || d.Response.Head == nil {
		return in
	}
	in.status = d.Response.Head.Status
	in.body = d.ResponseBody
	in.whole = d.State == flow.StateComplete
	if b := d.Response.Body; b != nil && (b.Cut || b.Truncated) {
		in.whole = false
	}
	in.events = parseEvents(d)
	if len(in.events) == 0 {
		in.answer, in.answerCut = parseJSON(in.body)
		if in.answer == nil || in.answerCut || in.announced() {
			in.events = cutEvents(in.body, d.Response.Head.Get("Content-Type"))
		}
		if len(in.events) == 1 && in.answer != nil { // one object, as if it were no stream
			in.events = nil
		}
	}
	return in
}

// announced reports whether the answer says of itself that it is a stream.
func (in *input) announced() bool {
	t := strings.ToLower(in.detail.Response.Head.Get("Content-Type"))
	return strings.Contains(t, "event-stream") || strings.Contains(t, "ndjson") || strings.Contains(t, "eventstream")
}

// call begins a call with what every format knows.
func (in *input) call() *Call {
	return &Call{Provider: in.provider, API: in.api}
}

// streamed reports whether the answer came as a stream.
func (in *input) streamed() bool { return len(in.events) > 0 }

// messages returns the text messages of a WebSocket, of both sides in order.
func (in *input) messages() []event {
	var list []event
	for _, p := range whole(in.detail.Messages) {
		if p.Opcode == flow.OpText || p.Opcode == flow.OpBinary && utf8.Valid(p.Data) {
			e := event{at: p.At, side: p.Side, text: string(p.Data)}
			list = append(list, e.parse())
		}
	}
	return list
}

// parse reads the text as JSON.
func (e event) parse() event {
	if s := strings.TrimSpace(e.text); s == "" || s[0] != '{' && s[0] != '[' {
		return e
	}
	e.raw, e.cut = parseJSON([]byte(e.text))
	e.data = members(e.raw)
	return e
}

// parseEvents returns the events of the answer.
func parseEvents(d *flow.Detail) []event {
	var list []event
	framing := d.Framing(flow.Server)
	for _, p := range whole(d.Events) {
		if p.Side == flow.Server {
			list = appendEvent(list, framing, p.Data, p.At)
		}
	}
	return list
}

func appendEvent(list []event, framing string, block []byte, at time.Time) []event {
	p := flow.ParseEvent(framing, block)
	if !p.Dispatched {
		return list
	}
	e := event{name: p.Event, at: at, side: flow.Server, text: p.Data, head: p.Headers}
	if p.Binary { // a byte of it is no UTF-8: the rest may be read all the same
		if data, err := base64.StdEncoding.DecodeString(p.Data); err == nil {
			e.text = strings.ToValidUTF8(string(data), "\ufffd")
		}
	}
	return append(list, e.parse())
}

// whole joins pieces that were handed over in parts.
func whole(pieces []flow.Piece) []flow.Piece {
	var list []flow.Piece
	for _, p := range pieces {
		if n := len(list) - 1; n >= 0 && list[n].Partial && list[n].Index == p.Index && list[n].Side == p.Side {
			if !bytes.HasPrefix(p.Data, list[n].Data) {
				p.Data = append(bytes.Clone(list[n].Data), p.Data...)
			}
			p.At = list[n].At
			list[n] = p
			continue
		}
		list = append(list, p)
	}
	return list
}

// cutEvents finds events in a body that was not recorded as a stream: an
// import, or an answer whose type does not say what it is. Their times are not
// known.
func cutEvents(body []byte, contentType string) []event {
	var list []event
	head := bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\ufeff")), "\r\n")
	switch {
	case strings.Contains(contentType, "eventstream"):
		for len(body) >= 16 {
			n := int(uint32(body[0])<<24 | uint32(body[1])<<16 | uint32(body[2])<<8 | uint32(body[3]))
			if n < 16 || n > len(body) {
				n = len(body)
			}
			list = appendEvent(list, flow.FramingEventStream, body[:n], time.Time{})
			body = body[n:]
		}
	case bytes.HasPrefix(head, []byte("event:")), bytes.HasPrefix(head, []byte("data:")), bytes.HasPrefix(head, []byte("id:")), bytes.HasPrefix(head, []byte(":")):
		text := strings.ReplaceAll(strings.ReplaceAll(string(head), "\r\n", "\n"), "\r", "\n")
		for block := range strings.SplitSeq(text, "\n\n") {
			list = appendEvent(list, flow.FramingSSE, []byte(block), time.Time{})
		}
	case bytes.HasPrefix(head, []byte("{")):
		for line := range bytes.SplitSeq(head, []byte("\n")) {
			list = appendEvent(list, flow.FramingNDJSON, line, time.Time{})
		}
	}
	return list
}

// failure reads the body of an error status, in any of the shapes that
// providers and the gateways before them use: {"error": {…}}, {"error": "…"},
// {"message": …}, the same in an array, a page of HTML.
func (in *input) failure() *Error {
	if in.status < 400 {
		return nil
	}
	e := &Error{Status: in.status}
	amazon, _, _ := strings.Cut(in.detail.Response.Head.Get("X-Amzn-Errortype"), ":")
	raw := in.answer
	if raw == nil && in.streamed() {
		raw = in.events[0].raw
	}
	if list := elements(raw); len(list) > 0 {
		raw = list[0]
	}
	if o := members(raw); o != nil {
		e.read(o)
		if e.Type == "" {
			e.Type = amazon
		}
		return e
	}
	e.Type = amazon
	e.Message, e.Raw = shorten(string(bytes.ToValidUTF8(bytes.TrimSpace(in.body), []byte("\ufffd")))), quote(string(in.body))
	if len(in.body) == 0 {
		e.Raw = nil
	}
	return e
}

// read takes type and message out of the object that an error came in.
func (e *Error) read(o object) {
	e.Raw = o.raw()
	inner := o
	switch raw := o.get("error"); kind(raw) {
	case '{':
		inner = members(raw)
	case '"':
		e.Message = text(raw)
	}
	for _, name := range []string{"message", "Message", "detail", "error_description"} {
		if e.Message == "" {
			e.Message = inner.text(name)
		}
	}
	for _, name := range []string{"type", "status", "code", "__type"} {
		if s := inner.text(name); e.Type == "" && s != "error" {
			e.Type = s
		}
	}
	if raw := inner.get("code"); e.Type == "" && kind(raw) == '0' {
		e.Type = string(raw)
	}
}

// maxShort bounds a message that is a page.
const maxShort = 300

func shorten(s string) string {
	if len(s) <= maxShort {
		return s
	}
	return strings.ToValidUTF8(s[:maxShort], "") + "…"
}
