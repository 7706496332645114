package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// call records a call of the Messages API and its answer. body is the request
// without model and max_tokens, answer the content.
func (r *script) call(messages, system, answer string, read, wrote int) {
	body := fmt.Sprintf(`{"model":"claude-x","max_tokens":9,"system":%s,"tools":[{"name":"Task"},{"name":"Bash"}],"messages":%s}`, system, messages)
	on := emit(r.open("api.anthropic.com", 443, nil))
	on.request(1, "POST", "api.anthropic.com", "/v1/messages", body)
	if answer == "" {
		on.answer(1, 529, "application/json", false)
		on.body(1, flow.Server, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)
	} else {
		on.answer(1, 200, "application/json", false)
		on.body(1, flow.Server, fmt.Sprintf(`{"id":"msg_%d","type":"message","role":"assistant","model":"claude-x","content":%s,"stop_reason":"end_turn",
			"usage":{"input_tokens":10,"cache_read_input_tokens":%d,"cache_creation_input_tokens":%d,"output_tokens":5}}`, r.conn, answer, read, wrote))
	}
	on(flow.End, 1, nil)
	on(flow.ConnEnd, 0, nil)
}

// agentRun records a conversation with a retry, a sub-agent and another turn:
// flows 1 to 5. The sixth is no call, though it goes where calls go.
func agentRun(t *testing.T) *script {
	r := scripted(t, "agents")
	const system = `[{"type":"text","text":"Be good.","cache_control":{"type":"ephemeral"}}]`
	first := `{"role":"user","content":"Look at the whole repository, please."}`
	task := `[{"type":"tool_use","id":"toolu_9","name":"Task","input":{"prompt":"Count all the files below the directory src and report."}}]`
	r.call("["+first+"]", system, "", 0, 0)
	r.call("["+first+"]", system, task, 0, 100)
	r.call(`[{"role":"user","content":"Count all the files below the directory src and report."}]`, `"You count."`, `[{"type":"text","text":"There are seven files below that directory."}]`, 0, 0)
	second := first + `,{"role":"assistant","content":` + task + `},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_9","content":"There are seven files below that directory."}]}`
	r.call("["+second+"]", system, `[{"type":"text","text":"Seven of them."}]`, 100, 20)
	third := second + `,{"role":"assistant","content":[{"type":"text","text":"Seven of them."}]},{"role":"user","content":"Thanks."}`
	r.call("["+third+"]", `[{"type":"text","text":"Be bad.","cache_control":{"type":"ephemeral"}}]`, `[{"type":"text","text":"Welcome."}]`, 0, 120)
	on := emit(r.open("api.anthropic.com", 443, nil))
	on.request(1, "POST", "api.anthropic.com", "/v1/messages", `{"n":1}`)
	on.answer(1, 200, "application/json", false)
	on.body(1, flow.Server, `{}`)
	on(flow.End, 1, nil)
	on(flow.ConnEnd, 0, nil)
	r.flush()
	return r
}

// TestCallsOfARun asks the commands about a run whose calls were summarised
// while it went on, and about one that nobody summarised: they say the same.
func TestCallsOfARun(t *testing.T) {
	inUTC(t)
	said := map[bool]string{}
	for _, summarised := range []bool{true, false} {
		t.Setenv("XDG_STATE_HOME", t.TempDir())
		r := agentRun(t)
		if summarised {
			s := newSummariser(r.s, t.Logf)
			reader, err := r.s.Reader()
			if err != nil {
				t.Fatal(err)
			}
			s.saw()
			var docs map[int64][]byte
			for until := time.Now().Add(10 * time.Second); len(docs) < 6 && err == nil && time.Now().Before(until); {
				r.flush()
				docs, err = reader.Annotations(1, 99)
			}
			s.close()
			if err != nil || len(docs) != 6 || len(docs[5]) > 160 {
				t.Errorf("%d summaries: %q, %v", len(docs), docs[5], err)
			}
			if none, ok := decodeSummary(docs[6]); none != nil || !ok {
				t.Errorf("%+v, %v", none, ok)
			}
			reader.Close()
		}
		r.finish()
		var all strings.Builder
		for _, args := range []string{"stats", "tools", "diff", "show 4", "show 5", "show 3", "list --llm", "list --llm --limit 2", "diff 2 3", "diff 4 6"} {
			stdout, stderr, code := runCLI(t, append([]string{"flows"}, strings.Fields(args)...)...)
			if code != 0 || stderr != "" {
				t.Errorf("flows %s: exit %d, %s", args, code, stderr)
			}
			fmt.Fprintf(&all, "$ flows %s\n%s\n", args, stdout)
		}
		said[summarised] = strings.ReplaceAll(timesOut(all.String()), r.id, "SESSION")
		checkThreads(t, summarised)
	}
	if said[true] != said[false] {
		t.Errorf("with summaries:\n%s\nwithout:\n%s", said[true], said[false])
	}
	golden(t, "calls-of-a-run", said[true])
}

