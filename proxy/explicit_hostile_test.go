package proxy

import (
	"net"
	"strings"
	"testing"
	"time"
)

// TestTargetsAsSaid: what a target holds besides ASCII is the server's to judge.
func TestTargetsAsSaid(t *testing.T) {
	for _, path := range []string{"/a\u3000b", "/a\u00a0b", "/a\u0085b", "/\xff\xfe", "/a\u2028?q=\u3000"} {
		s := newRawServer(t, func(string) string { return okAnswer })
		h := newHall(t, nil)
		got := h.say("GET http://"+s.addr+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false)
		h.stop()
		heads := s.read()
		if !strings.HasPrefix(got, "HTTP/1.1 200") || len(heads) != 1 || !strings.HasPrefix(heads[0], "GET "+path+" HTTP/1.1\r\n") {
			t.Errorf("%q: answered %.80q, the server read %q", path, got, heads)
		}
		if rows := h.rows(); len(rows) != 1 || rows[0] != "GET http://"+s.addr+path {
			t.Errorf("%q: recorded as %q", path, rows)
		}
	}
}

// TestNoCredentialsLeave: whatever way they are written, credentials for the proxy
// end there.
func TestNoCredentialsLeave(t *testing.T) {
	for _, field := range []string{
		"Proxy-Authorization: Basic Ym9iOmJvYmJvYg==\r\n",
		"proxy-authorization:Basic Ym9iOmJvYmJvYg==\r\n",
		"PROXY-AUTHORIZATION : Basic Ym9iOmJvYmJvYg==\r\n",
		"Proxy-Authorization: Basic Ym9iOmJvYmJvYg==\r\nProxy-Authorization: Basic Ym9iOmJvYmJvYg==\r\n",
		"X: y\r\nProxy-Authorization: Basic Ym9iOmJvYmJvYg==\r\n \t \r\n",
		"Proxy-Authorization: Basic Ym9iOmJvYmJvYg==\n",
		"Proxy-Authorization:\r\n Basic Ym9iOmJvYmJvYg==\r\n",
	} {
		s := newRawServer(t, func(string) string { return okAnswer })
		h := newHall(t, func(h *hall) { h.p.Users = known })
		got := h.say("GET http://"+s.addr+"/ HTTP/1.1\r\n"+field+"Connection: close\r\n\r\n", false)
		h.stop()
		for _, head := range s.read() {
			if strings.Contains(strings.ToLower(head), "proxy-auth") || strings.Contains(head, "Ym9iOmJv") {
				t.Errorf("%q: the server read %q", field, head)
			}
		}
		if !strings.HasPrefix(got, "HTTP/1.1 200") && !strings.HasPrefix(got, "HTTP/1.1 407") {
			t.Errorf("%q: answered %.80q", field, got)
		}
	}
}

// TestOneRowEach: nonsense costs its own connection, says so and is one row.
func TestOneRowEach(t *testing.T) {
	s := newRawServer(t, func(string) string { return okAnswer })
	_, port, _ := net.SplitHostPort(s.addr)
	for _, say := range []string{
		"CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\n\r\n",
		"CONNECT a:0 HTTP/1.1\r\n\r\n",
		"CONNECT a:99999 HTTP/1.1\r\n\r\n",
		"CONNECT a:-1 HTTP/1.1\r\n\r\n",
		"CONNECT a:+80 HTTP/1.1\r\n\r\n",
		"CONNECT a HTTP/1.1\r\n\r\n",
		"CONNECT :80 HTTP/1.1\r\n\r\n",
		"CONNECT /a:80 HTTP/1.1\r\n\r\n",
		"CONNECT a:80:80 HTTP/1.1\r\n\r\n",
		"CONNECT [::1:80 HTTP/1.1\r\n\r\n",
		"CONNECT []:80 HTTP/1.1\r\n\r\n",
		"CONNECT user@a:80 HTTP/1.1\r\n\r\n",
		"GET http:// HTTP/1.1\r\n\r\n",
		"GET http:///x HTTP/1.1\r\n\r\n",
		"GET http://:80/x HTTP/1.1\r\n\r\n",
		"GET ftp://a/x HTTP/1.1\r\n\r\n",
		"GET http://a:b/x HTTP/1.1\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET * HTTP/1.1\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://127.0.0.1:" + port + "/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"GET http://127.0.0.1:" + port + "/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"GET http://127.0.0.1:" + port + "/ HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"GET http://127.0.0.1:" + port + "/ HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET http://a/ HTTP/2.0\r\n\r\n",
		"GET http://a/\r\n\r\n",
		"\r\n\r\n\r\nnonsense\r\n\r\n",
		"\x16\x03\x01\x00\x05hello",
		"\x05\x00",
		"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50",
		"\x05\x01\x00\x05\x01\x00\x09\x7f\x00\x00\x01\x00\x50",
		"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50",
		"\x05\x01\x00\x05\x01\x00\x03\x02\x00a\x00\x50",
		"\x04\x01\x00\x50\x00\x00\x00\x01u\x00\x00",
		"\x04\x02\x00\x50\x7f\x00\x00\x01u\x00",
		"\x04\x01\x00\x50\x7f\x00\x00\x01" + strings.Repeat("u", 4000),
	} {
		h := newHall(t, func(h *hall) { h.p.Patience = 300 * time.Millisecond; h.mitm.Dial = failing })
		got := h.say(say, false)
		if rows := h.rows(); len(rows) != 1 {
			t.Errorf("%.60q: answered %.60q, rows %q", say, got, rows)
		}
		if got == "" && say[0] != 5 {
			t.Errorf("%.60q: nothing was answered", say)
		}
		if strings.Contains(got, "HTTP/1.1 2") {
			t.Errorf("%.60q: answered %.60q", say, got)
		}
	}
}
