package otel

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"trace/flow"
	"trace/llm"
)

func (t *Teller) callID(r llm.Ref) []byte { return t.id("call", r.Flow, int64(r.Call)) }

// call makes the span of a call to a language model.
func (t *Teller) call(x *flow.Exchange, c *llm.Call, ref llm.Ref, j joined) *tracepb.Span {
	from, to := callTimes(x, c)
	parent := t.root
	if j.agent != nil {
		parent = j.agent.id
	}
	name := operation(c)
	if m := model(c); m != "" {
		name += " " + m
	}
	s := t.span(t.callID(ref), parent, name, tracepb.Span_SPAN_KIND_CLIENT, from, to)
	a := t.attributes()
	t.request(x, c, a)
	t.answer(c, from, a)
	t.usage(c.Usage, a)
	t.standing(j.link, a)
	if t.o.Content {
		t.content(c, a)
	}
	t.process(x.Conn.Process, a)
	a.int("trace.flow.id", x.ID)
	a.yes("trace.altered", slices.ContainsFunc(x.Marks, func(n flow.Note) bool { return n.Error != nil && n.Error.Code == flow.CodeAltered }))
	if kind, why := callError(x, c); kind != "" {
		if c.Error != nil && t.o.Content {
			why = c.Error.Message
		}
		fail(s, a, kind, why)
	}
	if !j.link.Previous.IsZero() {
		s.Links = append(s.Links, &tracepb.Span_Link{TraceId: t.trace, SpanId: t.callID(j.link.Previous)})
	}
	s.Attributes = a.list
	return s
}

// callTimes are when a call was asked and when its answer was there.
func callTimes(x *flow.Exchange, c *llm.Call) (from, to time.Time) {
	from, to = x.Started, x.Ended
	if c.Asked.After(from) { // one of several on a WebSocket
		from = c.Asked
	}
	if x.Kind == flow.KindWebSocket && !c.Last.IsZero() {
		to = c.Last
	}
	return from, to
}

// operation is gen_ai.operation.name.
func operation(c *llm.Call) string {
	switch c.API {
	case llm.GenerateContent, llm.Interactions, llm.Live:
		return "generate_content"
	case llm.Completions, llm.OllamaGenerate:
		return "text_completion"
	case llm.Embeddings:
		return "embeddings"
	}
	return "chat"
}

func model(c *llm.Call) string { return cmp.Or(c.Model, c.Served) }

// providers are the names that the conventions have for those of package llm,
// where they differ.
var providers = map[string]string{
	"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai", "foundry": "azure.ai.inference", "chatgpt": "openai", "azure": "azure.ai.openai",
	"gemini": "gcp.gemini", "codeassist": "gcp.gen_ai", "mistral": "mistral_ai", "xai": "x_ai", "moonshot": "moonshot_ai",
}

// provider is gen_ai.provider.name. Where only the shape of the API is known, it
// is the one that made it, as the conventions want.
func provider(c *llm.Call) string {
	if name := providers[c.Provider]; name != "" {
		return name
	}
	if c.Provider != "" {
		return c.Provider
	}
	switch c.API {
	case llm.Messages:
		return "anthropic"
	case llm.Converse:
		return "aws.bedrock"
	case llm.GenerateContent, llm.Interactions, llm.Live:
		return "gcp.gen_ai"
	case llm.OllamaChat, llm.OllamaGenerate:
		return "ollama"
	}
	return "openai"
}

// request tells what was asked for, in both vintages of names.
func (t *Teller) request(x *flow.Exchange, c *llm.Call, a *attributes) {
	a.str("gen_ai.operation.name", operation(c))
	a.str("gen_ai.provider.name", provider(c))
	a.str("gen_ai.system", provider(c)) // before v1.37
	a.str("gen_ai.request.model", c.Model)
	a.yes("gen_ai.request.stream", c.Stream)
	a.str("gen_ai.conversation.id", c.Session)
	a.str("gen_ai.request.previous_response.id", c.Previous)
	if h := x.Request.Head; h != nil {
		a.str("server.address", h.Host)
		a.nonzero("server.port", int64(h.Port))
	}
	p := readParams(c)
	for _, d := range []struct {
		key  string
		name []string
	}{
		{"gen_ai.request.temperature", []string{"temperature"}},
		{"gen_ai.request.top_p", []string{"top_p", "topP"}},
		{"gen_ai.request.frequency_penalty", []string{"frequency_penalty", "frequencyPenalty"}},
		{"gen_ai.request.presence_penalty", []string{"presence_penalty", "presencePenalty"}},
	} {
		if v, ok := p.number(d.name...); ok {
			a.double(d.key, v)
		}
	}
	for _, d := range []struct {
		key  string
		name []string
	}{
		{"gen_ai.request.max_tokens", []string{"max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens", "num_predict"}},
		{"gen_ai.request.top_k", []string{"top_k", "topK"}},
		{"gen_ai.request.seed", []string{"seed"}},
	} {
		if v, ok := p.number(d.name...); ok && v == float64(int64(v)) {
			a.int(d.key, int64(v))
		}
	}
	if n, ok := p.number("n", "candidateCount", "candidate_count"); ok && n != 1 {
		a.int("gen_ai.request.choice.count", int64(n))
	}
	a.strs("gen_ai.request.stop_sequences", p.texts("stop_sequences", "stopSequences", "stop"))
	a.str("gen_ai.request.reasoning.level", p.text("reasoning_effort", "effort", "thinkingLevel", "thinking_level"))
	a.str("gen_ai.output.type", p.outputType())
}

