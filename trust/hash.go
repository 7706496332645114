package trust

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// subjectHash returns the hash by which OpenSSL (1.0 and later) looks a
// subject up in a directory: the first four octets, little endian, of the
// SHA-1 of the name in a canonical form, in which the relative names stand one
// after the other without the outer SEQUENCE.
func subjectHash(rawSubject []byte) (uint32, error) {
	in := cryptobyte.String(rawSubject)
	var name cryptobyte.String
	if !in.ReadASN1(&name, asn1.SEQUENCE) || !in.Empty() {
		return 0, fmt.Errorf("hash subject: malformed name")
	}
	var canon []byte
	for !name.Empty() {
		var rdn cryptobyte.String
		if !name.ReadASN1(&rdn, asn1.SET) {
			return 0, fmt.Errorf("hash subject: malformed name")
		}
		set, err := canonicalRDN(rdn)
		if err != nil {
			return 0, err
		}
		canon = append(canon, set...)
	}
	sum := sha1.Sum(canon)
	return binary.LittleEndian.Uint32(sum[:]), nil
}

// hashName returns the name of the nth file of a hash.
func hashName(hash uint32, n int) string { return fmt.Sprintf("%08x.%d", hash, n) }

// canonicalRDN encodes a relative name: its values as UTF8String, in lower
// case, without blanks at the ends and with single ones between.
func canonicalRDN(rdn cryptobyte.String) ([]byte, error) {
	var parts [][]byte
	for !rdn.Empty() {
		var pair, oid, value cryptobyte.String
		var tag asn1.Tag
		if !rdn.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1Element(&oid, asn1.OBJECT_IDENTIFIER) ||
			!pair.ReadAnyASN1(&value, &tag) {
			return nil, fmt.Errorf("hash subject: malformed name")
		}
		switch tag {
		case asn1.UTF8String, asn1.PrintableString, asn1.IA5String:
		default:
			return nil, fmt.Errorf("hash subject: value of type %d", tag)
		}
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(oid)
			b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(canonicalText(string(value)))) })
		})
		part, err := b.Bytes()
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	slices.SortFunc(parts, slices.Compare) // DER: the members of a SET in order
	var b cryptobyte.Builder
	b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.Bytes()
}

// canonicalText works on ASCII only, as OpenSSL does.
func canonicalText(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' })
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, strings.Join(words, " "))
}
