package trust

import (
	"bytes"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
)

// TestFirstCertificate compares the short way with pem.Decode, on a file that
// is well-formed and on what small changes make of it.
func TestFirstCertificate(t *testing.T) {
	text := "# a comment\n" + pemOf(newRoot(t, "a")) + "\nbetween\n" + pemOf(newRoot(t, "b"), newRoot(t, "c"))
	taken := 0
	check := func(data []byte) {
		t.Helper()
		der, rest, ok := firstCertificate(data)
		if !ok {
			return
		}
		taken++
		block, left := pem.Decode(data)
		if block == nil || block.Type != "CERTIFICATE" || !bytes.Equal(block.Bytes, der) {
			t.Fatalf("%q:\n%x, want %v", data, der, block)
		}
		if a, b := strings.TrimSpace(string(rest)), strings.TrimSpace(string(left)); a != b {
			t.Fatalf("%q:\nrest %q, want %q", data, a, b)
		}
	}
	check([]byte(text))
	for i := range text {
		for _, c := range "-=A:\n\r \x00" {
			check([]byte(text[:i] + string(c) + text[i:]))
			check([]byte(text[:i] + string(c) + text[i+1:]))
		}
		check([]byte(text[i:]))
		check([]byte(text[:i]))
	}
	if taken < len(text) {
		t.Errorf("the short way was taken only %d times", taken)
	}
	der := slices.Concat([]byte("any length"), bytes.Repeat([]byte{7}, 100))
	for n := range der {
		want := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der[:n]})
		if got := appendPEM(nil, der[:n]); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
}
