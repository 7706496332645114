package main

import (
	"trace/flow"
	"trace/llm"
	"trace/mitm"
	"trace/wire"
)

// tap decodes what passes on a connection into the record.
func (r *road) tap(c *flow.Conn) mitm.Tap {
	return &wire.Decoder{Conn: c, Emit: r.emit, Limit: r.limit, Secrets: r.secrets}
}

// emit records what a decoder tells.
func (r *road) emit(e flow.Event) {
	if e.Kind == flow.Request && r.called != nil && callHead(e.Head) {
		r.called()
	}
	r.record.Append(e)
}

// limit says how much of a body is kept. Streams of events, and what belongs to
// a call to a language model, are kept whole.
func (r *road) limit(side flow.Side, req, resp *flow.Head) int64 {
	if callHead(req) {
		return -1
	}
	h := req
	if side == flow.Server {
		h = resp
	}
	if h != nil && h.Streaming && h.Framing != flow.FramingMultipart { // parts may be anything: pictures of a camera
		return -1
	}
	return r.bodyLimit
}

// callHead reports whether the head of a request begins a call to a language
// model. Only a POST or a websocket can.
func callHead(h *flow.Head) bool {
	if h == nil || h.Method != "POST" && h.Protocol != "websocket" && h.Get("Upgrade") == "" {
		return false
	}
	_, api := llm.Recognize(h)
	return api != ""
}
