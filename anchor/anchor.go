// Package anchor keeps a lasting authority on disk and puts its certificate
// where this machine's programs look.
//
//	d := anchor.Dir("/home/u/.local/state/trace/ca")
//	made, err := d.Create("", time.Now())             // nothing where there is one
//	ca, err := d.Load(func() (string, error) { … })   // asked for a passphrase if it needs one
//	authority, err := mitm.AuthorityFrom(ca.Certificate, ca.Key, time.Now())
//
//	host := anchor.Host{Home: home, UID: os.Getuid()}
//	for _, place := range host.System() { … }         // what to run is printed, and run by the caller
//
// A run's own authority lives and dies with it, and package mitm makes it. The
// one here is for clients that trace does not start: phones, containers, other
// machines, programs behind a proxy. They have to be told to trust it, and that
// lasts, so it lasts too.
//
// # Theory of operation
//
// The directory is 0700 and holds:
//
//   - key.pem, 0600: the certificate, and the key as PKCS #8 or, with a
//     passphrase, the same as an age file (scrypt recipient). This file alone
//     is the authority: it is replaced by a rename, so certificate and key
//     never part.
//   - ca.pem, 0644: the certificate again, to be handed out. Load writes it
//     anew if it is missing or another one.
//   - ca-ID.pem: certificates of authorities that were rotated away, kept as
//     long as something may trust them. ID is the first half of a hash of the
//     key and stands in the certificate's name too.
//   - installed.json: where Install put certificates, with the certificates, so
//     that just this can be undone.
//   - lock: who changes any of these holds it.
//
// A key that others may read, or that is somebody else's, is refused: it would
// let them stand between this user's programs and every server. Nothing here
// mends a mode silently, because by then the key may have been read.
//
// A Place knows how to add a certificate to where programs look, how to take it
// away, and whether it is there. It does so by the distribution's own commands,
// which it returns instead of running them: what is shown to the user is to the
// letter what is run. Where a command does not say so, nothing is assumed to
// have worked: Has looks.
package anchor

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"trace/mitm"
)

// lifetime of an authority. Longer than a phone is used, shorter than what is
// forgotten on one should be good for.
const lifetime = 5 * 365 * 24 * time.Hour

// commonName is what the name of an authority begins with.
const commonName = "trace CA"

// ErrNone says that there is no lasting authority.
var ErrNone = errors.New("there is no lasting authority")

// Dir is the directory of an authority. It need not exist.
type Dir string

// A CA is an authority that can sign.
type CA struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// An Info is what can be known of an authority without its key.
type Info struct {
	Certificate *x509.Certificate
	Encrypted   bool  // the key is kept under a passphrase
	Problem     error // why Load would refuse it; nil: nothing is known against it
}

// Info reads the certificate. The error wraps ErrNone where there is none.
func (d Dir) Info() (*Info, error) {
	f, err := d.read()
	if err == nil {
		return &Info{f.cert, f.encrypted(), nil}, nil
	}
	if errors.Is(err, ErrNone) {
		return nil, err
	}
	// The certificate is no secret, and shows what the trouble is about.
	data, rerr := readFile(d.path(certFile))
	if rerr != nil {
		return nil, err
	}
	cert, rerr := parseCertificate(data)
	if rerr != nil {
		return nil, err
	}
	return &Info{Certificate: cert, Problem: err}, nil
}

// Load reads certificate and key. passphrase is called if the key is kept
// under one; a wrong one is an error that wraps ErrPassphrase.
func (d Dir) Load(passphrase func() (string, error)) (*CA, error) {
	f, err := d.read()
	if err != nil {
		return nil, err
	}
	key, err := f.open(d.path(keyFile), passphrase)
	if err != nil {
		return nil, err
	}
	if data, err := readFile(d.path(certFile)); err != nil || string(data) != string(PEM(f.cert)) {
		if err := d.locked(d.publish); err != nil {
			return nil, err
		}
	}
	return &CA{f.cert, key}, nil
}

