package dns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// byNameServer carries by name what does not end with .direct.
func byNameServer(t *testing.T, resolv string) (*Server, recorder) {
	s, rec := newServer(t)
	s.Resolv = []byte(resolv)
	s.ByName = func(name string) bool { return !strings.HasSuffix(name, ".direct") }
	return s, rec
}

// asks returns the answer to a query for name over the transport.
func asks(t *testing.T, s *Server, server netip.AddrPort, name string, typ dnsmessage.Type, tcp bool) dnsmessage.Message {
	t.Helper()
	got, err := s.Query(t.Context(), child, server, ask(t, 77, name, typ, 1232), tcp)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	m := unpack(t, got)
	if m.ID != 77 || len(m.Questions) != 1 || m.Questions[0].Name.String() != name {
		t.Errorf("%s: %v", name, m.GoString())
	}
	return m
}

// address returns the first address of an answer, the zero Addr if there is
// none.
func address(m dnsmessage.Message) netip.Addr {
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			return netip.AddrFrom4(b.A)
		case *dnsmessage.AAAAResource:
			return netip.AddrFrom16(b.AAAA)
		}
	}
	return netip.Addr{}
}

func isLent(a netip.Addr) bool { return lower.Contains(a) || upper.Contains(a) }

func TestByName(t *testing.T) {
	p := newPeer(t)
	for _, tcp := range []bool{false, true} {
		s, rec := byNameServer(t, "search corp.example\n")
		for _, c := range []struct {
			name  string
			typ   dnsmessage.Type
			rcode dnsmessage.RCode
			lent  bool
		}{
			{"None.outside.example.", dnsmessage.TypeA, 0, true},
			{"broken.outside.example.", dnsmessage.TypeA, 0, true},
			{"denied.outside.example.", dnsmessage.TypeA, 0, true},
			{"none.", dnsmessage.TypeA, 0, true},
			{"none.six.example.", dnsmessage.TypeAAAA, 0, false},
			{"none.inside.direct.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
			{"broken.inside.direct.", dnsmessage.TypeA, dnsmessage.RCodeServerFailure, false},
			{"none.corp.example.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
			{"none.text.example.", dnsmessage.TypeTXT, dnsmessage.RCodeNameError, false},
			{"none.1.168.192.in-addr.arpa.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
			{"none.localhost.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
			{"empty.example.", dnsmessage.TypeA, 0, false},
			{"www.example.", dnsmessage.TypeA, 0, false},
		} {
			m := asks(t, s, p.addr, c.name, c.typ, tcp)
			a := address(m)
			if m.RCode != c.rcode || isLent(a) != c.lent {
				t.Errorf("tcp %v: %s %v: %v %v", tcp, c.name, c.typ, m.RCode, a)
			}
			q := <-rec
			if q.Err != nil || q.Local != (c.lent || c.typ == dnsmessage.TypeAAAA) {
				t.Errorf("recorded %+v", q)
			}
			if name, lent := s.Name(a); c.lent && (!lent || name != canonical(c.name)) {
				t.Errorf("Name(%v) = %q, %v", a, name, lent)
			}
		}
		if a := address(asks(t, s, p.addr, "www.example.", dnsmessage.TypeA, tcp)); a.String() != "192.0.2.1" {
			t.Errorf("a name that resolves leads to %v", a)
		}
		// From then on it is answered here, for both types.
		n := len(p.queries())
		if m := asks(t, s, p.addr, "none.six.example.", dnsmessage.TypeA, tcp); !isLent(address(m)) || len(p.queries()) != n {
			t.Errorf("the other type: %v", m.GoString())
		}
	}
}

func TestByNameUnreachable(t *testing.T) {
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	dead := l.LocalAddr().(*net.UDPAddr).AddrPort()
	l.Close()
	s, rec := byNameServer(t, "")
	for _, tcp := range []bool{false, true} {
		if a := address(asks(t, s, dead, "outside.example.", dnsmessage.TypeA, tcp)); !isLent(a) {
			t.Errorf("tcp %v: %v", tcp, a)
		}
		if q := <-rec; q.Err != nil || !q.Local || q.Rcode != "NOERROR" {
			t.Errorf("recorded %+v", q)
		}
		if m := asks(t, s, dead, "inside.direct.", dnsmessage.TypeA, tcp); m.RCode != dnsmessage.RCodeServerFailure {
			t.Errorf("tcp %v: %v", tcp, m.GoString())
		}
		<-rec
	}
}

// TestByNameSilent: programs do not wait until they ask the next server.
func TestByNameSilent(t *testing.T) {
	p := newPeer(t)
	s, rec := byNameServer(t, "")
	start := time.Now()
	if a := address(asks(t, s, p.addr, "silent.example.", dnsmessage.TypeA, false)); !isLent(a) {
		t.Errorf("answered with %v", a)
	}
	if d := time.Since(start); d < lendAfter || d > lendAfter+2*time.Second {
		t.Errorf("after %v", d)
	}
	if q := <-rec; q.Err != nil || !q.Local {
		t.Errorf("recorded %+v", q)
	}
	// Whoever has given up is lent nothing.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got, err := s.Query(ctx, child, p.addr, ask(t, 9, "silent.other.example.", dnsmessage.TypeA, 0), false); err == nil {
		t.Errorf("answered %x", got)
	}
	if _, ok := s.Lent("silent.other.example"); ok {
		t.Error("an address was lent after the query had ended")
	}
}

// TestByNameShared: of two names with one address the second is told apart.
func TestByNameShared(t *testing.T) {
	p := newPeer(t)
	s, rec := byNameServer(t, "")
	for _, c := range []struct{ name, want string }{
		{"first.example.", "192.0.2.1"}, {"First.example.", "192.0.2.1"}, {"alias.example.", "192.0.2.7"},
		{"plain.direct.", "192.0.2.1"},
	} {
		if a := address(asks(t, s, p.addr, c.name, dnsmessage.TypeA, false)); a.String() != c.want {
			t.Errorf("%s: %v, want %s", c.name, a, c.want)
		}
		if q := <-rec; q.Local {
			t.Errorf("recorded %+v", q)
		}
	}
	a := address(asks(t, s, p.addr, "second.example.", dnsmessage.TypeA, false))
	if name, lent := s.Name(a); !lent || name != "second.example" {
		t.Errorf("second.example has %v, which leads to %q", a, name)
	}
	if q := <-rec; !q.Local {
		t.Errorf("recorded %+v", q)
	}
}

func TestByNameInStream(t *testing.T) {
	p := newPeer(t)
	s, rec := byNameServer(t, "")
	_, addr := serve(t, s, p.addr)
	c := dial(t, "tcp", addr)
	names := []string{"late.example.", "none.example.", "none.inside.direct.", "transfer.direct."}
	for i, name := range names {
		writeFrame(c, ask(t, uint16(i), name, dnsmessage.TypeA, 0))
	}
	got := map[string][]netip.Addr{}
	for range 6 { // the transfer has three
		msg, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		m := unpack(t, msg)
		if m.Questions[0].Name.String() != names[m.ID] {
			t.Errorf("answer %d is for %v", m.ID, m.Questions[0].Name)
		}
		got[names[m.ID]] = append(got[names[m.ID]], address(m))
	}
	if as := got["none.example."]; len(as) != 1 || !isLent(as[0]) {
		t.Errorf("none.example: %v", as)
	}
	if as := got["none.inside.direct."]; len(as) != 1 || as[0].IsValid() {
		t.Errorf("none.inside.direct: %v", as)
	}
	if as := got["transfer.direct."]; len(as) != 3 || as[0].String() != "192.0.2.1" {
		t.Errorf("transfer.direct: %v", as)
	}
	for range names {
		if q := <-rec; q.Local != (q.Name == "none.example") || q.Err != nil {
			t.Errorf("recorded %+v", q)
		}
	}
}

func TestSearched(t *testing.T) {
	if got := ParseConfig([]byte("search A.example. b.example\n")).searched(); len(got) != 2 || got[0] != "a.example" || got[1] != "b.example" {
		t.Errorf("%q", got)
	}
	if got := ParseConfig([]byte("search .\n")).searched(); len(got) != 0 {
		t.Errorf("the root: %q", got)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	_, domain, _ := strings.Cut(host, ".")
	got := Config{}.searched()
	if domain == "" && len(got) != 0 || domain != "" && (len(got) != 1 || got[0] != canonical(domain)) {
		t.Errorf("no search list on %s: %q", host, got)
	}
}
