package trust

import (
	"errors"
	"slices"
	"testing"
)

// TestJoin: a program that comes later gets the variables that the first one
// got, from the files that Build covered.
func TestJoin(t *testing.T) {
	ours := runCA(t, "1", nil)
	for _, c := range []struct {
		name  string
		files map[string]string
		dirs  []string
	}{
		{"Debian", map[string]string{"/etc/ssl/certs/ca-certificates.crt": pemOf(newRoot(t, "root"))}, nil},
		{"Fedora", map[string]string{"/etc/pki/tls/certs/ca-bundle.crt": pemOf(newRoot(t, "root")), "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": pemOf(newRoot(t, "other"))}, nil},
		{"openSUSE", map[string]string{"/etc/ssl/ca-bundle.pem": pemOf(newRoot(t, "root"))}, []string{"/var/lib/ca-certificates/openssl"}},
		{"directory alone", nil, []string{"/var/lib/ca-certificates/openssl"}},
		{"nothing but a private directory", nil, nil},
	} {
		h := newHost(t)
		for name, text := range c.files {
			h.file(name, text)
		}
		for _, d := range c.dirs {
			h.dir(d)
		}
		env := []string{"A=b", "HTTPS_PROXY=http://proxy", "SSL_CERT_FILE=/my.pem", "SSL_CERT_DIR=/mine", "npm_config_cafile=/my.pem"}
		plan := h.build(ours, env...)
		// What the program sees.
		seen := newHost(t)
		for _, tree := range plan.Trees {
			seen.dir(tree.Target)
			for name, data := range tree.Add {
				seen.file(tree.Target+"/"+name, string(data))
			}
		}
		for _, f := range plan.Files {
			if f.Target != "" {
				seen.file(f.Target, string(f.Data))
			} else {
				seen.file("/private/"+f.Name, string(f.Data))
			}
		}
		got, err := Join(Options{Env: env, Root: seen.root, Dir: "/private"})
		if err != nil || !slices.Equal(got, plan.Env) {
			t.Errorf("%s: %v\n%q\nfirst %q", c.name, err, got, plan.Env)
		}
	}
	h := newHost(t)
	h.file("/etc/ssl/certs/ca-certificates.crt", pemOf(newRoot(t, "root")))
	got, err := Join(Options{Env: []string{"A=b", "http_proxy=x", "SSL_CERT_FILE=/my.pem"}, Root: h.root})
	if !errors.Is(err, ErrNoRun) || !slices.Equal(got, []string{"A=b", "SSL_CERT_FILE=/my.pem"}) {
		t.Errorf("outside of a run: %q, %v", got, err)
	}
}
