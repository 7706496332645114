package mitm

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"trace/flow"
)

// outer checks the record of what was said to the proxy.
func outer(t *testing.T, r *road, says ...string) {
	t.Helper()
	var want [2]string
	for i, s := range says {
		want[i%2] += s
	}
	f, tap := r.wait()
	if got := [2]string{tap.data[0].String(), tap.data[1].String()}; got != want || !tap.closed {
		t.Errorf("the tap saw %q, closed %v, want %q", got, tap.closed, want)
	}
	if f.Protocol != "http" || f.Decrypted || f.Error != nil || f.Ended.IsZero() ||
		f.Sent != int64(len(want[0])) || f.Received != int64(len(want[1])) {
		t.Errorf("recorded %+v", f)
	}
}

// TestConnect: what is within a tunnel is decrypted, however it came to be, and
// each byte arrives as it was sent.
func TestConnect(t *testing.T) {
	cfg := &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}
	for _, v := range []struct {
		name  string
		early bool
		says  []string
	}{
		{"at once", false, []string{asks, made}},
		{"early", true, []string{asks, made}},
		{"password", false, []string{asks, wants, asksKey, made}},
		{"chunked", false, []string{asks, wants2, asksKey, made}},
		{"twice, early", true, []string{asks, wants, asks, wants2, asksKey, made}},
		{"informed", false, []string{asks, "HTTP/1.1 103 Wait\r\nA: b\r\n\r\n" + made}},
		{"blank lines", false, []string{"\r\n" + asks, made}},
		{"large answer", false, []string{asks, strings.Replace(wants, "5\r\n\r\nhello", "300000\r\n\r\n"+strings.Repeat("x", 300000), 1), asksKey, made}},
	} {
		t.Run(v.name, func(t *testing.T) {
			up, down := noise(1, 1<<20), noise(2, 3<<20)
			origin, served := swap(t, cfg, down, 3)
			var answers []string
			for i := 1; i < len(v.says); i += 2 {
				answers = append(answers, v.says[i])
			}
			g := newGate(t, origin, answers...)
			r := newRoad(t, g.addr, nil)
			c := tls.Client(ask(t, r, v.early, v.says...), &tls.Config{ServerName: host, RootCAs: rootsOf(r)})
			got, err := exchange(c, up, 4)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			outer(t, r, v.says...)
			f, tap := r.wait()
			for _, x := range [][2][]byte{{got, down}, {<-served, up}, {tap.data[0].Bytes(), up}, {tap.data[1].Bytes(), down}} {
				if sha256.Sum256(x[0]) != sha256.Sum256(x[1]) {
					t.Errorf("%d bytes, want %d, or others", len(x[0]), len(x[1]))
				}
			}
			if !f.Decrypted || f.Host != host || f.ID != 2 || f.Dst.String() != g.addr || f.Sent != int64(len(up)) || f.Received != int64(len(down)) ||
				f.ChildEnd != flow.CloseNotify || f.Error != nil || f.Upstream.Verdict != "ok" {
				t.Errorf("recorded %+v", f)
			}
		})
	}
}

// TestConnectRedial: what cannot be decrypted within a tunnel is carried
// through a second one, made by the child's own words.
func TestConnectRedial(t *testing.T) {
	ca := stranger(t)
	g := newGate(t, web(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, host, false, nil)}}), wants, made, "HTTP/1.1 102 Wait\r\n\r\n"+made)
	r := newRoad(t, g.addr, nil)
	c := tls.Client(ask(t, r, false, asks, wants, asksKey, made), &tls.Config{ServerName: host, RootCAs: ca.pool()})
	if body, err := get(c); err != nil || !strings.HasSuffix(body, "hello HTTP/1.1") {
		t.Fatal(body, err)
	}
	c.Close()
	outer(t, r, asks, wants, asksKey, made)
	if f, _ := r.wait(); f.Decrypted || f.Opaque != ReasonUntrusted || code(f) != flow.CodeUpstreamUntrusted || f.Host != host {
		t.Errorf("recorded %+v", f)
	}
	if got := g.asked(); len(got) != 3 || got[2] != asksKey {
		t.Errorf("the proxy was asked %q", got)
	}
}

// TestConnectRedialRefused: where the proxy makes no second tunnel the child is told by an alert.
func TestConnectRedialRefused(t *testing.T) {
	ca := stranger(t)
	g := newGate(t, web(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, host, false, nil)}}), made, "HTTP/1.1 403 Once is enough\r\n\r\n")
	r := newRoad(t, g.addr, nil)
	c := tls.Client(ask(t, r, false, asks, made), &tls.Config{ServerName: host, RootCAs: ca.pool()})
	if _, err := get(c); err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
		t.Errorf("the child got %v", err)
	}
	outer(t, r, asks, made)
	if f, _ := r.wait(); code(f) != flow.CodeUpstreamUntrusted {
		t.Errorf("recorded %+v", f)
	}
}

