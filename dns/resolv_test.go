package dns

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
)

func addrs(ss ...string) []netip.Addr {
	var as []netip.Addr
	for _, s := range ss {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name, file   string
		listen, take []netip.Addr
		resolv       string // "": not replaced
	}{
		{"plain", "nameserver 10.0.0.2\nnameserver 192.0.2.3\nnameserver 10.0.0.2\n", nil, addrs("10.0.0.2", "192.0.2.3"), ""},
		{"systemd-resolved", "# managed\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n", addrs("127.0.0.53"), nil, ""},
		{"mixed", "nameserver 127.0.0.1\nnameserver 2001:db8::53\nnameserver ::1\n", addrs("127.0.0.1", "::1"), addrs("2001:db8::53"), ""},
		{"empty", "", addrs("127.0.0.1", "::1"), nil, ""},
		{"none listed", "search lan\noptions ndots:2\n", addrs("127.0.0.1", "::1"), nil, ""},
		{"nonsense", "nameserver\nnameserver what\n; nameserver 1.1.1.1\n#nameserver 1.1.1.1\n", addrs("127.0.0.1", "::1"), nil, ""},
		{"unspecified", "nameserver 0.0.0.0\nnameserver ::\n", addrs("127.0.0.1", "::1"), nil, ""},
		{"mapped", "nameserver ::ffff:10.0.0.2\n", nil, addrs("10.0.0.2"), ""},
		{"no newline at the end", "nameserver 10.0.0.2", nil, addrs("10.0.0.2"), ""},
		{"link-local", "search lan\nnameserver fe80::1%eth0\nnameserver 10.0.0.2 # x\nnameserver fe80::1%eth0\nnameserver fe80::2%wlan0\n",
			nil, addrs("198.19.254.1", "10.0.0.2", "198.19.254.2"),
			"search lan\nnameserver 198.19.254.1\nnameserver 10.0.0.2 # x\nnameserver 198.19.254.1\nnameserver 198.19.254.2\n"},
		{"IPv4 link-local", "nameserver 169.254.169.253\n", nil, addrs("169.254.169.253"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Server{Resolv: []byte(c.file), Avoid: []netip.Prefix{}}
			defer s.Close()
			p := s.Plan()
			if !slices.Equal(p.Listen, c.listen) || !slices.Equal(p.Take, c.take) || string(p.Resolv) != c.resolv || p.Hosts != nil {
				t.Errorf("plan %+v", p)
			}
		})
	}
}

func TestPlanTakes(t *testing.T) {
	p := Plan{Take: addrs("10.0.0.2")}
	for s, want := range map[string]bool{"10.0.0.2:53": true, "[::ffff:10.0.0.2]:53": true, "10.0.0.2:853": false, "1.1.1.1:53": false} {
		if got := p.Takes(netip.MustParseAddrPort(s)); got != want {
			t.Errorf("Takes(%s) = %v", s, got)
		}
	}
}

func TestUpstream(t *testing.T) {
	s := &Server{Resolv: []byte("nameserver fe80::1%eth0\n"), Avoid: []netip.Prefix{netip.MustParsePrefix("198.19.254.1/32")}}
	defer s.Close()
	if take := s.Plan().Take; !slices.Equal(take, addrs("198.19.254.2")) {
		t.Fatalf("take %v", take)
	}
	for in, want := range map[string]string{"198.19.254.2:53": "[fe80::1%eth0]:53", "10.0.0.2:53": "10.0.0.2:53"} {
		if got := s.upstreams(netip.MustParseAddrPort(in)); len(got) != 1 || got[0].String() != want {
			t.Errorf("upstream(%s) = %v, want %s", in, got, want)
		}
	}
}

func TestParseConfig(t *testing.T) {
	c := ParseConfig([]byte("domain first.example\nsearch a.example b.example\noptions ndots:2 timeout:1\noptions use-vc timeout:20\nnameserver 10.0.0.2\n"))
	want := Config{addrs("10.0.0.2"), []string{"a.example", "b.example"}, []string{"ndots:2", "timeout:1", "use-vc", "timeout:20"}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v", c)
	}
	if d := c.timeout(); d != 20*time.Second {
		t.Errorf("timeout %v", d)
	}
	if d := (Config{Options: []string{"timeout:99999"}}).timeout(); d != 30*time.Second {
		t.Errorf("timeout %v", d)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s := Load(dir); s.Resolv != nil || s.Hosts != nil {
		t.Errorf("of nothing: %+v", s)
	}
	write("real", "nameserver 10.0.0.2\n")
	write("hosts", "127.0.0.1 localhost\n")
	link := filepath.Join(dir, "resolv.conf")
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	if s := Load(dir); string(s.Resolv) != "nameserver 10.0.0.2\n" || string(s.Hosts) != "127.0.0.1 localhost\n" {
		t.Errorf("%q, %q", s.Resolv, s.Hosts)
	}
	os.Remove(filepath.Join(dir, "real"))
	s := Load(dir)
	defer s.Close()
	if p := s.Plan(); !slices.Equal(p.Listen, addrs("127.0.0.1", "::1")) {
		t.Errorf("dangling: %+v", p)
	}
}

func TestSockets(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"run/nscd", "run/systemd/resolve", "var"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got := Sockets(root); len(got) != 0 {
		t.Errorf("none there: %v", got)
	}
	if err := os.Symlink("../run", filepath.Join(root, "var/run")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root) // the path of a socket is short
	l, err := net.Listen("unix", "run/nscd/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	os.WriteFile("run/systemd/resolve/io.systemd.Resolve", nil, 0o600) // no socket
	if got := Sockets(root); !slices.Equal(got, []string{filepath.Join(root, "run/nscd/socket")}) {
		t.Errorf("%v", got)
	}
}
