package dns

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var child = netip.MustParseAddrPort("198.19.255.2:40000")

func TestQueryForwardsVerbatim(t *testing.T) {
	p := newPeer(t)
	s, rec := newServer(t)
	for _, c := range []struct {
		name    string
		typ     dnsmessage.Type
		size    int
		tcp     bool
		rcode   string
		answers []string
	}{
		{"WWW.Example.", dnsmessage.TypeA, 0, false, "NOERROR", []string{"192.0.2.1"}},
		{"www.example.", dnsmessage.TypeAAAA, 1232, false, "NOERROR", []string{"2001:db8::7"}},
		{"alias.example.", dnsmessage.TypeA, 0, true, "NOERROR", []string{"real.example", "192.0.2.7"}},
		{"none.example.", dnsmessage.TypeA, 0, false, "NXDOMAIN", nil},
		{"www.example.", dnsmessage.TypeTXT, 0, false, "NOERROR", []string{`"a b" "c"`}},
		{"www.example.", dnsmessage.TypeMX, 0, true, "NOERROR", []string{"10 mail.example"}},
	} {
		raw := ask(t, 0x1234, c.name, c.typ, c.size)
		sent := bytes.Clone(raw)
		got, err := s.Query(t.Context(), child, p.addr, raw, c.tcp)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !bytes.Equal(raw, sent) {
			t.Errorf("%s: the query was changed", c.name)
		}
		m := unpack(t, got)
		if m.ID != 0x1234 || !m.Response || m.Questions[0].Name.String() != c.name {
			t.Errorf("%s: answer %v", c.name, m.GoString())
		}
		all := p.queries()
		up := all[len(all)-1]
		if !bytes.Equal(up[2:], sent[2:]) {
			t.Errorf("%s: the server got %x, want %x but for the ID", c.name, up, sent)
		}
		q := <-rec
		if q.Name != strings.TrimSuffix(c.name, ".") || q.Rcode != c.rcode || !slices.Equal(q.Answers, c.answers) ||
			q.Src != child || q.Dst != p.addr || q.Local || q.Sent != len(raw) || q.Received != len(got) || q.Took <= 0 {
			t.Errorf("%s: recorded %+v", c.name, q)
		}
	}
}

func TestQueryHasItsOwnID(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	ids := map[uint16]bool{}
	for range 20 {
		if _, err := s.Query(t.Context(), child, p.addr, ask(t, 7, "www.example.", dnsmessage.TypeA, 0), false); err != nil {
			t.Fatal(err)
		}
	}
	for _, raw := range p.queries() {
		ids[uint16(raw[0])<<8|uint16(raw[1])] = true
	}
	if len(ids) < 15 {
		t.Errorf("20 queries carried %d different IDs", len(ids))
	}
}

func TestQueryKeepsSizes(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	got, err := s.Query(t.Context(), child, p.addr, ask(t, 1, "big.example.", dnsmessage.TypeA, 0), false)
	if err != nil || !unpack(t, got).Truncated {
		t.Fatalf("without EDNS: %v, %v", got, err)
	}
	got, err = s.Query(t.Context(), child, p.addr, ask(t, 1, "big.example.", dnsmessage.TypeA, 8192), false)
	if err != nil || len(unpack(t, got).Answers) != 150 {
		t.Fatalf("with EDNS: %d bytes, %v", len(got), err)
	}
	got, err = s.Query(t.Context(), child, p.addr, ask(t, 1, "big.example.", dnsmessage.TypeA, 0), true)
	if err != nil || len(unpack(t, got).Answers) != 150 {
		t.Fatalf("over TCP: %d bytes, %v", len(got), err)
	}
}

func TestQueryIgnoresForgeries(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	got, err := s.Query(t.Context(), child, p.addr, ask(t, 1, "spoofed.example.", dnsmessage.TypeA, 0), false)
	if err != nil {
		t.Fatal(err)
	}
	if a := unpack(t, got).Answers[0].Body.(*dnsmessage.AResource).A; a[3] != 1 {
		t.Errorf("answered with %v", a)
	}
}

