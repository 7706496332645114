package llm

import (
	"net/url"
	"testing"

	"trace/flow"
)

func TestRecognizeOthers(t *testing.T) {
	for _, c := range []struct{ method, url, provider, api string }{
		{"POST", "https://api.openai.com/v1/chat/completions", "openai", Chat},
		{"POST", "https://us.api.openai.com/v1/responses", "openai", Responses},
		{"POST", "https://api.openai.com/v1/responses/compact", "openai", Responses},
		{"POST", "https://api.openai.com/v1/responses/input_tokens", "openai", CountTokens},
		{"POST", "https://api.openai.com/v1/responses/resp_1/cancel", "", ""},
		{"GET", "https://api.openai.com/v1/responses/resp_1?stream=true", "", ""},
		{"WS", "wss://api.openai.com/v1/responses", "openai", Responses},
		{"CONNECT", "wss://api.openai.com/v1/responses", "openai", Responses},
		{"WS", "wss://api.openai.com/v1/realtime?model=gpt-realtime", "openai", Realtime},
		{"POST", "https://api.openai.com/v1/completions", "openai", Completions},
		{"POST", "https://api.openai.com/v1/embeddings", "openai", Embeddings},
		{"GET", "https://api.openai.com/v1/models", "", ""},
		{"POST", "https://api.openai.com/v1/files", "", ""},
		{"POST", "https://chatgpt.com/backend-api/codex/responses", "chatgpt", Responses},
		{"WS", "wss://chatgpt.com/backend-api/codex/responses", "chatgpt", Responses},
		{"POST", "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=1", "azure", Chat},
		{"POST", "https://r.openai.azure.com/openai/deployments/d/embeddings?api-version=1", "azure", Embeddings},
		{"POST", "https://r.openai.azure.com/openai/responses?api-version=1", "azure", Responses},
		{"POST", "https://r.openai.azure.com/openai/v1/chat/completions", "azure", Chat},
		{"POST", "https://r.services.ai.azure.com/openai/v1/responses", "azure", Responses},
		{"WS", "wss://r.openai.azure.com/openai/v1/realtime?model=d", "azure", Realtime},
		{"POST", "http://gateway.test/openai/deployments/d/completions", "azure", Completions},
		{"POST", "https://openrouter.ai/api/v1/chat/completions", "openrouter", Chat},
		{"POST", "https://api.githubcopilot.com/chat/completions", "copilot", Chat},
		{"POST", "https://api.individual.githubcopilot.com/responses", "copilot", Responses},
		{"POST", "https://api.groq.com/openai/v1/chat/completions", "groq", Chat},
		{"POST", "https://api.deepseek.com/chat/completions", "deepseek", Chat},
		{"POST", "https://api.deepseek.com/beta/completions", "deepseek", Completions},
		{"POST", "https://api.x.ai/v1/responses", "xai", Responses},
		{"POST", "https://api.mistral.ai/v1/fim/completions", "mistral", Completions},
		{"POST", "http://127.0.0.1:8000/v1/chat/completions", "", Chat},
		{"POST", "http://127.0.0.1:11434/v1/chat/completions", "ollama", Chat},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "gemini", Chat},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi/chat/completions", "vertex", Chat},
		{"POST", "https://l-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict", "vertex", Chat},
		{"POST", "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1/chat/completions", "bedrock", Chat},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent?key=k", "gemini", GenerateContent},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash%3AstreamGenerateContent?alt=sse", "gemini", GenerateContent},
		{"POST", "https://generativelanguage.googleapis.com/v1alpha/tunedModels/mine:countTokens", "gemini", CountTokens},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/e:batchEmbedContents", "gemini", Embeddings},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/interactions", "gemini", Interactions},
		{"GET", "https://generativelanguage.googleapis.com/v1beta/interactions/v1_1", "", ""},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/cachedContents", "", ""},
		{"POST", "https://aiplatform.googleapis.com/v1beta1/publishers/google/models/gemini:streamGenerateContent", "vertex", GenerateContent},
		{"POST", "https://l-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/1:generateContent", "vertex", GenerateContent},
		{"POST", "https://gateway.test/v1/projects/p/locations/l/publishers/google/models/gemini:generateContent", "vertex", GenerateContent},
		{"POST", "https://cloudcode-pa.googleapis.com/v1internal:streamGenerateContent?alt=sse", "codeassist", GenerateContent},
		{"POST", "https://cloudcode-pa.googleapis.com/v1internal:loadCodeAssist", "", ""},
		{"POST", "https://photos.test/v1/albums/a:generateContent", "", ""},
		{"WS", "wss://generativelanguage.googleapis.com//ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k", "gemini", Live},
		{"WS", "wss://generativelanguage.googleapis.com/ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContentConstrained?access_token=t", "gemini", Live},
		{"WS", "wss://l-aiplatform.googleapis.com/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent", "vertex", Live},
		{"POST", "http://localhost:11434/api/chat", "ollama", OllamaChat},
		{"POST", "http://localhost:11434/api/generate", "ollama", OllamaGenerate},
		{"POST", "https://ollama.com/api/embed", "ollama", Embeddings},
		{"GET", "http://localhost:11434/api/tags", "", ""},
		{"GET", "https://example.org/v1/responses", "", ""},
		{"POST", "https://example.org/v1/chat/completionsx", "", ""},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		h := &flow.Head{Method: c.method, Host: u.Hostname(), Port: 443, Path: u.RequestURI(), Fields: []flow.Field{{Name: "Accept", Value: "*/*"}}}
		switch {
		case c.method == "WS":
			h.Method, h.Fields = "GET", []flow.Field{{Name: "upgrade", Value: "WebSocket"}}
		case c.method == "CONNECT":
			h.Protocol = "websocket"
		case u.Port() == "11434":
			h.Port = 11434
		}
		if provider, api := Recognize(h); provider != c.provider || api != c.api {
			t.Errorf("%s %s: %q %q, want %q %q", c.method, c.url, provider, api, c.provider, c.api)
		}
	}
}
