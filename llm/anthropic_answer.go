package llm

import (
	"encoding/json"
	"strings"

	"trace/flow"
)

// anthropicAnswer reads the answer, whole or streamed.
func (c *Call) anthropicAnswer(in *input) {
	c.Error = in.failure()
	switch {
	case c.Error != nil:
	case in.streamed():
		c.Stream = true
		s := anthropicStream{c: c, open: map[int64]*anthropicPart{}}
		for i := range in.events {
			s.event(&in.events[i])
		}
		s.finish(in)
	default:
		c.Partial = !in.whole || in.answerCut
		c.anthropicMessage(members(in.answer), in.status)
	}
}

// anthropicMessage reads an answer that is one object: a message, or an error
// that came with a status that says otherwise.
func (c *Call) anthropicMessage(o object, status int) {
	switch {
	case o == nil:
		c.Partial = true
		return
	case o.text("type") == "error" || !o.has("content") && kind(o.get("error")) == '{':
		c.Error = &Error{Status: status}
		c.Error.read(o)
		return
	case !o.has("content") && !o.has("role"):
		c.Partial, c.Extra = true, o
		return
	}
	c.ID, c.Served, c.Stop = o.text("id"), o.text("model"), o.text("stop_reason")
	c.Usage = anthropicUsage(o.object("usage"))
	m := Message{Role: o.text("role"), Blocks: anthropicBlocks(o.get("content")), Stop: c.Stop}
	if m.Role == "" {
		m.Role = "assistant"
	}
	c.Answer = []Message{m}
	for _, p := range o.without("id", "type", "role", "model", "content", "stop_reason", "usage") {
		if !absent(p.Value) {
			c.Extra = append(c.Extra, p)
		}
	}
}

// anthropicUsage reads usage; what the provider calls input are the tokens that
// no cache was involved in.
func anthropicUsage(o object) *Usage {
	if len(o) == 0 {
		return nil
	}
	u := &Usage{Input: o.integer("input_tokens"), CacheRead: o.integer("cache_read_input_tokens"),
		CacheWrite: o.integer("cache_creation_input_tokens"), Output: o.integer("output_tokens"),
		Reasoning: integer(o.at("output_tokens_details", "thinking_tokens")), Raw: o.raw()}
	if absent(o.get("cache_creation_input_tokens")) {
		for _, m := range o.object("cache_creation") {
			u.CacheWrite += integer(m.Value)
		}
	}
	return u
}

// An anthropicStream puts a message together from its events.
type anthropicStream struct {
	c       *Call
	message object // of message_start, with what message_delta says
	usage   object
	served  string                   // after a fallback
	parts   []*anthropicPart         // in the order in which they started
	open    map[int64]*anthropicPart // the last one of each index
	stopped bool
}

// An anthropicPart is a block that is still growing. What is nil or empty did
// not come.
type anthropicPart struct {
	block     object
	text      strings.Builder // of text and thinking
	signature strings.Builder
	input     strings.Builder // JSON text of an input
	citations []json.RawMessage
}

// event takes one event. What it does not know stands in Extra under the name
// of the event.
func (s *anthropicStream) event(e *event) {
	if !e.at.IsZero() {
		s.c.Last = e.at
	}
	if s.exception(e) {
		return
	}
	name := e.data.text("type")
	if name == "" {
		name = e.name
	}
	switch name {
	case "message_start":
		if m := e.data.object("message"); m != nil && s.message == nil {
			s.message = append(object{}, m...)
			s.count(m.object("usage"))
		}
	case "content_block_start":
		if b := e.data.object("content_block"); b != nil {
			s.start(e, b)
		}
	case "content_block_delta":
		s.delta(e)
	case "message_delta":
		s.change(e.data)
	case "message_stop":
		s.stopped = true
		s.c.Extra = append(s.c.Extra, e.data.without("type")...)
	case "error":
		s.c.Error = &Error{Status: 200}
		s.c.Error.read(e.data)
	case "content_block_stop", "ping":
	default:
		s.other(name, e)
	}
}

// other takes what Anthropic does not send: the errors and ends of those who
// speak like it, and what nobody knows yet.
func (s *anthropicStream) other(name string, e *event) {
	switch {
	case e.text == "[DONE]":
		s.stopped = true
	case e.head != nil && !e.data.has("type"): // Bedrock's, to be ignored
	case e.cut: // half a word is no name
	case !absent(e.data.get("error")) && !e.data.has("type"):
		s.c.Error = &Error{Status: 200}
		s.c.Error.read(e.data)
	default:
		s.keep(name, e)
	}
}

// exception takes the messages of an AWS event stream that end it.
func (s *anthropicStream) exception(e *event) bool {
	h := flow.Head{Fields: e.head}
	switch h.Get(":message-type") {
	case "exception":
		s.c.Error = &Error{Type: e.name, Message: e.data.text("message"), Status: 200, Raw: e.raw}
		if s.c.Error.Message == "" {
			s.c.Error.Message = shorten(e.text)
		}
	case "error":
		s.c.Error = &Error{Type: h.Get(":error-code"), Message: h.Get(":error-message"), Status: 200, Raw: e.raw}
	default:
		return false
	}
	return true
}

