package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// always are the variables that name a bundle and that the child always gets.
var always = []string{
	"SSL_CERT_FILE",                    // OpenSSL, Go, Python, rustls-native-certs, Bun
	"NODE_EXTRA_CA_CERTS",              // Node, Deno, Bun
	"REQUESTS_CA_BUNDLE",               // requests
	"CURL_CA_BUNDLE",                   // curl, requests
	"GIT_SSL_CAINFO",                   // git
	"DENO_CERT",                        // Deno
	"CODEX_CA_CERTIFICATE",             // Codex
	"AWS_CA_BUNDLE",                    // AWS CLI, botocore
	"PIP_CERT",                         // pip
	"CARGO_HTTP_CAINFO",                // cargo
	"NIX_SSL_CERT_FILE",                // programs of Nixpkgs
	"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", // gRPC's C core
	"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
	"HTTPLIB2_CA_CERTS",
}

// ifSet are such variables that are replaced only where the user has them:
// what reads them finds the roots without them too.
var ifSet = []string{
	"npm_config_cafile", "NPM_CONFIG_CAFILE", "YARN_HTTPS_CA_FILE_PATH", "BUNDLE_SSL_CA_CERT", "PERL_LWP_SSL_CA_FILE",
	"HTTPS_CA_FILE", "HEX_CACERTS_PATH", "JULIA_SSL_CA_ROOTS_PATH", "SSL_CA_BUNDLE", "GIT_PROXY_SSL_CAINFO",
}

// dirs are variables that name hashed directories, SSL_CERT_DIR several. Where
// the user has them they come to name one that is covered.
var dirs = []string{"SSL_CERT_DIR", "GIT_SSL_CAPATH", "PERL_LWP_SSL_CA_PATH", "HTTPS_CA_DIR"}

// proxies are the variables, compared without case, by which programs find a
// proxy of the host. The child gets none of them.
var proxies = []string{
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy", "ws_proxy", "wss_proxy", "socks_proxy", "socks_server",
	"socks5_proxy", "rsync_proxy", "gopher_proxy", "telnet_proxy", "grpc_proxy", "no_grpc_proxy", "cgi_http_proxy", "pip_proxy",
	"npm_config_proxy", "npm_config_http_proxy", "npm_config_https_proxy", "npm_config_noproxy",
	"yarn_http_proxy", "yarn_https_proxy", "bundle_http_proxy", "cargo_http_proxy", "docker_http_proxy", "docker_https_proxy",
	"global_agent_http_proxy", "global_agent_https_proxy", "global_agent_no_proxy",
	"cloudsdk_proxy_type", "cloudsdk_proxy_address", "cloudsdk_proxy_port", "cloudsdk_proxy_username", "cloudsdk_proxy_password",
}

// lookup returns the value that programs see: of several, the first.
func (b *builder) lookup(name string) (value string, ok bool) {
	for _, kv := range b.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v, true
		}
	}
	return "", false
}

// fold takes the roots that the user's own variables name into the plan.
func (b *builder) fold() {
	var done []string
	for _, name := range slices.Concat(always, ifSet, dirs) {
		value, _ := b.lookup(name)
		paths := []string{value}
		if name == "SSL_CERT_DIR" {
			paths = filepath.SplitList(value)
		}
		for _, p := range paths {
			if p == "" || slices.Contains(done, p) {
				continue
			}
			done = append(done, p)
			b.foldPath(name, p)
		}
	}
}

// foldPath reads a file or directory that variable name names. Files of the
// system were read before.
func (b *builder) foldPath(name, p string) {
	full := p
	if filepath.IsAbs(p) {
		full = string(b.root) + p
		real, err := b.root.resolve(p)
		if err == nil && (slices.Contains(b.plan.dirs, real) || slices.Contains(b.read, real)) {
			return
		}
	}
	if fi, err := os.Stat(full); err == nil && fi.IsDir() {
		b.addDir(p)
		return
	}
	data, err := b.root.read(p)
	switch {
	case err == nil:
		b.add(name+"="+p, data)
	case errors.Is(err, errNoFile): // /dev/null, to switch something off
	case errors.Is(err, fs.ErrNotExist):
		b.note("%s=%s: no such file", name, p)
	default:
		b.note("%s: %v", name, err)
	}
}

// environment writes the child's variables.
func (b *builder) environment() {
	p := b.plan
	replaced := map[string]string{}
	if p.Bundle != "" {
		for _, name := range always {
			replaced[name] = p.Bundle
		}
		for _, name := range ifSet {
			if _, ok := b.lookup(name); ok {
				replaced[name] = p.Bundle
			}
		}
		for _, name := range dirs {
			if v, _ := b.lookup(name); v != "" && !b.Files {
				replaced[name] = "" // removed
				if len(p.dirs) > 0 {
					replaced[name] = p.dirs[0]
				}
			}
		}
	}
	for _, kv := range b.Env {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(proxies, strings.ToLower(name)) {
			if !slices.Contains(p.Removed, name) {
				p.Removed = append(p.Removed, name)
			}
			continue
		}
		if _, ok := replaced[name]; !ok {
			p.Env = append(p.Env, kv)
		}
	}
	for _, name := range slices.Concat(always, ifSet, dirs) {
		if v := replaced[name]; v != "" {
			p.Env = append(p.Env, name+"="+v)
		}
	}
}
