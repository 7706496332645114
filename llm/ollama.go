package llm

import (
	"encoding/json"
	"strings"
)

// matchOllama finds the APIs of ollama.
func matchOllama(r *route) (provider, api string) {
	if !r.post {
		return "", ""
	}
	switch {
	case r.ends("/api/chat"):
		return "ollama", OllamaChat
	case r.ends("/api/generate"):
		return "ollama", OllamaGenerate
	case r.ends("/api/embed"), r.ends("/api/embeddings"):
		return "ollama", Embeddings
	}
	return "", ""
}

// readOllama reads a call of ollama. Others have such paths too: a request of
// its names a model, and what it is asked, and is not answered by SSE.
func readOllama(in *input) []*Call {
	o := in.request
	asks := map[string][]string{OllamaChat: {"messages"}, OllamaGenerate: {"prompt", "system", "keep_alive"}, Embeddings: {"input", "prompt"}}
	found := false
	for _, name := range asks[in.api] {
		found = found || o.has(name)
	}
	if !o.has("model") || !found && in.api != OllamaGenerate || in.streamed() && strings.Contains(in.detail.Response.Head.Get("Content-Type"), "event-stream") {
		return nil
	}
	c := in.call()
	c.Model = o.text("model")
	if in.api == Embeddings {
		c.inputs(o.get("input"))
		c.inputs(o.get("prompt"))
		c.Params = o.without("model", "input", "prompt")
		c.ollamaEmbeddings(in)
		return []*Call{c}
	}
	c.Stream = kind(o.get("stream")) != 'f' // it is the default
	c.Tools = openaiTools(o.get("tools"))
	read := []string{"model", "messages", "tools"}
	for _, raw := range o.list("messages") {
		c.Messages = append(c.Messages, ollamaMessage(raw))
	}
	if in.api == OllamaGenerate {
		read = append(read, "prompt", "system", "images")
		c.System = content(o.get("system"))
		m := Message{Role: "user", Blocks: content(o.get("prompt"))}
		m.Blocks = append(m.Blocks, ollamaImages(o)...)
		if m.Blocks != nil {
			c.Messages = []Message{m}
		}
	}
	c.Params = append(c.Params, o.without(read...)...)
	c.leading()
	c.ollamaAnswer(in)
	return []*Call{c}
}

// ollamaMessage reads a message of a request.
func ollamaMessage(raw json.RawMessage) Message {
	o := members(raw)
	m := Message{Role: o.text("role"), Extra: merged(nil, o, "role", "content", "thinking", "images", "tool_calls", "tool_call_id", "tool_name", "name")}
	if m.Role == "tool" {
		b := Block{Kind: ToolResult, Type: "tool", ID: o.text("tool_call_id"), Name: o.text("tool_name"), Content: content(o.get("content")), Raw: raw}
		if b.Name == "" {
			b.Name = o.text("name")
		}
		m.Blocks = []Block{b}
		return m
	}
	if s := o.text("thinking"); s != "" {
		m.Blocks = []Block{{Kind: Thinking, Type: "thinking", Text: s}}
	}
	m.Blocks = append(append(m.Blocks, content(o.get("content"))...), ollamaImages(o)...)
	for _, raw := range o.list("tool_calls") {
		m.Blocks = append(m.Blocks, chatToolCall(raw))
	}
	return m
}

// ollamaImages reads images, which are bare base64.
func ollamaImages(o object) []Block {
	var blocks []Block
	for _, raw := range o.list("images") {
		blocks = append(blocks, Block{Kind: Image, Type: "images", Size: base64Length(text(raw)), Raw: raw})
	}
	return blocks
}

// ollamaAnswer reads an answer: a line of JSON, or one for each piece.
func (c *Call) ollamaAnswer(in *input) {
	if c.Error = in.failure(); c.Error != nil {
		return
	}
	var content, thinking strings.Builder
	var rest []Block
	var extra, beside gatherer
	role, done := "assistant", false
	events := in.events
	if !in.streamed() {
		if events = cutEvents(in.body, ""); len(events) < 2 {
			events = []event{{raw: in.answer, data: members(in.answer), text: string(in.body)}}
		}
	}
	for _, e := range events {
		o := e.data
		if o == nil {
			extra.add("event", keptText(e), replaces)
			continue
		}
		if !absent(o.get("error")) {
			c.Error = &Error{Status: in.status}
			c.Error.read(o)
		}
		if s := o.text("model"); s != "" {
			c.Served = s
		}
		m := o.object("message")
		if r := m.text("role"); r != "" {
			role = r
		}
		content.WriteString(m.text("content"))
		content.WriteString(o.text("response"))
		thinking.WriteString(m.text("thinking"))
		thinking.WriteString(o.text("thinking"))
		rest = append(rest, ollamaImages(m)...)
		for _, raw := range m.list("tool_calls") {
			rest = append(rest, chatToolCall(raw))
		}
		beside.addAll(m, extends, "role", "content", "thinking", "images", "tool_calls")
		if !e.at.IsZero() {
			c.times(e.at, content.Len()+thinking.Len()+len(rest) > 0)
		}
		extra.addAll(o, replaces, "model", "message", "response", "thinking", "done", "done_reason", "error", "prompt_eval_count", "eval_count", "logprobs")
		beside.add("logprobs", o.get("logprobs"), extends)
		if o.truth("done") {
			done = true
			c.Stop = o.text("done_reason")
			c.Usage = ollamaUsage(o)
		}
	}
	m := Message{Role: role, Extra: beside.params()}
	if thinking.Len() > 0 {
		m.Blocks = append(m.Blocks, Block{Kind: Thinking, Type: "thinking", Text: thinking.String()})
	}
	if content.Len() > 0 {
		m.Blocks = append(m.Blocks, Block{Kind: Text, Text: content.String()})
	}
	if m.Blocks = append(m.Blocks, rest...); m.Blocks != nil || done {
		c.Answer = []Message{m}
	}
	c.Extra = extra.params()
	c.Partial = !done && (c.Error == nil || m.Blocks != nil)
}

// ollamaUsage reads the counters of the last line. What was cached is not
// counted at all.
func ollamaUsage(o object) *Usage {
	if !o.has("eval_count") && !o.has("prompt_eval_count") {
		return nil
	}
	raw := object{}
	for _, m := range o {
		if strings.HasSuffix(m.Name, "_count") {
			raw = append(raw, m)
		}
	}
	return &Usage{Input: max(0, o.integer("prompt_eval_count")), Output: max(0, o.integer("eval_count")), Raw: raw.raw()}
}

// ollamaEmbeddings reads an answer of /api/embed.
func (c *Call) ollamaEmbeddings(in *input) {
	if c.Error = in.failure(); c.Error != nil {
		return
	}
	o := members(in.answer)
	c.Served = o.text("model")
	c.Usage = ollamaUsage(o)
	c.Extra = merged(nil, o, "model", "prompt_eval_count")
	c.Partial = o == nil || !in.whole
}
