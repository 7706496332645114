package mitm

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"slices"
	"strconv"

	"trace/flow"
)

// facts returns what a ClientHello tells of its sender.
func (h *clientHello) facts() flow.TLS {
	t := flow.TLS{SNI: h.sni, Offered: h.alpn, ECH: h.ech, JA3: h.ja3(), JA4: h.ja4()}
	for _, v := range h.versions {
		t.Versions = append(t.Versions, versionName(v))
	}
	return t
}

// ja3 returns the JA3 fingerprint of h: the MD5 of version, ciphers,
// extensions, groups and point formats, each in decimal and in the order in
// which they came, GREASE left out.
func (h *clientHello) ja3() string {
	sum := md5.Sum(h.ja3Text())
	return hex.EncodeToString(sum[:])
}

func (h *clientHello) ja3Text() []byte {
	b := make([]byte, 0, 512)
	b = strconv.AppendUint(b, uint64(h.legacy), 10)
	for _, list := range [][]uint16{h.ciphers, h.exts, h.groups} {
		b = appendDecimals(append(b, ','), list)
	}
	return appendDecimals(append(b, ','), h.points)
}

func appendDecimals[T uint8 | uint16](b []byte, list []T) []byte {
	for i, v := range list {
		if i > 0 {
			b = append(b, '-')
		}
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	return b
}

// maxCount is the greatest number that the two digits of a JA4 count show.
const maxCount = 99

// ja4 returns the JA4 fingerprint of h, a ClientHello over TCP, by FoxIO's
// technical description: what can be read, then a hash of the ciphers and one of the
// extensions and signature algorithms.
func (h *clientHello) ja4() string {
	b := make([]byte, 0, 48)
	b = append(b, 't')
	b = append(b, ja4Version(h.ja4Highest())...)
	if slices.Contains(h.exts, extServerName) {
		b = append(b, 'd')
	} else {
		b = append(b, 'i')
	}
	for _, n := range []int{len(h.ciphers), len(h.exts)} {
		n = min(n, maxCount)
		b = append(b, '0'+byte(n/10), '0'+byte(n%10))
	}
	b = append(b, ja4ALPN(h.alpn)...)
	ciphers, others := h.ja4Lists()
	b = appendShortHash(append(b, '_'), ciphers)
	return string(appendShortHash(append(b, '_'), others))
}

// ja4Lists returns what the two hashes of JA4 are of.
func (h *clientHello) ja4Lists() (ciphers, others []byte) {
	ciphers = appendSorted(make([]byte, 0, 256), h.ciphers)
	named := slices.DeleteFunc(slices.Clone(h.exts), func(typ uint16) bool { return typ == extServerName || typ == extALPN })
	others = appendSorted(make([]byte, 0, 256), named)
	if len(h.sigAlgs) > 0 {
		others = appendHexes(append(others, '_'), h.sigAlgs)
	}
	if len(named) == 0 {
		others = nil
	}
	return ciphers, others
}

// ja4Highest is the highest version of the extension, or that of the message
// where there is none.
func (h *clientHello) ja4Highest() uint16 {
	if slices.Contains(h.exts, extSupportedVersions) {
		return h.highest()
	}
	return h.legacy
}

func ja4Version(v uint16) string {
	switch v {
	case tls.VersionTLS13:
		return "13"
	case tls.VersionTLS12:
		return "12"
	case tls.VersionTLS11:
		return "11"
	case tls.VersionTLS10:
		return "10"
	}
	return "00"
}

// ja4ALPN returns the first and the last character of the first protocol, or
// of its hexadecimal form if one of them is neither a letter nor a digit.
func ja4ALPN(offered []string) string {
	if len(offered) == 0 || offered[0] == "" {
		return "00"
	}
	s := offered[0]
	if !isAlphanumeric(s[0]) || !isAlphanumeric(s[len(s)-1]) {
		s = hex.EncodeToString([]byte(s))
	}
	return s[:1] + s[len(s)-1:]
}

func isAlphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z'
}

func appendSorted(b []byte, list []uint16) []byte {
	return appendHexes(b, slices.Sorted(slices.Values(list)))
}

// appendHexes appends four digits for each value, separated by commas.
func appendHexes(b []byte, list []uint16) []byte {
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = hex.AppendEncode(b, []byte{byte(v >> 8), byte(v)})
	}
	return b
}

// appendShortHash appends the first twelve digits of the SHA-256 of text, or
// zeros if there is none.
func appendShortHash(b, text []byte) []byte {
	if len(text) == 0 {
		return append(b, "000000000000"...)
	}
	sum := sha256.Sum256(text)
	return hex.AppendEncode(b, sum[:6])
}
