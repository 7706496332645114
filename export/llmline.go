package export

import (
	"cmp"
	"encoding/json"
	"fmt"

	"trace/flow"
	"trace/llm"
)

// llmPart is what the log tells of a call to a language model: on the line of
// the request what was asked for, on that of the end all of it.
type llmPart struct {
	Provider string `json:"provider,omitempty"`
	API      string `json:"api"`
	Model    string `json:"model,omitempty"`
	Stream   bool   `json:"stream"`
	// Calls counts those of a WebSocket, where there were several; this is the
	// last.
	Calls         int         `json:"calls,omitempty"`
	ResponseID    string      `json:"response_id,omitempty"`
	ResponseModel string      `json:"response_model,omitempty"`
	StopReason    string      `json:"stop_reason,omitempty"`
	Usage         *llmUsage   `json:"usage,omitempty"`
	ToolCalls     *int        `json:"tool_calls,omitempty"`
	Message       *llmMessage `json:"message,omitempty"`
	Error         *llmError   `json:"error,omitempty"`
}

type llmUsage struct {
	Input      int64 `json:"input"`
	Output     int64 `json:"output"`
	CacheRead  int64 `json:"cache_read"`
	CacheWrite int64 `json:"cache_write"`
	Reasoning  int64 `json:"reasoning"`
	Total      int64 `json:"total"`
}

type llmError struct {
	Type    string `json:"type,omitempty"`
	Message string `json:"message,omitempty"`
}

// llmMessage is an answer put together, in the words of OpenTelemetry.
type llmMessage struct {
	Role  string           `json:"role"`
	Parts []map[string]any `json:"parts"`
}

// otelProviders are the names that OpenTelemetry has for providers, where they
// are not ours.
var otelProviders = map[string]string{
	"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai", "foundry": "azure.ai.inference", "azure": "azure.ai.openai", "chatgpt": "openai",
	"gemini": "gcp.gemini", "codeassist": "gcp.gen_ai", "xai": "x_ai", "mistral": "mistral_ai", "moonshot": "moonshot_ai",
}

// asked makes the part of a request with that body; nil of what is no call.
func (l *JSONL) asked(x *flow.Exchange, body []byte) *llmPart {
	if l.Detail == nil || !isCall(x) {
		return nil
	}
	d := &flow.Detail{Exchange: *x, RequestBody: body}
	d.Response = nil
	calls := llm.Read(d)
	if len(calls) == 0 {
		return nil
	}
	return llmPartOf(calls[0])
}

// answered makes the part of a call that is over; nil of what is none.
func (l *JSONL) answered(x *flow.Exchange) *llmPart {
	if l.Detail == nil || l.err != nil || !isCall(x) {
		return nil
	}
	d, err := l.Detail(x.ID)
	if err != nil {
		l.err = fmt.Errorf("read flow %d: %w", x.ID, err)
		return nil
	}
	calls := llm.Read(d)
	if len(calls) == 0 {
		return nil
	}
	c := calls[len(calls)-1]
	p := llmPartOf(c)
	if len(calls) > 1 {
		p.Calls = len(calls)
	}
	p.ResponseID, p.ResponseModel, p.StopReason = c.ID, c.Served, c.Stop
	if u := c.Usage; u != nil {
		p.Usage = &llmUsage{u.Input, u.Output, u.CacheRead, u.CacheWrite, u.Reasoning, u.Input + u.CacheRead + u.CacheWrite + u.Output}
	}
	if e := c.Error; e != nil {
		p.Error = &llmError{e.Type, e.Message}
	}
	if len(c.Answer) > 0 {
		p.Message, p.ToolCalls = llmMessageOf(&c.Answer[0])
	}
	return p
}

func isCall(x *flow.Exchange) bool {
	if x.Request == nil {
		return false
	}
	_, api := llm.Recognize(x.Request.Head)
	return api != ""
}

func llmPartOf(c *llm.Call) *llmPart {
	return &llmPart{Provider: cmp.Or(otelProviders[c.Provider], c.Provider), API: c.API, Model: c.Model, Stream: c.Stream}
}

func llmMessageOf(m *llm.Message) (*llmMessage, *int) {
	out, calls := &llmMessage{Role: cmp.Or(m.Role, "assistant"), Parts: []map[string]any{}}, 0
	for _, b := range m.Blocks {
		part := map[string]any{"type": b.Kind}
		switch b.Kind {
		case llm.Text, llm.Refusal:
			part["content"] = b.Text
		case llm.Thinking:
			part["type"], part["content"] = "reasoning", b.Text
		case llm.ToolCall:
			calls++
			if b.Server {
				part["type"] = "server_tool_call"
			}
			part["id"], part["name"] = b.ID, b.Name
			if part["arguments"] = json.RawMessage(b.Input); len(b.Input) == 0 {
				part["arguments"] = b.Text
			}
		default:
			part["type"] = cmp.Or(b.Type, b.Kind)
		}
		out.Parts = append(out.Parts, part)
	}
	return out, &calls
}
