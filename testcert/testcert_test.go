package testcert_test

import (
	"crypto/x509"
	"testing"

	"trace/testcert"
)

func TestNew(t *testing.T) {
	root, leaf, err := testcert.New("h.test")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		t.Fatal("the root is no PEM")
	}
	cert, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, good := range map[string]bool{"h.test": true, "127.0.0.1": true, "other.test": false} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
