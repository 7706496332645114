package main

import (
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"trace/export"
	"trace/flow"
	"trace/replay"
)

// noBodies is the source of flows without bodies.
type noBodies struct{}

func (noBodies) WriteBody(io.Writer, int64, flow.Side) (int64, error) { return 0, nil }
func (noBodies) Pieces(int64, func(flow.Piece) error) error           { return nil }

// TestVariables: the variables that a dumped command wants are among those that
// a replay reads.
func TestVariables(t *testing.T) {
	variable := regexp.MustCompile(`\$([A-Z_]+)`)
	for _, host := range []string{
		"api.anthropic.com", "api.openai.com", "chatgpt.com", "res.openai.azure.com", "res.services.ai.azure.com",
		"generativelanguage.googleapis.com", "europe-west1-aiplatform.googleapis.com", "bedrock-runtime.eu-west-1.amazonaws.com",
		"openrouter.ai", "api.groq.com", "api.x.ai", "api.mistral.ai", "api.deepseek.com", "api.together.xyz", "api.perplexity.ai",
		"api.cohere.com", "api.fireworks.ai", "router.huggingface.co", "api.githubcopilot.com", "api.github.com",
	} {
		for _, f := range []flow.Field{
			{Name: "authorization", Value: "Bearer [REDACTED:bearer]"},
			{Name: "x-api-key", Value: "[REDACTED:header]"},
			{Name: "x-goog-api-key", Value: "[REDACTED:google-key]"},
		} {
			if strings.HasPrefix(f.Name, "x-") && !strings.Contains(host, "anthropic") && !strings.Contains(host, "generativelanguage") {
				continue // where nobody puts one there
			}
			h := &flow.Head{Method: "GET", Scheme: "https", Host: host, Port: 443, Path: "/v1/models", Version: "1.1", Fields: []flow.Field{f}}
			x := &flow.Exchange{ID: 1, Kind: flow.KindHTTP, State: flow.StateComplete, Request: &flow.Part{Head: h}}
			var out strings.Builder
			curl := &export.Curl{W: &out}
			if err := curl.From(flow.Session{}, noBodies{}); err != nil {
				t.Fatal(err)
			}
			if err := curl.Flow(x); err != nil {
				t.Fatal(err)
			}
			m := variable.FindStringSubmatch(out.String())
			if m == nil {
				t.Errorf("%s, %s: no variable in %s", host, f.Name, out.String())
				continue
			}
			read := replay.Variables(h, replay.Place{In: "header", Name: f.Name, Kind: "bearer"})
			if !slices.Contains(read, m[1]) {
				t.Errorf("%s, %s: curl wants %s, replay reads %v", host, f.Name, m[1], read)
			}
		}
	}
}
