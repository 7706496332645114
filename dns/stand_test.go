package dns

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

var standing = netip.MustParseAddr("10.9.8.1")

// TestStands asks an address of ours: the host's servers are asked in order.
func TestStands(t *testing.T) {
	p := newPeer(t)
	closed := netip.MustParseAddr("127.0.0.9") // nobody listens there
	s, rec := newServer(t)
	s.Resolv = []byte("nameserver " + closed.String() + "\n")
	s.Stands = []netip.Addr{standing}
	at := netip.AddrPortFrom(standing, p.addr.Port())
	servers := []netip.Addr{closed, p.addr.Addr()}
	s.Nameservers = func() []netip.Addr { return servers }
	for _, tcp := range []bool{false, true} {
		got, err := s.Query(t.Context(), child, at, ask(t, 9, "www.example.", dnsmessage.TypeA, 0), tcp)
		if err != nil || len(unpack(t, got).Answers) != 1 {
			t.Fatalf("tcp %v: %v", tcp, err)
		}
		if q := <-rec; q.Dst != at || q.Local || q.Err != nil {
			t.Errorf("%+v", q)
		}
	}
	_, stream := serve(t, s, at)
	c := dial(t, "tcp", stream)
	if err := writeFrame(c, ask(t, 10, "www.example.", dnsmessage.TypeA, 0)); err != nil {
		t.Fatal(err)
	}
	if msg, err := readFrame(c); err != nil || len(unpack(t, msg).Answers) != 1 {
		t.Errorf("over a stream: %v", err)
	}
	servers = []netip.Addr{closed}
	got, err := s.Query(t.Context(), child, at, ask(t, 11, "www.example.", dnsmessage.TypeA, 0), false)
	if err != nil || unpack(t, got).RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("no server is there: %v", err)
	}
	if plan := s.Plan(); !plan.Takes(netip.AddrPortFrom(standing, 53)) {
		t.Errorf("%+v", plan)
	}
}

// TestLocal answers for names of our own.
func TestLocal(t *testing.T) {
	s, rec := newServer(t)
	four, six := netip.MustParseAddr("10.9.8.1"), netip.MustParseAddr("fd00::1")
	s.Local = map[string][]netip.Addr{"trace.internal": {four, six}}
	for typ, want := range map[dnsmessage.Type][]string{
		dnsmessage.TypeA: {"10.9.8.1"}, dnsmessage.TypeAAAA: {"fd00::1"}, dnsmessage.TypeALL: {"10.9.8.1", "fd00::1"}, dnsmessage.TypeTXT: nil,
	} {
		got, err := s.Query(t.Context(), child, netip.MustParseAddrPort("192.0.2.53:53"), ask(t, 9, "Trace.Internal.", typ, 1232), false)
		if err != nil {
			t.Fatal(err)
		}
		m := unpack(t, got)
		var have []string
		for _, a := range m.Answers {
			switch b := a.Body.(type) {
			case *dnsmessage.AResource:
				have = append(have, net.IP(b.A[:]).String())
			case *dnsmessage.AAAAResource:
				have = append(have, net.IP(b.AAAA[:]).String())
			}
		}
		if !slices.Equal(have, want) || m.RCode != dnsmessage.RCodeSuccess {
			t.Errorf("%v: %v, want %v", typ, have, want)
		}
		if q := <-rec; !q.Local || q.Err != nil {
			t.Errorf("%+v", q)
		}
	}
}
