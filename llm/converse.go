package llm

import (
	"encoding/json"
	"strings"

	"trace/flow"
)

// matchConverse finds Bedrock's own API, which serves the models of all makers
// in one form.
func matchConverse(r *route) (provider, api string) {
	if last := r.segment(1); r.post && r.segment(3) == "model" && (last == "converse" || last == "converse-stream") {
		return "bedrock", Converse
	}
	return "", ""
}

// readConverse reads a call of Bedrock's Converse or ConverseStream.
func readConverse(in *input) []*Call {
	o := in.request
	if o == nil || !o.has("messages") && !o.has("system") && !o.has("promptVariables") {
		return nil
	}
	c := in.call()
	c.Model = in.route.segment(2)
	c.Stream = in.route.segment(1) == "converse-stream"
	c.System = converseBlocks(o.get("system"), 0)
	c.Tools = converseTools(o.object("toolConfig"))
	for _, raw := range o.list("messages") {
		m := members(raw)
		c.Messages = append(c.Messages, Message{Role: m.text("role"), Blocks: converseBlocks(m.get("content"), 0), Extra: m.without("role", "content")})
	}
	for _, p := range o.without("system", "messages") {
		if p.Name == "toolConfig" {
			if p.Value = object(members(p.Value).without("tools")).raw(); string(p.Value) == "{}" {
				continue
			}
		}
		c.Params = append(c.Params, p)
	}
	c.Error = in.failure()
	switch {
	case c.Error != nil:
	case in.streamed():
		s := converseStream{c: c, open: map[int64]*conversePart{}}
		for i := range in.events {
			s.event(&in.events[i])
		}
		s.finish()
	default:
		c.Partial = !in.whole || in.answerCut
		c.converseAnswer(members(in.answer))
	}
	return []*Call{c}
}

// converseAnswer reads an answer that was not streamed.
func (c *Call) converseAnswer(o object) {
	m := members(o.at("output", "message"))
	if m == nil {
		c.Partial, c.Extra = true, o
		return
	}
	c.Stop = o.text("stopReason")
	c.Answer = []Message{{Role: m.text("role"), Blocks: converseBlocks(m.get("content"), 0), Stop: c.Stop}}
	c.Usage = converseUsage(o.get("usage"))
	c.Extra = o.without("output", "stopReason", "usage")
}

// converseUsage reads usage. What was read from or written to a cache is beside
// the input.
func converseUsage(raw json.RawMessage) *Usage {
	o := members(raw)
	if len(o) == 0 {
		return nil
	}
	return &Usage{Input: max(0, o.integer("inputTokens")), Output: max(0, o.integer("outputTokens")),
		CacheRead:  max(0, o.integer("cacheReadInputTokens"), o.integer("cacheReadInputTokenCount")),
		CacheWrite: max(0, o.integer("cacheWriteInputTokens"), o.integer("cacheWriteInputTokenCount")), Raw: raw}
}

// converseTools reads the tools. A cache point among them marks the one before.
func converseTools(o object) []Tool {
	var list []Tool
	for _, raw := range o.list("tools") {
		t := members(raw)
		if point := t.mark("cachePoint"); point != nil {
			if n := len(list) - 1; n >= 0 {
				list[n].Cache = point
			}
			continue
		}
		tool := Tool{Raw: raw}
		if spec := t.object("toolSpec"); spec != nil {
			tool.Name, tool.Description = spec.text("name"), spec.text("description")
			tool.Schema = spec.object("inputSchema").mark("json")
		} else if len(t) > 0 {
			tool.Type, tool.Name = t[0].Name, members(t[0].Value).text("name")
		}
		if tool.Name == "" {
			tool.Name = tool.Type
		}
		list = append(list, tool)
	}
	return list
}

// converseBlocks reads content. A cache point marks the block before it.
func converseBlocks(raw json.RawMessage, depth int) []Block {
	if depth > maxContent {
		return nil
	}
	var list []Block
	for _, raw := range elements(raw) {
		o := members(raw)
		if point := o.mark("cachePoint"); point != nil && len(list) > 0 {
			list[len(list)-1].Cache = point
			continue
		}
		list = append(list, converseBlock(raw, o, depth))
	}
	return list
}

// converseBlock reads a block: an object with one member, whose name is its type.
func converseBlock(raw json.RawMessage, o object, depth int) Block {
	b := Block{Kind: Other, Raw: raw}
	if len(o) == 0 {
		return b
	}
	b.Type = o[0].Name
	v := members(o[0].Value)
	switch b.Type {
	case "text":
		b.Kind, b.Text = Text, text(o[0].Value)
	case "image", "video", "audio", "document":
		if b.Type != "video" {
			b.Kind = map[string]string{"image": Image, "audio": Audio, "document": Document}[b.Type]
		}
		b.Name = v.text("name")
		if format := v.text("format"); format != "" {
			b.Media = map[string]string{"document": "application"}[b.Type] + "/" + format
			if b.Type != "document" {
				b.Media = b.Type + "/" + format
			}
		}
		source := v.object("source")
		b.Size = base64Size(source.get("bytes"))
		b.URL = text(source.at("s3Location", "uri"))
		if s := source.text("text"); s != "" {
			b.Size, b.Content = int64(len(s)), []Block{{Kind: Text, Text: s}}
		}
	case "toolUse":
		b.Kind, b.ID, b.Name, b.Input = ToolCall, v.text("toolUseId"), v.text("name"), v.get("input")
		b.Server = v.text("type") == "server_tool_use"
	case "toolResult":
		b.Kind, b.ID, b.IsError = ToolResult, v.text("toolUseId"), v.text("status") == "error"
		b.Server = v.has("type")
		b.Content = converseBlocks(v.get("content"), depth+1)
	case "json": // of a result
		b.Kind, b.Text = Text, string(o[0].Value)
	case "reasoningContent":
		b.Kind, b.Text = Thinking, text(v.at("reasoningText", "text"))
	}
	return b
}

