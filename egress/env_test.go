package egress

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestFromEnv(t *testing.T) {
	for _, c := range []struct {
		env                     string
		tls, plain, other, some string // the proxies for ports 443, 80, 8443, and any
	}{
		{"", "", "", "", ""},
		{"HTTPS_PROXY=http://a:1", "http://a:1 (HTTPS_PROXY)", "", "http://a:1 (HTTPS_PROXY)", "http://a:1 (HTTPS_PROXY)"},
		{"HTTP_PROXY=a", "", "http://a:80 (HTTP_PROXY)", "", "http://a:80 (HTTP_PROXY)"},
		{"ALL_PROXY=socks5h://a", "socks5h://a:1080 (ALL_PROXY)", "socks5h://a:1080 (ALL_PROXY)", "socks5h://a:1080 (ALL_PROXY)", "socks5h://a:1080 (ALL_PROXY)"},
		{"all_proxy=https://[::1] https_proxy=b:2", "http://b:2 (https_proxy)", "https://[::1]:443 (all_proxy)", "http://b:2 (https_proxy)", "http://b:2 (https_proxy)"},
		{"HTTPS_PROXY=a:1 https_proxy=b:2 HTTPS_PROXY=c:3", "http://b:2 (https_proxy)", "", "http://b:2 (https_proxy)", "http://b:2 (https_proxy)"},
		{"https_proxy= HTTPS_PROXY=a:1 HTTPS_PROXY=c:3", "http://a:1 (HTTPS_PROXY)", "", "http://a:1 (HTTPS_PROXY)", "http://a:1 (HTTPS_PROXY)"},
		{"REQUEST_METHOD=GET HTTP_PROXY=a:1", "", "", "", ""},
		{"REQUEST_METHOD=GET http_proxy=a:1", "", "http://a:1 (http_proxy)", "", "http://a:1 (http_proxy)"},
		{"HTTPS_PROXY=a:1 NO_PROXY=*", "", "", "", ""},
		{"PROXY=a:1 Https_Proxy=a:1 odd", "", "", "", ""},
	} {
		d, err := FromEnv(strings.Fields(c.env))
		if err != nil {
			t.Errorf("%s: %v", c.env, err)
			continue
		}
		for port, want := range map[int]string{443: c.tls, 80: c.plain, 8443: c.other, 0: c.some} {
			got := ""
			if p := d.choose(port, "www.example"); p != nil {
				got = p.String()
			}
			if got != want || d.Applies("www.example", port) != (want != "") {
				t.Errorf("%s: port %d goes through %q, want %q", c.env, port, got, want)
			}
		}
	}
}

func TestFromEnvInvalid(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"HTTPS_PROXY=ftp://a:1", `HTTPS_PROXY "ftp://a:1": scheme "ftp" is not supported: want http://HOST:PORT, or https, socks5, socks5h`},
		{"all_proxy=socks4://a:1", `all_proxy "socks4://a:1": scheme "socks4" is not supported`},
		{"HTTPS_PROXY=http://:1", `HTTPS_PROXY "http://:1": no host`},
		{"HTTPS_PROXY=http://", `HTTPS_PROXY "http://": no host`},
		{"HTTPS_PROXY=a:0", `"0" is no port`},
		{"HTTPS_PROXY=a:65536", `"65536" is no port`},
		{"HTTPS_PROXY=a:x", `HTTPS_PROXY "a:x": want http://HOST:PORT`},
		{"HTTP_PROXY=http://user:SECRET@a:99999", `HTTP_PROXY "http://***@a:99999": "99999" is no port`},
		{"HTTP_PROXY=user:SECRET@a:x", `HTTP_PROXY "***@a:x": characters of the user name and password`},
		{"HTTP_PROXY=http://user:SEC/RET@a:1", `HTTP_PROXY "http://***@a:1": characters of the user name and password`},
		{"HTTP_PROXY=http://user:SEC#RET@a:1", "must be percent-encoded"},
		{"HTTP_PROXY=http://user:SEC?RET@a:1", "must be percent-encoded"},
		{"HTTP_PROXY=http://user:SEC%RET@a:1", "must be percent-encoded"},
		{"HTTP_PROXY=user:SEC://RET@a:1", `HTTP_PROXY "***@a:1": `},
		{"ALL_PROXY=socks5://:SECRET@a:1", "RFC 1929"},
		{"ALL_PROXY=socks5://u:" + strings.Repeat("SECRET", 50) + "@a:1", "RFC 1929"},
	} {
		_, err := FromEnv([]string{c.env})
		if err == nil {
			t.Errorf("%s: no error", c.env)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", c.env, err, c.want)
		}
		if strings.Contains(err.Error(), "SEC") || strings.Contains(err.Error(), "RET") {
			t.Errorf("the password is in %v", err)
		}
	}
}

