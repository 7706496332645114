package llm

import (
	"encoding/json"
	"strings"
)

// readInteractions reads a call of Google's Interactions API.
func readInteractions(in *input) []*Call {
	if in.request == nil && in.provider == "" || in.request != nil && !in.request.has("input") {
		return nil
	}
	c, o := in.call(), in.request
	if c.Model = o.text("model"); c.Model == "" {
		c.Model = o.text("agent")
	}
	c.Stream = o.truth("stream") || in.streamed()
	c.Previous = o.bothText("previousInteractionId")
	if raw := o.both("systemInstruction"); kind(raw) == '"' {
		c.System = content(raw)
	} else if !absent(raw) {
		c.System = geminiContent(raw).Blocks
	}
	for _, raw := range o.list("tools") {
		t := members(raw)
		tool := Tool{Name: t.text("name"), Type: t.text("type"), Description: t.text("description"), Schema: t.mark("parameters"), Raw: raw}
		if tool.Name == "" {
			tool.Name = tool.Type
		}
		c.Tools = append(c.Tools, tool)
	}
	c.Messages = interactionInput(o.get("input"))
	c.Params = o.without(append(spelled("systemInstruction", "previousInteractionId"), "model", "agent", "tools", "input")...)
	c.interactionAnswer(in)
	return []*Call{c}
}

// interactionInput reads an input: text, content, steps, or turns with roles.
func interactionInput(raw json.RawMessage) []Message {
	var messages []Message
	joins := -1 // a message that goes on
	for _, raw := range several(raw) {
		o := members(raw)
		if o == nil || stepRole(o.text("type")) == "" && !o.has("role") {
			if joins < 0 {
				messages = append(messages, Message{Role: "user"})
				joins = len(messages) - 1
			}
			messages[joins].Blocks = append(messages[joins].Blocks, interactionContent(raw)...)
			continue
		}
		joins = -1
		m := step(raw)
		if n := len(messages) - 1; n >= 0 && m.Role == "assistant" && messages[n].Role == "assistant" {
			messages[n].Blocks = append(messages[n].Blocks, m.Blocks...)
			messages[n].Extra = append(messages[n].Extra, m.Extra...)
			continue
		}
		messages = append(messages, m)
	}
	return messages
}

// stepRole returns who speaks in a step of that type, "" if it is no step.
func stepRole(t string) string {
	switch {
	case t == "user_input":
		return "user"
	case t == "function_result":
		return "tool"
	case t == "thought", t == "model_output", strings.HasSuffix(t, "_call"), strings.HasSuffix(t, "_result"):
		return "assistant"
	}
	return ""
}

// step reads a step, or a turn, which has a role and content.
func step(raw json.RawMessage) Message {
	o := members(raw)
	t := o.text("type")
	switch {
	case t == "" && o.has("role"), t == "user_input", t == "model_output":
		m := Message{Role: geminiRole(o.text("role")), Extra: merged(nil, o, "type", "role", "content")}
		if role := stepRole(t); role != "" {
			m.Role = role
		}
		for _, raw := range several(o.get("content")) {
			m.Blocks = append(m.Blocks, interactionContent(raw)...)
		}
		return m
	}
	m := Message{Role: stepRole(t), Blocks: interactionContent(raw)}
	if m.Role == "" {
		m.Role = "assistant"
	}
	return m
}

