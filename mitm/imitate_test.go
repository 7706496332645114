package mitm

import (
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"
)

// TestImitate: what stands in for a server is believed by those who trust the
// authority, for its names and no others, and as long as it says.
func TestImitate(t *testing.T) {
	a := testAuthority(t)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.PEM()) {
		t.Fatal("no root")
	}
	like, err := a.Imitate("first.test", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	expired := *like.Leaf
	expired.Raw, expired.NotBefore, expired.NotAfter = []byte("another"), time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	for _, c := range []struct {
		name    string
		like    *x509.Certificate
		rsa     bool
		yes, no string
	}{
		{"api.example.test", nil, false, "api.example.test", "other.test"},
		{"192.0.2.7", nil, false, "192.0.2.7", "192.0.2.8"},
		{"2001:db8::7", nil, true, "2001:db8::7", "api.example.test"},
		{"asked.test", like.Leaf, false, "first.test", "asked.test"},
		{"first.test", &expired, false, "", "first.test"},
	} {
		cert, err := a.Imitate(c.name, c.like, c.rsa)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: c.yes, Roots: roots}); err != nil && c.yes != "" {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: c.no, Roots: roots}); err == nil {
			t.Errorf("%s: believed to be %s", c.name, c.no)
		}
		if _, isRSA := cert.PrivateKey.(*rsa.PrivateKey); isRSA != c.rsa {
			t.Errorf("%s: RSA %v", c.name, isRSA)
		}
	}
}
