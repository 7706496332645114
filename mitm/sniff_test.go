package mitm

import (
	"bytes"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"trace/flow"
)

// helloOf returns the first flight of a crypto/tls client.
func helloOf(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go func() { tls.Client(b, cfg).Handshake(); b.Close() }()
	buf := make([]byte, 1<<16)
	n, err := a.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// records cuts the handshake message of one record into records of n bytes.
func records(hello []byte, n int) []byte {
	var out []byte
	for part := range slices.Chunk(hello[recordHeader:], n) {
		out = append(out, recordHandshake, 3, 1, byte(len(part)>>8), byte(len(part)))
		out = append(out, part...)
	}
	return out
}

func TestHello(t *testing.T) {
	cfg := &tls.Config{ServerName: "a.test", NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS10,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}}
	whole := helloOf(t, cfg)
	for _, n := range []int{1 << 14, 100, 5, 1} {
		p := records(whole, n)
		for i := range p {
			if s := sniff(p[:i], nil); s.is != needMore {
				t.Fatalf("records of %d: after %d bytes of %d: %v", n, i, len(p), s.is)
			}
		}
		s := sniff(append(p, "more"...), nil)
		h := s.hello
		if s.is != isTLS || h == nil {
			t.Fatalf("records of %d: %v", n, s)
		}
		if h.sni != "a.test" || !slices.Equal(h.alpn, cfg.NextProtos) || h.lowest() != tls.VersionTLS10 || h.highest() != tls.VersionTLS13 ||
			!slices.Equal(h.groups, []uint16{29, 23}) || h.earlyData || h.ech || len(h.ciphers) == 0 || len(h.sigAlgs) == 0 {
			t.Errorf("%+v", h)
		}
	}
	shape := func(c *tls.Config) [32]byte { return sniff(helloOf(t, c), nil).hello.shape }
	other := cfg.Clone()
	other.ServerName = "b.test"
	if shape(cfg) != shape(other) {
		t.Error("the shape depends on the name")
	}
	other.NextProtos = nil
	if shape(cfg) == shape(other) {
		t.Error("the shape does not depend on ALPN")
	}
	old := sniff(helloOf(t, &tls.Config{ServerName: "a", MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS12}), nil).hello
	if old.highest() != tls.VersionTLS12 {
		t.Errorf("versions %x", old.versions)
	}
}

// TestHelloNeverPanics: a spoilt ClientHello is none, or unreadable, and no more.
func TestHelloNeverPanics(t *testing.T) {
	whole := helloOf(t, &tls.Config{ServerName: "a.test", NextProtos: []string{"h2"}})
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		p := bytes.Clone(whole)
		for range 1 + r.IntN(4) {
			p[r.IntN(len(p))] = byte(r.Uint32())
		}
		sniff(p[:1+r.IntN(len(p))], nil)
	}
}

func TestSniff(t *testing.T) {
	for _, v := range []struct {
		client, server string
		is             outcome
		sure           bool
	}{
		{"", "", needMore, false},
		{"", "SSH-2.0-x\r\n", isNone, false},
		{"GET / HTTP/1.1\r\n", "220 early\r\n", isNone, false},
		{"", "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x01", isHTTP2, false},
		{"PRI * H", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", isHTTP2, false},
		{preface + "\x00", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", isHTTP2, false},
		{"GET / ", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", isNone, false},
		{"", "\x00\x00\x00\x04", isNone, false},
		{"", "\x00\x00\x05\x04\x00\x00\x00\x00\x00", isNone, false},
		{"", "\x00\x00\x00\x04\x01\x00\x00\x00\x00", isNone, false},
		{"G", "", needMore, false},
		{"GET ", "", needMore, true},
		{"GET /a HTTP/1.1", "", needMore, true},
		{"GET /a HTTP/1.1\r\n", "", isHTTP1, false},
		{"GET /a HTTP/1.0\n", "", isHTTP1, false},
		{"\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\n", "", isHTTP1, false},
		{"CONNECT a:1 HTTP/1.1\r\n", "", isHTTP1, false},
		{"M-SEARCH * HTTP/1.1\r\n", "", isHTTP1, false},
		{"GET key\r\n", "", isNone, false},
		{"PING\r\n", "", isNone, false},
		{"SSH-2.0-x\r\n", "", isNone, false},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n", "", needMore, true},
		{preface + "\x00", "", isHTTP2, false},
		{"PRI * HTTP/2.0\r\n\r\nXX", "", isNone, false},
		{"\x16\x03\x01", "", needMore, false},
		{"\x16\x03\x01\x02\x00\x01", "", needMore, true},
		{"\x16\x03\x01\x02\x00\x02", "", isNone, false},
		{"\x16\x02", "", isNone, false},
		{"\x80\x2e\x01\x03\x01", "", isNone, false},
		{"*1\r\n$4\r\nPING\r\n", "", isNone, false},
		{"\x00\x00\x00\x08", "", isNone, false},
		{"GET /\x00", "", isNone, false},
		{strings.Repeat("A", maxMethod), "", needMore, false},
		{strings.Repeat("A", maxMethod+1), "", isNone, false},
		{"GET /" + strings.Repeat("a", maxLine), "", isNone, false},
	} {
		s := sniff([]byte(v.client), []byte(v.server))
		if s.is != v.is || s.sure != v.sure {
			t.Errorf("%.40q, %q: %v sure %v, want %v %v", v.client, v.server, s.is, s.sure, v.is, v.sure)
		}
	}
}

func TestParseConnectTo(t *testing.T) {
	for s, want := range map[string]ConnectTo{
		"a.Test:443:b:8443":     {"a.test", 443, "b", 8443},
		"::b:1":                 {"", 0, "b", 1},
		"a:::":                  {"a", 0, "", 0},
		"a:1::2":                {"a", 1, "", 2},
		"[::1]:80:[fe80::1]:81": {"::1", 80, "fe80::1", 81},
		"a:1:b:":                {"a", 1, "b", 0},
	} {
		if got, err := ParseConnectTo(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "a", "a:1", "a:1:b", "a:x:b:1", "a:1:b:70000", "a:1:b:2:3", "a:0:b:1", "[a]:1:b:2", "[::1:80:b:1"} {
		if got, err := ParseConnectTo(s); err == nil {
			t.Errorf("%q: %+v", s, got)
		} else if !strings.Contains(err.Error(), "HOST:PORT:HOST2:PORT2") {
			t.Error(err)
		}
	}
}

func TestRecordScanner(t *testing.T) {
	stream := slices.Concat([]byte{22, 3, 1, 0, 3, 1, 2, 3}, []byte{20, 3, 3, 0, 1, 1}, []byte{21, 3, 3, 0, 2, 2, 48}, []byte{23, 3, 3, 0, 2, 21, 21})
	for n := 1; n <= len(stream); n++ {
		var s recordScanner
		for part := range slices.Chunk(stream, n) {
			s.scan(part)
		}
		if !s.found || s.alert != alertUnknownCA {
			t.Errorf("pieces of %d: %v %v", n, s.found, s.alert)
		}
	}
}

func TestRules(t *testing.T) {
	p := &Proxy{Only: []string{"*.Example.com", "10.*"}, Bypass: []string{"secret.*"}}
	for name, want := range map[string]string{
		"a.b.example.COM.": "", "10.1.2.3": "", "example.com": ReasonNotSelected,
		"secret.example.com": ReasonBypass, "2001:db8::1": ReasonNotSelected,
	} {
		if got := p.Skips(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if p = new(Proxy); p.Skips("x") != "" || p.source() != flow.SourceNamespace {
		t.Error("the zero value has rules")
	}
}
