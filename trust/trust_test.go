package trust

import (
	"crypto/x509"
	"os"
	"slices"
	"strings"
	"testing"
)

// distributions lays roots out as distributions do. Each gets two roots.
var distributions = []struct {
	name   string
	make   func(h host, roots string)
	bundle string
	files  []string // covered files
	trees  []string
}{
	{"Debian", func(h host, roots string) {
		h.file("/usr/share/ca-certificates/mozilla/A.crt", roots)
		h.file("/etc/ssl/certs/ca-certificates.crt", roots)
		h.link("/etc/ssl/certs/A.pem", "/usr/share/ca-certificates/mozilla/A.crt")
		h.link("/etc/ssl/certs/01234567.0", "A.pem")
		h.link("/usr/lib/ssl/certs", "/etc/ssl/certs")
	}, "/etc/ssl/certs/ca-certificates.crt", nil, []string{"/etc/ssl/certs"}},
	{"Fedora", func(h host, roots string) {
		h.file("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", roots)
		h.link("/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem")
		h.link("/etc/pki/tls/cert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem")
		h.link("/etc/ssl/certs", "../pki/tls/certs")
		h.dir("/etc/pki/ca-trust/extracted/pem/directory-hash")
		h.dir("/etc/pki/ca-trust/source/anchors")
	}, "/etc/ssl/certs/ca-bundle.crt", []string{"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"},
		[]string{"/etc/pki/tls/certs", "/etc/pki/ca-trust/source/anchors", "/etc/pki/ca-trust/extracted/pem/directory-hash"}},
	{"Alpine", func(h host, roots string) {
		h.file("/etc/ssl/certs/ca-certificates.crt", roots)
		h.link("/etc/ssl/cert.pem", "certs/ca-certificates.crt")
	}, "/etc/ssl/certs/ca-certificates.crt", nil, []string{"/etc/ssl/certs"}},
	{"Arch", func(h host, roots string) {
		h.file("/etc/ca-certificates/extracted/tls-ca-bundle.pem", roots)
		h.link("/etc/ssl/certs/ca-certificates.crt", "../../ca-certificates/extracted/tls-ca-bundle.pem")
		h.link("/etc/ssl/cert.pem", "../ca-certificates/extracted/tls-ca-bundle.pem")
		h.dir("/etc/ca-certificates/trust-source/anchors")
	}, "/etc/ssl/certs/ca-certificates.crt", []string{"/etc/ca-certificates/extracted/tls-ca-bundle.pem"},
		[]string{"/etc/ssl/certs", "/etc/ca-certificates/trust-source/anchors"}},
	{"openSUSE", func(h host, roots string) {
		h.file("/var/lib/ca-certificates/ca-bundle.pem", roots)
		h.link("/etc/ssl/ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem")
		h.dir("/var/lib/ca-certificates/pem")
		h.dir("/var/lib/ca-certificates/openssl")
		h.link("/etc/ssl/certs", "/var/lib/ca-certificates/pem")
		h.dir("/etc/pki/trust/anchors")
	}, "/etc/ssl/ca-bundle.pem", []string{"/var/lib/ca-certificates/ca-bundle.pem"},
		[]string{"/etc/pki/trust/anchors", "/var/lib/ca-certificates/pem", "/var/lib/ca-certificates/openssl"}},
	{"NixOS", func(h host, roots string) {
		h.file("/nix/store/x-nss-cacert/etc/ssl/certs/ca-bundle.crt", roots)
		h.link("/etc/static", "/nix/store/y-etc/etc")
		h.link("/nix/store/y-etc/etc/ssl/certs/ca-certificates.crt", "/nix/store/x-nss-cacert/etc/ssl/certs/ca-bundle.crt")
		h.link("/etc/ssl/certs/ca-certificates.crt", "/etc/static/ssl/certs/ca-certificates.crt")
		h.link("/etc/ssl/certs/ca-bundle.crt", "/nix/store/x-nss-cacert/etc/ssl/certs/ca-bundle.crt")
	}, "/etc/ssl/certs/ca-certificates.crt", []string{"/nix/store/x-nss-cacert/etc/ssl/certs/ca-bundle.crt"}, []string{"/etc/ssl/certs"}},
	{"distroless", func(h host, roots string) {
		h.file("/etc/ssl/certs/ca-certificates.crt", roots)
	}, "/etc/ssl/certs/ca-certificates.crt", nil, []string{"/etc/ssl/certs"}},
	{"directory only", func(h host, roots string) {
		h.file("/etc/ssl/certs/abc.pem", roots)
	}, "/etc/ssl/certs/ca-certificates.crt", nil, []string{"/etc/ssl/certs"}},
	{"bundle outside any directory", func(h host, roots string) {
		h.file("/etc/ssl/cert.pem", roots)
	}, "/etc/ssl/cert.pem", []string{"/etc/ssl/cert.pem"}, nil},
}