// A converseStream puts an answer together from its events.
type converseStream struct {
	c       *Call
	role    string
	parts   []*conversePart
	open    map[int64]*conversePart // by index
	stopped bool
}

// A conversePart is a block that is still growing.
type conversePart struct {
	start     object // of contentBlockStart
	kind      string // the name of what its deltas add
	text      strings.Builder
	signature string
	redacted  string
	other     []json.RawMessage // deltas that are not known
}

func (s *converseStream) event(e *event) {
	if !e.at.IsZero() {
		s.c.Last = e.at
	}
	h := flow.Head{Fields: e.head}
	switch h.Get(":message-type") {
	case "exception":
		s.c.Error = &Error{Type: e.name, Message: e.data.text("message"), Status: 200, Raw: e.raw}
		return
	case "error":
		s.c.Error = &Error{Type: h.Get(":error-code"), Message: h.Get(":error-message"), Status: 200, Raw: e.raw}
		return
	}
	switch name := e.name; name {
	case "messageStart":
		s.role = e.data.text("role")
	case "contentBlockStart":
		s.part(e.data).start = e.data.object("start")
	case "contentBlockDelta":
		s.delta(e)
	case "contentBlockStop":
	case "messageStop":
		s.stopped = true
		s.c.Stop = e.data.text("stopReason")
		s.c.Extra = append(s.c.Extra, e.data.without("stopReason", "p")...)
	case "metadata":
		if u := converseUsage(e.data.get("usage")); u != nil {
			s.c.Usage = u
		}
		s.c.Extra = append(s.c.Extra, e.data.without("usage", "p")...)
	default:
		if e.raw != nil && name != "" {
			s.c.Extra = append(s.c.Extra, Param{name, e.raw})
		}
	}
}

// part returns the block that an event is of; a new one if there is none of
// that index.
func (s *converseStream) part(o object) *conversePart {
	index := o.integer("contentBlockIndex")
	p := s.open[index]
	if p == nil {
		p = &conversePart{}
		s.parts, s.open[index] = append(s.parts, p), p
	}
	return p
}

func (s *converseStream) delta(e *event) {
	if s.c.FirstToken.IsZero() {
		s.c.FirstToken = e.at
	}
	p := s.part(e.data)
	for _, d := range e.data.object("delta") {
		v := members(d.Value)
		switch d.Name {
		case "text":
			p.kind = d.Name
			p.text.WriteString(text(d.Value))
		case "toolUse":
			p.kind = d.Name
			p.text.WriteString(v.text("input"))
		case "reasoningContent":
			p.kind = d.Name
			p.text.WriteString(v.text("text"))
			p.signature += v.text("signature")
			p.redacted += v.text("redactedContent")
		default:
			p.other = append(p.other, e.raw)
		}
	}
}

// finish makes the answer of what came.
func (s *converseStream) finish() {
	c := s.c
	c.Partial = !s.stopped
	if s.role == "" && s.parts == nil {
		return
	}
	m := Message{Role: s.role, Stop: c.Stop}
	if m.Role == "" {
		m.Role = "assistant"
	}
	for _, p := range s.parts {
		m.Blocks = append(m.Blocks, p.block())
		for _, raw := range p.other {
			c.Extra = append(c.Extra, Param{"contentBlockDelta", raw})
		}
	}
	c.Answer = []Message{m}
}

// block returns the block as it stands in an answer that is not streamed.
func (p *conversePart) block() Block {
	o, whole := object{}, true
	switch p.kind {
	case "text":
		o = object{{"text", quote(p.text.String())}}
	case "reasoningContent":
		inner := object{{"text", quote(p.text.String())}}
		if p.signature != "" {
			inner = append(inner, Param{"signature", quote(p.signature)})
		}
		o = object{{"reasoningText", inner.raw()}}
		if p.redacted != "" {
			o = object{{"redactedContent", quote(p.redacted)}}
		}
		o = object{{"reasoningContent", o.raw()}}
	default:
		if tool := p.start.object("toolUse"); tool != nil || p.kind == "toolUse" {
			input := json.RawMessage("{}")
			if s := p.text.String(); strings.TrimSpace(s) != "" {
				if input = json.RawMessage(s); !valid(input) {
					input, whole = quote(s), false
				}
			}
			tool = append(object{}, tool...).set("input", input)
			o = object{{"toolUse", tool.raw()}}
		} else {
			o = append(o, p.start...)
		}
	}
	raw := o.raw()
	b := converseBlock(raw, members(raw), 0)
	if !whole {
		b.Text, b.Input = text(b.Input), nil
	}
	return b
}
