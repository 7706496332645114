package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An authority signs the certificates of the tests' servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// leaf signs a server certificate for names and IP addresses; change may
// alter the template. A nil authority makes it self-signed.
func (a *authority) leaf(t *testing.T, names []string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return a.leafKey(t, ec, names, change)
}

func (a *authority) rsaLeaf(t *testing.T, names []string) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return a.leafKey(t, key, names, nil)
}

func (a *authority) leafKey(t *testing.T, key crypto.Signer, names []string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	if change != nil {
		change(tmpl)
	}
	parent, signer := tmpl, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// An entry is what the origin server saw of one exchange.
type entry struct {
	method, path      string
	reqSize, respSize int64
	reqHash, respHash string
	userAgent, proto  string
	host              string
	headers           http.Header
	secure            bool
	// Of gRPC: messages of both sides; of a WebSocket those of the client
	// and those of the server.
	received, sent int
	messages       [2][]seenMessage
}

// An origin is a real HTTP server on loopback that keeps a log.
type origin struct {
	addr string
	port string
	// handler answers what raw, where there is one, leaves.
	handler http.HandlerFunc
	raw     func(http.ResponseWriter, *http.Request) bool
	upgrade bool // accepts Upgrade: h2c

	mu  sync.Mutex
	log []entry
}

// sum wraps what a handler writes, to hash it.
type sum struct {
	http.ResponseWriter
	h    io.Writer
	size int64
}

func (s *sum) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	s.h.Write(p[:n])
	s.size += int64(n)
	return n, err
}

func (s *sum) Flush() { s.ResponseWriter.(http.Flusher).Flush() }

func (s *sum) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// serve starts an origin; cfg nil means cleartext. h2 is offered only where
// cfg lists it.
func serve(t *testing.T, cfg *tls.Config, h http.HandlerFunc) *origin {
	t.Helper()
	if h == nil {
		h = content
	}
	o := &origin{handler: h}
	o.start(t, cfg)
	return o
}

// start begins to listen and serve.
func (o *origin) start(t *testing.T, cfg *tls.Config) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.addr = l.Addr().String()
	_, o.port, _ = net.SplitHostPort(o.addr)
	srv := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0),
		Handler:  http.HandlerFunc(o.dispatch),
	}
	if cfg != nil {
		cfg = cfg.Clone()
		if cfg.NextProtos == nil {
			cfg.NextProtos = []string{"http/1.1"}
		}
		l = tls.NewListener(l, cfg)
	}
	done := make(chan struct{})
	go func() {
		srv.Serve(l)
		close(done)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
}

func (o *origin) logged(w http.ResponseWriter, r *http.Request) {
	req := sha256.New()
	body, _ := io.ReadAll(io.TeeReader(r.Body, req))
	r.Body = io.NopCloser(bytes.NewReader(body))
	resp := sha256.New()
	sw := &sum{ResponseWriter: w, h: resp}
	o.handler(sw, r)
	e := o.entryOf(r)
	e.reqSize, e.reqHash = int64(len(body)), hex.EncodeToString(req.Sum(nil))
	e.respSize, e.respHash = sw.size, hex.EncodeToString(resp.Sum(nil))
	o.add(e)
}

func (o *origin) entries() []entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]entry(nil), o.log...)
}

// content answers by path: /text, /bytes/N (pseudo-random), /gzip, /sse/N,
// /status/N, /echo, /repo.git/….
func content(w http.ResponseWriter, r *http.Request) {
	kind, arg, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	n, _ := strconv.Atoi(arg)
	switch kind {
	case "bytes":
		w.Header().Set("Content-Type", "application/octet-stream")
		rng := mrand.NewChaCha8([32]byte{byte(n)})
		io.CopyN(w, rng, int64(n))
	case "gzip":
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, strings.Repeat("the quick brown fox ", 5000))
		z.Close()
	case "sse":
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range n {
			fmt.Fprintf(w, "event: tick\ndata: {\"n\":%d}\n\n", i)
			w.(http.Flusher).Flush()
		}
	case "status":
		w.WriteHeader(n)
	case "echo":
		io.Copy(w, r.Body)
	case "repo.git":
		w.Header().Set("Content-Type", "text/plain")
		if arg == "info/refs" {
			fmt.Fprintf(w, "%s\trefs/heads/main\n", strings.Repeat("a1b2c3d4", 5))
			return
		}
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "hello from %s\n", r.URL.Path)
	}
}

// listenRaw serves each connection on loopback with f.
func listenRaw(t *testing.T, f func(net.Conn)) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				stop := context.AfterFunc(ctx, func() { c.Close() })
				defer stop()
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		wg.Wait()
	})
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func pkcs8(t *testing.T, c tls.Certificate) []byte {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// endless sends an event every few milliseconds until the client goes.
func endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(w, "event: tick\ndata: {\"n\":%d,\"path\":%q}\n\n", i, r.URL.Path); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}
