package main

import (
	"encoding/json"
	"strings"
	"testing"

	"trace/flow"
	"trace/llm"
	ruleset "trace/rules"
)

// TestNoBudget: every provider's clients get an error of the shape that they know, which
// reads as a call that failed, with our message.
func TestNoBudget(t *testing.T) {
	for _, c := range []struct{ host, path, shape string }{
		{"api.anthropic.com", "/v1/messages", `{"error":{"message":"M","type":"rate_limit_error"},"type":"error"}`},
		{"api.openai.com", "/v1/chat/completions", `{"error":{"code":"insufficient_quota","message":"M","param":null,"type":"insufficient_quota"}}`},
		{"api.openai.com", "/v1/responses", `{"error":{"code":"insufficient_quota","message":"M","param":null,"type":"insufficient_quota"}}`},
		{"generativelanguage.googleapis.com", "/v1beta/models/gemini-x:generateContent", `{"error":{"code":429,"message":"M","status":"RESOURCE_EXHAUSTED"}}`},
		{"generativelanguage.googleapis.com", "/v1beta/models/gemini-x:streamGenerateContent?alt=sse", `{"error":{"code":429,"message":"M","status":"RESOURCE_EXHAUSTED"}}`},
		{"bedrock-runtime.us-east-1.amazonaws.com", "/model/anthropic.claude-x/converse", `{"message":"M"}`},
		{"127.0.0.1", "/api/chat", `{"error":"M"}`},
	} {
		h := &flow.Head{Method: "POST", Scheme: "https", Host: c.host, Port: 443, Path: c.path, Target: c.path, Fields: []flow.Field{{Name: "content-type", Value: "application/json"}}}
		provider, api := llm.Recognize(h)
		if api == "" {
			t.Errorf("%s%s is no call", c.host, c.path)
			continue
		}
		a := noBudget(provider, api, "M")
		if a.Status != 429 || string(a.Body) != c.shape || !json.Valid(a.Body) {
			t.Errorf("%s%s (%s %s): %d %s", c.host, c.path, provider, api, a.Status, a.Body)
		}
	}
}

// TestStopped: only calls that use something are stopped, and only when a budget is used
// up; a call that has ended is counted by then.
func TestStopped(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	b, err := newBudget([]string{"tokens=400"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := agentRun(t)
	rec := &recording{Store: r.s, calls: newSummariser(r.s, t.Logf), spent: b.begin()}
	rec.calls.spent = rec.spent
	defer rec.calls.close()
	ask := func(method, path string) *ruleset.Answer {
		return rec.stopped(&ruleset.Request{Host: "api.anthropic.com", Port: 443, Method: method, Path: path})
	}
	if a := ask("POST", "/v1/messages/count_tokens"); a != nil {
		t.Error("a count is stopped")
	}
	a := ask("POST", "/v1/messages") // which has all before it counted
	if a == nil || !strings.Contains(string(a.Body), "trace: budget tokens=400 is used up: 400 tokens") {
		t.Errorf("%+v", a)
	}
	for _, q := range [][2]string{{"GET", "/v1/messages"}, {"POST", "/v1/files"}, {"POST", "/v1/messages/count_tokens"}} {
		if a := ask(q[0], q[1]); a != nil {
			t.Errorf("%s: stopped: %s", q, a.Body)
		}
	}
	if n := rec.spent.refused.Load(); n != 1 {
		t.Errorf("%d were stopped", n)
	}
}
