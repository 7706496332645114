package flow

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ParsedEvent is what a StreamEvent says.
type ParsedEvent struct {
	// Event is the name that the event has: the event field of SSE, the type
	// of an AWS event stream's. "" means "message".
	Event string
	ID    string // of SSE
	Retry string // of SSE
	// Data is the content: text, which may be JSON, or base64 where Binary.
	Data    string
	Headers []Field // of a message of an AWS event stream, or of a part of a multipart body
	// Dispatched reports whether it is an event at all: blocks of SSE
	// without data are not.
	Dispatched bool
	Binary     bool // Data is base64 of bytes that are no text
}

// ParseEvent reads the data of one StreamEvent in one of the framings. Whatever
// the bytes are, it finds something to say: what is not as the framing wants
// stands as text or base64. A lost end is borne, and so are lengths and checksums
// that do not fit, as redaction leaves them.
//
//   - "ndjson", "json-array": Data is the JSON text.
//   - "aws-eventstream": Headers are those of the message, and Data is its
//     payload. Where that is the wrapper {"bytes": …} of Amazon Bedrock, Data is
//     the JSON inside. Event is its "type", else the :event-type; of an exception
//     always the :exception-type.
//   - "multipart": Headers are those of the part.
//   - "grpc": Data is JSON: the message itself where it is JSON, else what
//     [Protobuf] shows of it.
func ParseEvent(framing string, block []byte) ParsedEvent {
	switch framing {
	case FramingNDJSON, FramingJSONArray:
		return textEvent(bytes.Trim(bytes.TrimPrefix(block, []byte("\ufeff")), "\x1e \t\r\n"))
	case FramingEventStream:
		return parseEventStream(block)
	case FramingMultipart:
		return parsePart(block)
	case FramingGRPC:
		return parseGRPC(block)
	}
	return parseSSE(block)
}

// Name returns Event, or "message" where it has none.
func (e *ParsedEvent) Name() string {
	if e.Event == "" {
		return "message"
	}
	return e.Event
}

// Value returns what stands for Data in JSON: the JSON value itself where it is
// one, a string for text, {"base64": …} for the rest.
func (e *ParsedEvent) Value() any {
	if e.Binary {
		return map[string]string{"base64": e.Data}
	}
	return TextValue(e.Data)
}

// HeaderMap returns Headers as the object that stands in JSON, nil if there are
// none: names in lower case, values of the same name joined.
func (e *ParsedEvent) HeaderMap() map[string]string {
	var m map[string]string
	for _, f := range e.Headers {
		if m == nil {
			m = map[string]string{}
		}
		name := strings.ToLower(f.Name)
		if v, ok := m[name]; ok {
			m[name] = v + ", " + f.Value
		} else {
			m[name] = f.Value
		}
	}
	return m
}

// textEvent makes an event of p.
func textEvent(p []byte) ParsedEvent {
	e := ParsedEvent{Dispatched: len(p) > 0}
	e.setData(p)
	return e
}

func (e *ParsedEvent) setData(p []byte) {
	if e.Binary = !utf8.Valid(p) || bytes.IndexByte(p, 0) >= 0; e.Binary {
		e.Data = base64.StdEncoding.EncodeToString(p)
	} else {
		e.Data = string(p)
	}
}

// The parts of a message of an AWS event stream around headers and payload.
const (
	eventPrelude = 12
	eventSum     = 4
)

// parseEventStream reads a message of an AWS event stream.
func parseEventStream(block []byte) ParsedEvent {
	e := ParsedEvent{Dispatched: true}
	if len(block) < eventPrelude {
		e.setData(block)
		return e
	}
	size := int64(binary.BigEndian.Uint32(block[4:]))
	rest := block[eventPrelude:max(len(block)-eventSum, eventPrelude)]
	if size > int64(len(rest)) {
		e.setData(block)
		return e
	}
	fields, ok := eventHeaders(rest[:size])
	if !ok {
		e.setData(block)
		return e
	}
	e.Headers = fields
	h := Head{Fields: fields}
	payload := rest[size:]
	e.Event = h.Get(":event-type")
	var inner struct {
		Type  any     `json:"type"`
		Bytes *string `json:"bytes"`
	}
	if object(payload) && json.Unmarshal(payload, &inner) == nil {
		if inner.Bytes != nil && e.Event == "chunk" {
			if p, err := base64.StdEncoding.DecodeString(*inner.Bytes); err == nil {
				payload, inner.Type = p, nil
				if !object(p) || json.Unmarshal(p, &inner) != nil {
					inner.Type = nil
				}
			}
		}
		if s, _ := inner.Type.(string); s != "" {
			e.Event = s
		}
	}
	switch s := h.Get(":exception-type"); {
	case s != "":
		e.Event = s
	case h.Get(":message-type") == "error":
		e.Event = "error"
	}
	e.setData(payload)
	return e
}

