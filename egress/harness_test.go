package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// greeting is what the origin says first.
const greeting = "220 origin speaks first\r\n"

// A server accepts connections on loopback until the test ends, and waits
// for those that serve carries.
type server struct {
	t     testing.TB
	l     net.Listener
	serve func(net.Conn)
	wg    sync.WaitGroup

	mu   sync.Mutex
	open []net.Conn
}

func newServer(t testing.TB, serve func(net.Conn)) *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, l: l, serve: serve}
	s.wg.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

func (s *server) addr() string { return s.l.Addr().String() }

func (s *server) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open = append(s.open, c)
		s.mu.Unlock()
		s.wg.Go(func() {
			defer c.Close()
			s.serve(c)
		})
	}
}

func (s *server) close() {
	s.l.Close()
	s.mu.Lock()
	for _, c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// echo greets, sends back what it gets until the other end has no more, and
// then says so.
func echo(c net.Conn) {
	io.WriteString(c, greeting)
	n, _ := io.Copy(c, c)
	io.WriteString(c, strconv.FormatInt(n, 10))
	c.(interface{ CloseWrite() error }).CloseWrite()
}

// join relays between two connections, half-closes too.
func join(a, b net.Conn, fromA io.Reader) {
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(b, fromA)
		b.(interface{ CloseWrite() error }).CloseWrite()
	})
	io.Copy(a, b)
	a.(interface{ CloseWrite() error }).CloseWrite()
	wg.Wait()
}

// A peer is a proxy of the test's own that carries all to one origin.
type peer struct {
	*server
	origin string

	mu       sync.Mutex
	answer   string // instead of a tunnel
	method   byte   // that a SOCKS proxy wants
	requests []*http.Request
	targets  []string // that a SOCKS proxy was asked for
	secrets  []string // that it was told
}

// says makes the proxy answer instead of carrying anything.
func (p *peer) says(answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// wants makes the proxy choose a method.
func (p *peer) wants(method byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.method = method
}

func (p *peer) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answer
}

// request returns the latest.
func (p *peer) request() *http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[len(p.requests)-1]
}

// target returns the latest.
func (p *peer) target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.targets[len(p.targets)-1]
}

func newPeer(t testing.TB, kind func(*peer, net.Conn)) *peer {
	p := &peer{origin: newServer(t, echo).addr()}
	p.server = newServer(t, func(c net.Conn) { kind(p, c) })
	return p
}

// http answers one CONNECT. Answer and greeting of the origin leave in one
// piece.
func (p *peer) http(c net.Conn) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.requests = append(p.requests, req)
	p.mu.Unlock()
	if answer := p.said(); answer != "" {
		io.WriteString(c, answer)
		return
	}
	p.carry(c, r, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.0 200 Connection established\r\nVia: test\r\nContent-Length: 5\r\n\r\n")
}

func (p *peer) carry(c net.Conn, r io.Reader, opened string) {
	o, err := net.Dial("tcp", p.origin)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer o.Close()
	first := make([]byte, len(greeting))
	io.ReadFull(o, first)
	io.WriteString(c, opened+string(first))
	join(c, o, r)
}

// socks answers one SOCKS connection.
func (p *peer) socks(c net.Conn) {
	r := bufio.NewReader(c)
	next := func(n int) []byte {
		b := make([]byte, n)
		io.ReadFull(r, b)
		return b
	}
	p.mu.Lock()
	chosen := p.method
	p.mu.Unlock()
	if !bytes.Contains(next(int(next(2)[1])), []byte{chosen}) {
		chosen = 0xff
	}
	c.Write([]byte{5, chosen})
	if chosen == 2 {
		user := string(next(int(next(2)[1])))
		secret := user + ":" + string(next(int(next(1)[0])))
		status := byte(1)
		if secret == "us@er:p ss" {
			status = 0
		}
		p.mu.Lock()
		p.secrets = append(p.secrets, secret)
		p.mu.Unlock()
		c.Write([]byte{1, status})
	}
	head := next(4)
	host := ""
	switch head[3] {
	case 1, 4:
		a, _ := netip.AddrFromSlice(next(int(head[3]) * 4))
		host = a.String()
	case 3:
		host = "name " + string(next(int(next(1)[0])))
	}
	port := strconv.Itoa(int(binary.BigEndian.Uint16(next(2))))
	if host == "" {
		return // the other end has left
	}
	p.mu.Lock()
	p.targets = append(p.targets, host+" "+port)
	p.mu.Unlock()
	if answer := p.said(); answer != "" {
		io.WriteString(c, answer)
		return
	}
	p.carry(c, r, "\x05\x00\x00\x03\x04host\x12\x34")
}

// newRoot makes a self-signed certificate for 127.0.0.1 and proxy.test.
func newRoot(t testing.TB) (*x509.CertPool, *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxy"}, DNSNames: []string{"proxy.test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return pool, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}}
}

// newDialer fails the test if the variables are not understood. What is
// dialled without a proxy is added to direct.
func newDialer(t testing.TB, env ...string) (d *Dialer, direct *[]string) {
	t.Helper()
	d, err := FromEnv(env)
	if err != nil {
		t.Fatal(err)
	}
	proxies := map[string]bool{}
	for _, p := range []*proxy{d.https, d.http, d.all} {
		if p != nil {
			proxies[p.addr] = true
		}
	}
	direct = new([]string)
	d.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !proxies[addr] {
			*direct = append(*direct, addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return d, direct
}

// use dials through d, and fails the test unless the origin is there, whole
// and half-closed.
func use(t testing.TB, d *Dialer, addr string) net.Conn {
	t.Helper()
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatalf("%s: %v", addr, err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "hello")
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Errorf("%s: close write: %v", addr, err)
	}
	got, err := io.ReadAll(c)
	if want := greeting + "hello5"; err != nil || string(got) != want {
		t.Errorf("%s: read %q, %v; want %q", addr, got, err, want)
	}
	return c
}

// refused dials what has to fail, and returns the error.
func refused(t testing.TB, d *Dialer, addr string) error {
	t.Helper()
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err == nil {
		c.Close()
		t.Fatalf("%s: connected", addr)
	}
	return err
}
