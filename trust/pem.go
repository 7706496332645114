package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	roots "golang.org/x/crypto/x509roots/fallback/bundle"
)

// set is a list of certificates, DER, each once.
type set struct {
	list [][]byte
	has  map[string]bool
}

func (s *set) add(der []byte) {
	if s.has == nil {
		s.has = map[string]bool{}
	}
	if !s.has[string(der)] {
		s.has[string(der)] = true
		s.list = append(s.list, der)
	}
}

// certificates calls yield for each certificate of a PEM file. It returns how
// many blocks of certificates it left out: malformed ones, and those of type
// TRUSTED CERTIFICATE, which carry OpenSSL's own marks of what they are not
// trusted for.
func certificates(data []byte, yield func(der []byte)) (bad int) {
	begun := bytes.Count(data, beginCertificate)
	for {
		if der, rest, ok := firstCertificate(data); ok {
			data = rest
			begun--
			if wellFormed(der) {
				yield(der)
			} else {
				bad++
			}
			continue
		}
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return bad + begun // blocks that could not be decoded
		}
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE":
			if block.Type == "CERTIFICATE" {
				begun--
			}
			if !wellFormed(block.Bytes) {
				bad++
				continue
			}
			yield(block.Bytes)
		case "TRUSTED CERTIFICATE":
			bad++
		}
	}
}

var (
	beginCertificate = []byte("-----BEGIN CERTIFICATE-----")
	endCertificate   = []byte("-----END CERTIFICATE-----")
	beginAny         = []byte("-----BEGIN")
)

// firstCertificate is pem.Decode for what nearly all files hold: a certificate
// as pem.Encode writes it, or with lines of another length. It takes a third
// of the time, and every run waits for it. Not ok says that it may be there
// all the same.
func firstCertificate(data []byte) (der, rest []byte, ok bool) {
	at := bytes.Index(data, beginAny)
	if at < 0 || at > 0 && data[at-1] != '\n' {
		return nil, nil, false
	}
	text, ok := bytes.CutPrefix(data[at:], beginCertificate)
	if !ok {
		return nil, nil, false
	}
	text, rest, ok = bytes.Cut(text, endCertificate)
	if !ok || len(text) < 2 || text[0] != '\n' || text[len(text)-1] != '\n' || len(rest) > 0 && rest[0] != '\n' {
		return nil, nil, false
	}
	der, err := base64.StdEncoding.AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(text))), text)
	return der, rest, err == nil
}

// appendPEM is pem.Encode of a certificate.
func appendPEM(out, der []byte) []byte {
	const line = 48 // bytes in the 64 letters of a line
	out = append(append(out, beginCertificate...), '\n')
	for len(der) > 0 {
		n := min(line, len(der))
		out = append(base64.StdEncoding.AppendEncode(out, der[:n]), '\n')
		der = der[n:]
	}
	return append(append(out, endCertificate...), '\n')
}

// wellFormed reports whether der has the outline of a certificate (RFC 5280
// section 4.1) and nothing after it. Go's parser knows better, but takes ten
// times as long and refuses some that OpenSSL takes.
func wellFormed(der []byte) bool {
	in := cryptobyte.String(der)
	var cert, tbs cryptobyte.String
	if !in.ReadASN1(&cert, asn1.SEQUENCE) || !in.Empty() ||
		!cert.ReadASN1(&tbs, asn1.SEQUENCE) || !cert.SkipASN1(asn1.SEQUENCE) || !cert.SkipASN1(asn1.BIT_STRING) || !cert.Empty() {
		return false
	}
	return tbs.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) && // version
		tbs.SkipASN1(asn1.INTEGER) && // serialNumber
		tbs.SkipASN1(asn1.SEQUENCE) && // signature
		tbs.SkipASN1(asn1.SEQUENCE) && // issuer
		tbs.SkipASN1(asn1.SEQUENCE) && // validity
		tbs.SkipASN1(asn1.SEQUENCE) && // subject
		tbs.SkipASN1(asn1.SEQUENCE) // subjectPublicKeyInfo
}

// add takes the certificates of a PEM file into the plan.
func (b *builder) add(name string, data []byte) {
	if bad := certificates(data, b.plan.certs.add); bad > 0 {
		b.note("%s: left out %d that are no plain certificates", name, bad)
	}
}

// complete sees to a host without a bundle: what lies in its directories
// counts, and if there is nothing either, the compiled roots.
func (b *builder) complete() {
	p := b.plan
	if len(p.certs.list) > 0 {
		return
	}
	for _, dir := range p.dirs {
		b.addDir(dir)
	}
	if len(p.certs.list) > 0 {
		return
	}
	p.Fallback = true
	for r := range roots.Roots() {
		p.certs.add(r.Certificate)
	}
}

// addDir takes the certificates of all files of a directory into the plan.
func (b *builder) addDir(dir string) {
	for _, name := range b.root.list(dir) {
		if data, err := b.root.read(dir + "/" + name); err == nil {
			certificates(data, b.plan.certs.add)
		}
	}
}

// combined returns the bundle for the child: all roots, and ours.
func (b *builder) combined() []byte {
	size := len(b.caPEM)
	for _, der := range b.plan.certs.list {
		size += len(der)*3/2 + len(beginCertificate) + len(endCertificate) + 2
	}
	out := make([]byte, 0, size)
	for _, der := range b.plan.certs.list {
		out = appendPEM(out, der)
	}
	return append(out, b.caPEM...)
}

// makePool parses the roots. Programs of the host trust single files of the
// hashed directories too, so these count.
func (p *Plan) makePool() *x509.CertPool {
	pool := x509.NewCertPool()
	if p.Fallback {
		p.addFallback(pool)
	}
	all := set{}
	for _, der := range p.certs.list {
		all.add(der)
	}
	for _, dir := range p.dirs {
		for _, name := range p.root.list(dir) {
			if data, err := p.root.read(dir + "/" + name); err == nil {
				certificates(data, all.add)
			}
		}
	}
	for _, der := range all.list {
		if c, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(c)
		}
	}
	return pool
}

// addFallback adds the compiled roots with their constraints. A certificate
// that a pool has already is not added again, so these go first.
func (p *Plan) addFallback(pool *x509.CertPool) {
	for r := range roots.Roots() {
		c, err := x509.ParseCertificate(r.Certificate)
		switch {
		case err != nil:
		case r.Constraint != nil:
			pool.AddCertWithConstraint(c, r.Constraint)
		default:
			pool.AddCert(c)
		}
	}
}

// errNoCertificate is what is wrong with a file of roots without any.
var errNoCertificate = errors.New("no certificate in it (PEM is wanted)")

// LoadRoots reads PEM files of roots. Each must hold at least one
// certificate, and only such as can be parsed. The error names the file.
func LoadRoots(files ...string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read roots: %w", err)
		}
		n := len(certs)
		bad := certificates(data, func(der []byte) {
			c, perr := x509.ParseCertificate(der)
			if perr != nil {
				err = perr
				return
			}
			certs = append(certs, c)
		})
		switch {
		case err != nil:
			return nil, fmt.Errorf("read roots %s: %w", name, err)
		case bad > 0:
			return nil, fmt.Errorf("read roots %s: %d malformed certificates", name, bad)
		case len(certs) == n:
			return nil, fmt.Errorf("read roots %s: %w", name, errNoCertificate)
		}
	}
	return certs, nil
}
