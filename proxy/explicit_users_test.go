package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"trace/flow"
	"trace/mitm"
)

// known lets users in whose password is their name twice.
func known(user, password string) (string, bool) {
	return "label of " + user, user != "" && password == user+user
}

func credentials(user, password string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

// TestUsers has clients of known, unknown and no users, in each protocol: what they
// are answered, what is recorded, and what the caller is told of them.
func TestUsers(t *testing.T) {
	s := newRawServer(t, func(string) string { return okAnswer })
	_, port, _ := net.SplitHostPort(s.addr)
	connect := "CONNECT " + s.addr + " HTTP/1.1\r\n"
	plain := "GET http://" + s.addr + "/x HTTP/1.1\r\n"
	inner := "GET /y HTTP/1.1\r\nHost: a\r\n\r\n"
	v4 := "\x01\x7f\x00\x00\x01" + be16(int(mustPort(t, port)))
	own := func(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
	for _, x := range []struct {
		name, say   string
		begins, has string
		row         string
		who         string
	}{
		{"connect", connect + credentials("bob", "bobbob") + "\r\n" + inner, "HTTP/1.1 200 ", "\r\n\r\nok", "GET http://a:80/y", "bob label of bob http"},
		{"connect wrong", connect + credentials("bob", "s3cr3t") + "\r\n", "HTTP/1.1 407 ", `Basic realm=`, "proxy_auth :" + port + " http", "bob  http refused"},
		{"connect other scheme", connect + "Proxy-Authorization: Bearer s3cr3t\r\n\r\n", "HTTP/1.1 407 ", `Basic realm=`, "proxy_auth :" + port + " http", "  http refused"},
		{"connect nobody", connect + "\r\n", "HTTP/1.1 407 ", `Basic realm=`, "proxy_auth :" + port + " http", "  http refused"},
		{"connect nobody, then bob", connect + "\r\n" + connect + credentials("bob", "bobbob") + "\r\n" + inner, "HTTP/1.1 407 ", "HTTP/1.1 200 ", "GET http://a:80/y", "bob label of bob http"},
		{"connect nobody, then wrong", connect + "\r\n" + connect + credentials("bob", "s3cr3t") + "\r\n", "HTTP/1.1 407 ", "not known", "proxy_auth :" + port + " http", "bob  http refused"},
		{"plain", plain + credentials("bob", "bobbob") + "\r\n", "HTTP/1.1 200 ", "ok", "GET http://" + s.addr + "/x", "bob label of bob http"},
		{"plain nobody", plain + "\r\n", "HTTP/1.1 407 ", `Basic realm=`, "proxy_auth :" + port + " http", "  http refused"},
		{"plain with a body, nobody", strings.Replace(plain, "GET", "POST", 1) + "Content-Length: 3\r\n\r\nabc", "HTTP/1.1 407 ", "Connection: close", "proxy_auth :" + port + " http", "  http refused"},
		{"plain two users", plain + credentials("bob", "bobbob") + "\r\n" + plain + credentials("eve", "eveeve") + "\r\n", "HTTP/1.1 200 ", "ok", "GET http://" + s.addr + "/x|GET http://" + s.addr + "/x", "bob label of bob http|eve label of eve http"},
		{"plain, then wrong", plain + credentials("bob", "bobbob") + "\r\n" + plain + credentials("bob", "s3cr3t") + "\r\n", "HTTP/1.1 200 ", "HTTP/1.1 407 ", "GET http://" + s.addr + "/x|proxy_auth :" + port + " http", "bob label of bob http|bob  http refused"},
		{"socks5", "\x05\x02\x00\x02\x01\x03bob\x06bobbob\x05\x01\x00" + v4 + inner, "\x05\x02\x01\x00\x05\x00", "ok", "GET http://a:80/y", "bob label of bob socks5"},
		{"socks5 wrong", "\x05\x01\x02\x01\x03bob\x06s3cr3t", "\x05\x02\x01\x01", "", "proxy_auth :OWN socks5", "bob  socks5 refused"},
		{"socks5 nobody", "\x05\x01\x00", "\x05\xff", "", "proxy_auth :OWN socks5", "  socks5 refused"},
		{"socks5 version of the password", "\x05\x01\x02\x05\x03bob\x06bobbob", "\x05\x02", "", "malformed :OWN socks5", "  socks5 refused"},
		{"socks4", "\x04\x01" + v4[5:] + v4[1:5] + "bob\x00", "\x00\x5d", "", "proxy_auth :" + port + " socks4", "bob  socks4 refused"},
	} {
		for _, bytewise := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", x.name, bytewise), func(t *testing.T) {
				h := newHall(t, func(h *hall) { h.p.Users = known })
				got := h.say(x.say, bytewise)
				if !strings.HasPrefix(got, x.begins) || !strings.Contains(got, x.has) {
					t.Errorf("answered %q, want %q … %q", got, x.begins, x.has)
				}
				if got, want := strings.Join(h.rows(), "|"), strings.ReplaceAll(x.row, "OWN", own(h.addr)); got != want {
					t.Errorf("recorded %q, want %q", got, want)
				}
				var who []string
				for _, c := range h.opened {
					w := c.User + " " + c.Label + " " + c.Protocol
					if c.Refused {
						w += " refused"
					}
					who = append(who, w)
					if !c.Src.Addr().IsLoopback() || c.Local.String() != h.addr {
						t.Errorf("a client from %v at %v", c.Src, c.Local)
					}
				}
				if got := strings.Join(who, "|"); got != x.who {
					t.Errorf("clients %q, want %q", got, x.who)
				}
				for _, e := range h.events {
					if e.Error != nil && strings.Contains(e.Error.Message, "s3cr3t") || e.Facts != nil && e.Facts.Error != nil && strings.Contains(e.Facts.Error.Message, "s3cr3t") {
						t.Errorf("the password is in the record: %+v", e)
					}
				}
			})
		}
	}
}