// TestConnectPlain: a tunnel need not carry TLS, nor the child speak first, and
// may lead to another proxy.
func TestConnectPlain(t *testing.T) {
	const request, greeting = "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n", "SSH-2.0-test\r\n"
	echo := listen(t, func(c net.Conn) { io.Copy(c, c) })
	inner := newGate(t, echo, wants, made)
	for _, v := range []struct {
		name, origin, made, say, hear, protocol, opaque string
		early                                           bool
	}{
		{"http", echo, made, request, request, "http", "", false},
		{"http early", echo, made, request, request, "http", "", true},
		{"greeting", echo, made + greeting, "SSH-2.0-child\r\n", greeting + "SSH-2.0-child\r\n", "ssh", ReasonNotHTTP, false},
		{"proxy", inner.addr, made, asks, wants, "http", "", false},
	} {
		t.Run(v.name, func(t *testing.T) {
			g := newGate(t, v.origin, v.made)
			r := newRoad(t, g.addr, nil)
			c := ask(t, r, v.early, asks, made)
			if _, err := io.WriteString(c, v.say); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, len(v.hear))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != v.hear {
				t.Fatalf("%q, %v", b, err)
			}
			if v.name == "proxy" {
				if _, err := io.WriteString(c, asksKey+request); err != nil {
					t.Fatal(err)
				}
				if err := c.hear(made + request); err != nil {
					t.Fatal(err)
				}
			}
			c.CloseWrite()
			if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			outer(t, r, asks, made)
			if v.name == "proxy" {
				outer(t, r, asks, wants, asksKey, made)
				v.say, v.hear = request, request
			}
			f, tap := r.wait()
			if f.Protocol != v.protocol || f.Opaque != v.opaque || f.ChildEnd != flow.FIN || f.SrvEnd != flow.FIN || f.Host != host {
				t.Errorf("recorded %+v", f)
			}
			if tap.data[0].String() != v.say || tap.data[1].String() != v.hear {
				t.Errorf("the tap saw %q and %q", tap.data[0].Bytes(), tap.data[1].Bytes())
			}
		})
	}
}

// TestConnectNone: what makes no tunnel is carried as it is, to its end, as one
// connection.
func TestConnectNone(t *testing.T) {
	const no = "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"
	for _, v := range []struct {
		name, say, hear string
	}{
		{"refused", asks, no},
		{"refused, early", asks + "\x16\x03\x01early", no},
		{"until close", asks, "HTTP/1.1 502 No\r\n\r\n" + strings.Repeat("no", 1<<16)},
		{"close", asks, "HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"},
		{"short body", asks, "HTTP/1.1 403 No\r\nContent-Length: 200\r\n\r\nno"},
		{"too much", asks, no + "what?"},
		{"no answer", asks, ""},
		{"no http", asks, "220 ready\r\n\r\n"},
		{"endless head", asks, "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 1<<15)},
		{"switched", asks, "HTTP/1.1 101 Other\r\nUpgrade: x\r\n\r\nx"},
		{"no port", "CONNECT x HTTP/1.1\r\n\r\n", no},
		{"origin form", "CONNECT / HTTP/1.1\r\n\r\n", no},
		{"body", "CONNECT x:1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", no},
		{"odd field", "CONNECT x:1 HTTP/1.1\r\na b\r\n\r\n", no},
		{"half a head", "CONNECT x:1 HTTP/1.1\r\nHost", no},
		{"long head", "CONNECT x:1 HTTP/1.1\r\nA: " + strings.Repeat("b", 1<<18), no},
		{"other", asks + "GET http://x/ HTTP/1.1\r\n\r\n", no + no},
	} {
		for _, first := range []bool{true, false} { // the child ends first
			t.Run(v.name, func(t *testing.T) { connectNone(t, v.say, v.hear, first) })
		}
	}
}

func connectNone(t *testing.T, say, hear string, first bool) {
	said := make(chan string, 1)
	addr := listen(t, func(c net.Conn) {
		var b []byte
		if first {
			b, _ = io.ReadAll(c)
		} else {
			b = make([]byte, 12) // a slow head need not come whole
			if strings.Contains(say, "\r\n\r\n") {
				n, _ := io.ReadFull(c, b)
				b = b[:n]
			} else {
				b = nil
			}
		}
		io.WriteString(c, hear)
		c.(*net.TCPConn).CloseWrite()
		rest, _ := io.ReadAll(c)
		said <- string(b) + string(rest)
	})
	r := newRoad(t, addr, nil)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, say)
	if first {
		c.(*net.TCPConn).CloseWrite()
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != hear {
		t.Errorf("the child read %.200q, %v", got, err)
	}
	c.(*net.TCPConn).CloseWrite()
	if b := <-said; b != say {
		t.Errorf("the proxy read %.200q", b)
	}
	f, tap := r.wait()
	if tap.data[0].String() != say || tap.data[1].String() != hear || f.Sent != int64(len(say)) || f.Received != int64(len(hear)) {
		t.Errorf("the tap saw %.200q and %.200q, recorded %+v", tap.data[0].Bytes(), tap.data[1].Bytes(), f)
	}
	if f.ID != 1 || f.ChildEnd != flow.FIN || f.SrvEnd != flow.FIN {
		t.Errorf("recorded %+v", f)
	}
}

// TestConnectLeft: a child that leaves while the proxy thinks takes the
// proxy's connection with it, in its own way; and so does the other side.
func TestConnectLeft(t *testing.T) {
	for _, by := range []flow.Side{flow.Client, flow.Server} {
		asked, over := make(chan struct{}), make(chan error, 1)
		addr := listen(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, len(asks)))
			if by == flow.Server {
				c.(*net.TCPConn).SetLinger(0)
				return
			}
			close(asked)
			_, err := io.ReadAll(c)
			over <- err
		})
		r := newRoad(t, addr, nil)
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, asks)
		if by == flow.Client {
			<-asked
			c.(*net.TCPConn).SetLinger(0)
		} else {
			_, err := io.ReadAll(c)
			over <- err
		}
		c.Close()
		if err := <-over; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v: the other read %v", by, err)
		}
		if f, _ := r.wait(); f.ChildEnd != flow.Reset || f.Sent != int64(len(asks)) {
			t.Errorf("%v: recorded %+v", by, f)
		}
	}
}