var (
	clockText = regexp.MustCompile(`\d\d:\d\d:\d\d(\.\d+)?`)
	dayText   = regexp.MustCompile(`\d{4}-\d\d-\d\d`)
)

// timesOut replaces times of day, which differ from run to run.
func timesOut(s string) string {
	return clockText.ReplaceAllString(dayText.ReplaceAllString(s, "DAY"), "00:00:00")
}

func checkThreads(t *testing.T, stored bool) {
	t.Helper()
	stdout, _, _ := runCLI(t, "flows", "list", "--json")
	var rows []struct {
		ID  string
		LLM *struct{ Thread *callThread }
	}
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || len(rows) != 6 || rows[5].LLM != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	want := []callThread{
		{First: "1", Turn: 1}, {First: "1", Turn: 1, RetryOf: "1"}, {First: "3", Turn: 1, Parent: "2", ParentTool: "toolu_9", ParentName: "Task"},
		{First: "1", Turn: 2, Previous: "2", Shared: 2}, {First: "1", Turn: 3, Previous: "4", Shared: 4},
	}
	for i, w := range want {
		got := rows[i].LLM.Thread
		if (got != nil) != stored || stored && *got != w {
			t.Errorf("flow %d: %+v, want %+v", i+1, got, w)
		}
	}
}

// TestCallsAreKeptWhole: --max-body does not cut calls to language models.
func TestCallsAreKeptWhole(t *testing.T) {
	limit := bodyLimit(10)
	head := func(method, path string) *flow.Head {
		return &flow.Head{Method: method, Path: path, Host: "api.anthropic.com"}
	}
	answer := &flow.Head{Status: 200}
	for _, c := range []struct {
		side  flow.Side
		req   *flow.Head
		resp  *flow.Head
		limit int64
	}{
		{flow.Client, head("POST", "/v1/messages"), nil, -1},
		{flow.Server, head("POST", "/v1/messages"), answer, -1},
		{flow.Client, head("POST", "/upload"), nil, 10},
		{flow.Server, head("GET", "/v1/messages"), answer, 10},
		{flow.Server, head("GET", "/stream"), &flow.Head{Status: 200, Streaming: true, Framing: flow.FramingSSE}, -1},
		{flow.Server, nil, answer, 10},
	} {
		if got := limit.of(c.side, c.req, c.resp); got != c.limit {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// TestPromptOfEarlierTurn: a request that goes on from an answer by its id does
// not repeat the prompt.
func TestPromptOfEarlierTurn(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "responses")
	for i, body := range []string{
		`{"model":"gpt-x","input":"Look at it."}`,
		`{"model":"gpt-x","previous_response_id":"resp_1","input":[{"type":"function_call_output","call_id":"c1","output":"a"}]}`,
		`{"model":"gpt-x","previous_response_id":"resp_2","input":[{"type":"function_call_output","call_id":"c2","output":"b"}]}`,
	} {
		on := emit(r.open("api.openai.com", 443, nil))
		on.request(1, "POST", "api.openai.com", "/v1/responses", body)
		on.answer(1, 200, "application/json", false)
		on.body(1, flow.Server, fmt.Sprintf(`{"id":"resp_%d","object":"response","status":"completed","model":"gpt-x","output":[{"type":"function_call","call_id":"c%[1]d","name":"f","arguments":"{}"}]}`, i+1))
		on(flow.End, 1, nil)
		on(flow.ConnEnd, 0, nil)
	}
	r.flush()
	for _, id := range []string{"1", "2", "3"} {
		if stdout, stderr, code := runCLI(t, "flows", "show", id, "--prompt"); stdout != "Look at it.\n" || code != 0 {
			t.Errorf("%s: exit %d, %q, %q", id, code, stdout, stderr)
		}
	}
}
