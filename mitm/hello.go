package mitm

import (
	"crypto/sha256"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Limits of what is taken for the beginning of TLS.
const (
	maxHello      = 1 << 16 // bytes of a ClientHello message; crypto/tls has the same
	maxRecord     = 1 << 14 // bytes of a plaintext record (RFC 8446 section 5.1)
	recordHeader  = 5
	messageHeader = 4
)

// Record and message types, and extensions (RFC 8446).
const (
	recordAlert     = 21
	recordHandshake = 22

	messageClientHello = 1

	extServerName        = 0
	extSupportedGroups   = 10
	extPointFormats      = 11
	extSignatureAlgs     = 13
	extALPN              = 16
	extPadding           = 21
	extPreSharedKey      = 41
	extEarlyData         = 42
	extSupportedVersions = 43
	extCookie            = 44
	extKeyShare          = 51
	extECH               = 0xfe0d
)

// clientHello is what we want to know of a ClientHello (RFC 8446 section
// 4.1.2). Lists are without GREASE (RFC 8701).
type clientHello struct {
	legacy    uint16   // legacy_version
	session   []byte   // legacy_session_id
	versions  []uint16 // all that are offered
	ciphers   []uint16
	exts      []uint16 // types, in the order in which they came
	groups    []uint16
	shares    []uint16 // groups that it has a key for
	points    []uint8  // ec_point_formats
	sigAlgs   []uint16
	alpn      []string
	sni       string
	earlyData bool
	ech       bool
	shape     [sha256.Size]byte // the same for all connections of one client library with one configuration
}

// lowest and highest return the bounds of the versions offered.
func (h *clientHello) lowest() uint16  { return slices.Min(h.versions) }
func (h *clientHello) highest() uint16 { return slices.Max(h.versions) }

// isGrease tells the reserved values of RFC 8701.
func isGrease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// helloMessage joins the ClientHello that p begins with out of its records.
// known is set once no other protocol could have begun so.
func helloMessage(p []byte) (msg []byte, is outcome, known bool) {
	size := -1 // of the message with its header
	for len(p) > 0 {
		if p[0] != recordHandshake || len(p) > 1 && p[1] != 3 || len(p) > 2 && p[2] > 4 {
			return nil, isNone, false
		}
		if len(p) < recordHeader {
			return nil, needMore, known
		}
		n := int(p[3])<<8 | int(p[4])
		if n == 0 || n > maxRecord {
			return nil, isNone, false
		}
		p = p[recordHeader:]
		whole := len(p) >= n
		part := p[:min(n, len(p))]
		p = p[len(part):]
		msg = append(msg, part...)
		if len(msg) > 0 && msg[0] != messageClientHello {
			return nil, isNone, false
		}
		known = known || len(msg) > 0
		if len(msg) >= messageHeader {
			size = messageHeader + (int(msg[1])<<16 | int(msg[2])<<8 | int(msg[3]))
			if size > maxHello {
				return nil, isNone, false
			}
			if len(msg) >= size {
				return msg[:size], isTLS, true
			}
		}
		if !whole {
			break
		}
	}
	return nil, needMore, known
}

// parseHello reads a ClientHello message; false if it is malformed.
func parseHello(msg []byte) (*clientHello, bool) {
	h := new(clientHello)
	s := cryptobyte.String(msg)
	var session, ciphers, compression cryptobyte.String
	if !s.Skip(messageHeader) || !s.ReadUint16(&h.legacy) || !s.Skip(32) ||
		!s.ReadUint8LengthPrefixed(&session) || !s.ReadUint16LengthPrefixed(&ciphers) ||
		!s.ReadUint8LengthPrefixed(&compression) {
		return nil, false
	}
	h.session = session
	if !readUint16s(ciphers, &h.ciphers) {
		return nil, false
	}
	sum := &shape{legacy: h.legacy, ciphers: h.ciphers}
	if !s.Empty() {
		var exts cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&exts) || !s.Empty() {
			return nil, false
		}
		for !exts.Empty() {
			var typ uint16
			var data cryptobyte.String
			if !exts.ReadUint16(&typ) || !exts.ReadUint16LengthPrefixed(&data) || !h.extension(typ, data) {
				return nil, false
			}
			sum.extension(typ, data)
		}
	}
	if len(h.versions) == 0 {
		// Without the extension legacy_version is the highest, and all below are offered.
		for v := uint16(0x0301); v <= min(h.legacy, 0x0303); v++ {
			h.versions = append(h.versions, v)
		}
	}
	if len(h.versions) == 0 {
		return nil, false
	}
	h.shape = sum.hash(h)
	return h, true
}