func TestQueryRefused(t *testing.T) {
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	dead := l.LocalAddr().(*net.UDPAddr).AddrPort()
	l.Close()
	s, rec := newServer(t)
	for _, tcp := range []bool{false, true} {
		start := time.Now()
		got, err := s.Query(t.Context(), child, dead, ask(t, 9, "www.example.", dnsmessage.TypeA, 1232), tcp)
		if err != nil {
			t.Fatal(err)
		}
		m := unpack(t, got)
		if m.ID != 9 || m.RCode != dnsmessage.RCodeServerFailure || len(m.Questions) != 1 || len(m.Additionals) != 1 {
			t.Errorf("tcp %v: %v", tcp, m.GoString())
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("tcp %v: failing took %v", tcp, d)
		}
		if q := <-rec; q.Err == nil || q.Rcode != "SERVFAIL" || q.Local {
			t.Errorf("recorded %+v", q)
		}
	}
}

func TestQuerySilent(t *testing.T) {
	p := newPeer(t)
	s, rec := newServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if got, err := s.Query(ctx, child, p.addr, ask(t, 9, "silent.example.", dnsmessage.TypeA, 0), false); err == nil {
		t.Errorf("a silent server was answered for: %x", got)
	}
	if q := <-rec; q.Err == nil || q.Rcode != "" || q.Name != "silent.example" {
		t.Errorf("recorded %+v", q)
	}
	if s.wait < 10*time.Second {
		t.Errorf("waits %v only", s.wait)
	}
}

func TestQueryHTTPSIsEmpty(t *testing.T) {
	p := newPeer(t)
	s, rec := newServer(t)
	for _, typ := range []dnsmessage.Type{64, 65} {
		got, err := s.Query(t.Context(), child, p.addr, ask(t, 5, "www.Example.", typ, 1232), false)
		if err != nil {
			t.Fatal(err)
		}
		m := unpack(t, got)
		if m.ID != 5 || m.RCode != 0 || !m.Response || !m.RecursionAvailable || !m.RecursionDesired || len(m.Answers) != 0 || len(m.Additionals) != 1 ||
			!m.Additionals[0].Header.DNSSECAllowed() || m.Questions[0].Name.String() != "www.Example." {
			t.Errorf("type %d: %v", typ, m.GoString())
		}
		if q := <-rec; !q.Local || q.Rcode != "NOERROR" || q.Type != typeName(uint16(typ)) {
			t.Errorf("recorded %+v", q)
		}
	}
	if n := len(p.queries()); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
}

func TestQueryLent(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	a := s.Lend("API.example.test.")
	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
		want int
	}{
		{"api.example.test.", dnsmessage.TypeA, 1},
		{"Api.Example.TEST.", dnsmessage.TypeA, 1},
		{"api.example.test.", dnsmessage.TypeALL, 1},
		{"api.example.test.", dnsmessage.TypeAAAA, 0},
		{"api.example.test.", dnsmessage.TypeTXT, 0},
	} {
		got, err := s.Query(t.Context(), child, p.addr, ask(t, 5, c.name, c.typ, 0), false)
		if err != nil {
			t.Fatal(err)
		}
		m := unpack(t, got)
		if m.RCode != 0 || len(m.Answers) != c.want || len(m.Additionals) != 0 {
			t.Errorf("%s %v: %v", c.name, c.typ, m.GoString())
		}
		if c.want == 1 && m.Answers[0].Body.(*dnsmessage.AResource).A != a.As4() {
			t.Errorf("%s: %v, want %v", c.name, m.Answers[0].GoString(), a)
		}
	}
	if n := len(p.queries()); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
	// With a search domain it is another name, and the server's to answer.
	if _, err := s.Query(t.Context(), child, p.addr, ask(t, 5, "api.example.test.corp.example.", dnsmessage.TypeA, 0), false); err != nil || len(p.queries()) != 1 {
		t.Errorf("search domain: %v, %d queries", err, len(p.queries()))
	}
}

