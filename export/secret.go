package export

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"

	"trace/flow"
)

// placeholder is what redaction leaves of a secret: its kind, and perhaps a
// mark of which it is.
var placeholder = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\[REDACTED:([a-z0-9-]+)(?::[0-9a-f]{8})?\]`)
})

// A piece of a text in which secrets are variables: literal text, or the name
// of a variable.
type fragment struct{ text, variable string }

// secrets names the variables of one request.
type secrets struct {
	host string
	used []string // in the order of their first use
}

// The places where a secret may stand.
const (
	inField  = "field"
	inCookie = "cookie"
	inQuery  = "query"
	inBody   = "body"
)

// split cuts text at the placeholders in it. name is that of the field.
func (s *secrets) split(place, name, text string) []fragment {
	var fs []fragment
	at := 0
	for _, m := range placeholder().FindAllStringSubmatchIndex(text, -1) {
		if m[0] > at {
			fs = append(fs, fragment{text: text[at:m[0]]})
		}
		v := s.variable(place, name, text[m[2]:m[3]], text[:m[0]])
		if !slices.Contains(s.used, v) {
			s.used = append(s.used, v)
		}
		fs = append(fs, fragment{variable: v})
		at = m[1]
	}
	if at < len(text) || len(fs) == 0 {
		fs = append(fs, fragment{text: text[at:]})
	}
	return fs
}

// field is split for a header field.
func (s *secrets) field(f flow.Field) []fragment {
	place := inField
	if strings.EqualFold(f.Name, "cookie") {
		place = inCookie
	}
	return s.split(place, strings.ToLower(f.Name), f.Value)
}

// byHost are the variables that the programs of a provider read its key from,
// by the end of the host's name. Package replay reads them too; a test of the
// command holds the two against each other.
var byHost = []struct{ host, variable string }{
	{"api.anthropic.com", "ANTHROPIC_API_KEY"},
	{"api.openai.com", "OPENAI_API_KEY"},
	{"chatgpt.com", "CHATGPT_ACCESS_TOKEN"},
	{".azure.com", "AZURE_OPENAI_API_KEY"},
	{"generativelanguage.googleapis.com", "GEMINI_API_KEY"},
	{".googleapis.com", "GOOGLE_ACCESS_TOKEN"},
	{".amazonaws.com", "AWS_BEARER_TOKEN_BEDROCK"},
	{"openrouter.ai", "OPENROUTER_API_KEY"},
	{"api.groq.com", "GROQ_API_KEY"},
	{"api.x.ai", "XAI_API_KEY"},
	{"api.mistral.ai", "MISTRAL_API_KEY"},
	{"api.deepseek.com", "DEEPSEEK_API_KEY"},
	{"api.together.xyz", "TOGETHER_API_KEY"},
	{"api.perplexity.ai", "PERPLEXITY_API_KEY"},
	{"api.cohere.com", "COHERE_API_KEY"},
	{"api.fireworks.ai", "FIREWORKS_API_KEY"},
	{"huggingface.co", "HF_TOKEN"},
	{"githubcopilot.com", "GITHUB_COPILOT_TOKEN"},
	{"api.github.com", "GITHUB_TOKEN"},
}

// byKind are the variables of secrets whose format says what they are.
var byKind = map[string]string{
	"anthropic": "ANTHROPIC_API_KEY", "anthropic-oauth": "ANTHROPIC_AUTH_TOKEN", "anthropic-admin": "ANTHROPIC_ADMIN_KEY",
	"anthropic-session": "ANTHROPIC_SESSION_KEY", "openai": "OPENAI_API_KEY", "google-key": "GEMINI_API_KEY",
	"google-auth-key": "GEMINI_API_KEY", "google-oauth": "GOOGLE_ACCESS_TOKEN", "github": "GITHUB_TOKEN", "gitlab": "GITLAB_TOKEN",
	"groq": "GROQ_API_KEY", "xai": "XAI_API_KEY", "pplx": "PERPLEXITY_API_KEY", "hf": "HF_TOKEN", "bedrock-key": "AWS_BEARER_TOKEN_BEDROCK",
	"langsmith": "LANGSMITH_API_KEY", "npm": "NPM_TOKEN", "stripe": "STRIPE_API_KEY", "slack": "SLACK_TOKEN",
	"aws-id": "AWS_ACCESS_KEY_ID", "aws-secret": "AWS_SECRET_ACCESS_KEY",
}

// keyFields are the fields and parameters by which a client says who it is.
var keyFields = []string{"authorization", "x-api-key", "api-key", "x-goog-api-key", "key", "api_key"}

// memberName finds the name of the JSON member, or the parameter, that a value
// belongs to, by what stands before it.
var memberName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`([A-Za-z0-9_.-]+)(?:\\*"\s*:\s*\\*"?|=)[^"\\&=]{0,16}$`)
})