// publish writes ca.pem as key.pem has it now.
func (d Dir) publish() error {
	f, err := d.read()
	if err != nil {
		return err
	}
	return d.write(certFile, 0o644, PEM(f.cert))
}

// Create makes an authority if there is none, with its key under the
// passphrase unless that is empty, and tells whether it did. Of several that
// try at once one does.
func (d Dir) Create(passphrase string, now time.Time) (made bool, err error) {
	err = d.locked(func() error {
		_, err := d.read()
		if !errors.Is(err, ErrNone) {
			return err
		}
		made = true
		return d.make(passphrase, now)
	})
	return made && err == nil, err
}

// make makes an authority in place of what there was. The lock is held.
func (d Dir) make(passphrase string, now time.Time) error {
	cert, key, err := mitm.NewRoot(commonName, lifetime, now)
	if err != nil {
		return err
	}
	data, err := encode(cert, key, passphrase)
	if err != nil {
		return err
	}
	if err := d.write(keyFile, 0o600, data); err != nil {
		return err
	}
	return d.write(certFile, 0o644, PEM(cert))
}

// Rotate makes a new authority, with a name and a key of its own, and returns
// the certificate of the one before, which is kept aside; nil if there was
// none. The old key is gone.
func (d Dir) Rotate(passphrase string, now time.Time) (old *x509.Certificate, err error) {
	err = d.locked(func() error {
		info, err := d.Info()
		switch {
		case errors.Is(err, ErrNone):
		case err != nil:
			return err
		default:
			old = info.Certificate
			if err := d.write(oldName(old), 0o644, PEM(old)); err != nil {
				return err
			}
		}
		return d.make(passphrase, now)
	})
	if err != nil {
		return nil, err
	}
	return old, nil
}

// SetPassphrase keeps the key under another passphrase; an empty one leaves it
// plain. old is called if the key is under one now.
func (d Dir) SetPassphrase(old func() (string, error), passphrase string) error {
	before, err := d.read()
	if err != nil {
		return err
	}
	key, err := before.open(d.path(keyFile), old) // may ask, and take its time: without the lock
	if err != nil {
		return err
	}
	data, err := encode(before.cert, key, passphrase)
	if err != nil {
		return err
	}
	return d.locked(func() error {
		now, err := d.read()
		if err != nil {
			return err
		}
		if !now.cert.Equal(before.cert) {
			return fmt.Errorf("%s: it was replaced meanwhile", d.path(keyFile))
		}
		return d.write(keyFile, 0o600, data)
	})
}

// Old returns the certificates of authorities that were rotated away.
func (d Dir) Old() ([]*x509.Certificate, error) {
	current := ""
	if info, err := d.Info(); err == nil {
		current = oldName(info.Certificate)
	}
	names, err := filepath.Glob(filepath.Join(escapeGlob(string(d)), oldName(nil)))
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, name := range names {
		if filepath.Base(name) == current { // a rotation that did not come to its end
			continue
		}
		data, err := readFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		cert, err := parseCertificate(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// Forget deletes what is kept of authorities that were rotated away.
func (d Dir) Forget(old []*x509.Certificate) error {
	return d.locked(func() error {
		for _, c := range old {
			if err := os.Remove(d.path(oldName(c))); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// File returns the path of the file with the certificate of this authority,
// the current one or an old one.
func (d Dir) File(cert *x509.Certificate) string {
	if info, err := d.Info(); err == nil && info.Certificate.Equal(cert) {
		return d.path(certFile)
	}
	return d.path(oldName(cert))
}

// KeyFile returns the path of the file with the key.
func (d Dir) KeyFile() string { return d.path(keyFile) }

// ID returns what tells an authority from others in names of files: the hash
// of its key that its name ends with.
func ID(cert *x509.Certificate) string {
	if len(cert.SubjectKeyId) >= idSize {
		return hex.EncodeToString(cert.SubjectKeyId[:idSize])
	}
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:idSize])
}

// idSize is the length of an ID in octets.
const idSize = 8

// Fingerprint returns the SHA-256 of a certificate as people compare it.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}
