package mitm

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"

	"golang.org/x/crypto/cryptobyte"

	"trace/flow"
)

// maxClear is how much of each side of a TLS handshake is read along.
const maxClear = 128 << 10

const (
	recordChangeCipher = 20

	messageServerHello = 2
	messageCertificate = 11

	alertLevelFatal = 2
)

// A clearTLS reads the handshake of a connection that is not decrypted, as far
// as it is in the clear: the ServerHello, the certificates up to TLS 1.2, and
// alerts. It does not check anything; that is for the two ends.
type clearTLS struct {
	c     *conn
	hello *clientHello // nil until it came
	sides [2]clearSide

	version  uint16 // that the server chose; 0: not yet
	answered bool   // by a ServerHello that is no HelloRetryRequest
	alerts   [2]alert
	alerted  [2]bool
	chain    [][]byte
}

// clearSide is one direction of it.
type clearSide struct {
	size int
	rest []byte // a record that is not whole
	msgs []byte // handshake messages, the last not whole
	over bool
}

// data takes what a side sent, and tells whether there is more to learn.
func (t *clearTLS) data(side flow.Side, p []byte) (more bool) {
	s := &t.sides[side]
	if !s.over {
		p = p[:min(len(p), maxClear-s.size)]
		s.size += len(p)
		s.rest = append(s.rest, p...)
		s.over = !t.records(side) || s.size >= maxClear
	}
	if s.over {
		s.rest, s.msgs = nil, nil
	}
	return !t.sides[flow.Client].over || !t.sides[flow.Server].over
}

// records takes whole records, and tells whether more may come in the clear.
func (t *clearTLS) records(side flow.Side) (more bool) {
	s := &t.sides[side]
	for len(s.rest) >= recordHeader {
		size := int(s.rest[3])<<8 | int(s.rest[4])
		typ := s.rest[0]
		if typ < recordChangeCipher || typ > recordHandshake || s.rest[1] != 3 || size == 0 || size > maxRecord {
			return false
		}
		if len(s.rest) < recordHeader+size {
			return true
		}
		body := s.rest[recordHeader : recordHeader+size]
		s.rest = s.rest[recordHeader+size:]
		switch typ {
		case recordChangeCipher:
			more = t.version == 0 || t.version == tls.VersionTLS13 // where it says nothing
		case recordAlert:
			more = size == 2
			if more {
				t.alert(side, body[0], alert(body[1]))
			}
		case recordHandshake:
			s.msgs = append(s.msgs, body...)
			more = t.messages(side)
		}
		if !more {
			return false
		}
	}
	return true
}

// messages takes whole handshake messages.
func (t *clearTLS) messages(side flow.Side) (more bool) {
	s := &t.sides[side]
	for len(s.msgs) >= messageHeader {
		size := messageHeader + (int(s.msgs[1])<<16 | int(s.msgs[2])<<8 | int(s.msgs[3]))
		if size > maxHello {
			return false
		}
		if len(s.msgs) < size {
			return true
		}
		msg := bytes.Clone(s.msgs[:size])
		s.msgs = s.msgs[size:]
		switch {
		case side == flow.Client && msg[0] == messageClientHello:
			t.clientHello(msg)
		case side == flow.Server && msg[0] == messageServerHello:
			if !t.serverHello(msg) {
				return false
			}
		case side == flow.Server && msg[0] == messageCertificate:
			t.certificate(msg)
		}
	}
	return true
}

// clientHello takes a ClientHello that was not there when the connection was
// peeked at.
func (t *clearTLS) clientHello(msg []byte) {
	if t.hello != nil {
		return // the second, after a HelloRetryRequest, or known already
	}
	hello, ok := parseHello(msg)
	if !ok {
		return
	}
	t.hello = hello
	t.c.learn(func(f *flow.Conn) {
		f.Child = hello.facts()
		f.Host = cmp.Or(f.Host, hello.sni)
	})
}

// retryRandom is the Random of a ServerHello that is a HelloRetryRequest (RFC
// 8446 section 4.1.3).
var retryRandom = sha256.Sum256([]byte("HelloRetryRequest"))

