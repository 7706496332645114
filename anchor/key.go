package anchor

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// ErrPassphrase says that a passphrase is not the one of the key.
var ErrPassphrase = errors.New("wrong passphrase")

// Types of PEM blocks. An age file in armor is one too.
const (
	certType = "CERTIFICATE"
	keyType  = "PRIVATE KEY"
	ageType  = "AGE ENCRYPTED FILE"
)

// workFactor is scrypt's, as a power of two: 128 MiB and a third of a second,
// once for each start. Reading takes a little more than that, and not what
// somebody else may have written there. Tests make it small.
var workFactor = 17

const maxWorkFactor = 20

// A keyPair is the contents of key.pem.
type keyPair struct {
	cert  *x509.Certificate
	block *pem.Block // the key
}

func (k *keyPair) encrypted() bool { return k.block.Type == ageType }

// PEM returns a certificate in PEM.
func PEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certType, Bytes: cert.Raw})
}

// encode writes key.pem.
func encode(cert *x509.Certificate, key crypto.Signer, passphrase string) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	block := &pem.Block{Type: keyType, Bytes: der}
	if passphrase != "" {
		if block, err = seal(der, passphrase); err != nil {
			return nil, fmt.Errorf("encrypt key: %w", err)
		}
	}
	return append(PEM(cert), pem.EncodeToMemory(block)...), nil
}

func seal(der []byte, passphrase string) (*pem.Block, error) {
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	to.SetWorkFactor(workFactor)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(der); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return &pem.Block{Type: ageType, Bytes: out.Bytes()}, nil
}

// decode reads key.pem.
func decode(data []byte) (*keyPair, error) {
	k := &keyPair{}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch {
		case block.Type == certType && k.cert == nil:
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parse certificate: %w", err)
			}
			k.cert = cert
		case (block.Type == keyType || block.Type == ageType) && k.block == nil:
			k.block = block
		default:
			return nil, fmt.Errorf("a %q too many", block.Type)
		}
	}
	switch {
	case len(bytes.TrimSpace(data)) > 0:
		return nil, errors.New("damaged: not all of it is PEM")
	case k.cert == nil:
		return nil, errors.New("damaged: no certificate in it")
	case k.block == nil:
		return nil, errors.New("damaged: no key in it")
	}
	return k, nil
}

// open returns the key. name is the file that errors speak of.
func (k *keyPair) open(name string, passphrase func() (string, error)) (crypto.Signer, error) {
	der := k.block.Bytes
	if k.encrypted() {
		word, err := passphrase()
		if err != nil {
			return nil, fmt.Errorf("decrypt key %s: %w", name, err)
		}
		if der, err = unseal(der, word); err != nil {
			return nil, fmt.Errorf("decrypt key %s: %w", name, err)
		}
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read key %s: damaged: %w", name, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read key %s: a %T does not sign", name, parsed)
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(k.cert.PublicKey) {
		return nil, fmt.Errorf("read key %s: damaged: it is not the key of the certificate beside it", name)
	}
	return key, nil
}

func unseal(sealed []byte, passphrase string) ([]byte, error) {
	if passphrase == "" { // age takes it for a mistake of the program
		return nil, ErrPassphrase
	}
	by, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	by.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(bytes.NewReader(sealed), by)
	var other *age.NoIdentityMatchError
	switch {
	case errors.As(err, &other):
		return nil, ErrPassphrase
	case err != nil:
		return nil, fmt.Errorf("damaged: %w", err)
	}
	der, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	return der, nil
}

// parseCertificate reads a PEM file of one certificate.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != certType {
		return nil, errors.New("damaged: no certificate in it")
	}
	return x509.ParseCertificate(block.Bytes)
}

// contains tells whether a PEM file has a certificate.
func contains(data []byte, cert *x509.Certificate) bool {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return false
		}
		if bytes.Equal(block.Bytes, cert.Raw) {
			return true
		}
	}
}