// variable names the secret of that kind, before which that text stands.
func (s *secrets) variable(place, name, kind, before string) string {
	switch place {
	case inCookie:
		_, cookie := cutLast(before, ";")
		cookie, _, _ = strings.Cut(strings.TrimSpace(cookie), "=")
		return s.labelled("COOKIE_" + cookie)
	case inQuery, inBody:
		if m := memberName().FindStringSubmatch(before[max(0, len(before)-100):]); m != nil {
			name = m[1]
		}
	}
	lower := strings.ToLower(name)
	if place != inBody && slices.Contains(keyFields, lower) {
		bearer := strings.HasSuffix(strings.ToLower(strings.TrimSpace(before)), "bearer")
		if v := s.providers(bearer, kind); v != "" {
			return v
		}
	}
	if v := byKind[kind]; v != "" {
		return v
	}
	if name == "" || name == kind {
		return s.labelled("SECRET_" + kind)
	}
	if lower == "authorization" || lower == "proxy-authorization" {
		scheme, _, _ := strings.Cut(strings.TrimSpace(before), " ")
		switch strings.ToLower(scheme) {
		case "basic":
			return s.labelled("BASIC_CREDENTIALS")
		case "bearer", "token":
			return s.labelled("TOKEN")
		}
	}
	return s.labelled(strings.TrimPrefix(lower, "x-"))
}

// providers returns the variable of the host's provider, "" if none is known.
func (s *secrets) providers(bearer bool, kind string) string {
	for _, p := range byHost {
		if s.host != p.host && !strings.HasSuffix(s.host, "."+strings.TrimPrefix(p.host, ".")) {
			continue
		}
		switch {
		case p.variable == "ANTHROPIC_API_KEY" && (bearer || kind == "anthropic-oauth"):
			return "ANTHROPIC_AUTH_TOKEN"
		case p.variable == "GOOGLE_ACCESS_TOKEN" && !bearer:
			return "GOOGLE_API_KEY"
		case p.variable == "GEMINI_API_KEY" && bearer:
			return "GOOGLE_ACCESS_TOKEN"
		case p.variable == "AZURE_OPENAI_API_KEY" && bearer:
			return "AZURE_OPENAI_AD_TOKEN"
		}
		return p.variable
	}
	return ""
}

// labelled puts what the host is called before name, and makes of both what a
// shell takes for a name.
func (s *secrets) labelled(name string) string {
	labels := strings.Split(s.host, ".")
	label := labels[max(0, len(labels)-2)]
	if _, err := netip.ParseAddr(s.host); err == nil || len(labels) < 2 {
		label = ""
	}
	v := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, strings.TrimPrefix(label+"_"+name, "_"))
	v = strings.Trim(v, "_")
	if v == "" || v[0] <= '9' {
		v = "SECRET_" + v
	}
	return cmp.Or(v, "SECRET")
}

func cutLast(s, sep string) (before, after string) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):]
	}
	return "", s
}
