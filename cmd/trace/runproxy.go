package main

import (
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"trace/flow"
	"trace/mitm"
	"trace/proxy"
	"trace/trust"
)

// proxyUser is the user by which the variables of a command name the proxy. The
// password is made for the run, so that other users of the machine cannot use it.
const proxyUser = "trace"

// proxyVariables are those that programs find a proxy by. That of ALL_PROXY
// speaks HTTP too: many clients take the variable, few of them know SOCKS.
var proxyVariables = []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"}

// ownProxyVariables are those of single programs, in lower case, which go before the
// ones above: where the user has one it comes to name our proxy too.
var ownProxyVariables = []string{
	"ws_proxy", "wss_proxy", "grpc_proxy", "cgi_http_proxy", "pip_proxy", "npm_config_proxy", "npm_config_http_proxy", "npm_config_https_proxy",
	"yarn_http_proxy", "yarn_https_proxy", "bundle_http_proxy", "cargo_http_proxy", "global_agent_http_proxy", "global_agent_https_proxy",
}

// runProxy is `trace run --proxy`.
func (o *runOptions) runProxy() error {
	if err := o.checkBeside(); err != nil {
		return usageError{err}
	}
	common, err := o.prepare(flow.SourceProxy)
	if err != nil {
		return usageError{err}
	}
	closeMemory()
	t := &proxyTrust{}
	defer t.remove()
	return common.runBeside(func(l *lane, addr string) (besides, error) {
		if err := t.make(commandEnviron()); err != nil {
			return besides{}, err
		}
		for _, n := range t.plan.Notes {
			common.log("trust: %s", n)
		}
		l.authority, l.roots = t.ca, sync.OnceValue(func() *x509.CertPool { return l.withExtra(t.plan.Roots()) })
		password := rand.Text()
		carried := l.explicit()
		server := &proxy.Explicit{
			Open: func(proxy.Client) proxy.Lane { return carried },
			Users: func(user, given string) (string, bool) {
				return user, user == proxyUser && subtle.ConstantTimeCompare([]byte(given), []byte(password)) == 1
			},
		}
		at := url.URL{Scheme: "http", User: url.UserPassword(proxyUser, password), Host: addr}
		return besides{server, t.environ(commandEnviron(), at.String())}, nil
	})
}

// A proxyTrust is what makes programs accept the certificates of a proxy: files that
// lie in a directory of the run's, and no key among them.
type proxyTrust struct {
	ca   *mitm.Authority
	plan *trust.Plan
	dir  string
}

// make makes the authority of the run, and the files.
func (t *proxyTrust) make(env []string) (err error) {
	if t.ca, err = mitm.NewAuthority(time.Now()); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	if t.dir, err = os.MkdirTemp("", "trace-"); err != nil { // 0700
		return fmt.Errorf("trust: %w", err)
	}
	if t.dir, err = filepath.Abs(t.dir); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	t.plan, err = trust.Build(trust.Options{CA: t.ca.Certificate(), Env: env, Dir: t.dir, Files: true})
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	for _, f := range t.plan.Files {
		if err := os.WriteFile(filepath.Join(t.dir, f.Name), f.Data, 0o600); err != nil {
			return fmt.Errorf("trust: %w", err)
		}
	}
	if err := os.WriteFile(t.wgetrc(), wgetSettings(env, t.plan.Bundle), 0o600); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	return nil
}

// wgetrc is the file of wget's settings: wget has no variable for roots but can
// be told of other settings.
func (t *proxyTrust) wgetrc() string { return filepath.Join(t.dir, "wgetrc") }

// wgetSettings are the user's own, with a bundle of roots added.
func wgetSettings(env []string, bundle string) []byte {
	own := variable(env, "WGETRC")
	if own == "" {
		own = filepath.Join(variable(env, "HOME"), ".wgetrc")
	}
	settings, err := os.ReadFile(own)
	if err != nil {
		settings = nil // wget goes without, too
	}
	return fmt.Appendf(settings, "\nca_certificate = %s\n", bundle)
}

// remove removes the files.
func (t *proxyTrust) remove() {
	if t.dir != "" {
		os.RemoveAll(t.dir)
	}
}

// environ returns the environment of a command whose proxy is at a URL.
func (t *proxyTrust) environ(env []string, at string) []string {
	set := map[string]string{"WGETRC": t.wgetrc(), "NODE_USE_ENV_PROXY": "1"} // without which Node heeds none of the others
	for _, name := range proxyVariables {
		set[name] = at
	}
	for _, name := range t.plan.Removed {
		if slices.Contains(ownProxyVariables, strings.ToLower(name)) {
			set[name] = at
		}
	}
	except := withoutAll(mergeNoProxy(env))
	set["NO_PROXY"], set["no_proxy"] = except, except
	// What npm's own settings say goes before the variables above, but not before these.
	set["npm_config_proxy"], set["npm_config_https_proxy"], set["npm_config_noproxy"] = at, at, except
	set["npm_config_cafile"] = t.plan.Bundle
	return withVariables(t.plan.Env, set)
}

// withoutAll takes the * out of a value of NO_PROXY: who never wants a proxy of the
// host is not asking for a run that sees nothing. We go by the host's
// settings ourselves.
func withoutAll(list string) string {
	names := strings.Split(list, ",")
	return strings.Join(slices.DeleteFunc(names, func(n string) bool { return n == "*" }), ",")
}
