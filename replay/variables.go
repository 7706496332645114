package replay

import (
	"net"
	"slices"
	"strings"

	"trace/flow"
)

// A Place is where a placeholder stands.
type Place struct {
	In   string // "header", "cookie", "query", "target", "authority", "body", "trailer"
	Name string // of the field, cookie, parameter or JSON member; "" if it has none
	Kind string // of the placeholder
}

// A keyHolder says which variables hold the key of a service.
type keyHolder struct {
	suffix string   // of the host's name: itself, or what ends with it behind a dot
	bearer []string // for a token behind Bearer; nil: as key
	key    []string
}

var (
	anthropicVars = keyHolder{bearer: []string{"ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"}, key: []string{"ANTHROPIC_API_KEY"}}
	openAIVars    = keyHolder{key: []string{"OPENAI_API_KEY"}}
	geminiVars    = keyHolder{bearer: []string{"GOOGLE_ACCESS_TOKEN", "GOOGLE_OAUTH_ACCESS_TOKEN"}, key: []string{"GEMINI_API_KEY", "GOOGLE_API_KEY"}}
)

// holders is searched from the top.
var holders = []keyHolder{
	{suffix: "anthropic.com", bearer: anthropicVars.bearer, key: anthropicVars.key},
	{suffix: "openai.azure.com", bearer: []string{"AZURE_OPENAI_AD_TOKEN"}, key: []string{"AZURE_OPENAI_API_KEY", "AZURE_API_KEY"}},
	{suffix: "services.ai.azure.com", bearer: []string{"AZURE_OPENAI_AD_TOKEN"}, key: []string{"ANTHROPIC_FOUNDRY_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_API_KEY"}},
	{suffix: "openai.com", key: openAIVars.key},
	{suffix: "generativelanguage.googleapis.com", bearer: geminiVars.bearer, key: geminiVars.key},
	{suffix: "googleapis.com", bearer: geminiVars.bearer, key: []string{"GOOGLE_API_KEY", "GEMINI_API_KEY"}},
	{suffix: "amazonaws.com", key: []string{"AWS_BEARER_TOKEN_BEDROCK"}},
	{suffix: "api.aws", key: []string{"AWS_BEARER_TOKEN_BEDROCK"}},
	{suffix: "openrouter.ai", key: []string{"OPENROUTER_API_KEY"}},
	{suffix: "groq.com", key: []string{"GROQ_API_KEY"}},
	{suffix: "mistral.ai", key: []string{"MISTRAL_API_KEY"}},
	{suffix: "deepseek.com", key: []string{"DEEPSEEK_API_KEY"}},
	{suffix: "x.ai", key: []string{"XAI_API_KEY"}},
	{suffix: "together.xyz", key: []string{"TOGETHER_API_KEY"}},
	{suffix: "fireworks.ai", key: []string{"FIREWORKS_API_KEY"}},
	{suffix: "cohere.com", key: []string{"COHERE_API_KEY", "CO_API_KEY"}},
	{suffix: "perplexity.ai", key: []string{"PERPLEXITY_API_KEY"}},
	{suffix: "huggingface.co", key: []string{"HF_TOKEN"}},
	{suffix: "ollama.com", key: []string{"OLLAMA_API_KEY"}},
	{suffix: "github.com", key: []string{"GITHUB_TOKEN", "GH_TOKEN"}},
	{suffix: "githubcopilot.com", key: []string{"GITHUB_COPILOT_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"}},
	{suffix: "chatgpt.com", key: []string{"CHATGPT_ACCESS_TOKEN"}},
	{suffix: "gitlab.com", key: []string{"GITLAB_TOKEN"}},
}

// byKind are the variables for formats that tell whose secret it is.
var byKind = map[string][]string{
	"anthropic": {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"},
	"openai":    {"OPENAI_API_KEY"}, "google-key": {"GEMINI_API_KEY", "GOOGLE_API_KEY"}, "google-auth-key": {"GEMINI_API_KEY", "GOOGLE_API_KEY"},
	"google-oauth": {"GOOGLE_ACCESS_TOKEN", "GOOGLE_OAUTH_ACCESS_TOKEN"}, "anthropic-oauth": {"ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"}, "bedrock-key": {"AWS_BEARER_TOKEN_BEDROCK"}, "github": {"GITHUB_TOKEN", "GH_TOKEN"},
	"gitlab": {"GITLAB_TOKEN"}, "hf": {"HF_TOKEN"}, "groq": {"GROQ_API_KEY"}, "xai": {"XAI_API_KEY"}, "pplx": {"PERPLEXITY_API_KEY"}, "npm": {"NPM_TOKEN"},
}

// Variables returns the names of the environment variables that may hold the
// value of a placeholder, the likeliest first. There is always one: the last
// is made of the place itself, TRACE_X_API_KEY.
func Variables(h *flow.Head, p Place) []string {
	own := "TRACE_" + upper(p.In)
	switch {
	case p.In == "header" && p.Name != "":
		own = "TRACE_" + upper(p.Name)
	case p.Name != "":
		own += "_" + upper(p.Name)
	}
	var names []string
	add := func(more ...string) {
		for _, n := range more {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	if p.In == "header" || p.In == "query" {
		if k := holderOf(h); k != nil && isKey(p) {
			vars := k.key
			if strings.EqualFold(p.Name, "authorization") && k.bearer != nil {
				vars = k.bearer
			}
			add(vars...)
		}
	}
	if len(names) == 0 {
		add(byKind[p.Kind]...)
	}
	add(own)
	return names
}

// isKey reports whether a place is one in which services want their keys.
func isKey(p Place) bool {
	if p.In == "query" {
		return slices.Contains([]string{"key", "api_key", "api-key", "apikey"}, strings.ToLower(p.Name))
	}
	return slices.Contains([]string{"authorization", "x-api-key", "api-key", "x-goog-api-key", "private-token"}, strings.ToLower(p.Name))
}

// holderOf finds whose key a request wants: by the host, else by what it asks
// for, as gateways and local servers take it over.
func holderOf(h *flow.Head) *keyHolder {
	for i := range holders {
		if s := holders[i].suffix; h.Host == s || strings.HasSuffix(h.Host, "."+s) {
			return &holders[i]
		}
	}
	path, _, _ := strings.Cut(h.Path, "?")
	switch {
	case h.Get("anthropic-version") != "" || strings.Contains(path, "/v1/messages"):
		return &anthropicVars
	case h.Get("x-goog-api-key") != "" || strings.Contains(path, "enerateContent"):
		return &geminiVars
	case strings.HasSuffix(path, "/chat/completions") || strings.HasSuffix(path, "/responses") || strings.HasSuffix(path, "/embeddings"):
		return &openAIVars
	}
	return nil
}

// upper makes the name of a variable of s.
func upper(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

// hostPort joins a host and a port, which is left out where the scheme implies it.
func hostPort(scheme, host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == 0 || scheme == "https" && port == 443 || scheme == "http" && port == 80 {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), itoa(port))
}
