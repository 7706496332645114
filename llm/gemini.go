package llm

import (
	"encoding/json"
	"strings"
)

// matchGemini finds Google's APIs: the method behind the last colon of the
// path, wherever the model stands before it (the Gemini API, Vertex AI, Code
// Assist), Interactions, and the WebSocket of Live.
func matchGemini(r *route) (provider, api string) {
	if r.websocket && strings.Contains(r.segment(1), "BidiGenerateContent") {
		if strings.Contains(r.path, "cloud.aiplatform") {
			return "vertex", Live
		}
		return "", Live
	}
	if !r.post {
		return "", ""
	}
	name, method := r.method()
	switch method {
	case "generateContent", "streamGenerateContent":
		api = GenerateContent
	case "countTokens":
		api = CountTokens
	case "embedContent", "batchEmbedContents":
		api = Embeddings
	case "":
		if v := r.segment(2); name == "interactions" && len(v) > 1 && v[0] == 'v' && v[1] >= '0' && v[1] <= '9' {
			return "", Interactions
		}
		return "", ""
	default:
		return "", ""
	}
	switch {
	case strings.HasSuffix(name, "internal"): // v1internal:method
		return "codeassist", api
	case r.segment(4) == "publishers" || r.segment(2) == "endpoints":
		return "vertex", api
	case r.segment(2) != "models" && r.segment(2) != "tunedModels":
		return "", ""
	}
	return "", api
}

// readGemini reads the calls of an exchange with an API of Google.
func readGemini(in *input) []*Call {
	switch in.api {
	case Live:
		return readLive(in)
	case Interactions:
		return readInteractions(in)
	}
	c := in.call()
	if in.request == nil && in.provider == "" {
		return nil
	}
	outer := in.request
	request := outer
	if inner := outer.object("request"); inner != nil { // of Code Assist
		request = inner
		c.Params = outer.without("model", "request")
	} else if inner := outer.both("generateContentRequest"); inner != nil { // of countTokens
		request = members(inner)
		c.Params = outer.without("generateContentRequest", "generate_content_request")
	}
	name, method := in.route.method()
	if c.Model = name; in.provider == "codeassist" {
		if c.Model = outer.text("model"); c.Model == "" {
			c.Model = request.text("model")
		}
	}
	c.Model = strings.TrimPrefix(c.Model, "models/")
	c.Stream = method == "streamGenerateContent"
	if in.api == Embeddings {
		c.geminiEmbeddings(in, request)
		return []*Call{c}
	}
	c.geminiRequest(request)
	if in.api == CountTokens {
		c.countAnswer(in)
		return []*Call{c}
	}
	c.geminiAnswer(in)
	return []*Call{c}
}

// both returns a member that may be spelled as proto3's JSON has it or as its
// field is named: servers read both.
func (o object) both(name string) json.RawMessage {
	if raw := o.get(name); raw != nil {
		return raw
	}
	return o.get(snake(name))
}

func (o object) bothText(name string) string { return text(o.both(name)) }

