package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"trace/flow"
)

func curlProcess(netip.AddrPort, netip.AddrPort) *flow.Process {
	return &flow.Process{PID: 7, Exe: "/usr/bin/curl"}
}

func byCurl(p *Proxy) { p.Process = curlProcess }

// expectError compares what the next connection is recorded with; Message and
// Hint are parts of it.
func expectError(t *testing.T, r *road, want flow.Error) *flow.Conn {
	t.Helper()
	f, _ := r.wait()
	e := f.Error
	if e == nil {
		t.Errorf("no error, want %+v; opaque %q", want, f.Opaque)
		return f
	}
	if e.Where != want.Where || e.Code != want.Code || e.Detail != want.Detail || !strings.Contains(e.Message, want.Message) || !strings.Contains(e.Hint, want.Hint) || e.Hint == "" {
		t.Errorf("recorded %+v\nwant     %+v", *e, want)
	}
	if f.Process == nil || f.Process.Exe != "/usr/bin/curl" {
		t.Errorf("process %+v", f.Process)
	}
	return f
}

// picky refuses the first connection in some way and serves those after it.
func picky(t *testing.T, refuse func(c *net.TCPConn), cfg *tls.Config) string {
	var first atomic.Bool
	return listen(t, func(c net.Conn) {
		if !first.Swap(true) {
			c.Read(make([]byte, 4096))
			refuse(c.(*net.TCPConn))
			return
		}
		s := tls.Server(c, cfg)
		io.Copy(s, s)
		s.Close()
	})
}

// TestHelloRefused: a server that minds our ClientHello and not the child's. The
// row says so, and what it tells to do works.
func TestHelloRefused(t *testing.T) {
	cert := []tls.Certificate{pki(t).leaf(t, host, false, nil)}
	for _, v := range []struct {
		name   string
		refuse func(c *net.TCPConn)
		cfg    *tls.Config
		detail string
		says   string
	}{
		{"alert", func(c *net.TCPConn) { c.Write(alert(40).record()) }, &tls.Config{}, "handshake_failure", "refused trace's ClientHello (alert handshake_failure), but answers that of curl"},
		{"alert, 1.2", func(c *net.TCPConn) { c.Write(alert(47).record()) }, &tls.Config{MaxVersion: tls.VersionTLS12}, "illegal_parameter", "but answers that of curl"},
		{"close", func(*net.TCPConn) {}, &tls.Config{}, "", "closed the connection on trace's ClientHello, but answers that of curl"},
		{"reset", func(c *net.TCPConn) { c.SetLinger(0) }, &tls.Config{}, "", "reset the connection on trace's ClientHello, but answers that of curl"},
		{"retry", func(c *net.TCPConn) { c.Write(alert(40).record()) }, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP521}}, "handshake_failure", "but answers that of curl"},
	} {
		t.Run(v.name, func(t *testing.T) {
			v.cfg.Certificates = cert
			addr := picky(t, v.refuse, v.cfg)
			for i, change := range []func(*Proxy){byCurl, func(p *Proxy) { byCurl(p); p.Bypass = []string{host} }} {
				r := newRoad(t, addr, change)
				c, err := dialTLS(r, &tls.Config{RootCAs: pki(t).pool()})
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(c, "hello")
				c.CloseWrite()
				if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
					t.Errorf("%q, %v", b, err)
				}
				c.Close()
				if i == 1 {
					if f, _ := r.wait(); f.Error != nil || f.Child.Version == "" {
						t.Errorf("with --bypass: %+v", f)
					}
					continue
				}
				f := expectError(t, r, flow.Error{Where: flow.AtUpstream, Code: flow.CodeHelloRefused, Detail: v.detail, Message: v.says, Hint: "--bypass " + host})
				if f.Opaque != ReasonUpstream || f.Child.Version == "" || f.Child.Cipher == "" {
					t.Errorf("recorded %+v", f)
				}
			}
		})
	}
}

