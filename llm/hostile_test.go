package llm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

// read reads an exchange of a POST whose answer is a body or a stream of events.
func read(t *testing.T, url, request, contentType, answer string) []*Call {
	t.Helper()
	host, path, _ := strings.Cut(url, "/")
	return Read(script(t, map[string]string{
		"request":  "POST /" + path + "\nHost: " + host + "\n\n" + request,
		"response": "200\nContent-Type: " + contentType + "\n\n" + answer,
	}))
}

// The APIs, each with a request that is one of it.
var apis = []struct{ url, request string }{
	{"api.anthropic.com/v1/messages", `{"model":"m","max_tokens":1,"messages":[%s]}`},
	{"api.openai.com/v1/chat/completions", `{"model":"m","messages":[%s]}`},
	{"api.openai.com/v1/responses", `{"model":"m","input":[%s]}`},
	{"api.openai.com/v1/completions", `{"model":"m","prompt":[%s]}`},
	{"api.openai.com/v1/embeddings", `{"model":"m","input":[%s]}`},
	{"generativelanguage.googleapis.com/v1beta/models/m:generateContent", `{"contents":[%s]}`},
	{"generativelanguage.googleapis.com/v1beta/interactions", `{"model":"m","input":[%s]}`},
	{"cloudcode-pa.googleapis.com/v1internal:generateContent", `{"model":"m","request":{"contents":[%s]}}`},
	{"localhost/api/chat", `{"model":"m","messages":[%s]}`},
	{"localhost/api/generate", `{"model":"m","prompt":[%s]}`},
}

// TestAnyJSON gives every API values where others belong: whatever stands
// there, there is a call, and what it keeps is JSON.
func TestAnyJSON(t *testing.T) {
	values := []string{"null", "true", "-0", "1e400", "123456789012345678901234567890", `""`, `"\ud800"`, "[]", "{}", "[[[]]]", `[null,1,"x",{}]`,
		`{"role":"user","content":[null,7,{},[],{"type":5},{"type":"text"},{"type":"text","text":7}]}`, `{"role":7,"content":{"type":"image_url","image_url":null}}`,
		`{"role":"user","role":"tool","content":"a","content":"b","tool_calls":{},"tool_call_id":[]}`, `{"type":"function_call","arguments":{},"call_id":1}`,
		`{"type":"message"}`, `{"type":"x_output","output":[[["deep"]]]}`, `{"parts":{"text":"x"}}`, `{"parts":[7,"x",null,{"functionCall":null},{"inlineData":[]}]}`}
	for _, api := range apis {
		for _, v := range values {
			calls := read(t, api.url, fmt.Sprintf(api.request, v), "application/json", "{}")
			if api.url == apis[0].url && len(calls) == 0 {
				continue // its messages tell it from others
			}
			if len(calls) != 1 {
				t.Fatalf("%s with %s: %d calls", api.url, v, len(calls))
			}
			checkRaw(t, calls[0])
			for _, name := range []string{"choices", "output", "candidates", "content", "steps", "message", "usage", "error", "response", "usageMetadata", "delta", "item", "output_index"} {
				answer := fmt.Sprintf(`{"%s":%s,"type":"response.completed","done":true}`, name, v)
				for _, typ := range []string{"application/json", "text/event-stream", "application/x-ndjson"} {
					if typ == "text/event-stream" {
						answer = "data: " + answer + "\n\n"
					}
					for _, c := range read(t, api.url, fmt.Sprintf(api.request, "{}"), typ, answer) {
						checkRaw(t, c)
					}
				}
			}
		}
	}
}

// TestNested wraps what an API reads in itself: depth costs no more than
// length.
func TestNested(t *testing.T) {
	const depth = 9000
	deep := strings.Repeat(`[`, depth) + strings.Repeat(`]`, depth)
	maps := strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat(`}`, depth)
	args := string(quote(deep))
	for _, c := range []struct{ url, request, contentType, answer string }{
		{"api.openai.com/v1/responses", `{"model":"m","input":[` + strings.Repeat(`{"type":"x_output","output":`+deep+`},`, 20) + `{}]}`, "application/json", "{}"},
		{"api.openai.com/v1/chat/completions", `{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":` + args + `}}]}]}`, "text/event-stream",
			strings.Repeat(`data: {"choices":[{"delta":{"x":`+maps+`,"tool_calls":[{"index":0,"function":{"arguments":`+args+`}}]}}]}`+"\n\n", 20)},
		{"generativelanguage.googleapis.com/v1/models/m:streamGenerateContent", `{"contents":[]}`, "text/event-stream",
			`data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","partialArgs":[{"jsonPath":"$` + strings.Repeat(".a", depth) + `","stringValue":"x"},{"jsonPath":"$.a` + strings.Repeat("[0]", 150) + `","numberValue":` + deep + `}],"willContinue":true}}]}}]}` + "\n\n"},
		{"generativelanguage.googleapis.com/v1beta/interactions", `{"input":"x"}`, "text/event-stream",
			`data: {"event_type":"step.delta","index":0,"delta":{"type":"arguments_delta","arguments":` + args + `}}` + "\n\n"},
		{"api.anthropic.com/v1/messages", `{"messages":[]}`, "text/event-stream",
			`data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":` + args + `}}` + "\n\n"},
	} {
		calls := read(t, c.url, c.request, c.contentType, c.answer)
		if len(calls) != 1 {
			t.Fatal(c.url, len(calls))
		}
		checkRaw(t, calls[0])
	}
}