// snake returns the field name of a name in lowerCamelCase.
func snake(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// spelled returns names in both spellings.
func spelled(names ...string) []string {
	var all []string
	for _, n := range names {
		all = append(all, n)
		if s := snake(n); s != n {
			all = append(all, s)
		}
	}
	return all
}

// several returns the elements of an array, or what stands there in its stead.
func several(raw json.RawMessage) []json.RawMessage {
	if list := elements(raw); list != nil || absent(raw) {
		return list
	}
	return []json.RawMessage{raw}
}

// geminiRequest reads the request of generateContent.
func (c *Call) geminiRequest(o object) {
	for _, raw := range several(o.both("contents")) {
		c.Messages = append(c.Messages, geminiContent(raw))
	}
	if raw := o.both("systemInstruction"); !absent(raw) {
		c.System = geminiContent(raw).Blocks
	}
	for _, raw := range several(o.get("tools")) {
		c.Tools = append(c.Tools, geminiTools(raw)...)
	}
	if c.Session = o.bothText("sessionId"); c.Session == "" {
		c.Session = o.text("session_id")
	}
	read := spelled("contents", "systemInstruction", "tools")
	if c.API != CountTokens || c.Model != "" {
		read = append(read, "model")
	}
	c.Params = append(c.Params, o.without(read...)...)
}

// geminiTools reads an element of tools: functions, or tools of Google under
// their names.
func geminiTools(raw json.RawMessage) []Tool {
	var tools []Tool
	for _, m := range members(raw) {
		if m.Name != "functionDeclarations" && m.Name != "function_declarations" {
			tools = append(tools, Tool{Name: m.Name, Type: m.Name, Raw: object{m}.raw()})
			continue
		}
		for _, raw := range several(m.Value) {
			o := members(raw)
			t := Tool{Name: o.text("name"), Type: "function", Description: o.text("description"), Raw: raw}
			if t.Schema = o.mark("parameters"); t.Schema == nil {
				t.Schema = o.both("parametersJsonSchema")
			}
			tools = append(tools, t)
		}
	}
	return tools
}

// geminiContent reads a Content; a bare string and a bare part stand for one.
func geminiContent(raw json.RawMessage) Message {
	o := members(raw)
	if o == nil {
		return Message{Role: "user", Blocks: content(raw)}
	}
	m := Message{Role: geminiRole(o.text("role")), Extra: merged(nil, o, "role", "parts")}
	switch {
	case o.has("parts"):
		for _, raw := range several(o.get("parts")) {
			m.Blocks = append(m.Blocks, geminiPart(raw))
		}
	case !o.has("role"):
		m.Blocks, m.Extra = []Block{geminiPart(raw)}, nil
	}
	return m
}

// geminiRole returns the role: "model" is what others call "assistant".
func geminiRole(role string) string {
	switch role {
	case "":
		return "user"
	case "model":
		return "assistant"
	}
	return role
}

// geminiPart reads a Part: one payload under its name, and flags.
func geminiPart(raw json.RawMessage) Block {
	o := members(raw)
	b := Block{Kind: Other, Raw: raw}
	if o == nil {
		if kind(raw) == '"' {
			return Block{Kind: Text, Text: text(raw)}
		}
		return b
	}
	for _, m := range o {
		p := members(m.Value)
		switch m.Name {
		case "text":
			if kind(m.Value) == '"' {
				b.Kind, b.Text = Text, text(m.Value)
			}
		case "inlineData", "inline_data":
			b.Type = m.Name
			b.media(p.bothText("mimeType"))
			b.Size, b.Name = base64Length(p.text("data")), p.bothText("displayName")
		case "fileData", "file_data":
			b.Type = m.Name
			b.media(p.bothText("mimeType"))
			b.URL, b.Name = p.bothText("fileUri"), p.bothText("displayName")
		case "functionCall", "function_call":
			b.Kind, b.Type, b.ID, b.Name, b.Input = ToolCall, m.Name, p.text("id"), p.text("name"), p.mark("args")
		case "functionResponse", "function_response":
			b.Kind, b.Type, b.ID, b.Name = ToolResult, m.Name, p.text("id"), p.text("name")
			b.response(p)
		case "executableCode", "executable_code":
			b.Kind, b.Type, b.ID, b.Name, b.Input, b.Server = ToolCall, m.Name, p.text("id"), "code_execution", m.Value, true
		case "codeExecutionResult", "code_execution_result":
			b.Kind, b.Type, b.ID, b.Name, b.Server = ToolResult, m.Name, p.text("id"), "code_execution", true
			b.Content = content(p.get("output"))
			b.IsError = !strings.HasSuffix(p.text("outcome"), "_OK") && p.text("outcome") != ""
		case "toolCall", "tool_call":
			b.Kind, b.Type, b.ID, b.Name, b.Input, b.Server = ToolCall, m.Name, p.text("id"), p.bothText("toolType"), p.mark("args"), true
		case "toolResponse", "tool_response":
			b.Kind, b.Type, b.ID, b.Name, b.Server = ToolResult, m.Name, p.text("id"), p.bothText("toolType"), true
			b.response(p)
		default:
			if b.Kind == Other && b.Type == "" && p != nil {
				b.Type = m.Name
			}
		}
	}
	if b.Kind == Text {
		if b.Type = ""; o.truth("thought") {
			b.Kind, b.Type = Thinking, "thought"
		}
	}
	if b.Kind == Other && b.Type == "" {
		if signature := o.bothText("thoughtSignature"); signature != "" {
			b.Kind, b.Type = Thinking, "thoughtSignature"
		} else if len(o) > 0 {
			b.Type = o[0].Name
		}
	}
	return b
}

// media chooses the kind by the MIME type.
func (b *Block) media(mime string) {
	b.Media = mime
	switch {
	case strings.HasPrefix(mime, "image/"):
		b.Kind = Image
	case strings.HasPrefix(mime, "audio/"):
		b.Kind = Audio
	default:
		b.Kind = Document
	}
}

// response reads what a function gave. Google asks for its output under
// "output" and for what failed under "error"; anything else is the output too.
func (b *Block) response(p object) {
	raw := p.mark("response")
	o := members(raw)
	b.IsError = !absent(o.get("error")) && !o.has("output")
	single := ""
	for _, name := range []string{"output", "result", "content", "error"} {
		if len(o) == 1 && kind(o.get(name)) == '"' {
			single = name
		}
	}
	switch {
	case single != "":
		b.Content = []Block{{Kind: Text, Type: single, Text: o.text(single)}}
	case raw != nil && (o == nil || len(o) > 0):
		b.Content = []Block{{Kind: Other, Type: "response", Raw: raw}}
	}
	for _, raw := range p.list("parts") {
		b.Content = append(b.Content, geminiPart(raw))
	}
}

// geminiEmbeddings reads embedContent and batchEmbedContents.
func (c *Call) geminiEmbeddings(in *input, o object) {
	requests := o.list("requests")
	if requests == nil {
		requests = []json.RawMessage{o.raw()}
		c.Params = o.without("model", "content")
	}
	for _, raw := range requests {
		if content := members(raw).get("content"); !absent(content) {
			c.Messages = append(c.Messages, geminiContent(content))
		}
	}
	if c.Error = in.failure(); c.Error != nil {
		return
	}
	a := members(in.answer)
	c.Usage = geminiUsage(a.both("usageMetadata"))
	c.Extra = a.without(spelled("usageMetadata")...)
	c.Partial = a == nil || !in.whole
}

// geminiUsage reads usageMetadata: what was cached is part of the prompt, what
// was thought stands beside the candidates. Live says "response" for them.
func geminiUsage(raw json.RawMessage) *Usage {
	o := members(raw)
	if o == nil {
		return nil
	}
	n := func(name string) int64 { return max(0, integer(o.both(name))) }
	cached, thoughts := n("cachedContentTokenCount"), n("thoughtsTokenCount")
	return &Usage{
		Input:     max(0, n("promptTokenCount")+n("toolUsePromptTokenCount")-cached),
		CacheRead: cached,
		Output:    max(thoughts, n("candidatesTokenCount")+n("responseTokenCount")+thoughts),
		Reasoning: thoughts,
		Raw:       raw,
	}
}
