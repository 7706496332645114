package llm

import (
	"encoding/json"
	"strings"
)

// responsesRequest reads the request of Responses, over HTTP or in a
// response.create of a WebSocket.
func (c *Call) responsesRequest(o object) {
	if c.Model == "" {
		c.Model = o.text("model")
	}
	read := []string{"model", "instructions", "previous_response_id", "conversation"}
	c.System = content(o.get("instructions"))
	if kind(o.get("instructions")) == '[' { // messages, of a template
		c.System = nil
		for _, m := range items(o.list("instructions")) {
			c.System = append(c.System, m.Blocks...)
		}
	}
	if c.Tools = openaiTools(o.get("tools")); c.Tools != nil {
		read = append(read, "tools")
	}
	switch raw := o.get("input"); kind(raw) {
	case '"':
		read = append(read, "input")
		c.Messages = []Message{{Role: "user", Blocks: content(raw)}}
	case '[':
		read = append(read, "input")
		c.Messages = items(elements(raw))
	}
	c.Previous = o.text("previous_response_id")
	c.Session = o.text("conversation")
	if id := o.object("conversation").text("id"); id != "" {
		c.Session = id
	}
	c.Params = append(c.Params, o.without(read...)...)
	c.leading()
}

// codexSession takes the conversation from where Codex names it: a field of the
// head, or the key that it caches by.
func (c *Call) codexSession(in *input) {
	if c.Session != "" {
		return
	}
	head := in.route.head
	for _, name := range []string{"session_id", "session-id", "conversation_id", "conversation-id"} {
		if c.Session = head.Get(name); c.Session != "" {
			return
		}
	}
	if in.provider == "chatgpt" || strings.HasPrefix(head.Get("originator"), "codex") {
		for _, p := range c.Params {
			if p.Name == "prompt_cache_key" {
				c.Session = text(p.Value)
			}
		}
	}
}

// items makes messages of items. What the model said in a row is one message,
// as the answer that it was.
func items(list []json.RawMessage) []Message {
	var messages []Message
	open := false // the last message is one of the model's
	for _, raw := range list {
		m := item(raw)
		if m.Role == "assistant" && open {
			last := &messages[len(messages)-1]
			last.Blocks = append(last.Blocks, m.Blocks...)
			last.Extra = append(last.Extra, m.Extra...)
			continue
		}
		open = m.Role == "assistant"
		messages = append(messages, m)
	}
	return messages
}

// item reads one item of an input or of an output. Unknown ones are kept: as a
// call or a result where their names say so.
func item(raw json.RawMessage) Message {
	o := members(raw)
	if o == nil {
		return Message{Role: "user", Blocks: content(raw)}
	}
	t := o.text("type")
	if t == "message" || t == "" && o.has("role") {
		return Message{Role: o.text("role"), Blocks: content(o.get("content")), Extra: merged(nil, o, "type", "role", "content")}
	}
	m := Message{Role: "assistant"}
	switch {
	case t == "reasoning":
		m.Blocks = []Block{reasoningItem(o, raw)}
	case t == "function_call" || t == "custom_tool_call":
		b := Block{Kind: ToolCall, Type: t, ID: o.text("call_id"), Name: o.text("name"), Raw: raw}
		if t == "custom_tool_call" {
			b.Text = o.text("input")
		} else {
			b.arguments(o.get("arguments"))
		}
		m.Blocks = []Block{b}
	case strings.HasSuffix(t, "_output"):
		b := outputItem(o, raw, t)
		if m.Blocks = []Block{b}; !b.Server {
			m.Role = "tool"
		}
	case strings.HasSuffix(t, "_call") || t == "mcp_list_tools" || t == "program":
		m.Blocks = callItem(o, raw, t)
	case t == "item_reference" || t == "compaction_trigger" || t == "additional_tools" || t == "mcp_approval_response":
		m.Role, m.Blocks = o.text("role"), []Block{otherItem(o, raw, t)}
		if m.Role == "" {
			m.Role = "user"
		}
	default:
		if role := o.text("role"); role != "" {
			m.Role = role
		}
		m.Blocks = []Block{otherItem(o, raw, t)}
	}
	return m
}

// reasoningItem reads what was thought: in full where it is told, else the
// summary.
func reasoningItem(o object, raw json.RawMessage) Block {
	b := Block{Kind: Thinking, Type: "reasoning", Raw: raw}
	if b.Text = joined(o.get("content"), "\n\n"); b.Text == "" {
		b.Text = joined(o.get("summary"), "\n\n")
	}
	return b
}