// object reports whether p begins as a JSON object does.
func object(p []byte) bool {
	p = bytes.TrimLeft(p, " \t\r\n")
	return len(p) > 0 && p[0] == '{'
}

// eventHeaders reads the headers of a message of an AWS event stream. Values
// that are no text are written as numbers, true and false, times (RFC 3339),
// UUIDs, or base64.
func eventHeaders(p []byte) (fields []Field, ok bool) {
	for len(p) > 0 {
		n := int(p[0])
		if len(p) < n+2 {
			return nil, false
		}
		name, kind := string(p[1:1+n]), p[1+n]
		value, rest, ok := eventHeader(kind, p[n+2:])
		if !ok {
			return nil, false
		}
		fields = append(fields, Field{strings.ToValidUTF8(name, "\ufffd"), value})
		p = rest
	}
	return fields, true
}

// eventHeader reads a value of one of the ten types.
func eventHeader(kind byte, p []byte) (value string, rest []byte, ok bool) {
	sizes := [...]int{0, 0, 1, 2, 4, 8, 2, 2, 8, 16}
	if int(kind) >= len(sizes) || len(p) < sizes[kind] {
		return "", nil, false
	}
	v, p := p[:sizes[kind]], p[sizes[kind]:]
	var n int64
	for i, b := range v[:min(len(v), 8)] {
		if n = n<<8 | int64(b); i == 0 {
			n = int64(int8(b))
		}
	}
	switch kind {
	case 0:
		return "true", p, true
	case 1:
		return "false", p, true
	case 2, 3, 4, 5:
		return strconv.FormatInt(n, 10), p, true
	case 8:
		return time.UnixMilli(n).UTC().Format(time.RFC3339Nano), p, true
	case 9:
		return fmt.Sprintf("%x-%x-%x-%x-%x", v[:4], v[4:6], v[6:8], v[8:10], v[10:]), p, true
	}
	size := int(binary.BigEndian.Uint16(v))
	if len(p) < size {
		return "", nil, false
	}
	if v, p = p[:size], p[size:]; kind == 7 && utf8.Valid(v) {
		return string(v), p, true
	}
	return base64.StdEncoding.EncodeToString(v), p, true
}

// parsePart reads a part of a multipart body: the line of its boundary, its
// head and its content, which the line end before the next boundary may follow.
func parsePart(block []byte) ParsedEvent {
	e := ParsedEvent{Dispatched: true}
	_, rest, ok := bytes.Cut(block, []byte("\n"))
	if !ok {
		e.setData(block)
		return e
	}
	size := -1
	for {
		var line []byte
		line, rest, ok = bytes.Cut(rest, []byte("\n"))
		if line = bytes.TrimRight(line, "\r"); len(line) == 0 || !ok {
			break
		}
		name, value, _ := strings.Cut(strings.ToValidUTF8(string(line), "\ufffd"), ":")
		if f := len(e.Headers); (line[0] == ' ' || line[0] == '\t') && f > 0 {
			e.Headers[f-1].Value += " " + strings.TrimSpace(string(line))
			continue
		}
		value = strings.TrimSpace(value)
		e.Headers = append(e.Headers, Field{strings.TrimSpace(name), value})
		if n, err := strconv.Atoi(value); err == nil && equalFold(strings.TrimSpace(name), "Content-Length") {
			size = n
		}
	}
	if size >= 0 && size <= len(rest) {
		rest = rest[:size]
	} else {
		rest = bytes.TrimSuffix(bytes.TrimSuffix(rest, []byte("\n")), []byte("\r"))
	}
	e.setData(rest)
	return e
}

// parseGRPC reads a message of gRPC with its prefix.
func parseGRPC(block []byte) ParsedEvent {
	e := ParsedEvent{Dispatched: true}
	if len(block) < 5 {
		e.setData(block)
		return e
	}
	compressed, payload := block[0]&1 != 0, block[5:]
	if compressed {
		e.Data, e.Binary = base64.StdEncoding.EncodeToString(payload), true
		return e
	}
	if trimmed := bytes.TrimSpace(payload); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') && utf8.Valid(trimmed) && json.Valid(trimmed) {
		e.Data = string(trimmed)
		return e
	}
	if text, ok := Protobuf(payload); ok {
		e.Data = string(text)
		return e
	}
	e.setData(payload)
	return e
}
