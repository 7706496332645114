package llm

import (
	"encoding/json"
	"strings"
)

// matchOpenAI finds the APIs of OpenAI by the end of the path, which is the
// same whether a version, a deployment of Azure or a gateway stands in front.
func matchOpenAI(r *route) (provider, api string) {
	if r.websocket {
		switch {
		case r.ends("/responses"):
			return r.azure(), Responses
		case r.ends("/realtime"):
			return r.azure(), Realtime
		}
	}
	if !r.post {
		return "", ""
	}
	switch {
	case r.ends("/chat/completions"):
		api = Chat
	case r.ends("/responses"), r.ends("/responses/compact"):
		api = Responses
	case r.ends("/responses/input_tokens"):
		api = CountTokens
	case r.ends("/completions"):
		api = Completions
	case r.ends("/embeddings"):
		api = Embeddings
	case r.segment(4) == "publishers" && r.segment(3) != "anthropic" && strings.HasSuffix(strings.ToLower(r.segment(1)), "rawpredict"):
		return "vertex", Chat // models of others on Vertex AI
	default:
		return "", ""
	}
	return r.azure(), api
}

// azure returns "azure" where the path says it, or where a host of Azure that
// serves others too is asked for models of OpenAI.
func (r *route) azure() string {
	if r.deployment() != "" || strings.HasSuffix(r.host, ".services.ai.azure.com") {
		return "azure"
	}
	return ""
}

// deployment returns the deployment that a path of Azure names
// (/openai/deployments/NAME/…), which stands for the model.
func (r *route) deployment() string {
	for i, s := range r.segments {
		if s == "deployments" && i > 0 && r.segments[i-1] == "openai" && i+1 < len(r.segments) {
			return r.segments[i+1]
		}
	}
	return ""
}

// readOpenAI reads the calls of an exchange with an API of OpenAI.
func readOpenAI(in *input) []*Call {
	switch {
	case in.api == Realtime:
		return readRealtime(in)
	case in.route.websocket:
		return readResponsesSocket(in)
	case !in.openai():
		return nil
	}
	c := in.call()
	c.Model = in.request.text("model")
	if d := in.route.deployment(); d != "" {
		c.Model = d
	}
	c.Stream = in.request.truth("stream") || in.streamed()
	switch in.api {
	case Chat:
		c.chatRequest(in.request)
		c.chatAnswer(in)
	case Completions:
		c.completionsRequest(in.request)
		c.chatAnswer(in)
	case Embeddings:
		c.embeddingsRequest(in.request)
		c.embeddingsAnswer(in)
	default:
		c.responsesRequest(in.request)
		c.codexSession(in)
		if in.api == CountTokens {
			c.countAnswer(in)
		} else {
			c.responsesAnswer(in)
		}
	}
	return []*Call{c}
}

// openai reports whether the body is one of the API that the path names, as
// far as it can be told: others have paths with these ends too.
func (in *input) openai() bool {
	if in.request == nil {
		return in.api == Chat || in.provider != ""
	}
	switch in.api {
	case Chat:
		return in.request.has("messages")
	case Completions:
		return in.request.has("prompt")
	case Embeddings:
		return in.request.has("input")
	}
	for _, name := range []string{"input", "prompt", "instructions", "previous_response_id", "conversation"} {
		if in.request.has(name) {
			return true
		}
	}
	return in.provider != "" && in.request.has("model")
}

// chatRequest reads the request of Chat Completions. The system and developer
// messages that it begins with are the system prompt.
func (c *Call) chatRequest(o object) {
	read := []string{"model"}
	c.Tools = openaiTools(o.get("tools"))
	if c.Tools != nil {
		read = append(read, "tools")
	}
	if list := elements(o.get("functions")); list != nil { // deprecated
		read = append(read, "functions")
		for _, raw := range list {
			f := members(raw)
			c.Tools = append(c.Tools, Tool{Name: f.text("name"), Type: "function", Description: f.text("description"), Schema: f.mark("parameters"), Raw: raw})
		}
	}
	if list := elements(o.get("messages")); list != nil {
		read = append(read, "messages")
		for _, raw := range list {
			c.Messages = append(c.Messages, chatMessage(raw))
		}
	}
	c.Session = o.text("session_id") // of OpenRouter
	c.Params = append(c.Params, o.without(read...)...)
	c.leading()
}

// leading makes the system prompt of the messages at the beginning that say it.
func (c *Call) leading() {
	for len(c.Messages) > 0 && (c.Messages[0].Role == "system" || c.Messages[0].Role == "developer") {
		m := c.Messages[0]
		for _, p := range m.Extra {
			if p.Name != "id" && p.Name != "status" { // of items
				c.Params = append(c.Params, Param{m.Role + "." + p.Name, p.Value})
			}
		}
		c.System, c.Messages = append(c.System, m.Blocks...), c.Messages[1:]
	}
}

