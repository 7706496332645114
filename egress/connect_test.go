package egress

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

func TestConnect(t *testing.T) {
	p := newPeer(t, (*peer).http)
	d, direct := newDialer(t, "HTTPS_PROXY="+p.addr(), "http_proxy=http://"+p.addr()+"/")
	d.Name = func(a netip.Addr) (string, bool) {
		switch a.String() {
		case "192.0.2.7":
			return "named.example", false
		case "192.0.2.8":
			return `odd\032name.example`, false
		}
		return "", false
	}
	for addr, want := range map[string]string{
		"www.example:443": "www.example:443", "www.example.:443": "www.example:443", "192.0.2.7:443": "named.example:443",
		"192.0.2.8:443": "192.0.2.8:443", "192.0.2.9:8443": "192.0.2.9:8443", "[2001:db8::1]:443": "[2001:db8::1]:443",
		"www.example:80": "www.example:80", "[::ffff:192.0.2.7]:22": "named.example:22",
	} {
		c := use(t, d, addr)
		if _, ok := c.(*net.TCPConn); !ok {
			t.Errorf("%s: the connection is a %T", addr, c)
		}
		r := p.request()
		if r.Method != "CONNECT" || r.RequestURI != want || r.Host != want || r.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("%s: asked for %s %s, host %s, %v", addr, r.Method, r.RequestURI, r.Host, r.Header)
		}
	}
	if len(*direct) != 0 {
		t.Errorf("dialled directly: %q", *direct)
	}
}

func TestConnectAuthorization(t *testing.T) {
	p := newPeer(t, (*peer).http)
	d, _ := newDialer(t, "ALL_PROXY=http://us%40er:p%3Ass@"+p.addr())
	use(t, d, "www.example:443")
	r := p.request()
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
	if user, password, _ := r.BasicAuth(); user != "us@er" || password != "p:ss" {
		t.Errorf("said to be %q, %q", user, password)
	}
	none, _ := newDialer(t, "https_proxy=http://"+p.addr())
	for _, c := range []struct {
		d         *Dialer
		challenge string
		want      string
	}{
		{d, `Basic realm="x"`, "does not accept the user name and password of ALL_PROXY"},
		{none, `Basic realm="x"`, "it wants a user name and password, https_proxy has none"},
		{none, "Negotiate\r\nProxy-Authenticate: NTLM", "it wants Negotiate or NTLM, trace can do Basic"},
		{none, "Negotiate\r\nProxy-Authenticate: basic", "it wants a user name and password, https_proxy has none"},
	} {
		p.says("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: " + c.challenge + "\r\nContent-Length: 4\r\n\r\nbody")
		err := refused(t, c.d, "www.example:443")
		if !strings.Contains(err.Error(), "407 Proxy Authentication Required: ") || !strings.Contains(err.Error(), c.want) || !errors.Is(err, syscall.EACCES) {
			t.Errorf("%v; want %q", err, c.want)
		}
		if strings.Contains(err.Error(), "p:ss") || strings.Contains(err.Error(), "p%3Ass") {
			t.Errorf("the password is in %v", err)
		}
	}
}

func TestConnectRefused(t *testing.T) {
	p := newPeer(t, (*peer).http)
	d, direct := newDialer(t, "HTTPS_PROXY="+p.addr())
	for _, c := range []struct {
		answer string
		errno  error
		text   string
	}{
		{"HTTP/1.1 502 Bad Gateway\r\n\r\n", syscall.ECONNREFUSED, "CONNECT www.example:443: 502 Bad Gateway"},
		{"HTTP/1.1 503 Service Unavailable\r\n\r\n", syscall.EHOSTUNREACH, "503"},
		{"HTTP/1.1 504 Gateway Timeout\r\n\r\n", syscall.ETIMEDOUT, "504"},
		{"HTTP/1.1 403 Forbidden\r\n\r\n", syscall.EACCES, "403"},
		{"HTTP/1.1 500\r\n\r\n", syscall.ECONNREFUSED, "www.example:443: 500"},
		{"HTTP/1.1 302 Found\nLocation: x\n\n", syscall.ECONNREFUSED, "302 Found"},
		{"HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n", syscall.ECONNREFUSED, ""},
		{"HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 110\r\n\r\n", syscall.ETIMEDOUT, ""},
		{"HTTP/1.1 503 x\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\n\r\n", syscall.EHOSTUNREACH, ""},
		{"HTTP/1.1 502 x\r\nProxy-Status: far; error=connection_timeout, near\r\n\r\n", syscall.ETIMEDOUT, ""},
		{"HTTP/1.1 502 x\r\nProxy-Status: a; details=\"b\"; error=destination_ip_unroutable\r\n\r\n", syscall.ENETUNREACH, ""},
		{"HTTP/1.1 502 \x1b[31mred\a\xff" + strings.Repeat("x", 200) + "\r\n\r\n", syscall.ECONNREFUSED, "502 [31mredxxx"},
		{"HTTP/1.1 xyz\r\n\r\n", syscall.ECONNREFUSED, "malformed"},
		{"\x15\x03\x01\x00\x02\x02\x50", syscall.ECONNREFUSED, "not HTTP"},
		{"HTTP/1.1 200 OK\r\nVia", syscall.ECONNRESET, "its answer is cut"},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n", syscall.ECONNREFUSED, "more than"},
		{strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxHeads), syscall.ECONNREFUSED, "does not come to an answer"},
	} {
		p.says(c.answer)
		err := refused(t, d, "www.example:443")
		if !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.text) || !strings.HasPrefix(err.Error(), "proxy http://"+p.addr()+" (HTTPS_PROXY): ") {
			t.Errorf("%.40q: %v; want %v, %q", c.answer, err, c.errno, c.text)
		}
		if len(err.Error()) > 250 || strings.ContainsAny(err.Error(), "\x1b\a") || !utf8.ValidString(err.Error()) {
			t.Errorf("not fit to be shown: %q", err)
		}
		var op *net.OpError
		if errors.As(err, &op) {
			t.Errorf("%v is taken for the destination's", err)
		}
	}
	if len(*direct) != 0 {
		t.Errorf("dialled directly: %q", *direct)
	}
}

