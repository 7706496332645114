package mitm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// oidSAN is the subject alternative name extension (RFC 5280 section 4.2.1.6).
var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// rsaKey is made when the first client needs it.
type rsaKey struct {
	once sync.Once
	key  *rsa.PrivateKey
	err  error
}

func (k *rsaKey) get() (*rsa.PrivateKey, error) {
	k.once.Do(func() { k.key, k.err = rsa.GenerateKey(rand.Reader, 2048) })
	return k.key, k.err
}

// leafID names a leaf: what it copies, and the ways in which it may differ.
type leafID struct {
	upstream [sha256.Size]byte
	unknown  bool // signed by an issuer that the child does not know
	rsa      bool
}

// leaf is a certificate for the child that says what an upstream one says.
type leaf struct {
	made time.Time
	cert *tls.Certificate
}

// leaf returns a certificate that copies the names, the usage and, where it
// lies outside now, the validity of an upstream certificate.
func (a *Authority) leaf(upstream *x509.Certificate, unknown, useRSA bool, now time.Time) (*tls.Certificate, error) {
	id := leafID{sha256.Sum256(upstream.Raw), unknown, useRSA}
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.leaves[id]; l != nil && now.Sub(l.made).Abs() < leafFresh {
		return l.cert, nil
	}
	cert, err := a.sign(upstream, unknown, useRSA, now)
	if err != nil {
		return nil, fmt.Errorf("sign leaf for %q: %w", upstream.Subject, err)
	}
	if len(a.leaves) >= maxLeaves {
		clear(a.leaves)
	}
	a.leaves[id] = &leaf{now, cert}
	return cert, nil
}

// ServerCertificate returns a certificate for a server of our own of that
// name, signed by the authority.
func (a *Authority) ServerCertificate(name string) (*tls.Certificate, error) {
	now := time.Now()
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name}, NotBefore: now.Add(-backdated), NotAfter: now.Add(leafDays),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a.root.cert, a.ec.Public(), a.root.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.ec}, nil
}

// Imitate returns a certificate for a server of our own that stands in for one
// which showed like: with its names, its usage and its validity, signed by the
// authority. Without like it is for name alone. rsa asks for an RSA key.
func (a *Authority) Imitate(name string, like *x509.Certificate, rsa bool) (*tls.Certificate, error) {
	now := time.Now()
	if like == nil {
		like = &x509.Certificate{Raw: []byte(name), NotBefore: now, NotAfter: now.Add(leafDays), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		var err error
		if like.RawSubject, err = asn1.Marshal(pkix.Name{CommonName: name}.ToRDNSequence()); err != nil {
			return nil, err
		}
		if like.Extensions, err = nameExtension(name); err != nil {
			return nil, err
		}
	}
	return a.leaf(like, false, rsa, now)
}

// nameExtension makes the subject alternative name of a host or an address (RFC
// 5280 section 4.2.1.6).
func nameExtension(name string) ([]pkix.Extension, error) {
	value := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)} // dNSName
	if ip, err := netip.ParseAddr(name); err == nil {
		value = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: ip.Unmap().AsSlice()} // iPAddress
	}
	der, err := asn1.Marshal([]asn1.RawValue{value})
	return []pkix.Extension{{Id: oidSAN, Value: der}}, err
}

func (a *Authority) sign(upstream *x509.Certificate, unknown, useRSA bool, now time.Time) (*tls.Certificate, error) {
	by, err := a.issuer(unknown, now)
	if err != nil {
		return nil, err
	}
	var key crypto.Signer = a.ec
	usage := x509.KeyUsageDigitalSignature
	if useRSA {
		if key, err = a.rsa.get(); err != nil {
			return nil, err
		}
		usage |= x509.KeyUsageKeyEncipherment
	}
	t, err := leafTemplate(upstream, now)
	if err != nil {
		return nil, err
	}
	t.KeyUsage = usage
	if t.SubjectKeyId, err = keyID(key.Public()); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, key.Public(), by.key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, nil
}

// leafTemplate copies what a client judges a certificate by.
func leafTemplate(upstream *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		RawSubject:            upstream.RawSubject,
		NotBefore:             now.Add(-backdated).Truncate(time.Second),
		NotAfter:              now.Add(leafDays).Truncate(time.Second),
		ExtKeyUsage:           upstream.ExtKeyUsage,
		UnknownExtKeyUsage:    upstream.UnknownExtKeyUsage,
		BasicConstraintsValid: true,
	}
	if outside(upstream, now) {
		t.NotBefore, t.NotAfter = upstream.NotBefore, upstream.NotAfter
	}
	// An empty SEQUENCE is an empty name; the names must be critical then.
	empty := len(upstream.RawSubject) <= 2
	for _, ext := range upstream.Extensions {
		if ext.Id.Equal(oidSAN) {
			t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: ext.Id, Critical: ext.Critical || empty, Value: ext.Value})
		}
	}
	return t, nil
}

// outside tells whether now lies outside the validity of a certificate.
func outside(c *x509.Certificate, now time.Time) bool {
	return now.Before(c.NotBefore) || now.After(c.NotAfter)
}
