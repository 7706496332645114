package llm

import (
	"net/url"
	"testing"

	"trace/flow"
)

func TestRecognizeAnthropic(t *testing.T) {
	for _, c := range []struct{ method, url, provider, api string }{
		{"POST", "https://api.anthropic.com/v1/messages", "anthropic", Messages},
		{"POST", "https://api.anthropic.com/v1/messages?beta=true", "anthropic", Messages},
		{"POST", "https://api.anthropic.com/v1/messages/count_tokens", "anthropic", CountTokens},
		{"POST", "https://api.anthropic.com/v1/messages/batches", "", ""},
		{"GET", "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results", "", ""},
		{"GET", "https://api.anthropic.com/v1/messages", "", ""},
		{"OPTIONS", "https://api.anthropic.com/v1/messages", "", ""},
		{"GET", "https://api.anthropic.com/v1/models", "", ""},
		{"POST", "https://api.anthropic.com/v1/files", "", ""},
		{"POST", "https://api.anthropic.com/api/event_logging/batch", "", ""},
		{"POST", "https://bedrock-runtime.eu-west-1.amazonaws.com/model/eu.anthropic.claude-x-v1%3A0/invoke", "bedrock", Messages},
		{"POST", "https://bedrock-runtime.eu-west-1.amazonaws.com/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Ainference-profile%2Fp/invoke-with-response-stream", "bedrock", Messages},
		{"POST", "http://localhost:8080/bedrock/model/anthropic.claude-x/invoke-with-response-stream", "bedrock", Messages},
		{"POST", "https://bedrock-runtime.eu-west-1.amazonaws.com/model/anthropic.claude-x/count-tokens", "bedrock", CountTokens},
		{"POST", "https://bedrock-runtime.eu-west-1.amazonaws.com/model/amazon.nova-pro-v1%3A0/converse-stream", "bedrock", Converse},
		{"POST", "https://bedrock-runtime.eu-west-1.amazonaws.com/model/amazon.nova-pro-v1%3A0/converse", "bedrock", Converse},
		{"POST", "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages", "bedrock", Messages},
		{"POST", "https://aws-external-anthropic.us-east-1.api.aws/v1/messages", "anthropic", Messages},
		{"POST", "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-x@20250929:streamRawPredict", "vertex", Messages},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/anthropic/models/claude-x:rawPredict", "vertex", Messages},
		{"POST", "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/publishers/anthropic/models/claude-x:rawPredict", "vertex", Messages},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/anthropic/models/count-tokens:rawPredict", "vertex", CountTokens},
		{"POST", "https://claude.googleapis.com/v1/projects/p/locations/l/v1/messages", "vertex", Messages},
		{"POST", "https://r.services.ai.azure.com/anthropic/v1/messages", "foundry", Messages},
		{"POST", "https://openrouter.ai/api/v1/messages", "openrouter", Messages},
		{"POST", "http://127.0.0.1:11434/v1/messages", "ollama", Messages},
		{"POST", "http://10.0.0.7:4000/team/anthropic/v1/messages/", "", Messages},
		{"POST", "https://evil-api.anthropic.com.test/v1/messages", "", Messages},
		{"POST", "https://notapi.openai.com.test/v1/message", "", ""},
		{"POST", "https://chat.test/v1/rooms/messages", "", ""},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		port := 443
		if p := u.Port(); p == "11434" {
			port = 11434
		}
		h := &flow.Head{Method: c.method, Host: u.Hostname(), Port: port, Path: u.RequestURI(), Fields: []flow.Field{{Name: "Accept", Value: "*/*"}}}
		if provider, api := Recognize(h); provider != c.provider || api != c.api {
			t.Errorf("%s %s: %q %q, want %q %q", c.method, c.url, provider, api, c.provider, c.api)
		}
		outline := &flow.Head{Method: c.method, Host: u.Hostname(), Port: port, Path: u.RequestURI()}
		if _, api := Recognize(outline); api != c.api {
			t.Errorf("outline of %s %s: %q", c.method, c.url, api)
		}
	}
	if _, api := Recognize(nil); api != "" {
		t.Error("nothing recognised as", api)
	}
}
