package main

import (
	"fmt"
	"slices"
	"strings"

	"trace/proxy"
)

// A provider is an API whose clients take its base URL from variables.
type provider struct {
	prefix    string
	url       string
	versioned string // what a base URL for its clients ends with
	variables []string
	paths     []string // paths that are its own also where a client drops the prefix
}

var providers = []provider{
	{"/anthropic", "https://api.anthropic.com", "", []string{"ANTHROPIC_BASE_URL"}, []string{"/v1/messages", "/v1/complete"}},
	{"/openai", "https://api.openai.com", "/v1", []string{"OPENAI_BASE_URL", "OPENAI_API_BASE"}, []string{"/v1"}},
	{"/gemini", "https://generativelanguage.googleapis.com", "", []string{"GOOGLE_GEMINI_BASE_URL"}, []string{"/v1beta", "/v1alpha", "/upload/v1beta"}},
}

// baseVariable names the URL of the reverse proxy for the routes of --map.
const baseVariable = "TRACE_BASE_URL"

// A baseURLs is what a reverse proxy routes, and by which variables a command
// comes to use it.
type baseURLs struct {
	routes proxy.Routes
	paths  map[string]string // variable → path behind the proxy's address
}

// newBaseURLs works out the routes. A variable that the user has set names the server
// that is called in the place of the provider's own, and --map goes before both.
func newBaseURLs(maps, env []string) (*baseURLs, error) {
	b := &baseURLs{paths: map[string]string{}}
	given := map[string]bool{}
	for _, m := range maps {
		prefix, to, ok := strings.Cut(m, "=")
		if !ok {
			return nil, fmt.Errorf("--map %q: want PREFIX=URL", m)
		}
		r, err := proxy.NewRoute(prefix, to)
		if err != nil {
			return nil, fmt.Errorf("--map %q: %w", m, err)
		}
		if given[r.Prefix] {
			return nil, fmt.Errorf("--map %q: %s is mapped twice", m, r.Prefix)
		}
		given[r.Prefix] = true
		b.routes = append(b.routes, r)
	}
	for _, p := range providers {
		if err := b.provider(p, given, env); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// provider adds the routes of p.
func (b *baseURLs) provider(p provider, given map[string]bool, env []string) error {
	path := p.prefix + p.versioned
	to := p.url
	for _, name := range slices.Backward(p.variables) {
		if v := variable(env, name); v != "" {
			to, path = strings.TrimSuffix(v, "/"), p.prefix
			if rest, ok := strings.CutSuffix(to, p.versioned); ok && p.versioned != "" {
				to, path = rest, p.prefix+p.versioned
			}
			if _, err := proxy.NewRoute(p.prefix, to); err != nil {
				return fmt.Errorf("%s=%s: %w", name, v, err)
			}
		}
	}
	if !given[p.prefix] {
		r, err := proxy.NewRoute(p.prefix, to)
		if err != nil {
			return err
		}
		b.routes = append(b.routes, r)
	}
	i := slices.IndexFunc(b.routes, func(r proxy.Route) bool { return r.Prefix == p.prefix })
	server := b.routes[i].To
	if given[p.prefix] {
		if path = p.prefix; strings.Trim(server.Path, "/") == "" {
			path += p.versioned
		}
	}
	for _, name := range p.variables {
		b.paths[name] = path
	}
	for _, own := range p.paths {
		if given[own] {
			continue
		}
		to := *server
		to.Path = strings.TrimSuffix(to.Path, "/") + own
		if base := strings.TrimPrefix(path, p.prefix); base == "" && p.versioned != "" {
			to.Path = server.Path // of a base URL that stands for the version already
		}
		to.RawPath = ""
		b.routes = append(b.routes, proxy.Route{Prefix: own, To: &to})
	}
	return nil
}

// environ returns env with the variables that lead to the proxy at addr.
func (b *baseURLs) environ(env []string, addr string) []string {
	base := "http://" + addr
	set := map[string]string{baseVariable: base}
	for name, path := range b.paths {
		set[name] = base + path
	}
	if hasProxy(env) {
		for _, name := range []string{"NO_PROXY", "no_proxy"} {
			set[name] = mergeNoProxy(env)
		}
	}
	return withVariables(env, set)
}

// hasProxy tells whether the command would go to us by a proxy.
func hasProxy(env []string) bool {
	return slices.ContainsFunc([]string{"HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"}, func(name string) bool { return variable(env, name) != "" })
}

// mergeNoProxy returns what is to be reached without a proxy: what the user says, and
// loopback.
func mergeNoProxy(env []string) string {
	var names []string
	add := func(list string) {
		for _, n := range strings.Split(list, ",") {
			if n = strings.TrimSpace(n); n != "" && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	add(variable(env, "NO_PROXY"))
	add(variable(env, "no_proxy"))
	add("127.0.0.1,localhost,::1")
	return strings.Join(names, ",")
}

// variable returns the value of a variable, "" if it is not set.
func variable(env []string, name string) string {
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// withVariables returns env with some variables replaced or added.
func withVariables(env []string, set map[string]string) []string {
	out := make([]string, 0, len(env)+len(set))
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if _, ok := set[name]; !ok {
			out = append(out, kv)
		}
	}
	var added []string
	for name, v := range set {
		added = append(added, name+"="+v)
	}
	slices.Sort(added)
	return append(out, added...)
}