// TestMany has what is usually few come ten thousand times: time grows
// with length, not with its square.
func TestMany(t *testing.T) {
	const n = 10_000
	many := func(format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	fields := many(`"f%d":1,`)
	for _, c := range []struct{ url, request, contentType, answer string }{
		{"api.openai.com/v1/chat/completions", `{"messages":[{"role":"user",` + fields + `}],` + fields + `}`, "application/json", `{"choices":[{"message":{` + fields + `}}],` + fields + `}`},
		{"api.openai.com/v1/chat/completions", `{"messages":[]}`, "text/event-stream", many(`data: {"choices":[{"index":%d,"delta":{"content":"x","reasoning_details":[{"type":"reasoning.text","text":"y"}],"tool_calls":[{"function":{"name":"f","arguments":"1"}}]}}]}` + "\n\n")},
		{"api.openai.com/v1/chat/completions", `{"messages":[]}`, "text/event-stream", many(`data: {"choices":[{"index":0,"delta":{"content":"x","tool_calls":[{"function":{"name":"f%d","arguments":"\"\""}}]},"logprobs":{"content":[{"token":"x"}]}}]}` + "\n\n")},
		{"api.openai.com/v1/responses", `{"input":"x",` + fields + `}`, "text/event-stream", many(`data: {"type":"response.output_text.delta","item_id":"i%d","delta":"x"}`+"\n\n") + `data: {"type":"response.completed","response":{` + fields + `}}` + "\n\n"},
		{"generativelanguage.googleapis.com/v1/models/m:streamGenerateContent", `{"contents":[]}`, "text/event-stream", `data: {"candidates":[{"content":{"parts":[{"text":"x",` + fields + `}]}}]}` + "\n\n" + many(`data: {"candidates":[{"content":{"parts":[{"text":"x","g%d":1}]}}]}`+"\n\n")},
		{"generativelanguage.googleapis.com/v1beta/interactions", `{"input":"x"}`, "text/event-stream", many(`data: {"event_type":"step.delta","index":%d,"delta":{"type":"text","text":"x"}}` + "\n\n")},
	} {
		if calls := read(t, c.url, c.request, c.contentType, c.answer); len(calls) != 1 || calls[0].Messages == nil && calls[0].Answer == nil {
			t.Fatal(c.url, len(calls))
		}
	}
	messages := many(`> {"type":"response.create","input":"%d"}`+"\n") + many(`< {"type":"response.created","response":{"id":"r%d"}}`+"\n")
	calls := Read(script(t, map[string]string{"request": "GET /v1/responses\nHost: api.openai.com\nUpgrade: websocket\n\n", "response": "101\n\n", "messages": messages}))
	if len(calls) != n || calls[n-1].ID != fmt.Sprint("r", n-1) || !bytes.Equal(calls[1].Messages[0].Blocks[0].Raw, nil) {
		t.Fatal(len(calls))
	}
}

// TestDeepArguments keeps arguments as text that nothing could be put around.
func TestDeepArguments(t *testing.T) {
	s := strings.Repeat("[", maxNested+1) + strings.Repeat("]", maxNested+1)
	if sound(s) != nil || sound(s[1:len(s)-1]) == nil || sound(`{"a":"[[\"{"}`) == nil || sound("{") != nil || sound("\"\xff\"") != nil {
		t.Fatal("sound")
	}
	if !json.Valid(sound(`{"a":1}`)) {
		t.Fatal("not JSON")
	}
}

// TestBothSpellings has a body that tells a thing in both: one is taken.
func TestBothSpellings(t *testing.T) {
	c := read(t, "generativelanguage.googleapis.com/v1beta/models/m:generateContent", `{"contents":[],"systemInstruction":"a","system_instruction":"b"}`, "application/json", "{}")[0]
	if len(c.System) != 1 || c.System[0].Text != "a" || len(c.Params) != 0 {
		t.Fatalf("%+v", c)
	}
}

// TestOutlineOfSocket recognises a WebSocket by what an outline keeps.
func TestOutlineOfSocket(t *testing.T) {
	for path, want := range map[string]string{"/v1/responses": Responses, "/v1/realtime?model=m": Realtime, "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent": Live, "/v1/models": ""} {
		if _, api := Recognize(&flow.Head{Method: "GET", Host: "h", Path: path}); api != want {
			t.Errorf("%s: %q", path, api)
		}
	}
}
