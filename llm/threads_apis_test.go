package llm

import (
	"fmt"
	"testing"
	"time"

	"trace/flow"
)

// TestThreadsOfAPIs has two turns of each API, the second with the answer to
// the first as clients send it back.
func TestThreadsOfAPIs(t *testing.T) {
	sse := func(events ...string) string {
		s := ""
		for _, e := range events {
			s += "data: " + e + "\n\n"
		}
		return s
	}
	reasoning := `{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm"}],"encrypted_content":"g"}`
	call := `{"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{\"a\": 1}","status":"completed"}`
	for _, c := range []struct {
		name, url, first, contentType, answer, second string
		shared                                        int
	}{
		{"chat", "api.openai.com/v1/chat/completions", `{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"Hi"}]}`, "text/event-stream",
			sse(`{"choices":[{"index":0,"delta":{"role":"assistant","content":"I ","reasoning_content":"Hm"}}]}`, `{"choices":[{"index":0,"delta":{"content":"look."}}]}`,
				`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]},"finish_reason":"tool_calls"}]}`, "[DONE]"),
			`{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"Hi"},{"role":"assistant","content":"I look.","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]},{"role":"tool","tool_call_id":"c1","content":"r"}]}`, 2},
		{"responses", "chatgpt.com/backend-api/codex/responses", `{"model":"m","instructions":"S","store":false,"input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"D"}]},{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]}]}`, "text/event-stream",
			sse(`{"type":"response.created","response":{"id":"resp_1"}}`, `{"type":"response.output_item.done","output_index":0,"item":`+reasoning+`}`,
				`{"type":"response.output_item.done","output_index":1,"item":{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"I look.","annotations":[]}]}}`,
				`{"type":"response.output_item.done","output_index":2,"item":`+call+`}`, `{"type":"response.completed","response":{"id":"resp_1","output":[]}}`),
			`{"model":"m","instructions":"S","store":false,"input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"D"}]},{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]},` + reasoning +
				`,{"type":"message","role":"assistant","content":[{"type":"output_text","text":"I look."}]},{"type":"function_call","call_id":"c1","name":"f","arguments":"{\"a\": 1}"},{"type":"function_call_output","call_id":"c1","output":"r"}]}`, 2},
		{"responses by id", "api.openai.com/v1/responses", `{"model":"m","input":"Hi"}`, "application/json", `{"id":"resp_1","object":"response","status":"completed","output":[` + call + `]}`,
			`{"model":"m","previous_response_id":"resp_1","input":[{"type":"function_call_output","call_id":"c1","output":"r"}]}`, 0},
		{"gemini", "generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse", `{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}`, "text/event-stream",
			sse(`{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm","thought":true}]}}]}`, `{"candidates":[{"content":{"role":"model","parts":[{"text":"I look."}]}}]}`, `{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"s"}]},"finishReason":"STOP"}]}`),
			`{"contents":[{"role":"user","parts":[{"text":"Hi"}]},{"role":"model","parts":[{"text":"I look."},{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"s"}]},{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"r"}}}]}]}`, 2},
		{"interactions", "generativelanguage.googleapis.com/v1beta/interactions", `{"model":"m","input":"Hi"}`, "application/json", `{"id":"v1_1","status":"requires_action","steps":[{"type":"function_call","id":"c1","name":"f","arguments":{"a":1}}]}`,
			`{"model":"m","previous_interaction_id":"v1_1","input":[{"type":"function_result","call_id":"c1","name":"f","result":"r"}]}`, 0},
		{"ollama", "localhost/api/chat", `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`, "application/x-ndjson",
			`{"message":{"role":"assistant","content":"I "},"done":false}` + "\n" + `{"message":{"role":"assistant","content":"look.","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},"done":true,"done_reason":"stop"}` + "\n",
			`{"model":"m","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"I look.","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},{"role":"tool","tool_name":"f","content":"r"}]}`, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var threads Threads
			threads.Add(Turn{Ref: Ref{Flow: 1}, Started: began, Ended: began.Add(time.Second), Call: read(t, c.url, c.first, c.contentType, c.answer)[0]})
			l := threads.Add(Turn{Ref: Ref{Flow: 2}, Started: began.Add(2 * time.Second), Ended: began.Add(3 * time.Second), Call: read(t, c.url, c.second, "application/json", "{}")[0]})
			if l.Previous.Flow != 1 || l.Turn != 2 || l.Shared != c.shared || l.Edited {
				t.Errorf("%+v", l)
			}
		})
	}
}

