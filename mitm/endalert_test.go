package mitm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"hash"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/cryptobyte"

	"trace/flow"
)

// expand is HKDF-Expand-Label of RFC 8446 section 7.1, without a context.
func expand(t *testing.T, h func() hash.Hash, secret []byte, label string, n int) []byte {
	t.Helper()
	var b cryptobyte.Builder
	b.AddUint16(uint16(n))
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("tls13 " + label)) })
	b.AddUint8(0)
	out, err := hkdf.Expand(h, secret, string(b.BytesOrPanic()), n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// alertRecord seals a fatal alert as the record of that number that a side sends in
// TLS 1.3, which crypto/tls does not do on demand.
func alertRecord(t *testing.T, log, name string, suite uint16, seq byte, a alert) []byte {
	t.Helper()
	_, line, _ := strings.Cut(log, name+"_TRAFFIC_SECRET_0 ")
	line, _, _ = strings.Cut(line, "\n")
	_, text, _ := strings.Cut(line, " ")
	secret, err := hex.DecodeString(text)
	if err != nil || len(secret) == 0 {
		t.Fatalf("no secret in %q: %v", log, err)
	}
	h, size := sha256.New, 16
	switch suite {
	case tls.TLS_AES_256_GCM_SHA384:
		h, size = sha512.New384, 32
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		size = 32
	}
	key, nonce := expand(t, h, secret, "key", size), expand(t, h, secret, "iv", 12)
	var aead cipher.AEAD
	if suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		aead, err = chacha20poly1305.New(key)
	} else {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	nonce[11] ^= seq
	head := []byte{23, 3, 3, 0, 3 + 16}
	return aead.Seal(head, nonce, []byte{alertLevelFatal, byte(a), recordAlert}, head)
}

// TestEndAlert: an alert that ends a decrypted connection in the midst of it is marked
// with its name and its sender.
func TestEndAlert(t *testing.T) {
	for _, side := range []flow.Side{flow.Client, flow.Server} {
		var atServer, atChild secrets
		cfg := &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}, KeyLogWriter: &atServer, SessionTicketsDisabled: true}
		r := newRoad(t, listen(t, func(raw net.Conn) {
			c := tls.Server(raw, cfg)
			io.ReadFull(c, make([]byte, 8))
			io.WriteString(c, "answer")
			if side == flow.Server {
				raw.Write(alertRecord(t, atServer.log.String(), "SERVER", c.ConnectionState().CipherSuite, 1, 80))
			}
			io.Copy(io.Discard, raw)
		}), byCurl)
		raw, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: rootsOf(r), KeyLogWriter: &atChild})
		io.WriteString(c, "question")
		if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
			t.Error(err)
		}
		if side == flow.Client {
			raw.Write(alertRecord(t, atChild.log.String(), "CLIENT", c.ConnectionState().CipherSuite, 1, 80))
		}
		io.ReadAll(raw)
		raw.Close()
		f, _ := r.wait()
		var marks []*flow.Error
		for _, e := range r.events {
			if e.Kind == flow.Mark {
				marks = append(marks, e.Error)
			}
		}
		want := flow.Error{Where: flow.AtClient, Code: CodeAlert, Detail: "internal_error", Message: "curl ended the connection by alert internal_error"}
		if side == flow.Server {
			want.Where, want.Message = flow.AtUpstream, host+" ended the connection by alert internal_error"
		}
		if !f.Decrypted || f.Error != nil || len(marks) != 1 || *marks[0] != want {
			t.Errorf("%v: %+v, %+v", side, f.Error, marks)
		}
	}
}