func TestDistributions(t *testing.T) {
	a, b, ours := newRoot(t, "a"), newRoot(t, "b"), newRoot(t, "trace ours")
	for _, d := range distributions {
		t.Run(d.name, func(t *testing.T) {
			h := newHost(t)
			d.make(h, pemOf(a, b))
			p := h.build(ours, "PATH=/bin", "SSL_CERT_FILE=/etc/none")
			want := d.bundle
			if d.name == "Fedora" {
				want = "/etc/pki/tls/certs/ca-bundle.crt"
			}
			if p.Bundle != want || p.Fallback {
				t.Errorf("bundle %s, fallback %v", p.Bundle, p.Fallback)
			}
			for _, path := range []string{p.Bundle, d.bundle} {
				data, ok := h.covered(p, path)
				if got := names(t, data); !ok || !slices.Equal(got, []string{"a", "b", "trace ours"}) {
					t.Errorf("%s holds %v", path, got)
				}
			}
			var files, trees []string
			required := 0
			for _, f := range p.Files {
				files = append(files, f.Target)
				if f.Required {
					required++
				}
			}
			hash, err := subjectHash(ours.RawSubject)
			if err != nil {
				t.Fatal(err)
			}
			for _, tr := range p.Trees {
				trees = append(trees, tr.Target)
				anchor := strings.HasSuffix(tr.Target, "/anchors")
				if string(tr.Add["trace.pem"]) != pemOf(ours) || !anchor && string(tr.Add[hashName(hash, 0)]) != pemOf(ours) || tr.From != tr.Target {
					t.Errorf("%s gets %v", tr.Target, tr.Add)
				}
				if tr.Required {
					required++
				}
			}
			if !slices.Equal(files, d.files) || !slices.Equal(trees, d.trees) || required != 1 {
				t.Errorf("files %v, trees %v, %d required", files, trees, required)
			}
			if v := getenv(p, "SSL_CERT_FILE"); v != want {
				t.Errorf("SSL_CERT_FILE=%s", v)
			}
			pool := x509.NewCertPool()
			pool.AddCert(a)
			pool.AddCert(b)
			if !p.Roots().Equal(pool) {
				t.Error("the roots for servers are not those of the host")
			}
		})
	}
}

func TestNoRoots(t *testing.T) {
	ours := newRoot(t, "trace ours")
	h := newHost(t)
	p := h.build(ours)
	data, ok := h.covered(p, "/private/ca-certificates.crt")
	if got := names(t, data); !ok || len(got) < 100 || got[len(got)-1] != "trace ours" {
		t.Errorf("private bundle: %v", got)
	}
	if !p.Fallback || p.Bundle != "/private/ca-certificates.crt" || getenv(p, "NODE_EXTRA_CA_CERTS") != p.Bundle || !p.Files[0].Required {
		t.Errorf("%v, %s", p.Fallback, p.Bundle)
	}
	if _, err := ours.Verify(x509.VerifyOptions{Roots: p.Roots()}); err == nil {
		t.Error("our own CA is trusted towards servers")
	}
	if p.Roots().Equal(x509.NewCertPool()) {
		t.Error("no roots towards servers")
	}

	h.dir("/etc/ssl/certs") // as without the package ca-certificates
	p = h.build(ours)
	if data, ok := h.covered(p, "/etc/ssl/certs/ca-certificates.crt"); !ok || len(names(t, data)) < 100 || !p.Fallback || len(p.Files) != 0 || !p.Trees[0].Required {
		t.Errorf("empty directory: %+v", p.Trees)
	}

	p, err := Build(Options{CA: ours.Raw, Root: newHost(t).root, Env: []string{"SSL_CERT_FILE=/x", "A=b"}})
	if err != nil || p.Bundle != "" || len(p.Notes) == 0 || !slices.Equal(p.Env, []string{"SSL_CERT_FILE=/x", "A=b"}) {
		t.Errorf("no place at all: %+v, %v", p, err)
	}
}

func TestBuildWithoutCA(t *testing.T) {
	if _, err := Build(Options{CA: []byte("x")}); err == nil {
		t.Error("no certificate was taken for one")
	}
}

