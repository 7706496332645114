package egress

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newTLSPeer(t testing.TB) (*peer, *x509.CertPool) {
	pool, config := newRoot(t)
	return newPeer(t, func(p *peer, c net.Conn) { p.http(tls.Server(c, config)) }), pool
}

func TestTLS(t *testing.T) {
	p, pool := newTLSPeer(t)
	d, _ := newDialer(t, "HTTPS_PROXY=https://u:@"+p.addr())
	err := refused(t, d, "www.example:443")
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "TLS: tls: failed to verify certificate") {
		t.Errorf("with the roots of the host: %v", err)
	}
	d, _ = newDialer(t, "HTTPS_PROXY=https://u:@"+p.addr())
	d.Roots = func() *x509.CertPool { return pool }
	c := use(t, d, "www.example:443")
	if r := p.request(); r.RequestURI != "www.example:443" || r.Header.Get("Proxy-Authorization") == "" {
		t.Errorf("asked for %s, %v", r.RequestURI, r.Header)
	}
	if got := c.(*tunnel).ConnectionState(); got.NegotiatedProtocol != "http/1.1" {
		t.Errorf("speaks %q", got.NegotiatedProtocol)
	}
	// The relay must not find a way around TLS.
	if _, ok := c.(syscall.Conn); ok {
		t.Error("the tunnel shows its socket")
	}
	plain := newPeer(t, (*peer).http)
	d, _ = newDialer(t, "HTTPS_PROXY=https://"+plain.addr())
	if err := refused(t, d, "www.example:443"); !strings.Contains(err.Error(), "TLS: ") {
		t.Errorf("a proxy without TLS: %v", err)
	}
}

// TestTLSReadDeadline: a reader can be stopped and go on later, as peeking
// does.
func TestTLSReadDeadline(t *testing.T) {
	p, pool := newTLSPeer(t)
	d, _ := newDialer(t, "HTTPS_PROXY=https://"+p.addr())
	d.Roots = func() *x509.CertPool { return pool }
	c, err := d.DialContext(t.Context(), "tcp", "www.example:443")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.ReadFull(c, make([]byte, len(greeting)))
	c.SetReadDeadline(time.Unix(1, 0))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	c.SetReadDeadline(time.Time{})
	io.WriteString(c, "again")
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "again" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestTLSEnds: Close says that it is the end, Reset does not.
func TestTLSEnds(t *testing.T) {
	pool, config := newRoot(t)
	ended := make(chan string, 1)
	s := newServer(t, func(c net.Conn) { ended <- swallow(c, config, true) })
	d, _ := newDialer(t, "HTTPS_PROXY=https://"+s.addr())
	d.Roots = func() *x509.CertPool { return pool }
	for _, want := range []string{"close_notify", "FIN"} {
		c, err := d.DialContext(t.Context(), "tcp", "www.example:443")
		if err != nil {
			t.Fatal(err)
		}
		if want == "FIN" {
			c.(interface{ Reset() error }).Reset()
		}
		c.Close()
		if got := <-ended; got != want {
			t.Errorf("ended by %s, want %s", got, want)
		}
	}
}

// A noter notes whether what it reads has ended.
type noter struct {
	net.Conn
	ended bool
}

func (n *noter) Read(p []byte) (int, error) {
	k, err := n.Conn.Read(p)
	n.ended = n.ended || err != nil
	return k, err
}

// swallow opens a tunnel that leads nowhere, and reads it to its end if it is
// to. It returns how that came.
func swallow(c net.Conn, config *tls.Config, read bool) string {
	n := &noter{Conn: c}
	t := tls.Server(n, config)
	if _, err := http.ReadRequest(bufio.NewReader(t)); err != nil {
		return err.Error()
	}
	io.WriteString(t, "HTTP/1.1 200 OK\r\n\r\n")
	if !read {
		return ""
	}
	_, err := io.Copy(io.Discard, t)
	switch {
	case err != nil:
		return err.Error()
	case n.ended:
		return "FIN"
	}
	return "close_notify"
}

// TestTLSStuck: a proxy that reads nothing holds Close up for a moment only.
func TestTLSStuck(t *testing.T) {
	pool, config := newRoot(t)
	release := make(chan struct{})
	s := newServer(t, func(c net.Conn) {
		swallow(c, config, false)
		<-release
	})
	defer close(release)
	d, _ := newDialer(t, "HTTPS_PROXY=https://"+s.addr())
	d.Roots = func() *x509.CertPool { return pool }
	c, err := d.DialContext(t.Context(), "tcp", "www.example:443")
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = c.Write(make([]byte, 1<<20))
		}
		written <- err
	}()
	c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	if err := <-written; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	start := time.Now()
	c.Close()
	if d := time.Since(start); d > 5*goodbye {
		t.Errorf("closing took %v", d)
	}
}