func TestNameRemembers(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	lent := s.Lend("lent.example")
	for _, n := range []string{"first.example.", "Second.example.", "alias.example."} {
		if _, err := s.Query(t.Context(), child, p.addr, ask(t, 5, n, dnsmessage.TypeA, 0), false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Query(t.Context(), child, p.addr, ask(t, 5, "six.example.", dnsmessage.TypeAAAA, 0), true); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"192.0.2.1": "second.example", "::ffff:192.0.2.1": "second.example", "192.0.2.7": "alias.example",
		"2001:db8::7": "six.example", "192.0.2.99": "", lent.String(): "lent.example",
	} {
		name, isLent := s.Name(netip.MustParseAddr(addr))
		if name != want || isLent != (want == "lent.example") {
			t.Errorf("Name(%s) = %q, %v; want %q", addr, name, isLent, want)
		}
	}
}

func TestQueryMalformed(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	good := ask(t, 5, "www.example.", dnsmessage.TypeA, 0)
	answer := bytes.Clone(good)
	answer[2] |= 0x80
	for name, raw := range map[string][]byte{"empty": nil, "short": good[:11], "an answer": answer} {
		if got, err := s.Query(t.Context(), child, p.addr, raw, false); !errors.Is(err, errNoQuery) || got != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	for name, raw := range map[string][]byte{"cut": good[:len(good)-1], "no name": good[:12], "pointer": append(bytes.Clone(good[:12]), 0xc0, 0x0c, 0, 1, 0, 1)} {
		got, err := s.Query(t.Context(), child, p.addr, raw, false)
		if err != nil || unpack(t, got).RCode != dnsmessage.RCodeFormatError || got[1] != 5 {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	if n := len(p.queries()); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
	// Another opcode is for the server to judge.
	update := bytes.Clone(good)
	update[2] = 5 << 3
	update[5] = 0
	if got, err := s.Query(t.Context(), child, p.addr, update[:12], false); err != nil || len(p.queries()) != 1 || got[1] != 5 {
		t.Errorf("UPDATE: %x, %v", got, err)
	}
}

func TestQueryFloodIsBounded(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	s.init()
	for range maxInFlight {
		s.slots <- struct{}{}
	}
	if _, err := s.Query(t.Context(), child, p.addr, ask(t, 5, "www.example.", dnsmessage.TypeA, 0), false); err != ErrBusy {
		t.Errorf("with all slots taken: %v", err)
	}
	<-s.slots
	if _, err := s.Query(t.Context(), child, p.addr, ask(t, 5, "www.example.", dnsmessage.TypeA, 0), false); err != nil {
		t.Errorf("with a slot free: %v", err)
	}
}

// TestRecordNeverWaits stops the recorder and asks more than its queue holds.
func TestRecordNeverWaits(t *testing.T) {
	stuck := make(chan struct{})
	s := &Server{Record: func(Query) { <-stuck }}
	raw := ask(t, 5, "www.example.", 65, 0)
	for range maxRecords + 10 {
		if _, err := s.Query(t.Context(), child, child, raw, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Lost(); n < 9 || n > 10 { // one may be with the recorder
		t.Errorf("%d lost", n)
	}
	close(stuck)
	s.Close()
	if _, err := s.Query(t.Context(), child, child, raw, false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	s.Close()
}

func TestCloseAbandonsQueries(t *testing.T) {
	p := newPeer(t)
	s, _ := newServer(t)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Query(context.Background(), child, p.addr, ask(t, 9, "silent.example.", dnsmessage.TypeA, 0), false)
		ended <- err
	}()
	<-p.came
	start := time.Now()
	s.Close()
	if err := <-ended; err == nil || time.Since(start) > 2*time.Second {
		t.Errorf("abandoned with %v after %v", err, time.Since(start))
	}
}

func TestCloseUnused(t *testing.T) {
	var s Server
	s.Close()
	if !s.Lend("a.example").IsValid() {
		t.Error("nothing lent after Close")
	}
}

func BenchmarkQuery(b *testing.B) {
	p := newPeer(b)
	s, _ := newServer(b)
	s.Record = nil
	raw := ask(b, 5, "www.example.", dnsmessage.TypeA, 1232)
	for b.Loop() {
		if _, err := s.Query(b.Context(), child, p.addr, raw, false); err != nil {
			b.Fatal(err)
		}
	}
}
