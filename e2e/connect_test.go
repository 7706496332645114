package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// connectProxy is a proxy that asks for a password and carries whoever has it to the
// origin, whatever host he names.
func connectProxy(t *testing.T, o *origin) (port string) {
	t.Helper()
	return listenRaw(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil || req.Method != http.MethodConnect {
				return
			}
			if req.Header.Get("Proxy-Authorization") != "" {
				break
			}
			io.WriteString(c, "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=\"e2e\"\r\nContent-Length: 4\r\n\r\nwho?")
		}
		s, err := net.Dial("tcp", o.addr)
		if err != nil {
			return
		}
		defer s.Close()
		io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		var wg sync.WaitGroup
		wg.Go(func() {
			io.Copy(s, r)
			s.(*net.TCPConn).CloseWrite()
		})
		io.Copy(c, s)
		c.(*net.TCPConn).CloseWrite()
		wg.Wait()
	})
}

// TestConnect: a command that is told to use a proxy all the same is
// understood: what it said to the proxy is a row, and what passed in the tunnel
// others, decrypted.
func TestConnect(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	port := connectProxy(t, o)
	for _, w := range both() {
		for _, v := range []struct {
			name  string
			proxy string
			asks  []int // what the proxy says, by turns
			curl  []string
		}{
			{"name", "http://proxy.example:3128", []int{200}, nil},
			{"asked for a password", "http://proxy.example:3128", []int{407, 200}, []string{"--proxy-anyauth"}},
			{"localhost", "http://127.0.0.1:" + port, []int{407, 200}, []string{"--proxy-anyauth"}},
		} {
			t.Run(w.String()+"/"+v.name, func(t *testing.T) {
				j := newJob(t, w)
				root := j.file("root.pem", ca.pem())
				before := len(o.entries())
				flags := []string{"--upstream-ca", root, "--connect-to", "proxy.example:3128:127.0.0.1:" + port}
				curl := append([]string{"curl", "-sS", "-x", v.proxy, "--proxy-user", "me:secret"}, v.curl...)
				url := "https://" + host
				r := j.must(j.inspect(flags, append(curl, "-d", "question", url+"/echo", "--next", "-sS", "-x", v.proxy, "--proxy-user", "me:secret", url+"/bytes/200000", "-o", "/dev/null")...), 0)
				if r.stdout != "question" {
					t.Errorf("the child printed %.200q", r.stdout)
				}
				checkTunnel(t, j.flows(), o.entries()[before:], v.asks)
			})
		}
	}
}

// checkTunnel compares the rows with what the origin saw.
func checkTunnel(t *testing.T, rows []row, log []entry, asks []int) {
	t.Helper()
	var inside []row
	var said []int
	for _, r := range rows {
		switch {
		case r.Kind == "dns":
		case r.Kind != "http" || r.Error != nil || r.State != "complete" || r.Process == nil:
			t.Errorf("%+v", r)
		case r.Request.Method == "CONNECT":
			said = append(said, r.Response.Status)
			if r.Conn.Decrypted || r.Request.Host != host || r.Request.Port != 443 {
				t.Errorf("to the proxy: %+v, %+v", r.Conn, r.Request)
			}
		default:
			inside = append(inside, r)
		}
	}
	if len(said) < len(asks) || fmt.Sprint(said[:len(asks)]) != fmt.Sprint(asks) {
		t.Errorf("the proxy said %v, want %v", said, asks)
	}
	if len(inside) != len(log) || len(log) != 2 {
		t.Fatalf("%d rows, %d requests", len(inside), len(log))
	}
	for i, r := range inside {
		if !r.Conn.Decrypted || r.Conn.Host != host || r.Conn.SNI != host || r.Request.Host != host || r.Request.Port != 443 || r.Request.Scheme != "https" ||
			r.Request.SHA256 != log[i].reqHash || r.Request.Size != log[i].reqSize || r.Response.SHA256 != log[i].respHash || r.Response.Size != log[i].respSize {
			t.Errorf("recorded %+v %+v %+v, served %+v", r.Conn, r.Request, r.Response, log[i])
		}
	}
}

// TestConnectUndecrypted: what only the command can judge passes through a
// second tunnel, and it judges as it does without trace.
func TestConnectUndecrypted(t *testing.T) {
	need(t, "curl")
	stranger := newAuthority(t, "stranger")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{stranger.leaf(t, []string{host}, nil)}}, nil)
	port := connectProxy(t, o)
	for _, w := range both() {
		j := newJob(t, w)
		root := j.file("root.pem", stranger.pem())
		curl := []string{"curl", "-sS", "-x", "http://proxy.example:3128", "--proxy-anyauth", "--proxy-user", "me:secret", "https://" + host + "/text"}
		flags := []string{"--connect-to", "proxy.example:3128:127.0.0.1:" + port}
		if r := j.must(j.inspect(flags, append(curl, "--cacert", root)...), 0); r.stdout != "hello from /text\n" {
			t.Errorf("the child printed %.200q", r.stdout)
		}
		found := false
		for _, r := range j.flows() {
			found = found || r.Conn.Host == host && !r.Conn.Decrypted && r.Error != nil && r.Error.Code == "tls_upstream_untrusted"
		}
		if !found {
			t.Errorf("no row says why: %+v", j.flows())
		}
		j.must(j.inspect(flags, curl...), 60)
	}
}
