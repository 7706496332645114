package trust

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrNoRun says that no run's CA is trusted here: this process is in no run.
var ErrNoRun = errors.New("not inside of a run")

// organization is what the subject of every run's CA names.
const organization = "trace"

// Find returns the CA of the run that this process is in: it asks the files
// that Build planned for it. In a run inside a run that is the inner one's. It
// reads below root as Build does; env is the process's environment.
func Find(root string, env []string) (*x509.Certificate, error) {
	b := &builder{root: rooted(root), Options: Options{Env: env}}
	for _, name := range b.anchorPaths() {
		if c := b.lastCA(name); c != nil {
			return c, nil
		}
	}
	return nil, ErrNoRun
}

// anchorPaths lists where the CA may be: under its own name, and at the end of
// the bundles.
func (b *builder) anchorPaths() []string {
	var paths []string
	list, _ := b.lookup("SSL_CERT_DIR")
	for _, dir := range slices.Concat(filepath.SplitList(list), hashed, anchors) {
		if path.IsAbs(dir) {
			paths = append(paths, path.Join(dir, anchorName))
		}
	}
	for _, name := range always {
		if v, _ := b.lookup(name); path.IsAbs(v) && !slices.Contains(paths, v) {
			paths = append(paths, v)
		}
	}
	return append(paths, bundles...)
}

// lastCA returns the last certificate in a PEM file that is a run's CA and
// valid now, nil if there is none.
func (b *builder) lastCA(name string) (found *x509.Certificate) {
	data, err := b.root.read(name)
	if err != nil {
		return nil
	}
	var ders [][]byte
	certificates(data, func(der []byte) { ders = append(ders, der) })
	now := time.Now()
	for _, der := range slices.Backward(ders) {
		c, err := x509.ParseCertificate(der)
		if err == nil && c.IsCA && slices.Equal(c.Subject.Organization, []string{organization}) &&
			strings.HasPrefix(c.Subject.CommonName, organization+" ") && now.After(c.NotBefore) && now.Before(c.NotAfter) {
			return c
		}
	}
	return nil
}

// PEM returns a certificate as programs read it.
func PEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
