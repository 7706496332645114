package wg

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
)

// Key is a Curve25519 key, private or public.
type Key [32]byte

// NewKey makes a private key.
func NewKey() (Key, error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, err
	}
	k := Key(private.Bytes())
	k[0] &= 248 // RFC 7748 section 5: other tools compare keys in this form
	k[31] = k[31]&127 | 64
	return k, nil
}

// ParseKey reads a key as String writes it.
func ParseKey(s string) (k Key, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(k) || len(s) != 44 { // line breaks are skipped
		return k, errors.New("a key is 44 characters of base64")
	}
	return Key(b), nil
}

// Public returns the public key of a private one.
func (k Key) Public() Key {
	private, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil { // only of another length
		return Key{}
	}
	return Key(private.PublicKey().Bytes())
}

// String returns the key in base64, as WireGuard's tools do.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKey(string(b))
	return err
}

func (k Key) hex() string { return hex.EncodeToString(k[:]) }
