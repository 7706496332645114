package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// environment is a list of "NAME=value", as of os.Environ.
type environment []string

// get returns the first variable of these names that is set to something.
// Programs see the first of several of one name.
func (e environment) get(names ...string) (name, value string) {
	for _, n := range names {
		for _, kv := range e {
			if k, v, ok := strings.Cut(kv, "="); ok && k == n {
				if v = strings.TrimSpace(v); v != "" {
					return n, v
				}
				break
			}
		}
	}
	return "", ""
}

// FromEnv returns a Dialer for the variables of an environment, as of
// os.Environ. An error names the variable and what is wrong with it, without
// the password. HTTP_PROXY in upper case counts for nothing beside
// REQUEST_METHOD: there it may be a header of a request to a CGI script.
func FromEnv(environ []string) (*Dialer, error) {
	env := environment(environ)
	plain := []string{"http_proxy", "HTTP_PROXY"}
	if cgi, _ := env.get("REQUEST_METHOD"); cgi != "" {
		plain = plain[:1]
	}
	d := new(Dialer)
	for _, v := range []struct {
		proxy **proxy
		names []string
	}{
		{&d.https, []string{"https_proxy", "HTTPS_PROXY"}},
		{&d.http, plain},
		{&d.all, []string{"all_proxy", "ALL_PROXY"}},
	} {
		name, value := env.get(v.names...)
		if value == "" {
			continue
		}
		p, err := parseProxy(value)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", name, masked(value), err)
		}
		p.variable = name
		*v.proxy = p
	}
	_, value := env.get("no_proxy", "NO_PROXY")
	d.bypass = newBypass(value)
	return d, nil
}

// defaultPorts are those of proxies whose URL names none. The keys are the
// schemes that are known.
var defaultPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// What a proxy's URL can be wrong in. None repeats a part of it that may hold
// a password.
var (
	errNoURL  = errors.New("want http://HOST:PORT, or https, socks5, socks5h")
	errEscape = errors.New("characters of the user name and password that mean something in a URL must be percent-encoded")
)

// parseProxy reads the URL of a proxy; HOST:PORT alone is one of HTTP.
func parseProxy(value string) (*proxy, error) {
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	switch secret := strings.Contains(value, "@"); {
	case err != nil && secret:
		return nil, errEscape
	case err != nil:
		return nil, errNoURL
	case secret && (u.User == nil || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@")):
		return nil, errEscape
	}
	p := &proxy{scheme: strings.ToLower(u.Scheme), host: u.Hostname()}
	if p.scheme == "socks" {
		p.scheme = "socks5" // as desktops write it
	}
	port := u.Port()
	if port == "" {
		port = defaultPorts[p.scheme]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case defaultPorts[p.scheme] == "":
		return nil, fmt.Errorf("scheme %q is not supported: %w", u.Scheme, errNoURL)
	case p.host == "":
		return nil, fmt.Errorf("no host: %w", errNoURL)
	case err != nil || n == 0:
		return nil, fmt.Errorf("%q is no port: %w", port, errNoURL)
	}
	if a, err := netip.ParseAddr(p.host); err == nil {
		p.host = a.String() // in the one form in which destinations are compared with it
	}
	p.addr = net.JoinHostPort(p.host, strconv.FormatUint(n, 10))
	if u.User != nil {
		p.user = u.User.Username()
		p.password, _ = u.User.Password()
		p.known = true
	}
	return p, p.checkUser()
}

// masked returns the value of a variable without what may be a user name or
// password: all between the scheme and the last @.
func masked(value string) string {
	at := strings.LastIndex(value, "@")
	if at < 0 {
		return value
	}
	scheme, _, ok := strings.Cut(value[:at], "://")
	if !ok || strings.Contains(scheme, ":") {
		return "***" + value[at:]
	}
	return scheme + "://***" + value[at:]
}
