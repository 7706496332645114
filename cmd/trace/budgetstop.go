package main

import (
	"encoding/json"
	"net/http"
	"time"

	"trace/flow"
	"trace/llm"
	"trace/proxy"
	ruleset "trace/rules"
)

// countTime is how long a call waits at most until those before it are counted.
const countTime = 2 * time.Second

// stopBy returns alter with a rule behind the others: what a session has no budget
// left for is answered here. rec returns the session's record.
func stopBy(alter *proxy.Alter, rec func() *recording) *proxy.Alter {
	return alter.With(&ruleset.Rule{Name: "--budget-stop", Give: func(q *ruleset.Request) *ruleset.Answer { return rec().stopped(q) }})
}

// stopped returns the answer to a call for which no budget is left, nil for all else.
func (r *recording) stopped(q *ruleset.Request) *ruleset.Answer {
	h := &flow.Head{Method: q.Method, Scheme: "https", Host: q.Host, Port: q.Port, Path: q.Path, Target: q.Path, Fields: q.Fields}
	if !callHead(h) {
		return nil
	}
	provider, api := llm.Recognize(h)
	if api == llm.CountTokens {
		return nil
	}
	if _, over := r.spent.exceeded(); !over {
		r.calls.settle(countTime)
	}
	why, over := r.spent.exceeded()
	if !over {
		return nil
	}
	r.spent.refused.Add(1)
	return noBudget(provider, api, "trace: "+why+": this call was not sent (--budget-stop)")
}

// noBudget is an answer as the provider gives it to whom it allows no more.
func noBudget(provider, api, message string) *ruleset.Answer {
	a := &ruleset.Answer{Status: http.StatusTooManyRequests, Fields: []flow.Field{
		{Name: "content-type", Value: "application/json"},
		{Name: "x-should-retry", Value: "false"}, // which the SDKs of Anthropic and OpenAI obey
	}}
	type object = map[string]any
	var body any
	switch {
	case provider == "bedrock":
		a.Fields = append(a.Fields, flow.Field{Name: "x-amzn-errortype", Value: "ThrottlingException"})
		body = object{"message": message}
	case api == llm.Messages:
		body = object{"type": "error", "error": object{"type": "rate_limit_error", "message": message}}
	case provider == "ollama":
		body = object{"error": message}
	case api == llm.GenerateContent, api == llm.Interactions, api == llm.Live, provider == "gemini", provider == "vertex":
		body = object{"error": object{"code": http.StatusTooManyRequests, "message": message, "status": "RESOURCE_EXHAUSTED"}}
	default:
		body = object{"error": object{"message": message, "type": "insufficient_quota", "param": nil, "code": "insufficient_quota"}}
	}
	a.Body, _ = json.Marshal(body) // of strings and numbers
	return a
}