// keep puts what is not understood beside the answer.
func (s *anthropicStream) keep(name string, e *event) {
	switch {
	case e.raw != nil:
		s.c.Extra = append(s.c.Extra, Param{name, e.raw})
	case e.text != "":
		s.c.Extra = append(s.c.Extra, Param{name, quote(e.text)})
	}
}

func (s *anthropicStream) start(e *event, b object) {
	p := &anthropicPart{block: append(object{}, b...)}
	s.parts = append(s.parts, p)
	s.open[e.data.integer("index")] = p
	if b.text("type") == "fallback" {
		s.served = b.object("to").text("model")
	}
}

// delta adds to a block. One that was never started begins with it.
func (s *anthropicStream) delta(e *event) {
	d := e.data.object("delta")
	kind := d.text("type")
	p := s.open[e.data.integer("index")]
	if p == nil {
		word := map[string]string{"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "thinking",
			"input_json_delta": "tool_use", "citations_delta": "text", "compaction_delta": "compaction"}[kind]
		if word == "" {
			s.keep(e.data.text("type"), e)
			return
		}
		s.start(e, object{{"type", quote(word)}})
		p = s.open[e.data.integer("index")]
	}
	if s.c.FirstToken.IsZero() {
		s.c.FirstToken = e.at
	}
	switch kind {
	case "text_delta":
		p.text.WriteString(d.text("text"))
	case "thinking_delta":
		p.text.WriteString(d.text("thinking"))
	case "signature_delta":
		p.signature.WriteString(d.text("signature"))
	case "input_json_delta":
		p.input.WriteString(d.text("partial_json"))
	case "citations_delta":
		p.citations = append(p.citations, d.get("citation"))
	case "compaction_delta":
		for _, m := range d.without("type") {
			p.block = p.block.set(m.Name, m.Value)
		}
	default:
		s.keep(e.data.text("type"), e)
	}
}

// change takes a message_delta: its delta and the fields beside it replace
// those of the message, null only where the end is told.
func (s *anthropicStream) change(o object) {
	for _, m := range o.object("delta") {
		if !absent(m.Value) || strings.HasPrefix(m.Name, "stop_") {
			s.message = s.message.set(m.Name, m.Value)
		}
	}
	for _, m := range o.without("type", "delta", "usage") {
		if !absent(m.Value) {
			s.message = s.message.set(m.Name, m.Value)
		}
	}
	s.count(o.object("usage"))
}

// count takes usage: its numbers are totals, so each replaces the one before.
func (s *anthropicStream) count(usage object) {
	for _, m := range usage {
		if !absent(m.Value) || !s.usage.has(m.Name) {
			s.usage = s.usage.set(m.Name, m.Value)
		}
	}
}

// finish makes the answer of what came.
func (s *anthropicStream) finish(in *input) {
	c := s.c
	c.Partial = !s.stopped
	if c.FirstToken.IsZero() && len(s.parts) > 0 { // blocks that came whole
		for _, e := range in.events {
			if e.data.text("type") == "content_block_start" {
				c.FirstToken = e.at
				break
			}
		}
	}
	if s.message == nil && s.parts == nil {
		return
	}
	extra := c.Extra
	content := s.message.list("content")
	var broken []int
	for _, p := range s.parts {
		raw, whole := p.raw()
		if !whole {
			broken = append(broken, len(content))
		}
		content = append(content, raw)
	}
	o := s.message.set("content", array(content))
	if s.usage != nil {
		o = o.set("usage", s.usage.raw())
	}
	partial := c.Partial
	c.Extra = nil
	c.anthropicMessage(o, in.status)
	c.Extra, c.Partial = append(c.Extra, extra...), partial
	if s.served != "" {
		c.Served = s.served
	}
	for _, i := range broken {
		if b := &c.Answer[0].Blocks[i]; b.Kind == ToolCall {
			b.Text, b.Input = text(b.Input), nil
		}
	}
}

// raw returns the block as it stands in an answer that is not streamed. whole is
// false if its input is no JSON, then it is a string.
func (p *anthropicPart) raw() (raw json.RawMessage, whole bool) {
	o, name := p.block, p.block.text("type")
	if p.text.Len() > 0 && (name == "text" || name == "thinking" || o.has(name)) {
		o = o.set(name, quote(o.text(name)+p.text.String()))
	}
	if p.signature.Len() > 0 {
		o = o.set("signature", quote(o.text("signature")+p.signature.String()))
	}
	if p.citations != nil {
		o = o.set("citations", array(append(o.list("citations"), p.citations...)))
	}
	whole = true
	if s := p.input.String(); strings.TrimSpace(s) != "" {
		v := json.RawMessage(s)
		if whole = json.Valid(v); !whole {
			v = quote(s)
		}
		o = o.set("input", v)
	}
	return o.raw(), whole
}
