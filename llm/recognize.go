package llm

import (
	"net/url"
	"strings"

	"trace/flow"
)

// A format is one way in which calls are written: it knows its paths, and it
// reads what it recognised.
type format struct {
	// match tells what the format finds in a route: its api, and the provider
	// where the path tells more than the host. api is "" if it is none of its
	// own.
	match func(r *route) (provider, api string)
	// read returns the calls; nil if the body says that it is none although
	// the path looked so.
	read func(in *input) []*Call
}

// formats are asked in this order. A new one is a line here.
var formats = []format{
	{matchAnthropic, readAnthropic},
	{matchConverse, readConverse},
	{matchOpenAI, readOpenAI},
	{matchGemini, readGemini},
	{matchOllama, readOllama},
}

// A route is where a request goes, prepared for matching.
type route struct {
	head      *flow.Head
	host      string
	path      string     // without query and without the slash at its end, escapes undone
	segments  []string   // of path, unescaped one by one: a model may have %2F in it
	query     url.Values // never nil
	post      bool
	websocket bool // it asks for one, or might: an outline knows no fields
}

func newRoute(h *flow.Head) *route {
	r := &route{head: h, host: strings.ToLower(h.Host), post: h.Method == "POST"}
	path, query, _ := strings.Cut(h.Path, "?")
	r.query, _ = url.ParseQuery(query)
	for s := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if u, err := url.PathUnescape(s); err == nil {
			s = u
		}
		r.segments = append(r.segments, s)
	}
	r.path = "/" + strings.Join(r.segments, "/")
	switch {
	case h.Protocol == "websocket", h.Method == "GET" && len(h.Fields) == 0:
		r.websocket = true
	case h.Method == "GET":
		r.websocket = strings.EqualFold(h.Get("Upgrade"), "websocket")
	}
	return r
}

// ends reports whether the path ends with those segments: whatever stands in
// front is the base path of a gateway.
func (r *route) ends(suffix string) bool {
	return strings.HasSuffix(r.path, suffix) && strings.HasPrefix(suffix, "/")
}

// segment returns the nth segment from the end, from 1; "" if there is none.
func (r *route) segment(n int) string {
	if n > len(r.segments) {
		return ""
	}
	return r.segments[len(r.segments)-n]
}

// method splits the last segment of Google's paths, "model:method", at its last
// colon.
func (r *route) method() (name, method string) {
	last := r.segment(1)
	i := strings.LastIndexByte(last, ':')
	if i < 0 {
		return last, ""
	}
	return last[:i], last[i+1:]
}

// hosts name providers by the host, or by the domain that it ends with. It is
// only asked once the shape of the path fits.
var hosts = []struct{ suffix, provider string }{
	{"api.anthropic.com", "anthropic"},
	{".anthropic.com", "anthropic"},
	{".services.ai.azure.com", "foundry"},
	{"claude.googleapis.com", "vertex"},
	{"aiplatform.googleapis.com", "vertex"}, // also {region}-aiplatform
	{".rep.googleapis.com", "vertex"},
	{"generativelanguage.googleapis.com", "gemini"},
	{"cloudcode-pa.googleapis.com", "codeassist"},
	{".openai.azure.com", "azure"},
	{".cognitiveservices.azure.com", "azure"},
	{"api.openai.com", "openai"},
	{".api.openai.com", "openai"},
	{"chatgpt.com", "chatgpt"},
	{"openrouter.ai", "openrouter"},
	{"githubcopilot.com", "copilot"},
	{"api.groq.com", "groq"},
	{"api.deepseek.com", "deepseek"},
	{"api.x.ai", "xai"},
	{"api.mistral.ai", "mistral"},
	{"api.moonshot.ai", "moonshot"},
	{"api.moonshot.cn", "moonshot"},
	{"api.perplexity.ai", "perplexity"},
	{"api.together.xyz", "together"},
	{"api.fireworks.ai", "fireworks"},
	{"api.cerebras.ai", "cerebras"},
	{"api.z.ai", "zai"},
	{"api.cohere.com", "cohere"},
	{"ollama.com", "ollama"},
}

// provider returns who stands behind the host, "" if it is nobody known.
func (r *route) provider() string {
	for _, h := range hosts {
		if strings.HasSuffix(r.host, h.suffix) {
			// A whole name, or what follows a dot; Vertex joins by a hyphen.
			rest := strings.TrimSuffix(r.host, h.suffix)
			if rest == "" || h.suffix[0] == '.' || strings.HasSuffix(rest, ".") || strings.HasSuffix(rest, "-") && h.provider == "vertex" {
				return h.provider
			}
		}
	}
	switch {
	case strings.HasPrefix(r.host, "bedrock-") && r.aws(), strings.HasPrefix(r.host, "bedrock.") && r.aws():
		return "bedrock"
	case strings.HasPrefix(r.host, "aws-external-anthropic.") && r.aws():
		return "anthropic"
	}
	if r.head.Port == 11434 { // the port that ollama is known by
		return "ollama"
	}
	return ""
}

// aws reports whether the host is one of Amazon's.
func (r *route) aws() bool {
	for _, domain := range []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".vpce.amazonaws.com"} {
		if strings.HasSuffix(r.host, domain) {
			return true
		}
	}
	return false
}

// recognized are the formats that find something in a route, in their order, and
// what they find.
func recognized(r *route) []found {
	var list []found
	for i := range formats {
		if provider, api := formats[i].match(r); api != "" {
			if provider == "" {
				provider = r.provider()
			}
			list = append(list, found{&formats[i], provider, api})
		}
	}
	return list
}

type found struct {
	*format
	provider, api string
}

// Recognize tells which API a request speaks, by its method, path and host. The
// path decides: its end names the API, whatever base path a gateway put in
// front. The host only tells the provider, which is "" if it is not known. api
// is "" if it is no call to a language model.
//
// The head of an outline, which has no fields, is enough.
func Recognize(h *flow.Head) (provider, api string) {
	if h != nil {
		for _, f := range recognized(newRoute(h)) {
			return f.provider, f.api
		}
	}
	return "", ""
}
