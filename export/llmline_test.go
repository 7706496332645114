package export

import (
	"bytes"
	"testing"

	"trace/flow"
)

// TestLLMLines: the log tells of calls what was asked for and what came of it.
func TestLLMLines(t *testing.T) {
	xs, m := conversationOf()
	stream := call(9)
	stream.Request.ContentType, stream.Response.ContentType = "application/json", "text/event-stream"
	stream.Response.Head.Framing = flow.FramingSSE
	for i, e := range []string{
		`{"type":"message_start","message":{"id":"msg_9","model":"claude-served","usage":{"input_tokens":3,"cache_read_input_tokens":5}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}`,
		`{"type":"message_stop"}`,
	} {
		m.pieces[9] = append(m.pieces[9], flow.Piece{Index: i, At: after(500 + float64(i)), Side: flow.Server, Data: []byte("data: " + e + "\n\n")})
	}
	m.bodies[9] = [2]string{callBody, ""}
	var out bytes.Buffer
	l := &Log{W: &out}
	l.From(flow.Session{ID: "01KDY"}, m)
	for _, x := range append(xs[:1:1], stream, plain(8)) {
		if err := l.Flow(x); err != nil {
			t.Fatal(err)
		}
	}
	by := map[string]map[string]any{}
	for _, line := range parse(t, out.Bytes()) {
		by[line["type"].(string)+line["flow_id"].(string)] = line
	}
	for _, c := range []struct {
		line string
		want any
		path []any
	}{
		{"request01KDY/1", "anthropic", []any{"provider"}},
		{"request01KDY/1", "messages", []any{"api"}},
		{"request01KDY/1", "claude-x", []any{"model"}},
		{"request01KDY/1", nil, []any{"usage"}},
		{"response01KDY/1", "tool_use", []any{"stop_reason"}},
		{"response01KDY/1", "msg_1", []any{"response_id"}},
		{"response01KDY/1", 12.0, []any{"usage", "input"}},
		{"response01KDY/1", 4800.0, []any{"usage", "cache_read"}},
		{"response01KDY/1", 4919.0, []any{"usage", "total"}},
		{"response01KDY/1", 1.0, []any{"tool_calls"}},
		{"response01KDY/1", "reasoning", []any{"message", "parts", 0, "type"}},
		{"response01KDY/1", "ls </pre>", []any{"message", "parts", 2, "arguments", "command"}},
		{"request01KDY/9", true, []any{"stream"}},
		{"stream_end01KDY/9", "Hello", []any{"message", "parts", 0, "content"}},
		{"stream_end01KDY/9", "claude-served", []any{"response_model"}},
		{"stream_end01KDY/9", 2.0, []any{"usage", "output"}},
		{"stream_end01KDY/9", "end_turn", []any{"stop_reason"}},
	} {
		if got := value(by[c.line], append([]any{"llm"}, c.path...)...); got != c.want {
			t.Errorf("%s: llm%v = %v, want %v", c.line, c.path, got, c.want)
		}
	}
	for name, line := range by {
		if _, there := line["llm"]; there && (line["flow_id"] == "01KDY/8" || line["type"] == "response_headers" || line["type"] == "sse") {
			t.Errorf("%s has llm", name)
		}
	}
}