// twice refuses the first connection by one alert and the next by another.
func twice(t *testing.T, a, b alert) string {
	var first atomic.Bool
	return listen(t, func(c net.Conn) {
		c.Read(make([]byte, 4096))
		if first.Swap(true) {
			c.Write(b.record())
		} else {
			c.Write(a.record())
		}
	})
}

// TestServerRefuses: where the child's own ClientHello fares no better the
// row blames the server.
func TestServerRefuses(t *testing.T) {
	cert := []tls.Certificate{pki(t).leaf(t, host, true, nil)}
	serve := func(cfg *tls.Config) string {
		cfg.Certificates = cert
		return listen(t, func(c net.Conn) { tls.Server(c, cfg).Handshake() })
	}
	raw := func(f func(c *net.TCPConn)) string {
		return listen(t, func(c net.Conn) {
			c.Read(make([]byte, 4096))
			f(c.(*net.TCPConn))
		})
	}
	for _, v := range []struct {
		name   string
		addr   string
		client *tls.Config
		detail string
		says   string
	}{
		{"version", serve(&tls.Config{MaxVersion: tls.VersionTLS12}), &tls.Config{MinVersion: tls.VersionTLS13}, "protocol_version", "refused trace's ClientHello (alert protocol_version), and that of curl no less"},
		{"cipher", serve(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}}),
			&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, "handshake_failure", "and that of curl no less"},
		{"alert", raw(func(c *net.TCPConn) { c.Write(alert(112).record()) }), &tls.Config{}, "unrecognized_name", "and that of curl no less"},
		{"other alert", twice(t, alert(40), alert(70)), &tls.Config{}, "protocol_version", "(alert handshake_failure), and that of curl no less (alert protocol_version)"},
		{"close", raw(func(*net.TCPConn) {}), &tls.Config{}, "", "closed the connection on trace's ClientHello, and that of curl no less"},
		{"reset", raw(func(c *net.TCPConn) { c.SetLinger(0) }), &tls.Config{}, "", "reset the connection"},
		{"no TLS", raw(func(c *net.TCPConn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }), &tls.Config{}, "", "speaks no TLS: it answered trace's ClientHello with \"HTTP/\""},
	} {
		t.Run(v.name, func(t *testing.T) {
			r := newRoad(t, v.addr, byCurl)
			if c, err := dialTLS(r, v.client); err == nil {
				t.Error("it answers")
				c.Close()
			}
			expectError(t, r, flow.Error{Where: flow.AtUpstream, Code: flow.CodeUpstreamTLS, Detail: v.detail, Message: v.says, Hint: "not trace's doing"})
		})
	}
}

// TestNoAnswer: a server that says nothing to a ClientHello until the child gives up.
func TestNoAnswer(t *testing.T) {
	r := newRoad(t, listen(t, func(c net.Conn) { io.Copy(io.Discard, c) }), byCurl)
	for _, wait := range []time.Duration{0, answerTime + 100*time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), wait+200*time.Millisecond)
		d := tls.Dialer{Config: &tls.Config{ServerName: host}}
		if c, err := d.DialContext(ctx, "tcp", r.addr); err == nil {
			t.Error("it answers")
			c.Close()
		}
		cancel()
		if wait > 0 {
			expectError(t, r, flow.Error{Where: flow.AtUpstream, Code: flow.CodeTimeout, Message: host + " did not answer trace's ClientHello for 1", Hint: "--bypass " + host})
		} else if f, _ := r.wait(); code(f) != flow.CodeReset || f.Error.Where != flow.AtClient || !strings.Contains(f.Error.Message, "curl left") {
			t.Errorf("recorded %+v", f.Error)
		}
	}
}

