package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"trace/flow"
)

// A Route carries requests whose path begins with Prefix to To: the prefix is
// replaced by the path of To.
type Route struct {
	Prefix string // begins with a slash and does not end with one
	To     *url.URL
}

// Routes are routes; the longest prefix that fits counts.
type Routes []Route

// NewRoute makes a route of a prefix, with or without slashes around it, and
// the URL of a server.
func NewRoute(prefix, to string) (Route, error) {
	u, err := url.Parse(to)
	switch {
	case err != nil:
		return Route{}, err
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return Route{}, fmt.Errorf("%q: want http://HOST… or https://HOST…", to)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return Route{}, errors.New("a user, a query or a fragment has no place in it")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return Route{}, fmt.Errorf("%q is no port", port)
		}
	}
	prefix = "/" + strings.Trim(prefix, "/")
	if prefix == "/" || strings.ContainsAny(prefix, "?# \t\r\n") {
		return Route{}, fmt.Errorf("prefix %q: want the beginning of a path such as /mistral", prefix)
	}
	return Route{Prefix: prefix, To: u}, nil
}

// A destination is a server and what to ask it for.
type destination struct {
	scheme, host string // host without port and brackets
	port         int
	authority    string // what Host is to say
	target       string // of the request
	proxied      bool   // the client asked us as a proxy
}

func (d destination) addr() string { return net.JoinHostPort(d.host, strconv.Itoa(d.port)) }
func (d destination) origin() string {
	return d.scheme + "://" + d.addr()
}

// find works out where a request goes. target is that of a request line: a
// path with its query, or a whole URL.
func (rs Routes) find(target string) (d destination, ok bool) {
	if i := strings.Index(target, "://"); i > 0 && !strings.HasPrefix(target, "/") {
		_, rest, _ := strings.Cut(target[i+3:], "/")
		target = "/" + rest
	}
	path, query, asked := strings.Cut(target, "?")
	var best *Route
	for i := range rs {
		r := &rs[i]
		rest, fits := strings.CutPrefix(path, r.Prefix)
		if fits && (rest == "" || rest[0] == '/') && (best == nil || len(r.Prefix) > len(best.Prefix)) {
			best = r
		}
	}
	if best == nil {
		return d, false
	}
	u := best.To
	d = destination{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), authority: u.Host, port: 80}
	if u.Scheme == "https" {
		d.port = 443
	}
	if n, err := strconv.Atoi(u.Port()); err == nil {
		d.port = n
	}
	d.target = cmp.Or(strings.TrimSuffix(u.EscapedPath(), "/")+path[len(best.Prefix):], "/")
	if asked {
		d.target += "?" + query
	}
	return d, true
}

// address makes the head of a request name the server that is called.
func (p *Reverse) address(h *flow.Head) *flow.Head {
	c := p.cut(h.Target)
	d, ok := p.Routes.find(c.target)
	g := *h
	g.Target = c.shown
	if !ok {
		if c.token != "" {
			g.Path = c.target
		}
		return &g
	}
	g.Scheme, g.Host, g.Port, g.Path = d.scheme, d.host, d.port, d.target
	return &g
}

// String lists the prefixes.
func (rs Routes) String() string {
	var names []string
	for _, r := range rs {
		names = append(names, r.Prefix)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
