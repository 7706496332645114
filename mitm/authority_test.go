package mitm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

// TestAuthorityFrom: an authority that was kept signs leaves of both kinds as
// one that was just made does.
func TestAuthorityFrom(t *testing.T) {
	now := time.Now()
	cert, key, err := NewRoot("kept", 5*365*24*time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	a, err := AuthorityFrom(cert, key, now.Add(300*24*time.Hour)) // long after a run's would have ended
	if err != nil {
		t.Fatal(err)
	}
	if string(a.Certificate()) != string(cert.Raw) || !strings.HasPrefix(cert.Subject.CommonName, "kept ") {
		t.Errorf("its certificate is %q", cert.Subject)
	}
	checkLeaves(t, a, cert)
}

// TestAuthorityFromOthers: the key may be of any kind that signs.
func TestAuthorityFromOthers(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ed, rsaKey} {
		cert := selfSigned(t, key, func(*x509.Certificate) {})
		a, err := AuthorityFrom(cert, key, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		checkLeaves(t, a, cert)
	}
}

func checkLeaves(t *testing.T, a *Authority, root *x509.Certificate) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(root)
	for _, useRSA := range []bool{false, true} {
		leaf, err := a.Imitate("kept.example", nil, useRSA)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := leaf.PrivateKey.(*rsa.PrivateKey); ok != useRSA {
			t.Errorf("a leaf with a %T", leaf.PrivateKey)
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{DNSName: "kept.example", Roots: roots}); err != nil {
			t.Error(err)
		}
		if days := leaf.Leaf.NotAfter.Sub(leaf.Leaf.NotBefore).Hours() / 24; days > 199 {
			t.Errorf("a leaf of %.0f days", days)
		}
	}
}

func selfSigned(t *testing.T, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "some authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAuthorityFromRefuses(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		key    crypto.Signer
		change func(*x509.Certificate)
	}{
		{"another one", other, func(*x509.Certificate) {}},
		{"not of a certification authority", key, func(c *x509.Certificate) { c.IsCA = false }},
		{"may not sign", key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }},
		{"has expired", key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }},
		{"valid from", key, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }},
	} {
		if _, err := AuthorityFrom(selfSigned(t, key, c.change), c.key, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
