package trust

import (
	"crypto/x509"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestEnvironment(t *testing.T) {
	sys, file, extra, dir, deep := newRoot(t, "sys"), newRoot(t, "file"), newRoot(t, "extra"), newRoot(t, "dir"), newRoot(t, "npm")
	h := newHost(t)
	h.file("/etc/ssl/certs/ca-certificates.crt", pemOf(sys))
	h.file("/home/u/file.pem", pemOf(file, sys))
	h.file("/home/u/extra.pem", pemOf(extra))
	h.file("/home/u/npm.pem", pemOf(deep))
	h.file("/home/u/certs/1.pem", pemOf(dir))
	h.link("/home/u/certs/0abc.0", "1.pem")
	h.dir("/home/u/certs/sub")
	if err := syscall.Mkfifo(h.root+"/home/u/pipe", 0o600); err != nil { // nobody writes: to read it is to hang
		t.Fatal(err)
	}
	p := h.build(newRoot(t, "trace ours"), "A=1", "SSL_CERT_FILE=/home/u/file.pem", "HTTPS_PROXY=http://p:1", "https_proxy=http://p:1", "No_Proxy=x",
		"NODE_EXTRA_CA_CERTS=/home/u/extra.pem", "NODE_OPTIONS=--max-old-space-size=99", "SSL_CERT_DIR=/etc/ssl/certs:/home/u/certs",
		"npm_config_cafile=/home/u/npm.pem", "npm_config_https_proxy=x", "SSL_CERT_FILE=/second", "CURL_CA_BUNDLE=", "REQUESTS_CA_BUNDLE=/home/u/gone.pem",
		"PIP_CERT=/home/u/pipe", "AWS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt", "odd", "PROXY=kept", "HTTPS_PROXY=again")
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	for _, name := range slices.Concat(always, []string{"npm_config_cafile"}) {
		if v := getenv(p, name); v != bundle {
			t.Errorf("%s=%s", name, v)
		}
	}
	for name, want := range map[string]string{"A": "1", "PROXY": "kept", "NODE_OPTIONS": "--max-old-space-size=99", "SSL_CERT_DIR": "/etc/ssl/certs",
		"HTTPS_PROXY": "", "https_proxy": "", "No_Proxy": "", "npm_config_https_proxy": "", "HEX_CACERTS_PATH": "", "GIT_SSL_CAPATH": ""} {
		if v := getenv(p, name); v != want {
			t.Errorf("%s=%s, want %q", name, v, want)
		}
	}
	if !slices.Contains(p.Env, "odd") || p.Env[0] != "A=1" {
		t.Errorf("environment %q", p.Env)
	}
	if want := []string{"HTTPS_PROXY", "https_proxy", "No_Proxy", "npm_config_https_proxy"}; !slices.Equal(p.Removed, want) {
		t.Errorf("removed %q", p.Removed)
	}
	data, _ := h.covered(p, bundle)
	if got := names(t, data); !slices.Equal(got, []string{"sys", "file", "extra", "npm", "dir", "trace ours"}) {
		t.Errorf("combined %v", got)
	}
	if len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "REQUESTS_CA_BUNDLE=/home/u/gone.pem") {
		t.Errorf("notes %q", p.Notes)
	}
	pool := x509.NewCertPool()
	for _, c := range []*x509.Certificate{sys, file, extra, dir, deep} {
		pool.AddCert(c)
	}
	if !p.Roots().Equal(pool) {
		t.Error("the user's own roots are not known towards servers")
	}
}

// TestEnvironmentCertDirWithoutDirectory has nothing that SSL_CERT_DIR could
// name.
func TestEnvironmentCertDirWithoutDirectory(t *testing.T) {
	h := newHost(t)
	h.file("/etc/ssl/cert.pem", pemOf(newRoot(t, "sys")))
	h.file("/d/x.pem", pemOf(newRoot(t, "dir")))
	p := h.build(newRoot(t, "trace ours"), "SSL_CERT_DIR=/d")
	data, _ := h.covered(p, "/etc/ssl/cert.pem")
	if got := names(t, data); getenv(p, "SSL_CERT_DIR") != "" || !slices.Equal(got, []string{"sys", "dir", "trace ours"}) {
		t.Errorf("%q, %v", p.Env, got)
	}
}

// TestSingleFilesOfDirectories: what OpenSSL and Go find in the directory, but
// not in the bundle, is known towards servers.
func TestSingleFilesOfDirectories(t *testing.T) {
	sys, single := newRoot(t, "sys"), newRoot(t, "single")
	h := newHost(t)
	h.file("/etc/ssl/certs/ca-certificates.crt", pemOf(sys))
	h.file("/etc/ssl/certs/single.pem", pemOf(single))
	if _, err := single.Verify(x509.VerifyOptions{Roots: h.build(newRoot(t, "trace ours")).Roots()}); err != nil {
		t.Error(err)
	}
}

// TestFiles: without a mount namespace there is a file for the variables to name, and
// nothing is covered.
func TestFiles(t *testing.T) {
	sys, own, ours := newRoot(t, "sys"), newRoot(t, "own"), newRoot(t, "trace ours")
	h := newHost(t)
	h.file("/etc/ssl/certs/ca-certificates.crt", pemOf(sys))
	h.file("/etc/ssl/certs/java/cacerts", "no keystore")
	h.file("/home/u/own.pem", pemOf(own))
	p, err := Build(Options{CA: ours.Raw, Root: h.root, Dir: "/private", Files: true,
		Env: []string{"SSL_CERT_FILE=/home/u/own.pem", "SSL_CERT_DIR=/etc/ssl/certs", "npm_config_cafile=/home/u/own.pem", "HTTPS_PROXY=x"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Trees) != 0 || len(p.Files) != 1 || p.Files[0].Target != "" || p.Bundle != "/private/"+p.Files[0].Name {
		t.Fatalf("%d trees, files %+v, bundle %s", len(p.Trees), p.Files, p.Bundle)
	}
	if got := names(t, string(p.Files[0].Data)); !slices.Equal(got, []string{"sys", "own", "trace ours"}) {
		t.Errorf("combined %v", got)
	}
	for _, name := range slices.Concat(always, []string{"npm_config_cafile"}) {
		if v := getenv(p, name); v != p.Bundle {
			t.Errorf("%s=%s", name, v)
		}
	}
	if v := getenv(p, "SSL_CERT_DIR"); v != "/etc/ssl/certs" {
		t.Errorf("SSL_CERT_DIR=%s", v)
	}
	if !slices.Equal(p.Removed, []string{"HTTPS_PROXY"}) {
		t.Errorf("removed %q", p.Removed)
	}
}
