package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func lendServer(t *testing.T, avoid ...string) *Server {
	s := &Server{Avoid: []netip.Prefix{}}
	for _, p := range avoid {
		s.Avoid = append(s.Avoid, netip.MustParsePrefix(p))
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestLend(t *testing.T) {
	s := lendServer(t)
	a, b := s.Lend("a.example"), s.Lend("b.example")
	if a == b || s.Lend("A.Example.") != a || !lower.Contains(a) || !lower.Contains(b) {
		t.Errorf("lent %v and %v", a, b)
	}
	if got, ok := s.Lent("A.EXAMPLE"); !ok || got != a {
		t.Errorf("Lent: %v, %v", got, ok)
	}
	if _, ok := s.Lent("c.example"); ok {
		t.Error("c.example was lent nothing")
	}
	for _, name := range []string{"", ".", "192.0.2.1", "2001:db8::1", "[::1]", "localhost", "LOCALHOST.", "x.localhost", "*", "*.example",
		"a..b", "a b", "a\nb", "a#b", strings.Repeat("x", 64) + ".example", strings.Repeat("x.", 130) + "x"} {
		if a := s.Lend(name); a.IsValid() {
			t.Errorf("Lend(%q) = %v", name, a)
		}
	}
}

func TestLendAvoids(t *testing.T) {
	s := lendServer(t, "198.18.0.1/30")
	if a := s.Lend("a.example"); !upper.Contains(a) {
		t.Errorf("beside an interface with 198.18.0.1: lent %v", a)
	}
	s = lendServer(t, "198.18.0.0/32", "198.19.0.1/32")
	if a := s.Lend("a.example"); a.String() != "198.19.0.2" {
		t.Errorf("lent %v", a)
	}
	s = lendServer(t)
	s.seen.put(netip.MustParseAddr("198.18.0.1"), "fake.example")
	if a := s.Lend("a.example"); a.String() != "198.18.0.2" {
		t.Errorf("lent an address that the resolver answers with: %v", a)
	}
}

func TestLendUntilNoneIsLeft(t *testing.T) {
	s := lendServer(t)
	seen := map[netip.Addr]bool{}
	for i := range 1 << 17 {
		a := s.Lend(fmt.Sprintf("n%d.example", i))
		if !a.IsValid() {
			break
		}
		if b := a.As4(); seen[a] || !lower.Contains(a) && !upper.Contains(a) || own.Contains(a) || b[3] == 0 || b[3] == 255 {
			t.Fatalf("lent %v", a)
		}
		seen[a] = true
	}
	if want := (512 - 2) * 254; len(seen) != want {
		t.Errorf("lent %d addresses, want %d", len(seen), want)
	}
}

func TestHosts(t *testing.T) {
	s := lendServer(t)
	s.Hosts = []byte("# head\n127.0.0.1 localhost\n10.0.0.9\tAPI.example.test other # both\n10.0.0.9 api.example.test.\n\nodd\n::1 localhost ip6-localhost")
	s.Lend("api.example.test")
	s.Lend("b.example")
	want := "198.18.0.1\tapi.example.test\n198.18.0.2\tb.example\n# head\n127.0.0.1 localhost\n10.0.0.9\tother\n\nodd\n::1 localhost ip6-localhost"
	if got := string(s.Plan().Hosts); got != want {
		t.Errorf("hosts:\n%s\nwant:\n%s", got, want)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var m memory
	first := netip.MustParseAddr("10.0.0.0")
	a := first
	for i := range maxMemory + 10 {
		if i > 0 {
			a = a.Next()
		}
		m.put(a, "n")
		m.get(first) // used, so kept
	}
	if len(m.at) != maxMemory || m.use.Len() != maxMemory || !m.has(first) || !m.has(a) || m.has(first.Next()) {
		t.Errorf("%d, %d remembered", len(m.at), m.use.Len())
	}
	m.put(first, "other")
	if m.get(first) != "other" {
		t.Error("the latest name does not win")
	}
}
