package flow

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// A Certificate is what a certificate says, in the words of JSON.
type Certificate struct {
	Subject   string   `json:"subject"`
	Issuer    string   `json:"issuer"`
	NotBefore string   `json:"not_before"` // in TimeFormat
	NotAfter  string   `json:"not_after"`
	SHA256    string   `json:"sha256"` // of its DER form, in hex
	DNSNames  []string `json:"dns_names"`
	IPs       []string `json:"ip_addresses,omitempty"`
	// Error says why nothing but SHA256 is known: it cannot be read.
	Error string `json:"error,omitempty"`
}

// Certificates reads Chain, leaf first.
func (t *TLS) Certificates() []Certificate {
	var list []Certificate
	for _, der := range t.Chain {
		list = append(list, certificate(der))
	}
	return list
}

func certificate(der []byte) Certificate {
	sum := sha256.Sum256(der)
	c := Certificate{SHA256: hex.EncodeToString(sum[:]), DNSNames: []string{}}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		c.Error = err.Error()
		return c
	}
	c.Subject, c.Issuer = x.Subject.String(), x.Issuer.String()
	c.NotBefore, c.NotAfter = Stamp(x.NotBefore), Stamp(x.NotAfter)
	c.DNSNames = append(c.DNSNames, x.DNSNames...)
	for _, ip := range x.IPAddresses {
		c.IPs = append(c.IPs, ip.String())
	}
	return c
}