// flags reads the flags that a hint names into a Proxy, as the command line would.
func flags(t *testing.T, hint string, issuer *x509.CertPool) func(*Proxy) {
	t.Helper()
	value := func(flag string) []string {
		if m := regexp.MustCompile(flag + ` (\S+)`).FindStringSubmatch(hint); m != nil {
			return []string{m[1]}
		}
		return nil
	}
	return func(p *Proxy) {
		byCurl(p)
		p.Bypass, p.DecryptUntrusted = value("--bypass"), value("--decrypt-untrusted")
		if value("--upstream-ca") != nil {
			p.Roots, p.DecryptUntrusted = issuer, nil
		}
		if p.Bypass == nil && p.DecryptUntrusted == nil && value("--upstream-ca") == nil {
			t.Errorf("the hint names no flag: %s", hint)
		}
	}
}

// TestHints: what a row tells to do mends what it says.
func TestHints(t *testing.T) {
	unknown := newTestCA(t, "unknown")
	server := func(ca *authority, change func(*tls.Config)) string {
		cfg := &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, host, false, nil)}}
		if change != nil {
			change(cfg)
		}
		return web(t, cfg)
	}
	asksCert := func(cfg *tls.Config) { cfg.ClientAuth = tls.RequestClientCert }
	old := func(cfg *tls.Config) { cfg.MaxVersion = tls.VersionTLS12 }
	for _, v := range []struct {
		name      string
		addr      string
		client    *tls.Config // nil: it trusts our CA
		change    func(*Proxy)
		want      flow.Error
		hint      string // what of the hint is tried; "" all
		decrypted bool   // then
	}{
		{"unknown issuer", server(unknown, nil), &tls.Config{RootCAs: unknown.pool()}, nil,
			flow.Error{Where: flow.AtUpstream, Code: flow.CodeUpstreamUntrusted, Message: "unknown authority", Hint: "--upstream-ca FILE"}, "--upstream-ca FILE", true},
		{"unknown issuer", server(unknown, nil), &tls.Config{InsecureSkipVerify: true}, nil,
			flow.Error{Where: flow.AtUpstream, Code: flow.CodeUpstreamUntrusted, Message: "unknown authority", Hint: "--decrypt-untrusted " + host}, "--decrypt-untrusted " + host, true},
		{"unknown issuer, refused", server(unknown, old), &tls.Config{}, nil,
			flow.Error{Where: flow.AtUpstream, Code: flow.CodeUpstreamUntrusted, Detail: "bad_certificate", Message: "curl refused the certificate", Hint: "--upstream-ca FILE"}, "--upstream-ca FILE", true},
		{"unknown issuer, shown and refused", server(unknown, nil), &tls.Config{}, func(p *Proxy) { p.DecryptUntrusted = []string{host} },
			flow.Error{Where: flow.AtUpstream, Code: flow.CodeUpstreamUntrusted, Detail: "bad_certificate", Message: "curl refused it (alert bad_certificate)", Hint: "--upstream-ca FILE"}, "", true},
		{"client certificate", server(pki(t), asksCert), &tls.Config{RootCAs: pki(t).pool()}, nil,
			flow.Error{Where: flow.AtUpstream, Code: flow.CodeClientCert, Message: "which only curl can have", Hint: "--bypass " + host}, "", false},
		{"pinned", server(pki(t), nil), &tls.Config{RootCAs: pki(t).pool()}, nil,
			flow.Error{Where: flow.AtClient, Code: flow.CodeClientRejected, Detail: "bad_certificate", Message: "curl refused our certificate for " + host, Hint: "--bypass " + host}, "", false},
	} {
		t.Run(v.name, func(t *testing.T) {
			use := func(r *road, roots *x509.CertPool) error {
				cfg := v.client.Clone()
				if cfg.RootCAs == nil {
					cfg.RootCAs = roots
				}
				c, err := dialTLS(r, cfg)
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = get(c)
				return err
			}
			r := newRoad(t, v.addr, func(p *Proxy) {
				byCurl(p)
				if v.change != nil {
					v.change(p)
				}
			})
			use(r, nil)
			f := expectError(t, r, v.want)
			if f.Error == nil {
				return
			}
			hint := v.hint
			if hint == "" {
				hint = f.Error.Hint
			}
			again := newRoad(t, v.addr, flags(t, hint, unknown.pool()))
			if v.decrypted && v.client.RootCAs != nil {
				v.client.RootCAs = nil // the run's authority is what the child trusts
			}
			if err := use(again, rootsOf(again)); err != nil {
				t.Errorf("after %s: %v", hint, err)
			}
			if f, _ := again.wait(); f.Decrypted != v.decrypted || f.Error != nil {
				t.Errorf("after %s: %+v", hint, f)
			}
		})
	}
}

