package proxy

import (
	"math/rand/v2"
	"testing"
)

// TestHeadSeeker: what comes in pieces ends where it does in one.
func TestHeadSeeker(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		p := make([]byte, rng.IntN(14))
		for i := range p {
			p[i] = "\r\n\n\rab"[rng.IntN(6)]
		}
		want := endOfHead(p)
		if got := headEnd(p); got != want {
			t.Fatalf("%q: whole: %d, want %d", p, got, want)
		}
		var h headSeeker
		for n := 0; n <= len(p); n++ {
			if got := h.end(p[:n]); got > 0 {
				if got != want || got != n {
					t.Fatalf("%q: after %d octets: %d, want %d", p, n, got, want)
				}
				break
			} else if n == len(p) && want > 0 {
				t.Fatalf("%q: no end, want %d", p, want)
			}
		}
	}
}

// endOfHead finds the end octet by octet.
func endOfHead(p []byte) int {
	i := 0
	for i < len(p) && (p[i] == '\r' || p[i] == '\n') {
		i++
	}
	first, empty := true, false // the line is the first; it has had CRs only
	for ; i < len(p); i++ {
		switch {
		case p[i] == '\n' && !first && empty:
			return i + 1
		case p[i] == '\n':
			first, empty = false, true
		case p[i] != '\r':
			empty = false
		}
	}
	return 0
}
