package export

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"

	"trace/flow"
)

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a.example"}, NotBefore: t0, NotAfter: after(1000), DNSNames: []string{"a.example"}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	x := call(1)
	x.Conn.Upstream = flow.TLS{Version: "1.2", Cipher: "C", ALPN: "http/1.1", Chain: [][]byte{der}}
	line := find(t, script(t, bodies, func(l *JSONL) error { return l.Opened(x) }), "connection_open")
	tls := line["tls"].(map[string]any)
	same(t, tls["upstream"].(map[string]any), map[string]any{"version": "1.2", "cipher": "C", "alpn": "http/1.1"})
	same(t, tls["cert"].(map[string]any), map[string]any{
		"subject": "CN=a.example", "issuer": "CN=a.example", "dns_names": []any{"a.example"},
		"not_before": "2026-01-02T03:04:05.000000Z", "not_after": "2026-01-02T03:04:06.000000Z",
	})
	x.Conn.Upstream.Chain = [][]byte{[]byte("no certificate")}
	line = find(t, script(t, bodies, func(l *JSONL) error { return l.Opened(x) }), "connection_open")
	same(t, line["tls"].(map[string]any), map[string]any{"cert": nil})
}

func TestCloseReason(t *testing.T) {
	for want, c := range map[string]flow.Conn{
		"eof":             {ChildEnd: flow.FIN, SrvEnd: flow.CloseNotify},
		"reset":           {ChildEnd: flow.FIN, SrvEnd: flow.Reset},
		"failed":          {ChildEnd: flow.Failed},
		"capture_stopped": {ChildEnd: flow.Stopped, SrvEnd: flow.Reset},
		"refused":         {Error: &flow.Error{Code: flow.CodeRefused}},
	} {
		if got := closeReason(&c); got != want {
			t.Errorf("%v/%v: %q, want %q", c.ChildEnd, c.SrvEnd, got, want)
		}
	}
}

func TestUpstreamTrouble(t *testing.T) {
	x := call(1)
	x.Request, x.Response, x.Kind = nil, nil, flow.KindTCP
	x.Conn.Child.SNI = ""
	x.Error = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeUpstreamUntrusted, Message: "issuer unknown", Hint: "--upstream-ca FILE"}
	line := find(t, script(t, bodies, func(l *JSONL) error { return l.Done(x) }), "tls_error")
	same(t, line, map[string]any{"stage": "upstream", "pinned_suspected": false, "sni": "api.anthropic.com", "hint": "--upstream-ca FILE", "flow_id": ""})
}

func TestStages(t *testing.T) {
	x := call(1)
	for _, c := range []struct {
		where  flow.Where
		code   string
		stage  any
		pinned any
	}{
		{flow.AtClient, codeClientHello, "client_hello", false},
		{flow.AtClient, flow.CodeClientRejected, "client_finish", true},
		{flow.AtClient, flow.CodePassedThrough, "client_finish", true},
		{flow.AtClient, codeAlert, "client_finish", false},
		{flow.AtUpstream, codeAlert, "upstream", false},
		{flow.AtUpstream, flow.CodeHelloRefused, "upstream", false},
		{flow.AtUpstream, flow.CodeClientCert, "upstream", false},
	} {
		e := &flow.Error{Where: c.where, Code: c.code, Message: "m", Detail: "unknown_ca"}
		l := tlsErrorOf(x, e)
		if l == nil || l.Stage != c.stage || l.Pinned != c.pinned || l.Detail != "unknown_ca" {
			t.Errorf("%s, %s: %+v", c.where, c.code, l)
		}
	}
	if l := tlsErrorOf(x, &flow.Error{Code: flow.CodeHelloRefusedMaybe}); l != nil {
		t.Errorf("an answer is no failure of TLS: %+v", l)
	}
}

// TestMarksOfConnections: what happened to the TLS of a connection is told
// once, although each of its flows knows it.
func TestMarksOfConnections(t *testing.T) {
	note := flow.Note{At: after(1), Error: &flow.Error{Where: flow.AtUpstream, Code: codeAlert, Message: "m"}}
	lines := script(t, bodies, func(l *JSONL) error {
		for id := range int64(3) {
			x := plain(id + 1)
			x.Conn.ID, x.Marks = 1, []flow.Note{note}
			l.Done(x)
		}
		return nil
	})
	if got, want := kinds(lines), "meta connection_open request:1 response_headers:1 tls_error response:1 request:2 response_headers:2 response:2 request:3 response_headers:3 response:3"; got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
}
