package trust

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	keystore "github.com/pavlo-v-chernykh/keystore-go/v4"
)

// TestAddToJKS adds to a store with a private key, and has another reader read
// it.
func TestAddToJKS(t *testing.T) {
	a, ours := newRoot(t, "a"), newRoot(t, "trace ours")
	before := keystore.New()
	chain := []keystore.Certificate{{Type: "X.509", Content: a.Raw}, {Type: "X.509", Content: a.Raw}}
	key := keystore.PrivateKeyEntry{CreationTime: time.UnixMilli(7), PrivateKey: []byte("a key"), CertificateChain: chain}
	if err := before.SetPrivateKeyEntry("trace", key, []byte(storePassword)); err != nil {
		t.Fatal(err)
	}
	if err := before.SetTrustedCertificateEntry("a", keystore.TrustedCertificateEntry{CreationTime: time.UnixMilli(7), Certificate: chain[0]}); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := before.Store(&buf, []byte(storePassword)); err != nil {
		t.Fatal(err)
	}
	data := buf.Bytes()
	now := time.UnixMilli(1_800_000_000_000)
	out, err := addToJKS(data, ours.Raw, now)
	if err != nil {
		t.Fatal(err)
	}
	after := keystore.New()
	if err := after.Load(bytes.NewReader(out), []byte(storePassword)); err != nil {
		t.Fatal(err)
	}
	e, err := after.GetTrustedCertificateEntry("trace-2")
	if err != nil || !bytes.Equal(e.Certificate.Content, ours.Raw) || !e.CreationTime.Equal(now) {
		t.Errorf("ours: %v, %v", e.CreationTime, err)
	}
	if !after.IsPrivateKeyEntry("trace") || !after.IsTrustedCertificateEntry("a") || len(after.Aliases()) != 3 {
		t.Errorf("entries %v", after.Aliases())
	}
	// Whatever is cut off, changed, or counted wrong is refused, with a right hash too.
	for n := range data {
		if _, err := addToJKS(data[:n], ours.Raw, now); err == nil {
			t.Errorf("the first %d bytes of %d were taken for a keystore", n, len(data))
		}
		bad := bytes.Clone(data)
		bad[n] ^= 1
		if _, err := addToJKS(bad, ours.Raw, now); !errors.Is(err, errJKSKey) {
			t.Errorf("byte %d is another: %v", n, err)
		}
	}
	for _, count := range []uint32{0, 1, 3, 1 << 31} {
		body := bytes.Clone(data[:len(data)-20])
		binary.BigEndian.PutUint32(body[8:], count)
		sum := jksSum(body)
		if _, err := addToJKS(append(body, sum[:]...), ours.Raw, now); !errors.Is(err, errJKS) {
			t.Errorf("%d entries of 2: %v", count, err)
		}
	}
}
