package trust

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"crypto/x509"
)

// incapable skips a test for want of a program, unless nothing may be skipped.
func incapable(t *testing.T, program string) string {
	t.Helper()
	p, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("TRACE_NO_SKIP") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return p
}

// known are subjects with the hashes that OpenSSL 3 gives them.
var known = []struct {
	name pkix.Name
	want uint32
}{
	{pkix.Name{CommonName: "trace CA"}, 0xd30f1a98},
	{pkix.Name{CommonName: "  Trace \t CA 3f2A  ", Organization: []string{"trace"}, Country: []string{"DE"}}, 0xf1de2d41},
	{pkix.Name{CommonName: "Zürich ÄÖ", OrganizationalUnit: []string{"b", "A"}}, 0xca0d4eeb},
	{pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: "Example"}}}, 0x5377a75c},
	{pkix.Name{}, 0xeea339da},
}

func TestSubjectHash(t *testing.T) {
	for _, k := range known {
		if hash, err := subjectHash(newCA(t, k.name).RawSubject); err != nil || hash != k.want {
			t.Errorf("%v: %08x, %v; want %08x", k.name, hash, err, k.want)
		}
	}
}

func TestSubjectHashAsOpenSSL(t *testing.T) {
	openssl := incapable(t, "openssl")
	for _, k := range known {
		file := filepath.Join(t.TempDir(), "c.pem")
		if err := os.WriteFile(file, []byte(pemOf(newCA(t, k.name))), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(openssl, "x509", "-noout", "-subject_hash", "-in", file).Output()
		if got, want := strings.TrimSpace(string(out))+".0", hashName(k.want, 0); err != nil || got != want {
			t.Errorf("%v: openssl says %s, %v; want %s", k.name, got, err, want)
		}
	}
}

// TestSubjectHashOfSystem compares with the names of this machine's files.
func TestSubjectHashOfSystem(t *testing.T) {
	links, _ := filepath.Glob("/etc/ssl/certs/*.0")
	n := 0
	for _, l := range links {
		data, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		certificates(data, func(der []byte) {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return
			}
			hash, err := subjectHash(c.RawSubject)
			if err != nil {
				return // a type of string that only others use
			}
			n++
			if name := hashName(hash, 0); name != filepath.Base(l) {
				t.Errorf("%v: %s, the file is %s", c.Subject, name, filepath.Base(l))
			}
		})
	}
	t.Logf("%d of %d files", n, len(links))
}

func FuzzSubjectHash(f *testing.F) {
	f.Add(newRoot(f, "x").RawSubject)
	f.Fuzz(func(t *testing.T, raw []byte) { subjectHash(raw) })
}

func FuzzCertificates(f *testing.F) {
	f.Add([]byte(pemOf(newRoot(f, "x"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bad := certificates(data, func(der []byte) { wellFormed(der) }); bad < 0 {
			t.Errorf("%d bad blocks", bad)
		}
	})
}