// chatMessage reads a message of a request, or of an answer that was not
// streamed.
func chatMessage(raw json.RawMessage) Message {
	o := members(raw)
	if o == nil {
		return Message{Blocks: content(raw)}
	}
	m := Message{Role: o.text("role")}
	if m.Role == "tool" || m.Role == "function" {
		m.Extra = merged(nil, o, "role", "content", "tool_call_id", "name", "cache_control")
		m.Blocks = []Block{{Kind: ToolResult, Type: m.Role, ID: o.text("tool_call_id"), Name: o.text("name"), Content: content(o.get("content")),
			Cache: o.mark("cache_control"), Raw: raw}}
		return m
	}
	m.Blocks = append(reasoning(o), content(o.get("content"))...)
	if s := o.text("refusal"); s != "" {
		m.Blocks = append(m.Blocks, Block{Kind: Refusal, Type: "refusal", Text: s})
	}
	if a := o.mark("audio"); a != nil {
		b := Block{Type: "audio", Kind: Audio, Raw: a}
		b.audio(members(a))
		m.Blocks = append(m.Blocks, b)
	}
	for _, raw := range o.list("tool_calls") {
		m.Blocks = append(m.Blocks, chatToolCall(raw))
	}
	if f := o.object("function_call"); f != nil {
		b := Block{Kind: ToolCall, Type: "function_call", Name: f.text("name"), Raw: o.get("function_call")}
		b.arguments(f.get("arguments"))
		m.Blocks = append(m.Blocks, b)
	}
	read := append(reasoningNames(), "role", "content", "refusal", "tool_calls", "function_call", "audio", "tool_call_id")
	if n := len(m.Blocks) - 1; n >= 0 && m.Blocks[n].Cache == nil && o.mark("cache_control") != nil {
		m.Blocks[n].Cache = o.mark("cache_control") // of the whole message, where it ends
		read = append(read, "cache_control")
	}
	m.Extra = merged(nil, o, read...)
	return m
}

// chatToolCall reads an element of tool_calls.
func chatToolCall(raw json.RawMessage) Block {
	o := members(raw)
	b := Block{Kind: ToolCall, Type: o.text("type"), ID: o.text("id"), Raw: raw}
	if custom := o.object("custom"); custom != nil {
		b.Name, b.Text = custom.text("name"), custom.text("input")
		return b
	}
	f := o.object("function")
	b.Name = f.text("name")
	b.arguments(f.get("arguments"))
	return b
}

// reasoningNames are the fields in which those who imitate OpenAI tell what
// was thought, each its own.
func reasoningNames() []string {
	return []string{"reasoning_details", "reasoning_content", "reasoning"}
}

// reasoning reads what a message or a delta tells of thinking. Who sends two of
// the fields says the same in both.
func reasoning(o object) []Block {
	var blocks []Block
	told := false
	for _, raw := range o.list("reasoning_details") {
		b := reasoningDetail(raw)
		told = told || b.Text != ""
		blocks = append(blocks, b)
	}
	for _, name := range []string{"reasoning_content", "reasoning"} {
		if s := o.text(name); s != "" && !told {
			return append([]Block{{Kind: Thinking, Type: name, Text: s}}, blocks...)
		}
	}
	return blocks
}

// reasoningDetail reads an element of OpenRouter's reasoning_details.
func reasoningDetail(raw json.RawMessage) Block {
	o := members(raw)
	b := Block{Kind: Thinking, Type: o.text("type"), Raw: raw}
	if b.Text = o.text("text"); b.Text == "" {
		b.Text = o.text("summary")
	}
	return b
}

// completionsRequest reads the request of the old completions: a prompt is a
// message of the user.
func (c *Call) completionsRequest(o object) {
	c.inputs(o.get("prompt"))
	c.Params = o.without("model", "prompt")
}

// embeddingsRequest reads the request for embeddings: each input is a message.
func (c *Call) embeddingsRequest(o object) {
	c.inputs(o.get("input"))
	c.Params = o.without("model", "input")
}

// inputs makes messages of a string, of several, or of tokens.
func (c *Call) inputs(raw json.RawMessage) {
	list := elements(raw)
	if list == nil || len(list) > 0 && kind(list[0]) != '"' && kind(list[0]) != '[' && kind(list[0]) != '{' {
		list = []json.RawMessage{raw} // one, as text or as tokens
	}
	for _, raw := range list {
		if absent(raw) {
			continue
		}
		b := Block{Kind: Other, Type: "tokens", Raw: raw}
		if kind(raw) == '"' {
			b = Block{Kind: Text, Text: text(raw)}
		} else if kind(raw) == '{' {
			b = part(raw)
		}
		c.Messages = append(c.Messages, Message{Role: "user", Blocks: []Block{b}})
	}
}

// embeddingsAnswer reads an answer of embeddings. Vectors are no messages.
func (c *Call) embeddingsAnswer(in *input) {
	if c.Error = in.failure(); c.Error != nil {
		return
	}
	o := members(in.answer)
	c.Served, c.ID = o.text("model"), o.text("id")
	c.Usage = openaiUsage(o.get("usage"))
	c.Extra = merged(nil, o, "model", "id", "usage")
	c.Partial = o == nil || !in.whole
}

// countAnswer reads the number that an API which counts tokens answers.
func (c *Call) countAnswer(in *input) {
	if c.Error = in.failure(); c.Error != nil {
		return
	}
	c.Extra = members(in.answer)
	c.Partial = c.Extra == nil || !in.whole
}