// TestDefectDetail: a certificate that is at fault by itself is refused with the
// child's own word.
func TestDefectDetail(t *testing.T) {
	r := newRoad(t, webOf(pki, expired, new(tls.Config))(t), byCurl)
	if _, err := dialTLS(r, &tls.Config{}); err == nil {
		t.Error("accepted")
	}
	expectError(t, r, flow.Error{Where: flow.AtUpstream, Code: flow.CodeUpstreamInvalid, Detail: "bad_certificate",
		Message: "curl refused it (alert bad_certificate)", Hint: "the server's certificate is at fault"})
}

// TestBrokenStream: what ends a decrypted connection in the midst of it is marked.
func TestBrokenStream(t *testing.T) {
	garbage := append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...)
	for _, side := range []flow.Side{flow.Client, flow.Server} {
		r := newRoad(t, rawTLS(func(raw *net.TCPConn, c *tls.Conn) {
			io.WriteString(c, "answer")
			if side == flow.Server {
				raw.Write(garbage)
			}
			io.Copy(io.Discard, raw)
		})(t), byCurl)
		raw, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: rootsOf(r)})
		io.WriteString(c, "question")
		if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
			t.Error(err)
		}
		if side == flow.Client {
			raw.Write(garbage)
		}
		io.ReadAll(raw)
		raw.Close()
		f, _ := r.wait()
		var marks []*flow.Error
		for _, e := range r.events {
			if e.Kind == flow.Mark {
				marks = append(marks, e.Error)
			}
		}
		who := "curl"
		if side == flow.Server {
			who = host
		}
		if !f.Decrypted || len(marks) != 1 || marks[0].Detail != "bad_record_mac" || !strings.Contains(marks[0].Message, who) {
			t.Errorf("%v: %+v", side, marks)
		}
	}
}

// TestOpenSSLServer: a server whose ciphers crypto/tls lacks refuses us, and
// serves the child.
func TestOpenSSLServer(t *testing.T) {
	openssl := need(t, "openssl")
	cert := pki(t).leaf(t, host, true, nil)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, "server.pem", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...))
	server := exec.Command(openssl, "s_server", "-accept", "127.0.0.1:0", "-cert", path, "-key", path, "-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256", "-www")
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	lines, addr := bufio.NewScanner(out), ""
	for addr == "" && lines.Scan() {
		_, addr, _ = strings.Cut(lines.Text(), "ACCEPT ")
	}
	go io.Copy(io.Discard, out)
	r := newRoad(t, addr, byCurl)
	if status, out := run(t, nil, "curl", "-sS", "--cacert", file(t, "ca.pem", pki(t).pem()), "--resolve", host+":"+r.port+":127.0.0.1", "https://"+host+":"+r.port+"/"); status != 0 {
		t.Errorf("curl: %d %s", status, out)
	}
	f := expectError(t, r, flow.Error{Where: flow.AtUpstream, Code: flow.CodeHelloRefused, Detail: "handshake_failure", Message: "but answers that of curl", Hint: "--bypass " + host})
	if f.Upstream.Cipher != "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256" || f.Upstream.Version != "1.2" || f.Upstream.Verdict != "ok" {
		t.Errorf("recorded %+v", f.Upstream)
	}
}
