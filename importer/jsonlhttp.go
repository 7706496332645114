package importer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"trace/flow"
)

// logBody are the keys of a body.
type logBody struct {
	Body         json.RawMessage
	BodyEncoding string `json:"body_encoding"`
	BodySize     *int64 `json:"body_size"`
	BodySHA256   string `json:"body_sha256"`
	Truncated    *int64 `json:"body_truncated"`
	DecodedSize  *int64 `json:"decoded_size"`
	Trailers     map[string]string
}

// fill reads a body. coding is what its head says.
func (v *logBody) fill(b *body, coding string) error {
	if len(v.Body) > 0 && string(v.Body) != "null" {
		var text string
		switch v.BodyEncoding {
		case "json", "":
			b.data = bytes.Clone(v.Body)
		case "base64", "text":
			if err := json.Unmarshal(v.Body, &text); err != nil {
				return fmt.Errorf("body: %w", err)
			}
			var err error
			if b.data, err = decoded(text, v.BodyEncoding); err != nil {
				return err
			}
		}
	}
	b.there = v.BodySize != nil
	v.measure(b, coding)
	return nil
}

// measure fills in the sizes of a body whose bytes are there.
func (v *logBody) measure(b *body, coding string) {
	n := int64(len(b.data))
	b.Size, b.Decoded = n, n
	if v.BodySize != nil {
		b.Size, b.Decoded = *v.BodySize, *v.BodySize
	}
	if coding != "" && coding != "identity" && n > 0 {
		b.Decoded = n
		if b.Encoding = strings.ToLower(coding); v.DecodedSize == nil && b.Decoded == b.Size {
			b.Encoding = ""
		}
	}
	if v.DecodedSize != nil {
		b.Decoded = *v.DecodedSize
	}
	b.Truncated = v.Truncated != nil && v.BodySize != nil
	b.sum(v.BodySHA256)
	b.Trailers = mapFields(v.Trailers)
}

// mapFields makes fields of an object of names and values.
func mapFields(m map[string]string) []flow.Field {
	var fs []flow.Field
	for _, name := range sortedKeys(m) {
		for value := range strings.SplitSeq(m[name], "\n") {
			fs = append(fs, flow.Field{Name: name, Value: value})
		}
	}
	return fs
}

// logFields are the keys of a head.
type logFields struct {
	Headers map[string]string
	List    [][2]string `json:"headers_list"`
	Version string      `json:"http_version"`
}

func (v *logFields) fields() []flow.Field {
	if v.List == nil {
		return mapFields(v.Headers)
	}
	fs := make([]flow.Field, 0, len(v.List))
	for _, p := range v.List {
		fs = append(fs, flow.Field{Name: p[0], Value: p[1]})
	}
	return fs
}