// TestDeclined: what the proxy does not carry goes on without it, except
// where programs would have asked the proxy too.
func TestDeclined(t *testing.T) {
	p := newPeer(t, (*peer).http)
	p.says("HTTP/1.1 403 Forbidden\r\n\r\n")
	d, direct := newDialer(t, "ALL_PROXY="+p.addr())
	dial := d.Dial
	d.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		switch addr {
		case "192.0.2.1:22", "192.0.2.1:80":
			dial(ctx, network, addr+"0000") // noted, and no port
			return dial(ctx, network, p.origin)
		case "192.0.2.2:22":
			return nil, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}
		}
		return dial(ctx, network, addr)
	}
	use(t, d, "192.0.2.1:22")
	use(t, d, "192.0.2.1:80")
	if len(*direct) != 4 {
		t.Errorf("dialled %q", *direct)
	}
	err := refused(t, d, "192.0.2.2:22")
	if !errors.Is(err, syscall.ENETUNREACH) || !strings.Contains(err.Error(), "403 Forbidden; without it: ") {
		t.Errorf("%v", err)
	}
	if err := refused(t, d, "192.0.2.1:443"); !errors.Is(err, syscall.EACCES) || strings.Contains(err.Error(), "without it") {
		t.Errorf("%v", err)
	}
	p.says("HTTP/1.1 503 Service Unavailable\r\n\r\n")
	if err := refused(t, d, "192.0.2.1:22"); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("%v", err)
	}
}

func TestProxyUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	d, _ := newDialer(t, "HTTPS_PROXY="+dead)
	err = refused(t, d, "www.example:443")
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "proxy http://"+dead+" (HTTPS_PROXY): dial tcp ") {
		t.Errorf("%v", err)
	}
	d.Dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "proxy.test", IsNotFound: true}}
	}
	err = refused(t, d, "www.example:443")
	var dns *net.DNSError
	if !errors.Is(err, syscall.EHOSTUNREACH) || errors.As(err, &dns) || !strings.Contains(err.Error(), "lookup proxy.test") {
		t.Errorf("%v", err)
	}
	if err := refused(t, d, "bad name:443"); !errors.Is(err, syscall.EHOSTUNREACH) || !strings.Contains(err.Error(), "cannot be told") {
		t.Errorf("%v", err)
	}
}

// TestProxySilent: waiting for a proxy ends with the context.
func TestProxySilent(t *testing.T) {
	for _, env := range []string{"ALL_PROXY=http://", "ALL_PROXY=https://", "ALL_PROXY=socks5://"} {
		came := make(chan struct{}, 1)
		s := newServer(t, func(c net.Conn) {
			came <- struct{}{}
			io.Copy(io.Discard, c)
		})
		d, _ := newDialer(t, env+s.addr())
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-came; cancel() }()
		if c, err := d.DialContext(ctx, "tcp", "www.example:443"); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, %v", env, c, err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		if c, err := d.DialContext(ctx, "tcp", "www.example:443"); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("%s: %v, %v", env, c, err)
		}
		cancel()
	}
}

// TestReset: the proxy sees an abort as an abort.
func TestReset(t *testing.T) {
	ended := make(chan error, 1)
	s := newServer(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	d, _ := newDialer(t, "ALL_PROXY="+s.addr())
	c, err := d.DialContext(t.Context(), "tcp", "www.example:443")
	if err != nil {
		t.Fatal(err)
	}
	c.(interface{ SetLinger(int) error }).SetLinger(0)
	c.Close()
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ended by %v", err)
	}
}
