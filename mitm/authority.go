package mitm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// Validity of what we sign. Some clients refuse leaves of more than 200 days
// or so, and the clocks of others go wrong.
const (
	backdated  = 48 * time.Hour
	caLifetime = 365 * 24 * time.Hour
	leafDays   = 120 * 24 * time.Hour
	leafFresh  = 24 * time.Hour // a cached leaf is made anew after this
)

// maxLeaves bounds the cache of leaves.
const maxLeaves = 4096

// Authority is a certification authority: that of one run, whose key is in
// memory only, or a lasting one. It is safe for concurrent use.
type Authority struct {
	root   *issuer
	raw    []byte
	ec     *ecdsa.PrivateKey // of all leaves
	rsa    rsaKey            // of leaves for clients that cannot use ec
	nobody struct {          // an issuer that no one trusts
		sync.Once
		*issuer
		err error
	}

	mu     sync.Mutex // guards leaves
	leaves map[leafID]*leaf
}

// issuer signs certificates.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority makes an authority with a key and a name of its own.
func NewAuthority(now time.Time) (*Authority, error) {
	root, err := newIssuer("trace run CA", caLifetime, now)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	return newAuthority(root)
}

func newAuthority(root *issuer) (*Authority, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make leaf key: %w", err)
	}
	return &Authority{root: root, raw: root.cert.Raw, ec: ec, leaves: make(map[leafID]*leaf)}, nil
}

// NewRoot makes the certificate of an authority and the key that signs for it,
// for a caller who keeps them. The certificate's common name is name and
// a hash of the key.
func NewRoot(name string, lifetime time.Duration, now time.Time) (*x509.Certificate, crypto.Signer, error) {
	root, err := newIssuer(name, lifetime, now)
	if err != nil {
		return nil, nil, fmt.Errorf("make authority: %w", err)
	}
	return root.cert, root.key, nil
}

// AuthorityFrom returns the authority of a certificate and its key that were
// kept. It refuses what clients would not accept at the time now.
func AuthorityFrom(cert *x509.Certificate, key crypto.Signer, now time.Time) (*Authority, error) {
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	var cause error
	switch {
	case !ok || !pub.Equal(key.Public()):
		cause = errors.New("its key is another one")
	case !cert.BasicConstraintsValid || !cert.IsCA:
		cause = errors.New("it is not of a certification authority")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		cause = errors.New("it may not sign certificates")
	case now.Before(cert.NotBefore):
		cause = fmt.Errorf("it is valid from %s only", cert.NotBefore.UTC().Format(time.DateTime))
	case now.After(cert.NotAfter):
		cause = fmt.Errorf("it has expired at %s", cert.NotAfter.UTC().Format(time.DateTime))
	}
	if cause != nil {
		return nil, fmt.Errorf("use authority %q: %w", cert.Subject, cause)
	}
	return newAuthority(&issuer{cert, key})
}

// Certificate returns the authority's own certificate in DER.
func (a *Authority) Certificate() []byte { return a.raw }

// PEM returns the authority's own certificate in PEM.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.raw})
}

// newIssuer makes a self-signed authority. Its name ends with a hash of its
// key: some clients drop certificates that carry the name of another.
func newIssuer(name string, lifetime time.Duration, now time.Time) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := keyID(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"trace"}, CommonName: name + " " + hex.EncodeToString(id[:8])},
		NotBefore:             now.Add(-backdated).Truncate(time.Second),
		NotAfter:              now.Add(lifetime).Truncate(time.Second),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          id,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &issuer{cert, key}, nil
}

// issuer returns who signs: the authority, or nobody that the child trusts.
func (a *Authority) issuer(unknown bool, now time.Time) (*issuer, error) {
	if !unknown {
		return a.root, nil
	}
	n := &a.nobody
	n.Do(func() { n.issuer, n.err = newIssuer("trace stand-in for an unknown issuer", caLifetime, now) })
	return n.issuer, n.err
}

// keyID returns the subject key identifier of a public key: the first 160
// bits of its SHA-256 (RFC 7093 section 2).
func keyID(pub any) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(spki)
	return sum[:20], nil
}

// newSerial returns a random positive serial number of at most 20 octets
// (RFC 5280 section 4.1.2.2).
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil
}
