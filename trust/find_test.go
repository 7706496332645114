package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"testing"
	"time"
)

// runCA makes a certificate as a run's.
func runCA(t *testing.T, id string, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	return newCertificate(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{Organization: []string{"trace"}, CommonName: "trace run CA " + id}
		if change != nil {
			change(c)
		}
	})
}

// TestFind: what Build planned is what Find finds.
func TestFind(t *testing.T) {
	other, old, ours := newRoot(t, "other"), runCA(t, "1", nil), runCA(t, "2", nil)
	expired := runCA(t, "3", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	leaf := runCA(t, "4", func(c *x509.Certificate) { c.IsCA = false })
	for _, c := range []struct {
		name  string
		files map[string]string
		env   []string
		want  *x509.Certificate
	}{
		{"nothing", nil, nil, nil},
		{"no run", map[string]string{"/etc/ssl/certs/ca-certificates.crt": pemOf(other)}, nil, nil},
		{"directory", map[string]string{"/etc/ssl/certs/trace.pem": pemOf(ours), "/etc/ssl/certs/ca-certificates.crt": pemOf(other, old)}, nil, ours},
		{"its own directory", map[string]string{"/some/dir/trace.pem": pemOf(ours)}, []string{"SSL_CERT_DIR=/none:/some/dir"}, ours},
		{"bundle of Fedora", map[string]string{"/etc/pki/tls/certs/ca-bundle.crt": pemOf(other, ours)}, nil, ours},
		{"run in a run", map[string]string{"/etc/ssl/cert.pem": pemOf(other, old, ours)}, nil, ours},
		{"private file", map[string]string{"/state/trust/ca-certificates.crt": pemOf(other, ours)}, []string{"SSL_CERT_FILE=/state/trust/ca-certificates.crt"}, ours},
		{"variable changed", map[string]string{"/state/ca.crt": pemOf(ours)}, []string{"SSL_CERT_FILE=relative.pem", "NODE_EXTRA_CA_CERTS=/state/ca.crt"}, ours},
		{"expired", map[string]string{"/etc/ssl/certs/trace.pem": pemOf(expired)}, nil, nil},
		{"no authority", map[string]string{"/etc/ssl/certs/trace.pem": pemOf(leaf)}, nil, nil},
		{"somebody else's", map[string]string{"/etc/ssl/certs/trace.pem": pemOf(other)}, nil, nil},
		{"malformed", map[string]string{"/etc/ssl/certs/trace.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, nil, nil},
	} {
		h := newHost(t)
		for name, text := range c.files {
			h.file(name, text)
		}
		got, err := Find(h.root, c.env)
		switch {
		case c.want == nil && !errors.Is(err, ErrNoRun):
			t.Errorf("%s: %v, want ErrNoRun", c.name, err)
		case c.want != nil && (err != nil || !got.Equal(c.want)):
			t.Errorf("%s: found %v, %v", c.name, got, err)
		}
	}
}
