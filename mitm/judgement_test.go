package mitm

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// judgement is a server and a way to ask it, with what is to be recorded.
type judgement struct {
	name      string
	server    func(t *testing.T) string
	args      []string // of curl
	change    func(*Proxy)
	code      string
	decrypted bool
}

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-40*time.Hour), time.Now().Add(-20*time.Hour)
}

func notYet(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(20*time.Hour), time.Now().Add(40*time.Hour)
}

func otherName(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"other.test"}, nil }

func clientOnly(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }

// webOf returns a web server with a certificate of an authority.
func webOf(by func(testing.TB) *authority, spoil func(*x509.Certificate), cfg *tls.Config) func(*testing.T) string {
	return func(t *testing.T) string {
		c := cfg.Clone()
		c.Certificates = []tls.Certificate{by(t).leaf(t, host, false, spoil)}
		return web(t, c)
	}
}

func stranger(t testing.TB) *authority { return newTestCA(t, "stranger") }
func nobody(testing.TB) *authority     { return nil }

// mutual asks for a client certificate in one way.
func mutual(auth tls.ClientAuthType) func(*testing.T) string {
	return func(t *testing.T) string {
		return web(t, &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)},
			ClientAuth: auth, ClientCAs: pki(t).pool()})
	}
}

// rawTLS shakes hands, reads a request and hands both conns to f.
func rawTLS(f func(raw *net.TCPConn, c *tls.Conn)) func(*testing.T) string {
	return func(t *testing.T) string {
		cfg := &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}
		return listen(t, func(raw net.Conn) {
			c := tls.Server(raw, cfg)
			if _, err := c.Read(make([]byte, 4096)); err == nil {
				f(raw.(*net.TCPConn), c)
			}
		})
	}
}

const cutHead = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"

func judgements() []judgement {
	known := pki
	plain := new(tls.Config)
	return []judgement{
		{"good", webOf(known, nil, plain), nil, nil, "", true},
		{"h2", webOf(known, nil, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}), nil, nil, "", true},
		{"expired", webOf(known, expired, plain), nil, nil, flow.CodeUpstreamInvalid, false},
		{"expired -k", webOf(known, expired, plain), []string{"-k"}, nil, "", true},
		{"not yet valid", webOf(known, notYet, plain), nil, nil, flow.CodeUpstreamInvalid, false},
		{"wrong name", webOf(known, otherName, plain), nil, nil, flow.CodeUpstreamInvalid, false},
		{"wrong name h2", webOf(known, otherName, &tls.Config{NextProtos: []string{"h2"}}), nil, nil, flow.CodeUpstreamInvalid, false},
		{"wrong name -k", webOf(known, otherName, plain), []string{"-k"}, nil, "", true},
		{"wrong usage", webOf(known, clientOnly, plain), nil, nil, flow.CodeUpstreamInvalid, false},
		{"unknown issuer", webOf(stranger, nil, plain), nil, nil, flow.CodeUpstreamUntrusted, false},
		{"unknown issuer -k", webOf(stranger, nil, plain), []string{"-k"}, nil, flow.CodeUpstreamUntrusted, false},
		{"self-signed", webOf(nobody, nil, plain), nil, nil, flow.CodeUpstreamUntrusted, false},
		{"self-signed -k", webOf(nobody, nil, plain), []string{"-k"}, nil, flow.CodeUpstreamUntrusted, false},
		{"unknown issuer decrypted", webOf(stranger, nil, plain), nil, decryptAll, flow.CodeUpstreamUntrusted, false},
		{"unknown issuer decrypted -k", webOf(stranger, nil, plain), []string{"-k"}, decryptAll, "", true},
		// With TLS 1.3 curl itself says this or that, as its request is quicker than the alert or not.
		{"client certificate required", mutual(tls.RequireAndVerifyClientCert), []string{"--tls-max", "1.2"}, nil, flow.CodeClientCert, false},
		{"client certificate given", mutual(tls.RequireAndVerifyClientCert), []string{"--cert", "CERT"}, nil, flow.CodeClientCert, false},
		{"client certificate optional", mutual(tls.RequestClientCert), nil, nil, flow.CodeClientCert, false},
		{"1.2 server", webOf(known, nil, &tls.Config{MaxVersion: tls.VersionTLS12}), nil, nil, "", true},
		{"1.3 client of 1.2 server", webOf(known, nil, &tls.Config{MaxVersion: tls.VersionTLS12}), []string{"--tlsv1.3"}, nil, flow.CodeUpstreamTLS, false},
		{"1.2 client", webOf(known, nil, plain), []string{"--tls-max", "1.2"}, nil, "", true},
		{"RSA-only client", rsaWeb, []string{"--tls-max", "1.2", "--ciphers", "ECDHE-RSA-AES128-GCM-SHA256"}, nil, "", true},
		{"no key exchange", rsaWeb, []string{"--tls-max", "1.2", "--ciphers", "AES128-SHA"}, nil, "", true},
		{"cipher that Go lacks", rsaWeb, []string{"--tls-max", "1.2", "--ciphers", "DHE-RSA-AES128-SHA"}, nil, flow.CodeUpstreamTLS, false},
		{"no common ALPN", func(t *testing.T) string {
			cfg := &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}, NextProtos: []string{"spdy/3"}}
			return listen(t, func(c net.Conn) { tls.Server(c, cfg).Handshake() })
		}, nil, nil, flow.CodeUpstreamTLS, false},
		{"no TLS", func(t *testing.T) string {
			return listen(t, func(c net.Conn) { c.Read(make([]byte, 4096)); io.WriteString(c, "what?\n") })
		}, nil, nil, flow.CodeUpstreamTLS, false},
		{"hangs up", func(t *testing.T) string {
			return listen(t, func(c net.Conn) { c.Read(make([]byte, 4096)) })
		}, nil, nil, flow.CodeUpstreamTLS, false},
		{"cut body", rawTLS(func(_ *net.TCPConn, c *tls.Conn) {
			io.WriteString(c, cutHead+strings.Repeat("x", 100))
		}), nil, nil, "", true},
		{"closed body", rawTLS(func(_ *net.TCPConn, c *tls.Conn) {
			io.WriteString(c, cutHead+strings.Repeat("x", 100))
			c.CloseWrite()
		}), nil, nil, "", true},
		{"reset body", rawTLS(func(raw *net.TCPConn, c *tls.Conn) {
			io.WriteString(c, cutHead+strings.Repeat("x", 100))
			drain(raw)
			raw.SetLinger(0)
		}), nil, nil, "", true},
		{"empty answer", rawTLS(func(_ *net.TCPConn, c *tls.Conn) { c.CloseWrite() }), nil, nil, "", true},
	}
}