// exchange makes the detail of a request and its answer.
func exchange(host, path, request, answer string) *flow.Detail {
	d := &flow.Detail{Exchange: flow.Exchange{State: flow.StateComplete, Started: began}, RequestBody: []byte(request), ResponseBody: []byte(answer)}
	d.Request = &flow.Part{Head: &flow.Head{Method: "POST", Host: host, Path: path}}
	d.Response = &flow.Part{Head: &flow.Head{Status: 200}}
	return d
}

// Each API repeats its own answers in its own way: the second turn is known by
// them all the same.
func TestThreadsKnowTheAnswersOfEachAPI(t *testing.T) {
	for _, c := range []struct {
		name, host, path string
		request          string // with what was said
		first            string // messages of the first turn
		answer           string
		echo             string // what the second turn has behind them
	}{
		{"chat", "api.openai.com", "/v1/chat/completions", `{"model":"m","messages":[%s]}`,
			`{"role":"system","content":"S"},{"role":"user","content":"Time?"}`,
			`{"id":"c1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"reasoning_content":"Hm","tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_time","arguments":"{\"city\": \"Oslo\"}"}}]},"finish_reason":"tool_calls"}]}`,
			`{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_time","arguments":"{\"city\":\"Oslo\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"12"}`},
		{"responses", "api.openai.com", "/v1/responses", `{"model":"m","instructions":"S","input":[%s]}`,
			`{"role":"user","content":"Time?"}`,
			`{"id":"r1","object":"response","status":"completed","model":"m","output":[{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"e"},{"id":"m1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"I look.","annotations":[]}]},{"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"get_time","arguments":"{\"city\":\"Oslo\"}"}]}`,
			`{"type":"reasoning","summary":[],"encrypted_content":"e"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"I look."}]},{"type":"function_call","call_id":"call_1","name":"get_time","arguments":"{\"city\":\"Oslo\"}"},{"type":"function_call_output","call_id":"call_1","output":"12"}`},
		{"gemini", "generativelanguage.googleapis.com", "/v1beta/models/m:generateContent", `{"contents":[%s]}`,
			`{"role":"user","parts":[{"text":"Time?"}]}`,
			`{"candidates":[{"content":{"role":"model","parts":[{"text":"I need it","thought":true},{"text":"I look."},{"functionCall":{"name":"get_time","args":{"city":"Oslo"}},"thoughtSignature":"c2ln"}]},"finishReason":"STOP"}]}`,
			`{"role":"model","parts":[{"text":"I look."},{"functionCall":{"name":"get_time","args":{"city":"Oslo"}},"thoughtSignature":"c2ln"}]},{"role":"user","parts":[{"functionResponse":{"name":"get_time","response":{"t":12}}}]}`},
		{"ollama", "localhost", "/api/chat", `{"model":"m","stream":false,"messages":[%s]}`,
			`{"role":"user","content":"Time?"}`,
			`{"model":"m","message":{"role":"assistant","content":"I look.","tool_calls":[{"function":{"name":"get_time","arguments":{"city":"Oslo"}}}]},"done":true,"done_reason":"stop"}`,
			`{"role":"assistant","content":"I look.","tool_calls":[{"function":{"name":"get_time","arguments":{"city":"Oslo"}}}]},{"role":"tool","content":"12","tool_name":"get_time"}`},
		{"converse", "bedrock-runtime.eu-west-1.amazonaws.com", "/model/amazon.nova/converse", `{"messages":[%s]}`,
			`{"role":"user","content":[{"text":"Time?"}]}`,
			`{"output":{"message":{"role":"assistant","content":[{"text":"I look."},{"toolUse":{"toolUseId":"t1","name":"get_time","input":{"city":"Oslo"}}}]}},"stopReason":"tool_use"}`,
			`{"role":"assistant","content":[{"text":"I look."},{"toolUse":{"toolUseId":"t1","name":"get_time","input":{"city":"Oslo"}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"t1","content":[{"text":"12"}]}}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var th tester
			var calls []*Call
			for _, said := range []string{c.first, c.first + "," + c.echo} {
				read := Read(exchange(c.host, c.path, fmt.Sprintf(c.request, said), c.answer))
				if len(read) != 1 {
					t.Fatal("not read")
				}
				calls = append(calls, read[0])
			}
			th.add(calls[0])
			l := th.add(calls[1])
			if l.Turn != 2 || l.Previous.Flow != 1 || l.Edited || l.Shared != len(calls[1].Messages)-1 {
				t.Errorf("%+v of %d messages", l, len(calls[1].Messages))
			}
			d := Compare(calls[0], calls[1])
			if len(d.Changes) != 0 || d.Shared != len(calls[0].Messages) || d.Answered != len(d.Appended)-1 {
				t.Errorf("%s: shared %d of %d, answered %d of %d", changed(d), d.Shared, len(calls[0].Messages), d.Answered, len(d.Appended))
			}
		})
	}
}
