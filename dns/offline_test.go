package dns

import (
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// TestOffline: nobody is asked. Names get addresses when they are asked for, all
// but those that do not exist, or that a search list made up.
func TestOffline(t *testing.T) {
	s := &Server{Resolv: []byte("nameserver 192.0.2.53\nsearch corp.test\n"), Avoid: []netip.Prefix{}}
	s.Offline = func(name string) bool { return name != "gone.test" }
	t.Cleanup(func() { s.Close() })
	s.Lend("known.corp.test")
	for _, c := range []struct {
		name  string
		typ   dnsmessage.Type
		class dnsmessage.Class
		rcode dnsmessage.RCode
		lent  bool
	}{
		{"new.test.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, true},
		{"new.test.", dnsmessage.TypeAAAA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, false},
		{"new.test.", dnsmessage.TypeMX, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, false},
		{"GONE.test.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeNameError, false},
		{"new.test.corp.test.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeNameError, false},
		{"known.corp.test.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, true},
		{"1.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.ClassINET, dnsmessage.RCodeNameError, false},
		{"localhost.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeNameError, false},
		{"version.bind.", dnsmessage.TypeTXT, dnsmessage.ClassCHAOS, dnsmessage.RCodeRefused, false},
	} {
		raw, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(c.name), Type: c.typ, Class: c.class}}}).Pack()
		if err != nil {
			t.Fatal(err)
		}
		for _, tcp := range []bool{false, true} {
			answer, err := s.Query(t.Context(), netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.53:53"), raw, tcp)
			var m dnsmessage.Message
			if err == nil {
				err = m.Unpack(answer)
			}
			if err != nil || m.RCode != c.rcode || len(m.Answers) > 0 != c.lent {
				t.Errorf("%s %v: %v %v %v", c.name, c.typ, err, m.RCode, m.Answers)
			}
		}
	}
	if a, ok := s.Lent("new.test"); !ok || !lower.Contains(a) {
		t.Errorf("lent %v", a)
	} else if name, lent := s.Name(a); name != "new.test" || !lent {
		t.Errorf("leads to %q", name)
	}
}