func decryptAll(p *Proxy) { p.DecryptUntrusted = []string{"server.*"} }

func rsaWeb(t *testing.T) string {
	var all []uint16
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		all = append(all, s.ID)
	}
	return web(t, &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, true, nil)},
		CipherSuites: all, NextProtos: []string{"http/1.1"}})
}

// ports hides what differs from one run to the next.
var ports = regexp.MustCompile(`(port |:)[0-9]{4,5}|after [0-9]+ ms`)

// TestJudgement: curl's exit status and message are those that it has without
// us.
func TestJudgement(t *testing.T) {
	for _, j := range judgements() {
		t.Run(j.name, func(t *testing.T) {
			dst := j.server(t)
			r := newRoad(t, dst, j.change)
			bundle := file(t, "bundle.pem", append(pki(t).pem(), r.proxy.Authority.PEM()...))
			var args []string
			for _, a := range j.args {
				if a == "CERT" {
					a = clientCert(t)
				}
				args = append(args, a)
			}
			ask := func(addr string) (int, string) {
				_, port, _ := net.SplitHostPort(addr)
				return run(t, []string{"CURL_CA_BUNDLE=" + bundle}, "curl", append(args, "-sS", "--max-time", "8",
					"--resolve", host+":"+port+":127.0.0.1", "https://"+host+":"+port+"/")...)
			}
			status, out := ask(dst)
			status2, out2 := ask(r.addr)
			out, out2 = ports.ReplaceAllString(out, "N"), ports.ReplaceAllString(out2, "N")
			if status != status2 || out != out2 {
				t.Errorf("without: %d %s\nwith:    %d %s", status, out, status2, out2)
			}
			facts, _ := r.wait()
			if code(facts) != j.code || facts.Decrypted != j.decrypted {
				t.Errorf("recorded %q decrypted %v, want %q %v: %+v", code(facts), facts.Decrypted, j.code, j.decrypted, facts.Error)
			}
			t.Logf("%d %s| %v", status, out, facts.Error)
		})
	}
}

// clientCert writes a certificate of the known authority with its key.
func clientCert(t *testing.T) string {
	c := pki(t).leaf(t, "client", false, nil)
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, "client.pem", append(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...))
}