func TestBypass(t *testing.T) {
	for _, c := range []struct {
		noProxy      string
		direct, over string // hosts with a port
	}{
		{"", "127.0.0.1:443 127.9.9.9:443 [::1]:443 localhost:443 LocalHost.:443 app.localhost:443 169.254.169.254:80 [fe80::1]:443 [fe80::1%eth0]:443 224.0.0.1:443 255.255.255.255:443 0.0.0.0:443 [::ffff:127.0.0.1]:443 proxy.example:3128 Proxy.Example.:3128",
			"www.example:443 10.0.0.1:443 [2001:db8::1]:443 proxy.example:443 localhost.example:443"},
		{"example.com", "example.com:443 EXAMPLE.com:443 a.example.com:80 a.b.example.com:22 example.com.:443", "notexample.com:443 example.com.org:443"},
		{".example.com", "a.example.com:443", "example.com:443"},
		{"*.example.com", "a.example.com:443", "example.com:443"},
		{"example.com:8443,x.test", "example.com:8443 x.test:1", "example.com:443"},
		{"10.0.0.0/8, 2001:db8::/32", "10.1.2.3:443 [2001:db8:5::1]:443 [::ffff:10.1.2.3]:443", "11.1.2.3:443 [2001:db9::1]:443 ten.example:443"},
		{"192.0.2.1 [2001:db8::1] [2001:db8::2]:22", "192.0.2.1:443 [2001:db8::1]:443 [2001:db8::2]:22", "192.0.2.2:443 [2001:db8::2]:443"},
		{"*", "www.example:443 10.0.0.1:80", ""},
		{"a.test b.test\tc.test", "a.test:443 b.test:443 c.test:443", "d.test:443"},
		{",, ,:80,", "", "www.example:443"},
		{"named.example", "192.0.2.7:443", "192.0.2.8:443"},
	} {
		d, _ := newDialer(t, "ALL_PROXY=proxy.example:3128", "NO_PROXY="+c.noProxy)
		d.Name = func(a netip.Addr) (string, bool) {
			if a.String() == "192.0.2.7" {
				return "named.example", false
			}
			return "", false
		}
		var dialled string
		d.Dial = func(_ context.Context, _, addr string) (net.Conn, error) {
			dialled = addr
			return nil, net.ErrClosed
		}
		for _, addr := range strings.Fields(c.direct) {
			if d.DialContext(t.Context(), "tcp", addr); dialled != addr {
				t.Errorf("NO_PROXY=%q: %s dialled %s", c.noProxy, addr, dialled)
			}
		}
		for _, addr := range strings.Fields(c.over) {
			if d.DialContext(t.Context(), "tcp", addr); dialled != "proxy.example:3128" {
				t.Errorf("NO_PROXY=%q: %s dialled %s", c.noProxy, addr, dialled)
			}
		}
	}
}

// TestWithout: what is no TCP, or no destination, is for the dialler to judge.
func TestWithout(t *testing.T) {
	d, direct := newDialer(t, "ALL_PROXY=127.0.0.1:1")
	for _, c := range [][2]string{{"udp", "192.0.2.1:53"}, {"tcp", "192.0.2.1"}, {"tcp", "192.0.2.1:http2"}, {"tcp", ":443"}, {"tcp", "192.0.2.1:0"}, {"tcp", "192.0.2.1:65536"}} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if conn, err := d.DialContext(ctx, c[0], c[1]); err == nil {
			conn.Close()
		}
		if got := *direct; len(got) == 0 || got[len(got)-1] != c[1] {
			t.Errorf("%s %s: dialled %q", c[0], c[1], got)
		}
	}
	var zero Dialer
	o := newServer(t, echo)
	use(t, &zero, o.addr())
	if zero.Applies("www.example", 0) {
		t.Error("the zero value knows a proxy")
	}
}
