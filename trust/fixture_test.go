package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var serial int64

// newCA makes a self-signed CA of that name.
func newCA(t testing.TB, name pkix.Name) *x509.Certificate {
	return newCertificate(t, func(c *x509.Certificate) { c.Subject = name })
}

// newCertificate makes a self-signed CA that change alters.
func newCertificate(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newRoot(t testing.TB, cn string) *x509.Certificate {
	return newCA(t, pkix.Name{CommonName: cn})
}

func pemOf(certs ...*x509.Certificate) string {
	var s strings.Builder
	for _, c := range certs {
		pem.Encode(&s, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return s.String()
}

// A host is a directory that is made to look like a machine's root.
type host struct {
	t    testing.TB
	root string
}

func newHost(t testing.TB) host { return host{t, t.TempDir()} }

func (h host) dir(name string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Join(h.root, name), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

func (h host) file(name, text string) {
	h.t.Helper()
	h.dir(filepath.Dir(name))
	if err := os.WriteFile(filepath.Join(h.root, name), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h host) link(name, to string) {
	h.t.Helper()
	h.dir(filepath.Dir(name))
	if err := os.Symlink(to, filepath.Join(h.root, name)); err != nil {
		h.t.Fatal(err)
	}
}

func (h host) build(ca *x509.Certificate, env ...string) *Plan {
	h.t.Helper()
	p, err := Build(Options{CA: ca.Raw, Root: h.root, Dir: "/private", Env: env})
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// covered returns what the child reads at path, and whether that is covered.
// Links are followed on the host: trees copy them as they are.
func (h host) covered(p *Plan, path string) (string, bool) {
	real, err := rooted(h.root).resolve(path)
	if err != nil {
		real = path
	}
	for _, f := range p.Files {
		if f.Target == real || f.Target == "" && "/private/"+f.Name == path {
			return string(f.Data), true
		}
	}
	dir, err := rooted(h.root).resolve(filepath.Dir(path))
	for _, t := range p.Trees {
		if data, ok := t.Add[filepath.Base(real)]; ok && t.Target == filepath.Dir(real) {
			return string(data), true
		}
		if data, ok := t.Add[filepath.Base(path)]; ok && err == nil && t.Target == dir {
			return string(data), true
		}
	}
	return "", false
}

// names returns the common names in a bundle.
func names(t testing.TB, bundle string) []string {
	t.Helper()
	var cns []string
	if bad := certificates([]byte(bundle), func(der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		cns = append(cns, c.Subject.CommonName)
	}); bad != 0 {
		t.Errorf("%d bad blocks", bad)
	}
	return cns
}

func getenv(p *Plan, name string) string {
	value := ""
	for _, kv := range p.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			if value != "" {
				return "twice: " + value
			}
			value = v
		}
	}
	return value
}
