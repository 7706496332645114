package importer

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"trace/flow"
)

// body reads the body of the request.
func (q *harRequest) body(b *body) error {
	b.there = true
	p := q.Post
	var truncated *number
	if p != nil {
		truncated = p.Truncated
		switch {
		case p.Text != nil:
			var err error
			if b.data, err = decoded(*p.Text, cmp.Or(p.Encoding, p.Encoding2)); err != nil {
				return err
			}
		case len(p.Params) > 0:
			var parts []string
			for _, f := range p.Params {
				parts = append(parts, url.QueryEscape(string(f.Name))+"="+url.QueryEscape(string(f.Value)))
			}
			b.data = []byte(strings.Join(parts, "&"))
		}
	}
	b.measure(q.BodySize, nil, coding(q.Headers), truncated != nil, q.SHA256)
	b.Trailers = headFields(q.Trailers, nil)
	return nil
}

func coding(ps []harPair) string {
	for _, p := range ps {
		if v := strings.ToLower(strings.TrimSpace(string(p.Value))); strings.EqualFold(string(p.Name), "content-encoding") && v != "identity" {
			return v
		}
	}
	return ""
}

// measure fills in the sizes. wire and decoded are those that the file tells,
// coding what the head says.
func (b *body) measure(wire, decoded *number, coding string, truncated bool, sum string) {
	n := int64(len(b.data))
	b.Decoded, b.Truncated = n, truncated
	if decoded != nil && *decoded > 0 {
		b.Decoded = int64(*decoded)
	}
	b.Size = b.Decoded
	if wire != nil && *wire > 0 { // browsers have 0 for what was cached
		b.Size = int64(*wire)
	}
	switch {
	case coding == "" && decoded == nil:
		b.Decoded = b.Size
	case coding != "" && b.Size != b.Decoded:
		b.Encoding = coding
	}
	switch {
	case sum != "":
		b.sum(sum)
	case b.Size == n && b.Encoding == "" && coding == "" && !truncated:
		b.SHA256 = sha256.Sum256(b.data)
	default:
		b.Unsummed = true
	}
}

// answer reads the response, if there is one.
func (e *harEntry) answer(r *record) error {
	p := e.Response
	if p == nil {
		return nil
	}
	for _, i := range p.Informational {
		r.early = append(r.early, &flow.Head{Status: int(i.Status), Reason: string(i.Text), Version: r.request.Version, Fields: headFields(i.Headers, nil)})
	}
	if p.Status < 100 || p.Status > 999 {
		return nil
	}
	h := &flow.Head{Status: int(p.Status), Reason: string(p.Text), Version: version(cmp.Or(p.Version, word("http/"+r.request.Version))), Fields: headFields(p.Headers, nil), Protocol: p.Protocol}
	h.Stream = r.request.Stream
	if h.Status == 101 && (e.WebSocket != nil || strings.EqualFold(h.Get("upgrade"), "websocket")) {
		h.Protocol = "websocket"
	}
	h.Streaming = h.Protocol == "websocket"
	r.response = h
	b := &r.answerBody
	b.there = e.State != flow.StateOpen
	if c := p.Content; c.Text != nil {
		var err error
		if b.data, err = decoded(*c.Text, c.Encoding); err != nil {
			return err
		}
	}
	// A body that was left out has a size all the same.
	left := p.Content.Text == nil && p.Content.Size != nil && *p.Content.Size > 0
	b.measure(p.BodySize, p.Content.Size, coding(p.Headers), p.Content.Truncated != nil || left, p.SHA256)
	b.Trailers = headFields(p.Trailers, nil)
	return nil
}

// outcome reads how the exchange ended.
func (e *harEntry) outcome(r *record) {
	r.state, r.fault = e.State, e.Failure
	for _, m := range e.Marks {
		r.marks = append(r.marks, flow.Note{At: m.Time.moment(), Error: new(m.Error)})
	}
	if r.state != "" || r.fault != nil {
		if r.response == nil && r.state == flow.StateOpen {
			r.requestBody.there = false
		}
		return
	}
	if e.Response != nil && e.Response.Error != "" {
		r.fault = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTruncated, Message: string(e.Response.Error)}
		return
	}
	if r.response == nil {
		r.fault = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTruncated, Message: "the file has no answer"}
	}
}

// streams cuts bodies into events and gives them the times that the file has
// for them.
func (e *harEntry) streams(r *record) {
	cut(r.request, nil, flow.Client, &r.requestBody)
	var times [2][]time.Time
	for _, v := range e.Events {
		times[flow.Server] = append(times[flow.Server], v.Time.moment())
	}
	for _, v := range e.Blocks {
		side := sideOf(v.Type)
		times[side] = append(times[side], v.Time.moment())
	}
	if r.response != nil {
		cut(r.request, r.response, flow.Server, &r.answerBody)
		r.answerBody.timed(times[flow.Server], r.responded, r.ended)
	}
	r.requestBody.timed(times[flow.Client], r.started, r.requestEnded)
}

func sideOf(kind string) flow.Side {
	if kind == "receive" {
		return flow.Server
	}
	return flow.Client
}

// messages reads those of a WebSocket.
func (e *harEntry) messages(r *record) error {
	if r.response == nil || r.response.Protocol != "websocket" {
		if len(e.WebSocket) > 0 {
			return errors.New("it has messages of a WebSocket and no answer that switched to one")
		}
		return nil
	}
	for i, m := range e.WebSocket {
		if m.Opcode < 0 { // an error that Chrome tells
			r.marks = append(r.marks, flow.Note{At: m.Time.moment(), Error: &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: m.Data}})
			continue
		}
		p := flow.Piece{Index: i, At: m.Time.moment(), Side: sideOf(m.Type), Opcode: uint8(m.Opcode), Compressed: m.Compressed, Data: []byte(m.Data)}
		text := m.Base64
		if p.Opcode != flow.OpText {
			text = m.Data
		}
		if text != "" {
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil && m.Base64 != "" {
				return fmt.Errorf("message %d: %w", i+1, err)
			}
			if err == nil {
				p.Data = data
			}
		}
		p.Size = int64(len(p.Data))
		if m.Size != nil {
			p.Size = int64(*m.Size)
		}
		switch sum, err := hex.DecodeString(m.SHA256); {
		case err == nil && len(sum) == sha256.Size:
			p.HasSum = true
			copy(p.SHA256[:], sum)
		case m.Size == nil && m.Opcode >= 0:
			p.HasSum, p.SHA256 = true, sha256.Sum256(p.Data)
		}
		r.messages = append(r.messages, p)
	}
	return nil
}
