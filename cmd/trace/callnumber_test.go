package main

import (
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

// TestCallNumbers names each of the calls that one WebSocket carries.
func TestCallNumbers(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "socket")
	on := emit(r.open("api.openai.com", 443, nil))
	on(flow.Request, 1, func(e *flow.Event) {
		e.Head = &flow.Head{Method: "GET", Target: "/v1/responses", Path: "/v1/responses", Scheme: "https", Host: "api.openai.com", Port: 443, Version: "1.1",
			Fields: []flow.Field{{Name: "Upgrade", Value: "websocket"}}}
	})
	on.body(1, flow.Client, "")
	on(flow.Response, 1, func(e *flow.Event) {
		e.Side, e.Head = flow.Server, &flow.Head{Status: 101, Version: "1.1", Streaming: true, Protocol: "websocket"}
	})
	for i := range 3 {
		for side, text := range []string{
			fmt.Sprintf(`{"type":"response.create","model":"gpt-x","input":[{"role":"user","content":"question %d"}]}`, i+1),
			fmt.Sprintf(`{"type":"response.completed","response":{"id":"resp_%d","model":"gpt-x","status":"completed","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"answer %[1]d"}]}]}}`, i+1),
		} {
			on(flow.Message, 1, func(e *flow.Event) {
				e.Side, e.Opcode, e.Data, e.Size = flow.Side(side), flow.OpText, []byte(text), int64(len(text))
			})
		}
	}
	r.flush() // it goes on
	for args, want := range map[string]string{
		"flows show 1 --answer":                     "answer 3",
		"flows show 1#1 --answer":                   "answer 1",
		"flows show last#2 --answer":                "answer 2",
		"flows show socket/1#3 --prompt":            "question 3\n",
		"flows show 1#2 --jq .[0].call.response_id": "\"resp_2\"\n",
		"flows show 1#2 --jq .[0].calls":            "null\n",
		"flows diff 1#1 1#2":                        "question [-1-]{+2+}",
		"flows show 1#2":                            "Call 2 of 3",
	} {
		stdout, stderr, code := runCLI(t, strings.Fields(args)...)
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit %d, %q %s", args, code, stdout, stderr)
		}
	}
	if stdout, _, _ := runCLI(t, "flows", "show", "1#2"); strings.Contains(stdout, "question 1") || strings.Contains(stdout, "answer 3") {
		t.Errorf("one call: %s", stdout)
	}
	for args, want := range map[string]int{"flows show 1#4": 1, "flows show 1#0 --answer": 1, "flows show 1#x": 1, "flows diff 1#1 1#9": 1, "flows show 1#1 --http": 2, "flows replay 1#1": 1} {
		if _, stderr, code := runCLI(t, strings.Fields(args)...); code != want || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "%!") {
			t.Errorf("%s: exit %d, %q", args, code, stderr)
		}
	}
}