// extension reads one extension into h.
func (h *clientHello) extension(typ uint16, data cryptobyte.String) bool {
	if !isGrease(typ) {
		h.exts = append(h.exts, typ)
	}
	var list cryptobyte.String
	switch typ {
	case extServerName:
		return h.serverName(data)
	case extALPN:
		if !data.ReadUint16LengthPrefixed(&list) {
			return false
		}
		for !list.Empty() {
			var proto cryptobyte.String
			if !list.ReadUint8LengthPrefixed(&proto) {
				return false
			}
			h.alpn = append(h.alpn, string(proto))
		}
	case extSupportedVersions:
		return data.ReadUint8LengthPrefixed(&list) && readUint16s(list, &h.versions)
	case extSupportedGroups:
		return data.ReadUint16LengthPrefixed(&list) && readUint16s(list, &h.groups)
	case extPointFormats:
		if data.ReadUint8LengthPrefixed(&list) {
			h.points = list // a malformed one is left to the server
		}
	case extSignatureAlgs:
		return data.ReadUint16LengthPrefixed(&list) && readUint16s(list, &h.sigAlgs)
	case extEarlyData:
		h.earlyData = true
	case extECH:
		h.ech = true
	case extKeyShare:
		h.keyShares(data)
	}
	return true
}

// keyShares reads the groups of the key_share extension (RFC 8446 section
// 4.2.8). A malformed one is left to crypto/tls.
func (h *clientHello) keyShares(data cryptobyte.String) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return
	}
	for !list.Empty() {
		var group uint16
		var key cryptobyte.String
		if !list.ReadUint16(&group) || !list.ReadUint16LengthPrefixed(&key) {
			return
		}
		h.shares = append(h.shares, group)
	}
}

// serverName reads the server_name extension (RFC 6066 section 3).
func (h *clientHello) serverName(data cryptobyte.String) bool {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var kind uint8
		var name cryptobyte.String
		if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&name) {
			return false
		}
		if kind == 0 && h.sni == "" {
			h.sni = string(name)
		}
	}
	return true
}

// readUint16s reads all of s, leaving GREASE out.
func readUint16s(s cryptobyte.String, out *[]uint16) bool {
	for !s.Empty() {
		var v uint16
		if !s.ReadUint16(&v) {
			return false
		}
		if !isGrease(v) {
			*out = append(*out, v)
		}
	}
	return true
}

// shape collects what a client library sends alike on every connection, in
// the manner of JA3 but for the order of the extensions, which some permute.
type shape struct {
	legacy  uint16
	ciphers []uint16
	types   []uint16
	points  []byte
}

func (f *shape) extension(typ uint16, data []byte) {
	switch typ {
	case extServerName, extPadding, extPreSharedKey, extEarlyData, extCookie:
		return // these differ from one connection to the next
	case extPointFormats:
		f.points = data
	}
	if !isGrease(typ) {
		f.types = append(f.types, typ)
	}
}

func (f *shape) hash(h *clientHello) [sha256.Size]byte {
	slices.Sort(f.types)
	var b cryptobyte.Builder
	b.AddUint16(f.legacy)
	for _, list := range [][]uint16{f.ciphers, f.types, h.versions, h.groups, h.sigAlgs} {
		b.AddUint16(uint16(len(list)))
		for _, v := range list {
			b.AddUint16(v)
		}
	}
	for _, proto := range h.alpn {
		b.AddUint8(uint8(len(proto)))
		b.AddBytes([]byte(proto))
	}
	b.AddBytes(f.points)
	return sha256.Sum256(b.BytesOrPanic())
}
