package export

import (
	"bytes"
	"testing"

	"trace/flow"
)

// ofCalls are the questions that people ask of a log of Anthropic calls.
var ofCalls = []struct{ flags, filter, want string }{
	{"-r", `select(.type=="request") | "\(.body.model) \(.body.messages|length)"`, "claude-x 1\nclaude-sonnet-4-5 1\n"},
	{"-rj", `select(.type=="sse" and .data.type?=="content_block_delta") | .data.delta.text? // empty`, "Hello"},
	{"-c", `select(.type=="sse" and .data.type?=="message_start").data.message.usage`, `{"input_tokens":3}` + "\n"},
	{"-c", `select(.type=="sse" and .data.type?=="message_delta").data.usage`, `{"output_tokens":2}` + "\n"},
	{"-r", `select(.type=="sse") | .data.content_block? | select(.type?=="tool_use").name`, "Bash\n"},
	{"-cs", `[.[]|select(.type=="sse").event]|group_by(.)|map({(.[0]):length})|add`,
		`{"content_block_delta":2,"content_block_start":2,"message_delta":1,"message_start":1}` + "\n"},
	{"-r", `select(.llm.usage?) | "\(.llm.model) \(.llm.usage.total)"`, "claude-x 4919\nclaude-sonnet-4-5 5\n"},
}

func TestRecipesOfCalls(t *testing.T) {
	xs, m := conversationOf()
	stream := call(9)
	stream.Request.ContentType, stream.Response.ContentType, stream.Response.Head.Framing = "application/json", "text/event-stream", flow.FramingSSE
	for i, e := range [][2]string{
		{"message_start", `{"type":"message_start","message":{"id":"msg_9","usage":{"input_tokens":3}}}`},
		{"content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`},
		{"content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}`},
		{"content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}`},
		{"content_block_start", `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_2","name":"Bash","input":{}}}`},
		{"message_delta", `{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":2}}`},
	} {
		m.pieces[9] = append(m.pieces[9], flow.Piece{Index: i, At: after(500 + float64(i)), Side: flow.Server, Data: []byte("event: " + e[0] + "\ndata: " + e[1] + "\n\n")})
	}
	m.bodies[9] = [2]string{callBody, ""}
	var out bytes.Buffer
	l := &Log{W: &out}
	l.From(flow.Session{ID: "01KDY"}, m)
	for _, x := range []*flow.Exchange{xs[0], stream} {
		if err := l.Flow(x); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range ofCalls {
		if got := library(t, out.Bytes(), r.flags, r.filter); got != r.want {
			t.Errorf("%s %s: %q, want %q", r.flags, r.filter, got, r.want)
		}
	}
}
