package mitm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// childConn is the child's conn of a road: a TCP socket with the Reset that a
// stack of ours has.
type childConn struct{ *net.TCPConn }

func (c childConn) Reset() error {
	drain(c.TCPConn)
	c.SetLinger(0)
	return c.Close()
}

// stackConn is one that is no socket but says when there is input, as that of a stack of
// ours does.
type stackConn struct {
	net.Conn
	tcp *net.TCPConn
}

func (c stackConn) CloseWrite() error { return c.tcp.CloseWrite() }
func (c stackConn) Reset() error      { return childConn{c.tcp}.Reset() }

func (c stackConn) WaitRead() error {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil
	})
}

// incoming makes an Incoming of an accepted socket.
type incoming struct {
	conn    *net.TCPConn
	dst     netip.AddrPort
	refused chan error
}

func (i *incoming) Src() netip.AddrPort { return i.conn.RemoteAddr().(*net.TCPAddr).AddrPort() }
func (i *incoming) Dst() netip.AddrPort { return i.dst }

// Accept returns either kind of conn, by turns.
func (i *incoming) Accept() (net.Conn, error) {
	if i.Src().Port()%4 < 2 { // clients on loopback get even ports, mostly
		return childConn{i.conn}, nil
	}
	return stackConn{i.conn, i.conn}, nil
}

func (i *incoming) Refuse(err error) {
	i.conn.SetLinger(0)
	i.conn.Close()
	i.refused <- err
}

// road is a Proxy behind a listener: whoever connects to addr is carried to
// the destination.
type road struct {
	t       testing.TB
	addr    string
	port    string
	proxy   *Proxy
	refused chan error

	mu     sync.Mutex
	events []flow.Event
	taps   map[int64]*memoryTap
	over   chan *flow.Conn // each ConnEnd
}

// memoryTap remembers what it saw.
type memoryTap struct {
	mu     sync.Mutex
	conn   *flow.Conn
	data   [2]bytes.Buffer
	how    [2]flow.How
	closed bool
}

func (m *memoryTap) Data(side flow.Side, _ time.Time, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[side].Write(p)
}

func (m *memoryTap) End(side flow.Side, _ time.Time, how flow.How) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.how[side] = how
}

func (m *memoryTap) Close(time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}

func newRoad(t testing.TB, dst string, change func(*Proxy)) *road {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{t: t, addr: l.Addr().String(), refused: make(chan error, 64), taps: make(map[int64]*memoryTap), over: make(chan *flow.Conn, 4096)}
	_, r.port, _ = net.SplitHostPort(r.addr)
	r.proxy = &Proxy{Authority: testAuthority(t), Roots: pki(t).pool(), Record: r.record, Tap: r.tap}
	if change != nil {
		change(r.proxy)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in := &incoming{conn.(*net.TCPConn), netip.MustParseAddrPort(dst), r.refused}
			wg.Go(func() { r.proxy.Serve(ctx, in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		wg.Wait()
	})
	return r
}

func (r *road) record(e flow.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	if e.Kind == flow.ConnEnd {
		r.over <- e.Facts
	}
}

func (r *road) tap(c *flow.Conn) Tap {
	m := &memoryTap{conn: c}
	r.mu.Lock()
	r.taps[c.ID] = m
	r.mu.Unlock()
	return m
}

// wait returns the facts of the next connection that is over, with its tap.
func (r *road) wait() (*flow.Conn, *memoryTap) {
	r.t.Helper()
	select {
	case c := <-r.over:
		r.mu.Lock()
		defer r.mu.Unlock()
		return c, r.taps[c.ID]
	case <-time.After(10 * time.Second):
		r.t.Fatal("the connection did not end within 10 s")
		return nil, nil
	}
}

func code(c *flow.Conn) string {
	if c.Error == nil {
		return ""
	}
	return c.Error.Code
}

// authority signs certificates of test servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTestCA(t testing.TB, name string) *authority {
	t.Helper()
	i, err := newIssuer(name, caLifetime, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &authority{i.cert, i.key.(*ecdsa.PrivateKey)}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// leaf signs a server certificate for host, with an RSA key if asked; change
// may spoil it. A nil authority signs with the leaf's own key.
func (a *authority) leaf(t testing.TB, host string, useRSA bool, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	c := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: host},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{host}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if change != nil {
		change(c)
	}
	cert := tls.Certificate{}
	var pub any
	if useRSA {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		cert.PrivateKey, pub = k, &k.PublicKey
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cert.PrivateKey, pub = k, &k.PublicKey
	}
	parent, key := c, cert.PrivateKey
	if a != nil {
		parent, key = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert.Certificate = [][]byte{der}
	return cert
}

var (
	pkiOnce   sync.Once
	pkiShared *authority
	oursOnce  sync.Once
	ours      *Authority
)

// pki is the authority that the road trusts towards servers.
func pki(t testing.TB) *authority {
	pkiOnce.Do(func() { pkiShared = newTestCA(t, "test root") })
	return pkiShared
}

func testAuthority(t testing.TB) *Authority {
	oursOnce.Do(func() {
		var err error
		if ours, err = NewAuthority(time.Now()); err != nil {
			t.Fatal(err)
		}
	})
	return ours
}

// host is the name that test servers are called by.
const host = "server.test"

// listen serves each connection of a listener with f; the conn is closed after.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); f(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// need finds a program, or skips: only a machine without it may.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("TRACE_NO_SKIP") == "1" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// file writes a file of the test and returns its path.
func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs a program with nothing but env, and returns its exit status and what it printed.
func run(t *testing.T, env []string, name string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, need(t, name), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		return -1, fmt.Sprintf("timed out: %s", out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// quiet swallows what net/http would print of handshakes that fail on purpose.
var quiet = log.New(io.Discard, "", 0)
