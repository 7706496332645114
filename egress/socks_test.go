package egress

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
)

func TestSOCKS(t *testing.T) {
	p := newPeer(t, (*peer).socks)
	named := func(a netip.Addr) (string, bool) {
		if a.String() == "192.0.2.7" {
			return "named.example", false
		}
		return "", false
	}
	for _, c := range []struct{ scheme, addr, want string }{
		{"socks5", "www.example:443", "name www.example 443"},
		{"socks5", "192.0.2.7:443", "192.0.2.7 443"},
		{"socks", "192.0.2.7:443", "192.0.2.7 443"},
		{"SOCKS5", "[2001:db8::1]:8443", "2001:db8::1 8443"},
		{"socks5h", "192.0.2.7:80", "name named.example 80"},
		{"socks5h", "192.0.2.8:22", "192.0.2.8 22"},
		{"socks5h", "[2001:db8::1]:65535", "2001:db8::1 65535"},
	} {
		d, direct := newDialer(t, "ALL_PROXY="+c.scheme+"://"+p.addr())
		d.Name = named
		conn := use(t, d, c.addr)
		if _, ok := conn.(*net.TCPConn); !ok {
			t.Errorf("the connection is a %T", conn)
		}
		if got := p.target(); got != c.want || len(*direct) != 0 {
			t.Errorf("%s %s: asked for %s, want %s; directly %q", c.scheme, c.addr, got, c.want, *direct)
		}
	}
}

func TestSOCKSPassword(t *testing.T) {
	p := newPeer(t, (*peer).socks)
	right, _ := newDialer(t, "ALL_PROXY=socks5://us%40er:p%20ss@"+p.addr())
	use(t, right, "www.example:443") // it wants none
	p.wants(2)
	use(t, right, "www.example:443")
	p.mu.Lock()
	secrets := p.secrets
	p.mu.Unlock()
	if len(secrets) != 1 || secrets[0] != "us@er:p ss" {
		t.Errorf("said to be %q", secrets)
	}
	wrong, _ := newDialer(t, "ALL_PROXY=socks5://u:@"+p.addr())
	none, _ := newDialer(t, "ALL_PROXY=socks5://"+p.addr())
	for want, d := range map[string]*Dialer{"does not accept the user name and password of ALL_PROXY": wrong, "wants a user name and password, ALL_PROXY has none": none} {
		if err := refused(t, d, "www.example:443"); !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	p.wants(1) // GSSAPI
	if err := refused(t, right, "www.example:443"); !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "no way of saying who one is") {
		t.Errorf("%v", err)
	}
}

func TestSOCKSReplies(t *testing.T) {
	p := newPeer(t, (*peer).socks)
	d, direct := newDialer(t, "ALL_PROXY=socks5h://"+p.addr())
	for _, c := range []struct {
		reply string
		errno error
		text  string
	}{
		{"\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", syscall.ECONNREFUSED, "connect www.example:443: general failure"},
		{"\x05\x02\x00\x01", syscall.EACCES, "not allowed"},
		{"\x05\x03\x00\x01", syscall.ENETUNREACH, "network unreachable"},
		{"\x05\x04\x00\x01", syscall.EHOSTUNREACH, "host unreachable"},
		{"\x05\x05\x00\x01", syscall.ECONNREFUSED, "connection refused"},
		{"\x05\x06\x00\x01", syscall.ETIMEDOUT, "TTL expired"},
		{"\x05\x07\x00\x01", syscall.ECONNREFUSED, "command not supported"},
		{"\x05\x08\x00\x01", syscall.EAFNOSUPPORT, "address type"},
		{"\x05\x63\x00\x01", syscall.ECONNREFUSED, "reply 99"},
		{"\x05\x00\x00\x09\x00", syscall.ECONNREFUSED, "unknown type 9"},
		{"\x04\x5a\x00\x00", syscall.ECONNREFUSED, "not SOCKS 5"},
		{"\x05\x00\x00\x01\x7f", syscall.ECONNRESET, "EOF"},
		{"\x05", syscall.ECONNRESET, "EOF"},
	} {
		p.says(c.reply)
		err := refused(t, d, "www.example:443")
		if !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.text) || !strings.HasPrefix(err.Error(), "proxy socks5h://"+p.addr()+" (ALL_PROXY): ") {
			t.Errorf("%q: %v; want %v, %q", c.reply, err, c.errno, c.text)
		}
	}
	if len(*direct) != 0 {
		t.Errorf("dialled directly: %q", *direct)
	}
	http := newServer(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	d, _ = newDialer(t, "ALL_PROXY=socks5://"+http.addr())
	if err := refused(t, d, "www.example:443"); !strings.Contains(err.Error(), "not SOCKS 5") {
		t.Errorf("%v", err)
	}
}