func TestHashIsTaken(t *testing.T) {
	ours := newRoot(t, "trace ours")
	hash, err := subjectHash(ours.RawSubject)
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	h.file("/etc/ssl/certs/"+hashName(hash, 0), "x")
	h.link("/etc/ssl/certs/"+hashName(hash, 1), "nowhere")
	add := h.build(ours).Trees[0].Add
	if _, ok := add[hashName(hash, 2)]; !ok || len(add) != 3 {
		t.Errorf("added %v", add)
	}
}

func TestBadBlocks(t *testing.T) {
	a, b, ours := newRoot(t, "a"), newRoot(t, "b"), newRoot(t, "trace ours")
	bad := "-----BEGIN CERTIFICATE-----\nMIIB*broken\n-----END CERTIFICATE-----\n" +
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" +
		strings.ReplaceAll(pemOf(newRoot(t, "c")), " CERTIFICATE-", " TRUSTED CERTIFICATE-") +
		strings.ReplaceAll(pemOf(newRoot(t, "twice")), "-----BEGIN", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n-----BEGIN")
	tail := "-----BEGIN CERTIFICATE-----\nMIIB"
	h := newHost(t)
	h.file("/etc/ssl/certs/ca-certificates.crt", "\ufeff# a comment\r\n"+strings.ReplaceAll(pemOf(a), "\n", "\r\n")+bad+pemOf(a)+
		strings.ReplaceAll(pemOf(b), " CERTIFICATE-", " X509 CERTIFICATE-")+tail)
	p := h.build(ours)
	data, _ := h.covered(p, p.Bundle)
	if got := names(t, data); !slices.Equal(got, []string{"a", "twice", "b", "trace ours"}) {
		t.Errorf("combined %v", got)
	}
	if strings.ContainsAny(data, "\r#") || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "left out 4") {
		t.Errorf("notes %q", p.Notes)
	}
}

func TestOddFiles(t *testing.T) {
	h := newHost(t)
	h.link("/etc/ssl/certs/ca-certificates.crt", "ca-certificates.crt") // a loop
	h.dir("/etc/ssl/cert.pem")
	h.link("/etc/pki/tls/cert.pem", "/dev/null")
	h.link("/etc/ssl/ca-bundle.pem", "../../../../up.pem")
	a := newRoot(t, "a")
	h.file("/up.pem", pemOf(a))
	p := h.build(newRoot(t, "trace ours"))
	if p.Bundle != "/etc/ssl/ca-bundle.pem" || len(p.Files) != 1 || p.Files[0].Target != "/up.pem" {
		t.Errorf("bundle %s, files %+v", p.Bundle, p.Files)
	}
}

func TestLoadRoots(t *testing.T) {
	h := newHost(t)
	a, b := newRoot(t, "a"), newRoot(t, "b")
	h.file("/ab.pem", "text\n"+pemOf(a, b))
	h.file("/empty.pem", "nothing")
	h.file("/bad.pem", pemOf(a)+"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
	certs, err := LoadRoots(h.root+"/ab.pem", h.root+"/ab.pem")
	if err != nil || len(certs) != 4 || certs[1].Subject.CommonName != "b" {
		t.Errorf("%v, %v", certs, err)
	}
	if none, err := LoadRoots(); err != nil || none != nil {
		t.Errorf("of nothing: %v, %v", none, err)
	}
	for file, want := range map[string]string{"/empty.pem": "no certificate in it", "/bad.pem": "malformed", "/none.pem": "no such file", "": "is a directory"} {
		if _, err := LoadRoots(h.root+"/ab.pem", h.root+file); err == nil || !strings.Contains(err.Error(), h.root+file) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestThisHost builds for the machine that the test runs on.
func TestThisHost(t *testing.T) {
	ours := newRoot(t, "trace ours")
	p, err := Build(Options{CA: ours.Raw, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Notes {
		t.Log(n)
	}
	h := host{t, ""}
	if data, ok := h.covered(p, p.Bundle); p.Bundle != "" && (!ok || !strings.Contains(data, pemOf(ours))) {
		t.Errorf("%s is not covered", p.Bundle)
	}
}

func BenchmarkBuild(b *testing.B) {
	ours := newRoot(b, "trace ours")
	for b.Loop() {
		if _, err := Build(Options{CA: ours.Raw, Env: os.Environ()}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRoots(b *testing.B) {
	p, err := Build(Options{CA: newRoot(b, "trace ours").Raw, Env: os.Environ()})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p.makePool()
	}
}