// answer tells what came back. asked is when the request was sent.
func (t *Teller) answer(c *llm.Call, asked time.Time, a *attributes) {
	a.str("gen_ai.response.id", c.ID)
	a.str("gen_ai.response.model", c.Served)
	a.strs("gen_ai.response.finish_reasons", finishReasons(c))
	if !c.FirstToken.IsZero() {
		a.double("gen_ai.response.time_to_first_chunk", max(0, c.FirstToken.Sub(asked)).Seconds())
	}
}

// finishReasons are those of the choices, in the provider's words.
func finishReasons(c *llm.Call) []string {
	var all []string
	for _, m := range c.Answer {
		if m.Stop != "" {
			all = append(all, m.Stop)
		}
	}
	switch {
	case len(all) > 0:
		return all
	case c.Stop != "":
		return []string{c.Stop}
	case c.Partial && len(c.Answer) > 0:
		return []string{"error"}
	}
	return nil
}

// usage tells tokens. Input are all that the model read, cached or not; output
// are all that it wrote, with its reasoning.
func (t *Teller) usage(u *llm.Usage, a *attributes) {
	if u == nil {
		return
	}
	a.int("gen_ai.usage.input_tokens", prompt(u))
	a.int("gen_ai.usage.output_tokens", u.Output)
	a.nonzero("gen_ai.usage.cache_read.input_tokens", u.CacheRead)
	a.nonzero("gen_ai.usage.cache_write.input_tokens", u.CacheWrite)
	a.nonzero("gen_ai.usage.cache_creation.input_tokens", u.CacheWrite) // until v1.41
	a.nonzero("gen_ai.usage.reasoning.output_tokens", u.Reasoning)
}

func prompt(u *llm.Usage) int64 { return u.Input + u.CacheRead + u.CacheWrite }

// standing tells where a call stands among the others.
func (t *Teller) standing(l llm.Link, a *attributes) {
	a.yes("gen_ai.conversation.compacted", l.Compacted)
	a.nonzero("trace.conversation.turn", int64(l.Turn))
	a.nonzero("trace.conversation.first_flow", l.Conversation.Flow)
	if !l.Retry.IsZero() {
		a.int("trace.retry_of.flow", l.Retry.Flow)
	}
	a.yes("trace.conversation.edited", l.Edited)
}

// callError says why a call failed: error.type, and what people may read; "" if
// it did not. The provider's message may quote the prompt: it is content.
func callError(x *flow.Exchange, c *llm.Call) (kind, why string) {
	status := statusCode(x)
	switch {
	case c.Error != nil:
		kind = cmp.Or(c.Error.Type, "_OTHER")
		if c.Error.Type == "" && max(status, c.Error.Status) >= 400 {
			kind = strconv.Itoa(max(status, c.Error.Status))
		}
		if status >= 400 {
			why = kind + " (HTTP " + strconv.Itoa(status) + ")"
		}
		return kind, why
	case x.Error != nil && x.Error.Code != flow.CodeMark && x.Kind != flow.KindWebSocket:
		return cmp.Or(x.Error.Code, "_OTHER"), x.Error.Message
	case status >= 400:
		return strconv.Itoa(status), ""
	case c.Partial:
		return flow.CodeTruncated, "the answer has no end"
	}
	return "", ""
}

// params are a request's parameters by their names. Some APIs keep them in an
// object of their own.
type params map[string]json.RawMessage

// readParams collects them, at most one level down.
func readParams(c *llm.Call) params {
	p := params{}
	for _, q := range c.Params {
		switch q.Name {
		case "generationConfig", "generation_config", "inferenceConfig", "options", "reasoning", "output_config", "text":
			p.inner(q.Value)
		}
	}
	for _, q := range c.Params {
		p[q.Name] = q.Value
	}
	p.inner(p["thinkingConfig"])
	return p
}

func (p params) inner(raw json.RawMessage) {
	var in map[string]json.RawMessage
	if json.Unmarshal(raw, &in) == nil {
		for name, value := range in {
			p[name] = value
		}
	}
}

func (p params) number(names ...string) (float64, bool) {
	for _, name := range names {
		var v *float64
		if json.Unmarshal(p[name], &v) == nil && v != nil {
			return *v, true
		}
	}
	return 0, false
}

func (p params) text(names ...string) string {
	for _, name := range names {
		var v string
		if json.Unmarshal(p[name], &v) == nil && v != "" {
			return v
		}
	}
	return ""
}

// texts reads a list of strings, or one.
func (p params) texts(names ...string) []string {
	for _, name := range names {
		var vs []string
		if json.Unmarshal(p[name], &vs) == nil && len(vs) > 0 {
			return vs
		}
		if v := p.text(name); v != "" {
			return []string{v}
		}
	}
	return nil
}

// outputType is what was asked for, where that is not plain text.
func (p params) outputType() string {
	for _, name := range []string{"response_format", "format"} {
		var object struct{ Type string }
		if json.Unmarshal(p[name], &object) == nil && (object.Type == "json_schema" || object.Type == "json_object") || p.text(name) == "json" {
			return "json"
		}
	}
	switch p.text("responseMimeType", "response_mime_type") {
	case "application/json":
		return "json"
	}
	return ""
}
