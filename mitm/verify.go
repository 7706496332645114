package mitm

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"sync"
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

// Limits of what verdicts remembers.
const (
	verdictTime = time.Minute
	maxVerdicts = 512
)

// verdicts remembers for a moment which chains were found good for which
// name, because a program opens many connections to one server.
type verdicts struct {
	mu   sync.Mutex
	good map[verdictKey]period
}

type verdictKey struct {
	chain [sha256.Size]byte
	name  string
}

// period is a time from which to which.
type period struct{ from, to time.Time }

// verify is verify with that memory. All calls must be with the same roots.
func (v *verdicts) verify(chain []*x509.Certificate, name string, roots *x509.CertPool, now time.Time) verdict {
	key := verdictKey{name: name}
	h := sha256.New()
	for _, c := range chain {
		h.Write(c.Raw)
	}
	h.Sum(key.chain[:0])
	v.mu.Lock()
	p, ok := v.good[key]
	v.mu.Unlock()
	if ok && !now.Before(p.from) && now.Before(p.to) {
		return verdict{known: true}
	}
	found := verify(chain, name, roots, now)
	if found.err != nil {
		return found
	}
	p = period{now, now.Add(verdictTime)}
	for _, c := range chain {
		if c.NotAfter.Before(p.to) {
			p.to = c.NotAfter
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.good == nil || len(v.good) >= maxVerdicts {
		v.good = map[verdictKey]period{}
	}
	v.good[key] = p
	return found
}