// interactionContent reads content, or a step that is one block.
func interactionContent(raw json.RawMessage) []Block {
	o := members(raw)
	if o == nil {
		return content(raw)
	}
	t := o.text("type")
	b := Block{Kind: Other, Type: t, Raw: raw}
	switch {
	case t == "text":
		b.Kind, b.Text = Text, o.text("text")
	case t == "thought":
		b.Kind, b.Text = Thinking, joined(array(several(o.get("summary"))), "\n\n")
	case t == "image", t == "audio", t == "document", t == "video":
		b.media(o.bothText("mimeType"))
		switch t {
		case "image":
			b.Kind = Image
		case "audio":
			b.Kind = Audio
		}
		b.Size, b.URL = base64Length(o.text("data")), o.text("uri")
	case strings.HasSuffix(t, "_call"):
		b.Kind, b.ID, b.Name, b.Server = ToolCall, o.text("id"), o.text("name"), t != "function_call"
		if b.Name == "" {
			b.Name = strings.TrimSuffix(t, "_call")
		}
		b.arguments(o.get("arguments"))
	case strings.HasSuffix(t, "_result"):
		b.Kind, b.ID, b.Name, b.Server = ToolResult, o.bothText("callId"), o.text("name"), t != "function_result"
		if b.Name == "" && b.Server {
			b.Name = strings.TrimSuffix(t, "_result")
		}
		b.IsError = kind(o.both("isError")) == 't'
		for _, raw := range several(o.get("result")) {
			if v := members(raw); v != nil && !v.has("type") {
				b.Content = append(b.Content, Block{Kind: Other, Type: "result", Raw: raw})
				continue
			}
			b.Content = append(b.Content, interactionContent(raw)...)
		}
	}
	return []Block{b}
}

// interactionAnswer reads the interaction, or the events that make it.
func (c *Call) interactionAnswer(in *input) {
	if c.Error = in.failure(); c.Error != nil {
		return
	}
	if !in.streamed() {
		o := members(in.answer)
		c.interaction(o, nil, in.status)
		c.Partial = c.Partial || o == nil || !in.whole
		return
	}
	s := &interactionStream{c: c, byIndex: map[int]*streamedStep{}}
	for _, e := range in.events {
		s.event(e, in.status)
	}
	if c.Error == nil {
		c.Error = in.stray()
	}
	var steps []json.RawMessage
	for _, st := range s.steps {
		steps = append(steps, st.raw())
	}
	c.interaction(s.last, steps, in.status)
	if s.usage != nil && c.Usage == nil {
		c.Usage = interactionUsage(s.usage)
	}
	c.Partial = !s.ended && (c.Error == nil || c.Answer != nil)
	if s.status != "" && c.Stop == "" && s.ended {
		c.Stop = s.status
	}
}

// interaction reads the object; its own steps count unless it has none.
func (c *Call) interaction(o object, steps []json.RawMessage, status int) {
	for _, name := range []string{"steps", "outputs"} {
		if list := o.list(name); len(list) > 0 {
			steps = list
		}
	}
	var messages []Message
	for _, raw := range steps {
		if m := step(raw); m.Role != "user" { // it repeats the input
			messages = append(messages, m)
		}
	}
	c.said(messages)
	c.ID, c.Served = o.text("id"), o.text("model")
	if u := interactionUsage(o.get("usage")); u != nil {
		c.Usage = u
	}
	if !absent(o.get("error")) {
		c.Error = &Error{Status: status}
		c.Error.read(o)
	}
	switch s := o.text("status"); s {
	case "in_progress", "queued":
		c.Partial = true
	default:
		c.Stop = s
	}
	c.Extra = merged(c.Extra, o, "id", "model", "usage", "error", "status", "steps", "outputs")
}

// interactionUsage reads the usage of an interaction. What was thought and what
// tools were asked stand beside the output and the input, as in
// generateContent; where the total says otherwise, within.
func interactionUsage(raw json.RawMessage) *Usage {
	o := members(raw)
	if o == nil {
		return nil
	}
	n := func(name string) int64 { return max(0, integer(o.both(name))) }
	in, tool, cached := n("totalInputTokens"), n("totalToolUseTokens"), n("totalCachedTokens")
	out, thought, total := n("totalOutputTokens"), n("totalThoughtTokens"), n("totalTokens")
	u := &Usage{CacheRead: cached, Output: max(out+thought, thought), Reasoning: thought, Raw: raw}
	if total != 0 && (total == in+out || total == in+out+tool) && thought > 0 {
		u.Output = max(out, thought)
	}
	if total != in+out && total != in+out+thought || total == 0 {
		in += tool
	}
	u.Input = max(0, in-cached)
	return u
}

// An interactionStream puts an interaction together from its events.
type interactionStream struct {
	c       *Call
	steps   []*streamedStep
	byIndex map[int]*streamedStep
	last    object // the interaction as it was told last
	usage   json.RawMessage
	status  string
	ended   bool
}