// otherItem keeps an item that is no message.
func otherItem(o object, raw json.RawMessage, t string) Block {
	return Block{Kind: Other, Type: t, Name: o.text("name"), Raw: raw}
}

// clientCalls are the tools that OpenAI defines and the client runs: their
// results come from it.
var clientCalls = map[string]bool{"computer_call": true, "local_shell_call": true, "shell_call": true, "apply_patch_call": true}

// callItem reads a call of a tool that OpenAI defines. Those that it runs
// itself hold their result too, which is a block of its own here.
func callItem(o object, raw json.RawMessage, t string) []Block {
	b := Block{Kind: ToolCall, Type: t, ID: o.text("call_id"), Name: o.text("name"), Raw: raw}
	b.Server = !clientCalls[t] && b.ID == ""
	if t == "shell_call" && o.object("environment").text("type") == "container_reference" {
		b.Server = true
	}
	if b.ID == "" {
		b.ID = o.text("id")
	}
	if b.Name == "" {
		b.Name = strings.TrimSuffix(t, "_call")
	}
	for _, name := range []string{"arguments", "action", "actions", "operation", "input", "queries", "code"} {
		v := o.mark(name)
		if v == nil {
			continue
		}
		switch name {
		case "arguments":
			b.arguments(v)
		case "queries", "code":
			b.Input = object{{name, v}}.raw()
		default:
			if b.Input = v; kind(v) == '"' {
				b.arguments(v)
			}
		}
		break
	}
	blocks := []Block{b}
	r := Block{Kind: ToolResult, Type: t, ID: b.ID, Name: b.Name, Server: true}
	for _, name := range []string{"output", "outputs", "results", "tools"} {
		r.Content = append(r.Content, output(o.get(name))...)
	}
	if s := o.text("result"); s != "" { // of image_generation_call
		image := Block{Kind: Image, Type: t, Size: base64Length(s), Media: "image/png"}
		if format := o.text("output_format"); format != "" {
			image.Media = "image/" + format
		}
		r.Content = append(r.Content, image)
	} else if v := o.mark("result"); v != nil {
		r.Content = append(r.Content, output(v)...)
	}
	if v := o.mark("error"); v != nil {
		r.IsError = true
		if message := members(v).get("message"); kind(message) == '"' {
			r.Content = append(r.Content, Block{Kind: Text, Text: text(message), Raw: v})
		} else {
			r.Content = append(r.Content, output(v)...)
		}
	}
	if r.Content != nil {
		blocks = append(blocks, r)
	}
	return blocks
}

// outputItem reads what a tool gave.
func outputItem(o object, raw json.RawMessage, t string) Block {
	b := Block{Kind: ToolResult, Type: t, ID: o.text("call_id"), Name: o.text("name"), Raw: raw}
	if b.ID == "" {
		b.ID = o.text("id")
	}
	for _, name := range []string{"output", "result", "results", "tools", "content"} {
		if v := o.mark(name); v != nil {
			b.Content = output(v)
			break
		}
	}
	b.IsError = o.text("status") == "failed" || !absent(o.get("error"))
	return b
}

// output reads the result of a tool: text, parts of a message, what a shell
// said, or any JSON.
func output(raw json.RawMessage) []Block {
	switch kind(raw) {
	case 0, 'n':
		return nil
	case '"':
		return content(raw)
	case '[':
		var blocks []Block
		for _, p := range elements(raw) {
			if kind(p) == '[' {
				blocks = append(blocks, Block{Kind: Other, Raw: p})
			} else {
				blocks = append(blocks, output(p)...)
			}
		}
		return blocks
	case '{':
		o := members(raw)
		if kind(o.get("stdout")) == '"' || kind(o.get("stderr")) == '"' {
			return []Block{{Kind: Text, Type: "shell", Text: o.text("stdout") + o.text("stderr"), Raw: raw}}
		}
		if kind(o.get("logs")) == '"' { // of the code interpreter
			return []Block{{Kind: Text, Type: o.text("type"), Text: o.text("logs"), Raw: raw}}
		}
		if o.text("type") == "image" && o.text("url") != "" {
			b := Block{Kind: Image, Type: "image", Raw: raw}
			b.place(o.text("url"))
			return []Block{b}
		}
		return []Block{part(raw)}
	}
	return []Block{{Kind: Other, Raw: raw}}
}