// TestConnectRules: rules judge what is within, and a proxy that is
// bypassed is left alone.
func TestConnectRules(t *testing.T) {
	for _, v := range []struct {
		name         string
		change       func(*Proxy)
		outer, inner string // Opaque; "-": no connection within
	}{
		{"only inner", func(p *Proxy) { p.Only = []string{host} }, ReasonNotSelected, ""},
		{"bypass inner", func(p *Proxy) { p.Bypass = []string{host} }, "", ReasonBypass},
		{"bypass outer", func(p *Proxy) { p.Bypass = []string{"127.*"} }, ReasonBypass, "-"},
		{"connect to", func(p *Proxy) { p.ConnectTo = []ConnectTo{{Host: host, ToHost: "nowhere.invalid"}} }, "", ""},
		{"no authority", func(p *Proxy) { p.Authority = nil }, "", "-"},
	} {
		t.Run(v.name, func(t *testing.T) {
			g := newGate(t, web(t, &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}), made)
			r := newRoad(t, g.addr, v.change)
			roots := pki(t).pool()
			roots.AppendCertsFromPEM(testAuthority(t).PEM())
			c := tls.Client(ask(t, r, false, asks, made), &tls.Config{ServerName: host, RootCAs: roots})
			if body, err := get(c); err != nil || !strings.HasSuffix(body, "hello HTTP/1.1") {
				t.Fatal(body, err)
			}
			c.Close()
			if f, _ := r.wait(); f.Opaque != v.outer {
				t.Errorf("recorded %+v", f)
			}
			if v.inner == "-" {
				return
			}
			if f, _ := r.wait(); f.Opaque != v.inner || f.Decrypted != (v.inner == "") {
				t.Errorf("recorded %+v", f)
			}
		})
	}
}

// TestConnectCancel: cancelling resets both sides, before there is a tunnel and
// within it.
func TestConnectCancel(t *testing.T) {
	for _, answer := range []string{"", "HTTP/1.1 200", wants, made} {
		gone := make(chan error, 1)
		addr := listen(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, len(asks)))
			io.WriteString(c, answer)
			_, err := io.Copy(io.Discard, c)
			gone <- err
		})
		child, conn := socketPair(t)
		ctx, cancel := context.WithCancel(context.Background())
		ends := make(chan *flow.Conn, 2)
		p := &Proxy{Authority: testAuthority(t), Record: func(e flow.Event) {
			if e.Kind == flow.ConnEnd {
				ends <- e.Facts
			}
		}}
		over := make(chan struct{})
		go func() {
			p.Serve(ctx, &incoming{conn, netip.MustParseAddrPort(addr), nil})
			close(ends)
			close(over)
		}()
		io.WriteString(child, asks)
		if _, err := io.ReadFull(child, make([]byte, len(strings.TrimSuffix(answer, "HTTP/1.1 200")))); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Millisecond, cancel)
		select {
		case <-over:
		case <-time.After(5 * time.Second):
			t.Fatalf("%.10q: Serve does not return", answer)
		}
		if _, err := io.ReadAll(child); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%.10q: the child read %v", answer, err)
		}
		child.Close()
		if err := <-gone; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%.10q: the proxy read %v", answer, err)
		}
		n, last := 0, (*flow.Conn)(nil)
		for last = range ends {
			n++
		}
		if want := strings.Count(answer, made) + 1; n != want || last.Error != nil || last.ChildEnd != flow.Stopped {
			t.Errorf("%.10q: %d connections, the last %+v", answer, n, last)
		}
	}
}