func (l *log) request(h logHead, at time.Time, text []byte) error {
	var v struct {
		logFields
		logBody
		Method, Path, Scheme, Host, Authority, Protocol string
		Port                                            int
		Stream                                          int64  `json:"stream_id"`
		Coding                                          string `json:"content_encoding"`
		Server                                          *endpoint
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	if v.Method == "" || h.FlowID == "" {
		return fmt.Errorf("a request without method or flow_id")
	}
	if l.flows[h.FlowID] != nil {
		return fmt.Errorf("a second request of flow %q", h.FlowID)
	}
	r := l.record(h, at)
	r.kind = flow.KindHTTP
	r.request = &flow.Head{Method: v.Method, Target: v.Path, Path: v.Path, Scheme: v.Scheme, Host: v.Host, Port: v.Port,
		Version: cmp.Or(v.Version, "1.1"), Stream: v.Stream, Protocol: v.Protocol, Fields: v.fields()}
	if v.Version == "2" {
		r.request.Authority = v.Authority
	}
	if r.facts.Transport == "" { // a part of a log, which says nothing of the connection
		r.facts = flow.Conn{Transport: "tcp", Host: v.Host, Decrypted: v.Scheme == "https", Dst: v.Server.address()}
	}
	if err := v.logBody.fill(&r.requestBody, v.Coding); err != nil {
		return err
	}
	l.begin(h, r)
	return nil
}

func (l *log) responseHead(h logHead, at time.Time, text []byte) error {
	var v struct {
		logFields
		Status        int `json:"status_code"`
		Reason        string
		Protocol      string
		Framing       string
		Streaming     bool
		Informational []struct {
			Status  int `json:"status_code"`
			Headers map[string]string
		}
	}
	f, err := l.of(h)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	r := f.r
	r.responded = at
	for _, i := range v.Informational {
		r.early = append(r.early, &flow.Head{Status: i.Status, Version: v.Version, Fields: mapFields(i.Headers)})
	}
	r.response = &flow.Head{Status: v.Status, Reason: v.Reason, Version: cmp.Or(v.Version, "1.1"), Protocol: v.Protocol, Framing: v.Framing,
		Streaming: v.Streaming, Stream: r.request.Stream, Fields: v.fields()}
	if v.Streaming && v.Framing == "" && v.Protocol == "" {
		r.response.Framing = flow.FramingSSE
	}
	return nil
}

func (l *log) event(h logHead, at time.Time, text []byte) error {
	var v logEvent
	f, err := l.of(h)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	b, head := &f.r.answerBody, f.r.response
	if v.Dir == "c2s" {
		b, head = &f.r.requestBody, f.r.request
		head.Framing, head.Streaming = v.Framing, true
	}
	block, err := v.block()
	if err != nil {
		return err
	}
	if v.Raw == "" && (v.Framing == flow.FramingEventStream || v.Framing == flow.FramingMultipart) && head != nil {
		head.Framing = flow.FramingSSE // of the frames themselves nothing is left
	}
	if v.Framing == flow.FramingJSONArray {
		between := ",\n"
		if len(b.chunks) == 0 {
			between = "["
		}
		b.chunks = append(b.chunks, chunk{data: []byte(between), at: at})
		b.data = append(b.data, between...)
	}
	b.chunks = append(b.chunks, chunk{event: true, data: block, at: at})
	b.data = append(b.data, block...)
	return nil
}

type logEvent struct {
	Dir, Framing, Event, ID, Encoding, Raw string
	Retry                                  *int64
	Data                                   json.RawMessage
}

// block makes the event as it may have been in the body.
func (v *logEvent) block() ([]byte, error) {
	if v.Raw != "" {
		return base64.StdEncoding.DecodeString(v.Raw)
	}
	data := string(v.Data)
	if len(v.Data) > 0 && v.Data[0] == '"' {
		if err := json.Unmarshal(v.Data, &data); err != nil {
			return nil, err
		}
	}
	switch v.Framing {
	case flow.FramingNDJSON:
		return []byte(data + "\n"), nil
	case flow.FramingJSONArray:
		return []byte(data), nil
	}
	var b strings.Builder
	if v.Event != "message" && v.Event != "" {
		b.WriteString("event: " + oneLine.Replace(v.Event) + "\n")
	}
	if v.ID != "" {
		b.WriteString("id: " + oneLine.Replace(v.ID) + "\n")
	}
	if v.Retry != nil {
		fmt.Fprintf(&b, "retry: %d\n", *v.Retry)
	}
	for line := range strings.SplitSeq(data, "\n") {
		b.WriteString("data: " + strings.ReplaceAll(line, "\r", "") + "\n")
	}
	b.WriteString("\n")
	return []byte(b.String()), nil
}

var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

func (l *log) message(h logHead, at time.Time, text []byte) error {
	var v struct {
		Dir, Encoding, SHA256 string
		Opcode                uint8
		Size                  int64
		Compressed            bool
		Data                  json.RawMessage
	}
	f, err := l.of(h)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	data := string(v.Data)
	if len(v.Data) > 0 && v.Data[0] == '"' {
		if err := json.Unmarshal(v.Data, &data); err != nil {
			return err
		}
	}
	p := flow.Piece{Index: len(f.r.messages), At: at, Side: sideOfDir(v.Dir), Opcode: v.Opcode, Compressed: v.Compressed, Size: v.Size}
	if p.Data, err = decoded(data, v.Encoding); err != nil {
		return err
	}
	if sum, err := hex.DecodeString(v.SHA256); err == nil && len(sum) == sha256.Size {
		p.HasSum = true
		copy(p.SHA256[:], sum)
	}
	f.r.messages = append(f.r.messages, p)
	return nil
}

// end takes the line that ends an HTTP flow.
func (l *log) end(h logHead, at time.Time, text []byte) error {
	var v struct {
		logBody
		Complete bool
		Reason   string
		Error    *flow.Error
		Timings  struct {
			DNS, Connect, SSL, Send *number
		}
	}
	f, err := l.of(h)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	r := f.r
	r.ended, r.state = at, flow.StateComplete
	if !v.Complete {
		r.state, r.fault = flow.StateFailed, v.Error
		if v.Error == nil {
			r.fault = &flow.Error{Where: flow.AtCapture, Code: flow.CodeTruncated, Message: cmp.Or(v.Reason, "the log does not say why it failed")}
		}
	}
	r.facts.DNS, r.facts.Connect, r.facts.SSL = v.Timings.DNS.span(), v.Timings.Connect.span(), v.Timings.SSL.span()
	if r.requestEnded = r.started.Add(v.Timings.Send.span()); v.Timings.Send == nil {
		r.requestBody.there = r.requestBody.there && v.Complete
	}
	b := &r.answerBody
	if n := len(b.chunks); n > 0 && r.response != nil && r.response.Framing == flow.FramingJSONArray {
		b.chunks, b.data = append(b.chunks, chunk{data: []byte("]"), at: at}), append(b.data, ']')
	}
	if r.response != nil {
		coding := r.response.Get("content-encoding")
		if b.chunks == nil {
			err = v.logBody.fill(b, coding)
		} else {
			v.measure(b, coding)
			b.there = v.BodySize != nil
		}
	}
	l.finish(h, f)
	return err
}
