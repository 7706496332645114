package mitm

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// web serves HTTP over TLS with cfg; every answer is "hello".
func web(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{TLSConfig: cfg, ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", r.Proto)
	})}
	go s.ServeTLS(l, "", "")
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// rootsOf returns the authority of a road, which the child trusts.
func rootsOf(r *road) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(r.proxy.Authority.PEM())
	return p
}

// dialTLS dials a road with TLS as a child would.
func dialTLS(r *road, cfg *tls.Config) (*tls.Conn, error) {
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	if cfg.RootCAs == nil {
		cfg.RootCAs = rootsOf(r)
	}
	return tls.Dial("tcp", r.addr, cfg)
}

func get(c net.Conn) (string, error) {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// TestMirror: the child is offered what the server chose among what the child
// offered.
func TestMirror(t *testing.T) {
	cert := pki(t).leaf(t, host, false, nil)
	for _, v := range []struct {
		name           string
		server, client *tls.Config
		alpn           string
		version        uint16
	}{
		{"plain", &tls.Config{}, &tls.Config{}, "", tls.VersionTLS13},
		{"h1", &tls.Config{}, &tls.Config{NextProtos: []string{"http/1.1"}}, "http/1.1", tls.VersionTLS13},
		{"h2 refused", &tls.Config{NextProtos: []string{"http/1.1"}}, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "http/1.1", tls.VersionTLS13},
		{"1.2 server", &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{}, "", tls.VersionTLS12},
		{"1.2 client", &tls.Config{}, &tls.Config{MaxVersion: tls.VersionTLS12}, "", tls.VersionTLS12},
		{"1.0 server", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, &tls.Config{MinVersion: tls.VersionTLS10}, "", tls.VersionTLS10},
		{"P-384 only", &tls.Config{}, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, "", tls.VersionTLS13},
	} {
		t.Run(v.name, func(t *testing.T) {
			v.server.Certificates = []tls.Certificate{cert}
			r := newRoad(t, web(t, v.server), nil)
			c, err := dialTLS(r, v.client)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if s := c.ConnectionState(); s.NegotiatedProtocol != v.alpn || s.Version != v.version {
				t.Errorf("negotiated %q %x, want %q %x", s.NegotiatedProtocol, s.Version, v.alpn, v.version)
			}
			body, err := get(c)
			if err != nil || !strings.HasSuffix(body, "hello HTTP/1.1") {
				t.Errorf("got %q, %v", body, err)
			}
			c.Close()
			facts, tap := r.wait()
			if !facts.Decrypted || facts.Error != nil || facts.Upstream.Verdict != "ok" || facts.Upstream.ALPN != v.alpn {
				t.Errorf("facts %+v", facts)
			}
			if got := tap.data[1].String(); got != body {
				t.Errorf("tap saw %q, child %q", got, body)
			}
		})
	}
}

// TestLeaf: what a client judges a certificate by is the server's own.
func TestLeaf(t *testing.T) {
	cert := pki(t).leaf(t, host, false, func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "*.other.test") })
	r := newRoad(t, web(t, &tls.Config{Certificates: []tls.Certificate{cert}}), nil)
	c, err := dialTLS(r, &tls.Config{ServerName: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := c.ConnectionState().PeerCertificates[0]
	if got := fmt.Sprintf("%v %v %s", l.DNSNames, l.IPAddresses, l.Subject.CommonName); got != "[server.test *.other.test] [127.0.0.1] server.test" {
		t.Error(got)
	}
	if len(l.AuthorityKeyId) == 0 || len(l.SubjectKeyId) == 0 || l.SerialNumber.BitLen() < 64 || len(l.ExtKeyUsage) != 2 {
		t.Errorf("leaf %+v", l)
	}
	if d := l.NotAfter.Sub(l.NotBefore); d > 200*24*time.Hour {
		t.Errorf("validity %v", d)
	}
	ca, err := x509.ParseCertificate(r.proxy.Authority.Certificate())
	if err != nil || !ca.IsCA || len(ca.SubjectKeyId) == 0 || string(ca.SubjectKeyId) != string(l.AuthorityKeyId) {
		t.Errorf("authority %+v, %v", ca, err)
	}
}