// serverHello takes what the server chose (RFC 8446 section 4.1.3, RFC 5246
// section 7.4.1.3).
func (t *clearTLS) serverHello(msg []byte) bool {
	if t.answered {
		return true // a second one is no TLS
	}
	s := cryptobyte.String(msg)
	var random []byte
	var session, exts cryptobyte.String
	var cipher uint16
	if !s.Skip(messageHeader) || !s.ReadUint16(&t.version) || !s.ReadBytes(&random, 32) ||
		!s.ReadUint8LengthPrefixed(&session) || !s.ReadUint16(&cipher) || !s.Skip(1) ||
		!s.Empty() && !s.ReadUint16LengthPrefixed(&exts) {
		return false
	}
	alpn, resumed := "", false
	for !exts.Empty() {
		var typ uint16
		var data, list, proto cryptobyte.String
		if !exts.ReadUint16(&typ) || !exts.ReadUint16LengthPrefixed(&data) {
			return false
		}
		switch typ {
		case extSupportedVersions:
			data.ReadUint16(&t.version)
		case extPreSharedKey:
			resumed = true
		case extALPN:
			if data.ReadUint16LengthPrefixed(&list) && list.ReadUint8LengthPrefixed(&proto) {
				alpn = string(proto)
			}
		}
	}
	if t.version < tls.VersionTLS13 && t.hello != nil {
		resumed = len(session) > 0 && bytes.Equal(session, t.hello.session)
	}
	t.answered = !bytes.Equal(random, retryRandom[:])
	t.c.answered(t.answered, func(f *flow.Conn) {
		f.Upstream.SNI, f.Upstream.Offered = f.Child.SNI, f.Child.Offered
		for _, leg := range []*flow.TLS{&f.Child, &f.Upstream} {
			leg.Version, leg.Cipher, leg.Resumed = versionName(t.version), cipherName(cipher), resumed
			if t.version < tls.VersionTLS13 || alpn != "" { // else what the server chose with us still stands
				leg.ALPN = alpn
			}
		}
	})
	return true
}

// certificate takes the server's chain (RFC 5246 section 7.4.2). In TLS 1.3 it
// is not in the clear.
func (t *clearTLS) certificate(msg []byte) {
	s := cryptobyte.String(msg[messageHeader:])
	var list, der cryptobyte.String
	if t.chain != nil || !s.ReadUint24LengthPrefixed(&list) {
		return
	}
	for !list.Empty() && list.ReadUint24LengthPrefixed(&der) {
		t.chain = append(t.chain, der)
	}
	t.c.learn(func(f *flow.Conn) { f.Upstream.Chain = t.chain })
}

// alert takes an alert. Warnings go by.
func (t *clearTLS) alert(side flow.Side, level byte, a alert) {
	if level == alertLevelFatal && !t.alerted[side] {
		t.alerts[side], t.alerted[side] = a, true
		t.c.heardAlert(side, a, t.answered)
	}
}

// finish judges the certificates, now that this holds nothing up, and says how it
// went with a child that had to shake hands by itself.
func (t *clearTLS) finish() {
	if !t.answered {
		t.c.unanswered(t.alerts[flow.Server], t.alerted[flow.Server])
	}
	var chain []*x509.Certificate
	for _, der := range t.chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return
	}
	sni := ""
	if t.hello != nil {
		sni = t.hello.sni
	}
	v := t.c.p.verdicts.verify(chain, t.c.nameFor(sni), t.c.p.Trusted(), t.c.p.now())
	t.c.change(func(f *flow.Conn) { f.Upstream.Verdict = v.text() })
}

// cipherName returns the name of a cipher suite; crypto/tls knows only those
// that it has.
func cipherName(id uint16) string {
	if name, ok := otherCiphers[id]; ok {
		return name
	}
	return tls.CipherSuiteName(id)
}

// otherCiphers are some that crypto/tls lacks and servers still choose.
var otherCiphers = map[uint16]string{
	0x0016: "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA",
	0x0033: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
	0x0039: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA",
	0x003d: "TLS_RSA_WITH_AES_256_CBC_SHA256",
	0x0067: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256",
	0x006b: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
	0x009e: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
	0x009f: "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
	0x1304: "TLS_AES_128_CCM_SHA256",
	0x1305: "TLS_AES_128_CCM_8_SHA256",
	0xc024: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
	0xc028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
	0xc0ac: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
	0xc0ad: "TLS_ECDHE_ECDSA_WITH_AES_256_CCM",
	0xccaa: "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}
