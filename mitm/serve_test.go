package mitm

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trace/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freeAddr returns an address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestDialFailure: what keeps us from the destination is answered in kind and recorded.
func TestDialFailure(t *testing.T) {
	for _, v := range []struct {
		err  error
		code string
		kind error
	}{
		{nil, flow.CodeRefused, syscall.ECONNREFUSED}, // a real one
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, flow.CodeUnreachable, syscall.EHOSTUNREACH},
		{&net.OpError{Op: "dial", Err: syscall.ENETUNREACH}, flow.CodeUnreachable, syscall.ENETUNREACH},
		{&net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, flow.CodeTimeout, syscall.ETIMEDOUT},
		{&net.DNSError{Name: "x.test", IsNotFound: true}, flow.CodeDNS, syscall.EHOSTUNREACH},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}, flow.CodeLimit, syscall.EMFILE},
	} {
		r := newRoad(t, freeAddr(t), func(p *Proxy) {
			if v.err != nil {
				p.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, v.err }
			}
		})
		if c, err := net.Dial("tcp", r.addr); err == nil { // or it was reset already
			c.Close()
		}
		if err := <-r.refused; !errors.Is(err, v.kind) {
			t.Errorf("%s: refused with %v", v.code, err)
		}
		facts, tap := r.wait()
		if code(facts) != v.code || tap != nil || facts.Opaque != ReasonFailed || facts.Ended.IsZero() {
			t.Errorf("%s: recorded %+v", v.code, facts)
		}
		if ours := facts.Error.Where == flow.AtCapture; ours != (v.code == flow.CodeLimit) {
			t.Errorf("%s: at %s", v.code, facts.Error.Where)
		}
	}
}

// TestTarget: the name rules say what is dialled.
func TestTarget(t *testing.T) {
	lent, other := netip.MustParseAddr("198.18.0.7"), netip.MustParseAddr("192.0.2.1")
	names := func(a netip.Addr) (string, bool) {
		switch a {
		case lent:
			return "api.test", true
		case other:
			return "looked.test", false
		}
		return "", false
	}
	for _, v := range []struct {
		rules string
		dst   string
		want  string
	}{
		{"", "198.18.0.7:443", "api.test:443"},
		{"", "192.0.2.1:443", "192.0.2.1:443"},
		{"", "[2001:db8::1]:80", "[2001:db8::1]:80"},
		{"", "[::ffff:192.0.2.9]:80", "192.0.2.9:80"},
		{"api.test:443:localhost:8443", "198.18.0.7:443", "localhost:8443"},
		{"api.test:443:localhost:8443", "198.18.0.7:80", "api.test:80"},
		{"API.test::[::1]:", "198.18.0.7:80", "[::1]:80"},
		{"looked.test:::8443", "192.0.2.1:443", "192.0.2.1:8443"},
		{":443:a:1 ::b:2", "192.0.2.9:443", "a:1"},
		{":444:a:1 ::b:2", "192.0.2.9:443", "b:2"},
		{"192.0.2.9:443:b:", "192.0.2.9:443", "b:443"},
		{"[2001:db8::1]:80:b:1", "[2001:db8::1]:80", "b:1"},
	} {
		p := &Proxy{Name: names}
		for _, s := range strings.Fields(v.rules) {
			rule, err := ParseConnectTo(s)
			if err != nil {
				t.Fatal(err)
			}
			p.ConnectTo = append(p.ConnectTo, rule)
		}
		dst := netip.MustParseAddrPort(v.dst)
		name, isLent := p.name(dst.Addr())
		if got := p.target(dst, name, isLent); got != v.want {
			t.Errorf("%s %s: %s, want %s", v.rules, v.dst, got, v.want)
		}
	}
}

// TestBypass: what is not to be decrypted reaches the server as the child wrote it.
func TestBypass(t *testing.T) {
	seen := make(chan []byte, 1)
	addr := listen(t, func(c net.Conn) {
		b := make([]byte, 1<<14)
		n, _ := c.Read(b)
		seen <- b[:n]
	})
	for _, v := range []struct {
		change func(*Proxy)
		reason string
	}{
		{func(p *Proxy) { p.Bypass = []string{"*.test"} }, ReasonBypass},
		{func(p *Proxy) { p.Only = []string{"*.example"} }, ReasonNotSelected},
		{func(p *Proxy) { p.Authority = nil }, ReasonUndecrypted},
	} {
		r := newRoad(t, addr, v.change)
		hello := helloOf(t, &tls.Config{ServerName: host})
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(hello)
		if got := <-seen; !bytes.Equal(got, hello) {
			t.Errorf("%s: the server read %x", v.reason, got)
		}
		io.ReadAll(c)
		c.Close()
		facts, tap := r.wait()
		if facts.Opaque != v.reason || facts.Decrypted || facts.Error != nil || facts.Child.SNI != host || !bytes.Equal(tap.data[0].Bytes(), hello) {
			t.Errorf("%s: recorded %+v", v.reason, facts)
		}
	}
}

// TestSilence: no side is hurried: a client may say nothing for long, and a server may
// speak first.
func TestSilence(t *testing.T) {
	const banner = "SSH-2.0-test\r\n"
	r := newRoad(t, listen(t, func(c net.Conn) {
		io.WriteString(c, banner)
		io.Copy(c, c)
	}), nil)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(banner))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != banner {
		t.Fatal(string(b), err)
	}
	io.WriteString(c, "GET / HTTP/1.1\r\n")
	c.(*net.TCPConn).CloseWrite()
	if got, _ := io.ReadAll(c); string(got) != "GET / HTTP/1.1\r\n" {
		t.Errorf("%q", got)
	}
	c.Close()
	facts, tap := r.wait()
	if facts.Protocol != "ssh" || facts.Opaque != ReasonNotHTTP || tap.data[1].String() != banner+"GET / HTTP/1.1\r\n" {
		t.Errorf("recorded %+v", facts)
	}
}