// A streamedStep is a step, as far as it came.
type streamedStep struct {
	o         object
	content   list
	summary   list
	arguments piece
}

// event reads an event. Older servers name the steps content.
func (s *interactionStream) event(e event, status int) {
	c, o := s.c, e.data
	if o == nil {
		if t := strings.TrimSpace(e.text); t == "[DONE]" {
			c.Last = e.at
		} else if t != "" {
			c.Extra = append(c.Extra, Param{"event", keptText(e)})
		}
		return
	}
	t := o.bothText("eventType")
	if t == "" {
		t = e.name
	}
	if u := o.both("usage"); !absent(u) {
		s.usage = u
	}
	if i := o.object("interaction"); i != nil {
		s.last = i
	}
	known := true
	switch t {
	case "interaction.created", "interaction.start":
	case "interaction.completed", "interaction.complete":
		s.ended = true
	case "interaction.status_update":
		if s.status = o.text("status"); s.status != "in_progress" && s.status != "queued" {
			s.ended = true
		}
	case "step.start", "content.start":
		st := s.step(o)
		for _, name := range []string{"step", "content"} {
			st.o = merged(st.o, o.object(name))
		}
	case "step.delta", "content.delta":
		known = s.step(o).delta(o.object("delta"))
	case "step.stop", "content.stop":
	case "error":
		c.Error = &Error{Status: status}
		c.Error.read(o)
	default:
		known = false
	}
	c.times(e.at, strings.HasSuffix(t, ".delta"))
	if !known {
		c.Extra = append(c.Extra, Param{t, e.raw})
	}
}

func (s *interactionStream) step(o object) *streamedStep {
	index := o.nth("index", len(s.steps))
	st := s.byIndex[index]
	if st == nil {
		st = &streamedStep{}
		s.byIndex[index] = st
		s.steps = append(s.steps, st)
	}
	return st
}

// delta takes a piece of a step, and reports whether it is of a known kind.
func (st *streamedStep) delta(d object) bool {
	if d == nil {
		return false
	}
	begin := func(t string) {
		if !st.o.has("type") {
			st.o = st.o.set("type", quote(t))
		}
	}
	switch t := d.text("type"); t {
	case "text":
		begin("model_output")
		if n := len(st.content) - 1; n < 0 || st.content[n].field != "text" {
			st.content.at(len(st.content), "text", "text")
		}
		st.content[len(st.content)-1].text.delta(d.text("text"))
	case "image", "audio", "video", "document":
		begin("model_output")
		st.content.at(len(st.content), t, "").o = d
	case "arguments_delta":
		begin("function_call")
		st.arguments.delta(text(d.get("arguments")))
	case "thought_summary":
		begin("thought")
		content := d.object("content")
		if content == nil {
			content = object{{"text", d.get("text")}}
		}
		if len(st.summary) == 0 {
			st.summary.at(0, "text", "text")
		}
		st.summary[0].text.delta(content.text("text"))
	case "thought_signature":
		begin("thought")
		st.o = st.o.set("signature", d.get("signature"))
	default:
		if strings.HasSuffix(t, "_call") || strings.HasSuffix(t, "_result") { // whole, in the older form
			st.o = merged(st.o, d)
			return true
		}
		return false
	}
	return true
}

// raw returns the step as if it had come at once.
func (st *streamedStep) raw() json.RawMessage {
	o := append(object(nil), st.o...)
	t := o.text("type")
	switch {
	case st.content != nil && stepRole(t) == "" && len(st.content) == 1: // content of the older form
		return object{{"type", quote("model_output")}, {"content", st.content.raw()}}.raw()
	case st.content != nil:
		o = o.set("content", array(append(o.list("content"), elements(st.content.raw())...)))
	}
	if st.summary != nil {
		o = o.set("summary", array(append(o.list("summary"), elements(st.summary.raw())...)))
	}
	if st.arguments.set {
		s := st.arguments.text.String()
		if raw := sound(s); raw != nil {
			o = o.set("arguments", raw)
		} else {
			o = o.set("arguments", quote(s))
		}
	}
	return o.raw()
}
