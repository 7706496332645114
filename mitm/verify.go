package mitm

import (
	"crypto/x509"
	"errors"
	"time"
)

// verdict is what we think of a server's certificate.
type verdict struct {
	err   error // nil: nothing to say against it
	known bool  // its issuer is trusted
}

// flawed tells a certificate of a known issuer that the child will find fault
// with by itself.
func (v verdict) flawed() bool { return v.err != nil && v.known }

// text is the verdict for the record.
func (v verdict) text() string {
	if v.err == nil {
		return "ok"
	}
	return v.err.Error()
}

// verify judges a chain, leaf first, for a name or address. x509 reports one
// error only, so a chain that fails is looked at again without a name, for any
// usage, at a time when its leaf was valid: what fails then is the issuer.
func verify(chain []*x509.Certificate, name string, roots *x509.CertPool, now time.Time) verdict {
	if len(chain) == 0 {
		return verdict{err: errors.New("x509: no certificate")}
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	o := x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between, CurrentTime: now}
	_, err := leaf.Verify(o)
	if err == nil {
		return verdict{known: true}
	}
	o.DNSName = ""
	o.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	switch {
	case now.After(leaf.NotAfter):
		o.CurrentTime = leaf.NotAfter
	case now.Before(leaf.NotBefore):
		o.CurrentTime = leaf.NotBefore
	}
	_, again := leaf.Verify(o)
	return verdict{err: err, known: again == nil}
}