// TestNeedMore: a beginning that fits several things is waited for a moment
// only, then carried as it is.
func TestNeedMore(t *testing.T) {
	for _, begin := range []string{"JDWP", "\x16\x03", "GET /", "\x16\x03\x01\x02\x00\x01\x00"} {
		t.Run(fmt.Sprintf("%q", begin), func(t *testing.T) {
			t.Parallel()
			needMoreOf(t, begin)
		})
	}
}

func needMoreOf(t *testing.T, begin string) {
	r := newRoad(t, listen(t, func(c net.Conn) { io.Copy(c, c) }), nil)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	io.WriteString(c, begin)
	b := make([]byte, len(begin))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != begin {
		t.Errorf("echo %q, %v", b, err)
	}
	if d := time.Since(start); d < patience || d > assurance+2*time.Second {
		t.Errorf("waited %v", d)
	}
	c.Close()
	if facts, _ := r.wait(); facts.Opaque == "" || facts.Sent != int64(len(begin)) {
		t.Errorf("recorded %+v", facts)
	}
}

// slow writes byte by byte.
type slow struct {
	net.Conn
	pause time.Duration
}

func (s slow) Write(p []byte) (int, error) {
	tick := time.NewTicker(s.pause)
	defer tick.Stop()
	for i := range p {
		if _, err := s.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
		<-tick.C
	}
	return len(p), nil
}

// TestSlowHello: a ClientHello in packets of one byte is still decrypted, though it takes
// longer than anything else is waited for.
func TestSlowHello(t *testing.T) {
	r := newRoad(t, web(t, &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}), nil)
	raw, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.(*net.TCPConn).SetNoDelay(true)
	c := tls.Client(slow{raw, time.Millisecond}, &tls.Config{ServerName: host, RootCAs: rootsOf(r), CurvePreferences: []tls.CurveID{tls.X25519}})
	start := time.Now()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < patience {
		t.Errorf("the hello took %v only", d)
	}
	io.WriteString(raw, "") // what follows is quick again
	body, err := get(c)
	if err != nil || !strings.Contains(body, "hello") {
		t.Error(body, err)
	}
	raw.Close()
	if facts, _ := r.wait(); !facts.Decrypted {
		t.Errorf("recorded %+v", facts)
	}
}

// TestRedialFails: a child that cannot be served either way is told by the
// server's own alert.
func TestRedialFails(t *testing.T) {
	var once sync.Once
	addr := listen(t, func(c net.Conn) {
		c.Read(make([]byte, 4096))
		c.Write(alert(112).record())
	})
	r := newRoad(t, addr, func(p *Proxy) {
		p.Dial = func(ctx context.Context, network, a string) (c net.Conn, err error) {
			err = syscall.ECONNREFUSED
			once.Do(func() { c, err = new(net.Dialer).DialContext(ctx, network, a) })
			return c, err
		}
	})
	_, err := dialTLS(r, &tls.Config{})
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("the child got %v", err)
	}
	facts, _ := r.wait()
	if code(facts) != flow.CodeUpstreamTLS || facts.Opaque != ReasonUpstream {
		t.Errorf("recorded %+v", facts)
	}
}

// TestCancel: cancelling resets both sides, at every step.
func TestCancel(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: host})
	for _, said := range []string{"", "GET / HTTP/1.1\r\n\r\n", string(hello), string(hello[:8]), "\x01"} {
		gone := make(chan error, 4)
		addr := listen(t, func(c net.Conn) {
			_, err := io.Copy(io.Discard, c)
			gone <- err
		})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		child, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		l.Close()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(child, said)
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan struct{})
		ends := make(chan *flow.Conn, 1)
		p := &Proxy{Authority: testAuthority(t), Record: func(e flow.Event) {
			if e.Kind == flow.ConnUpdate && e.Facts.Connect > 0 {
				time.AfterFunc(20*time.Millisecond, cancel)
			}
			if e.Kind == flow.ConnEnd {
				ends <- e.Facts
			}
		}}
		go func() {
			p.Serve(ctx, &incoming{conn.(*net.TCPConn), netip.MustParseAddrPort(addr), nil})
			close(over)
		}()
		select {
		case <-over:
		case <-time.After(5 * time.Second):
			t.Fatalf("%.10q: Serve does not return", said)
		}
		if _, err := io.ReadAll(child); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%.10q: the child read %v", said, err)
		}
		child.Close()
		// A handshake under way ends by FIN, as crypto/tls closes it.
		if err := <-gone; !errors.Is(err, syscall.ECONNRESET) && (err != nil || said != string(hello)) {
			t.Errorf("%.10q: the server read %v", said, err)
		}
		if f := <-ends; f.Error != nil {
			t.Errorf("%.10q: recorded %+v", said, f)
		}
	}
}

// TestMany: connections do not meet.
func TestMany(t *testing.T) {
	cert := pki(t).leaf(t, host, false, nil)
	addr := listen(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		b := make([]byte, 100)
		n, _ := io.ReadFull(s, b)
		s.Write(b[:n])
		s.Close()
	})
	r := newRoad(t, addr, nil)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			c, err := dialTLS(r, &tls.Config{})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			say := fmt.Sprintf("%100d", i)
			io.WriteString(c, say)
			if got, err := io.ReadAll(c); err != nil || string(got) != say {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	ids := make(map[int64]bool)
	for range 64 {
		facts, tap := r.wait()
		if ids[facts.ID] || facts.Sent != 100 || tap.data[0].String() != tap.data[1].String() {
			t.Errorf("recorded %+v", facts)
		}
		ids[facts.ID] = true
	}
}
