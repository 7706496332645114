package trust

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto/x509"

	keystore "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// jks makes a keystore; aliases may stand for a key instead of a certificate.
func jks(t *testing.T, password string, certs map[string]*x509.Certificate) string {
	t.Helper()
	ks := keystore.New(keystore.WithCaseExactAliases())
	for alias, c := range certs {
		err := ks.SetTrustedCertificateEntry(alias, keystore.TrustedCertificateEntry{CreationTime: time.UnixMilli(1), Certificate: keystore.Certificate{Type: "X.509", Content: c.Raw}})
		if err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := ks.Store(&out, []byte(password)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestJavaStores(t *testing.T) {
	a, b, ours := newRoot(t, "a"), newRoot(t, "b"), newRoot(t, "trace ours")
	h := newHost(t)
	h.file("/etc/ssl/certs/java/cacerts", jks(t, "changeit", map[string]*x509.Certificate{"debian:a": a, "trace": b}))
	h.link("/usr/lib/jvm/java-17/lib/security/cacerts", "/etc/ssl/certs/java/cacerts")
	h.link("/usr/lib/jvm/default", "java-17")
	h.file("/usr/lib/jvm/.hidden.jinfo", "")
	p12, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{a, b}, "")
	if err != nil {
		t.Fatal(err)
	}
	h.file("/opt/jdk-21/lib/security/cacerts", string(p12))
	h.file("/opt/jdk-21/bin/java", "")
	h.link("/usr/bin/java", "/etc/alternatives/java")
	h.link("/etc/alternatives/java", "/home/me/jdk/jre/bin/java")
	h.file("/home/me/jdk/jre/bin/java", "")
	h.file("/home/me/jdk/jre/lib/security/cacerts", jks(t, "other", map[string]*x509.Certificate{"a": a}))
	secret, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{a}, "changeit")
	if err != nil {
		t.Fatal(err)
	}
	h.file("/sdk/lib/security/cacerts", string(secret))
	h.file("/sdk/lib/security/jssecacerts", "what is this")
	h.file("/home/u/.sdkman/candidates/java/x/lib/security/cacerts", jks(t, "changeit", nil))
	p := h.build(ours, "PATH=/bin:/usr/bin", "JAVA_HOME=/sdk", "HOME=/home/u")

	var targets []string
	stores := map[string][]byte{}
	for _, f := range p.Files {
		targets = append(targets, f.Target)
		stores[f.Target] = f.Data
	}
	want := []string{"/etc/ssl/certs/java/cacerts", "/opt/jdk-21/lib/security/cacerts", "/home/u/.sdkman/candidates/java/x/lib/security/cacerts"}
	slices.Sort(targets)
	slices.Sort(want)
	if targets = slices.DeleteFunc(targets, func(s string) bool { return s == "" }); !slices.Equal(targets, want) {
		t.Errorf("covered %v", targets)
	}
	ks := keystore.New(keystore.WithCaseExactAliases())
	if err := ks.Load(bytes.NewReader(stores["/etc/ssl/certs/java/cacerts"]), []byte("changeit")); err != nil {
		t.Fatal(err)
	}
	for alias, c := range map[string]*x509.Certificate{"debian:a": a, "trace": b, "trace-2": ours} {
		if e, err := ks.GetTrustedCertificateEntry(alias); err != nil || !bytes.Equal(e.Certificate.Content, c.Raw) {
			t.Errorf("%s: %v", alias, err)
		}
	}
	certs, err := pkcs12.DecodeTrustStore(stores["/opt/jdk-21/lib/security/cacerts"], "")
	if err != nil || len(certs) != 3 || !certs[2].Equal(ours) {
		t.Errorf("PKCS12: %d certificates, %v", len(certs), err)
	}
	notes := strings.Join(p.Notes, "\n")
	if len(p.Notes) != 3 || !strings.Contains(notes, "/home/me/jdk/jre/lib/security/cacerts") || !strings.Contains(notes, "/sdk/lib/security/cacerts") ||
		!strings.Contains(notes, "/sdk/lib/security/jssecacerts: a keystore of unknown type") {
		t.Errorf("notes:\n%s", notes)
	}
}

// TestKeytoolReads has the JDK's own tool read what Build made of this
// machine's keystore, and of password-less PKCS12.
func TestKeytoolReads(t *testing.T) {
	keytool := incapable(t, "keytool")
	ours := newRoot(t, "trace ours")
	p, err := Build(Options{CA: ours.Raw, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	list := func(data []byte, args ...string) string {
		file := filepath.Join(t.TempDir(), "store")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(keytool, append([]string{"-list", "-keystore", file}, args...)...).Output()
		if err != nil {
			t.Errorf("keytool: %v\n%s", err, out)
		}
		return string(out)
	}
	seen := 0
	for _, f := range p.Files {
		if filepath.Base(f.Target) != "cacerts" {
			continue
		}
		seen++
		if out := list(f.Data, "-storepass", storePassword); !strings.Contains(out, "\ntrace, ") {
			t.Errorf("%s: %.300s", f.Target, out)
		}
	}
	if seen == 0 {
		t.Errorf("keytool is here and no keystore was found: %v", p.Notes)
	}
	store, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{newRoot(t, "a"), newRoot(t, "a")}, "")
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{ca: ours}
	data, err := b.addToStore(store)
	if err != nil {
		t.Fatal(err)
	}
	if out := list(data, "-storetype", "PKCS12", "-storepass", ""); !strings.Contains(out, "contains 3 entries") {
		t.Errorf("PKCS12: %.500s", out)
	}
}