func mustPort(t *testing.T, s string) (n uint16) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTLS decrypts what goes through a tunnel that was asked for by name, and makes
// TLS itself where a request in absolute-form is for https.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, " ", r.URL, " ", r.Header.Get("Proxy-Connection"))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ca, err := mitm.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	h := newHall(t, func(h *hall) {
		to, err := mitm.ParseConnectTo("example.com:443:" + server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		h.mitm.Authority, h.mitm.Roots, h.mitm.ConnectTo, h.mitm.Only = ca, roots, []mitm.ConnectTo{to}, []string{"example.com"}
	})
	own, err := x509.ParseCertificate(ca.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(own)
	for _, scheme := range []string{"http", "socks5h"} {
		tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: scheme, Host: h.addr}), TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: true}
		res, err := (&http.Client{Transport: tr}).Get("https://example.com/" + scheme)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(b) != "example.com /"+scheme+" " || res.ProtoMajor != 2 {
			t.Errorf("%s: %q by %s", scheme, b, res.Proto)
		}
		tr.CloseIdleConnections()
	}
	c := h.dial()
	r := bufio.NewReader(c)
	io.WriteString(c, "GET https://EXAMPLE.com/absolute HTTP/1.1\r\nProxy-Connection: close\r\n\r\n")
	if status, body := get(t, r, "GET"); status != 200 || body != "EXAMPLE.com /absolute " {
		t.Errorf("%d %q", status, body)
	}
	c.Close()
	want := "GET https://example.com:443/http|GET https://example.com:443/socks5h|GET https://example.com:443/absolute"
	if got := strings.Join(h.rows(), "|"); got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
	for _, e := range h.events {
		if e.Kind == flow.ConnEnd && e.Facts.Host != "example.com" {
			t.Errorf("host %q", e.Facts.Host)
		}
	}
}

// TestManyClients has a thousand at once.
func TestManyClients(t *testing.T) {
	const many = 1000
	port := echo(t)
	h := newHall(t, nil)
	var all sync.WaitGroup
	meet := make(chan struct{})
	var ready sync.WaitGroup
	ready.Add(many)
	for i := range many {
		all.Go(func() {
			c, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Error(err)
				ready.Done()
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			if i%2 == 0 {
				fmt.Fprintf(c, "CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n", port)
			} else {
				io.WriteString(c, "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01"+be16(port))
			}
			ready.Done()
			<-meet
			text := fmt.Sprintf("client %d.", i)
			io.WriteString(c, text)
			r := bufio.NewReader(c)
			for {
				s, err := r.ReadString('.')
				if err != nil {
					t.Errorf("client %d: %q, %v", i, s, err)
					return
				}
				if strings.HasSuffix(s, strings.ToUpper(text)) {
					return
				}
			}
		})
	}
	ready.Wait()
	close(meet)
	all.Wait()
	if n := len(h.rows()); n != many {
		t.Errorf("%d rows, want %d", n, many)
	}
}

// TestNonsense: whatever is said, the connection ends, and it is one row at most.
func TestNonsense(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		p := make([]byte, rng.IntN(300))
		for j := range p {
			p[j] = byte(rng.Uint32())
		}
		if len(p) > 0 {
			p[0] = []byte{4, 5, 22, 'G', 'C', p[0]}[i%6]
		}
		h := newHall(t, func(h *hall) { h.mitm.Dial = failing })
		h.say(string(p), i%2 == 0)
		if rows := h.rows(); len(rows) > 1 {
			t.Errorf("%q: %q", p, rows)
		}
	}
}
