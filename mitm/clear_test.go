package mitm

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"trace/flow"
)

// undecrypted carries one connection that --bypass names and returns what was
// recorded of it, with the bytes.
func undecrypted(t *testing.T, server, client *tls.Config) (*flow.Conn, *memoryTap) {
	t.Helper()
	server.Certificates = []tls.Certificate{pki(t).leaf(t, host, false, nil)}
	r := newRoad(t, web(t, server), func(p *Proxy) { p.Bypass = []string{host} })
	client.RootCAs = pki(t).pool()
	for range 2 { // so that one may resume the other
		c, err := dialTLS(r, client)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := get(c); err != nil || !strings.Contains(body, "hello") {
			t.Errorf("got %q, %v", body, err)
		}
		c.Close()
		if client.ClientSessionCache == nil {
			break
		}
		client.ClientSessionCache.Put("x", nil)
		r.wait()
	}
	return r.wait()
}

// TestClear: what a handshake that is not ours says in the clear is recorded,
// however it is cut into pieces.
func TestClear(t *testing.T) {
	all := []string{"http/1.1"}
	for _, v := range []struct {
		name           string
		server, client *tls.Config
		version, alpn  string
		chain          bool
	}{
		{"1.3", &tls.Config{NextProtos: all}, &tls.Config{NextProtos: all}, "1.3", "", false},
		{"1.2", &tls.Config{NextProtos: all, MaxVersion: tls.VersionTLS12}, &tls.Config{NextProtos: all}, "1.2", "http/1.1", true},
		{"1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, &tls.Config{MinVersion: tls.VersionTLS10}, "1.0", "", true},
		{"retry", &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}}, "1.3", "", false},
	} {
		t.Run(v.name, func(t *testing.T) {
			f, tap := undecrypted(t, v.server, v.client)
			check := func(f *flow.Conn, how string) {
				t.Helper()
				for _, leg := range []flow.TLS{f.Child, f.Upstream} {
					if leg.Version != v.version || leg.ALPN != v.alpn || !strings.HasPrefix(leg.Cipher, "TLS_") || leg.Resumed || leg.SNI != host {
						t.Errorf("%s: %+v", how, leg)
					}
				}
				if (len(f.Upstream.Chain) == 1 && f.Upstream.Verdict == "ok") != v.chain || f.Error != nil || f.Decrypted {
					t.Errorf("%s: %d certificates, %q, %v", how, len(f.Upstream.Chain), f.Upstream.Verdict, f.Error)
				}
			}
			check(f, "as it came")
			for _, n := range []int{1, 7, 1 << 20} {
				c := &conn{p: &Proxy{Roots: pki(t).pool()}, facts: flow.Conn{Protocol: "tls"}}
				w := c.newWatch()
				for i := range tap.data {
					for part := range slices.Chunk(tap.data[i].Bytes(), n) {
						w.data(flow.Side(i), part)
					}
				}
				if !w.over.Load() {
					t.Error("the watch goes on")
				}
				w.finish()
				check(&c.facts, "in pieces")
				if c.facts.Child.JA4 != f.Child.JA4 {
					t.Errorf("JA4 %q, %q", c.facts.Child.JA4, f.Child.JA4)
				}
			}
		})
	}
}

// TestClearNeverPanics: a spoilt handshake is carried and forgotten.
func TestClearNeverPanics(t *testing.T) {
	_, tap := undecrypted(t, &tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, &tls.Config{NextProtos: []string{"http/1.1"}})
	r := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		c := &conn{p: &Proxy{Roots: pki(t).pool()}, facts: flow.Conn{Protocol: "tls"}, relay: new(relay)}
		w := c.newWatch()
		for i := range tap.data {
			p := bytes.Clone(tap.data[i].Bytes())
			for range 1 + r.IntN(6) {
				p[r.IntN(min(len(p), 1500))] = byte(r.Uint32())
			}
			for part := range slices.Chunk(p, 1+r.IntN(len(p))) {
				w.data(flow.Side(i), part)
			}
		}
		for i := range w.tls.sides {
			if s := &w.tls.sides[i]; len(s.rest) > maxClear || len(s.msgs) > maxClear {
				t.Fatal("holds too much")
			}
		}
	}
	c := &conn{p: new(Proxy), facts: flow.Conn{Protocol: "tls"}}
	w := c.newWatch()
	for i := 0; !w.over.Load(); i++ { // endless messages that say nothing
		w.data(flow.Side(i%2), slices.Repeat([]byte{22, 3, 3, 0, 4, 6, 0, 0, 0}, 1000))
		if i > 100 {
			t.Fatal("reads on for ever")
		}
	}
}

// TestClearResumed: a session that is resumed in TLS 1.2 is told by its name.
func TestClearResumed(t *testing.T) {
	cfg := &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}
	r := newRoad(t, web(t, cfg), func(p *Proxy) { p.Bypass = []string{host} })
	cache := tls.NewLRUClientSessionCache(4)
	for i := range 2 {
		c, err := dialTLS(r, &tls.Config{RootCAs: pki(t).pool(), ClientSessionCache: cache})
		if err != nil {
			t.Fatal(err)
		}
		get(c)
		c.Close()
		f, _ := r.wait()
		if want := i == 1; f.Child.Resumed != want || c.ConnectionState().DidResume != want {
			t.Errorf("connection %d: %+v", i, f.Child)
		}
	}
}

// TestBypassedAlert: alerts of a connection that is carried as it is.
func TestBypassedAlert(t *testing.T) {
	bypass := func(p *Proxy) {
		p.Bypass = []string{host}
		p.Process = curlProcess
	}
	r := newRoad(t, listen(t, func(c net.Conn) {
		c.Read(make([]byte, 4096))
		c.Write(alert(40).record())
		io.Copy(io.Discard, c)
	}), bypass)
	if _, err := dialTLS(r, &tls.Config{}); err == nil {
		t.Error("no alert came")
	}
	expectError(t, r, flow.Error{Where: flow.AtUpstream, Code: CodeAlert, Detail: "handshake_failure", Message: host + " refused the ClientHello of curl"})
	r = newRoad(t, web(t, &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}), bypass)
	if _, err := dialTLS(r, &tls.Config{}); err == nil {
		t.Error("accepted")
	}
	expectError(t, r, flow.Error{Where: flow.AtClient, Code: CodeAlert, Detail: "bad_certificate", Message: "curl refused the certificate of " + host})
}
