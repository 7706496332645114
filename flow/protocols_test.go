package flow

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

func TestParseClose(t *testing.T) {
	for payload, want := range map[string]struct {
		code   int
		reason string
	}{
		"": {CloseNoStatus, ""}, "\x03": {CloseNoStatus, ""}, "\x03\xe8": {1000, ""}, "\x0f\xa0why\xff": {4000, "why\xff"},
	} {
		if code, reason := ParseClose([]byte(payload)); code != want.code || reason != want.reason {
			t.Errorf("%q: %d %q, want %d %q", payload, code, reason, want.code, want.reason)
		}
	}
	for op, want := range map[uint8]string{OpText: "text", OpBinary: "binary", OpClose: "close", OpPing: "ping", OpPong: "pong", 0: "0", 11: "11"} {
		if got := OpcodeName(op); got != want {
			t.Errorf("opcode %d: %s, want %s", op, got, want)
		}
	}
}

func TestGRPC(t *testing.T) {
	trailer := func(kv ...string) *Part {
		p := &Part{Head: &Head{}, Body: &Ended{}}
		for i := 0; i < len(kv); i += 2 {
			p.Body.Trailers = append(p.Body.Trailers, Field{kv[i], kv[i+1]})
		}
		return p
	}
	only := &Part{Head: &Head{Fields: []Field{{"grpc-status", "12"}}}}
	for name, c := range map[string]struct {
		part *Part
		want *GRPCStatus
	}{
		"no answer":     {nil, nil},
		"no status":     {trailer(), nil},
		"ok":            {trailer("grpc-status", "0"), &GRPCStatus{}},
		"message":       {trailer("Grpc-Status", "5", "Grpc-Message", "no%20such%0athing"), &GRPCStatus{5, "no such\nthing"}},
		"bad escape":    {trailer("grpc-status", "5", "grpc-message", "100%"), &GRPCStatus{5, "100%"}},
		"no UTF-8":      {trailer("grpc-status", "5", "grpc-message", "%ff"), &GRPCStatus{5, "\ufffd"}},
		"no number":     {trailer("grpc-status", "five"), nil},
		"below zero":    {trailer("grpc-status", "-1"), nil},
		"trailers only": {only, &GRPCStatus{Code: 12}},
	} {
		got := c.part.GRPC()
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	for code, want := range map[int]string{0: "OK", 5: "NOT_FOUND", 16: "UNAUTHENTICATED", 17: "", 1 << 40: ""} {
		if got := (&GRPCStatus{Code: code}).Name(); got != want {
			t.Errorf("%d: %q, want %q", code, got, want)
		}
	}
}

func TestCertificates(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a.example", Organization: []string{"Org, Inc."}}, NotBefore: start.Truncate(time.Second), NotAfter: start.Truncate(time.Second).AddDate(0, 0, 90), DNSNames: []string{"a.example", "*.a.example"}, IPAddresses: []net.IP{net.IPv4(203, 0, 113, 7), net.ParseIP("2001:db8::1")}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	x := sample()
	x.Conn.Upstream = TLS{Version: "1.3", Verdict: "ok", Chain: [][]byte{der, []byte("nonsense")}}
	m := decode(t, x)
	for _, c := range []struct {
		want any
		path []any
	}{
		{`CN=a.example,O=Org\, Inc.`, []any{"chain", 0, "subject"}},
		{`CN=a.example,O=Org\, Inc.`, []any{"chain", 0, "issuer"}},
		{"2026-01-02T03:04:05.000000Z", []any{"chain", 0, "not_before"}},
		{"2026-04-02T03:04:05.000000Z", []any{"chain", 0, "not_after"}},
		{"*.a.example", []any{"chain", 0, "dns_names", 1}},
		{"2001:db8::1", []any{"chain", 0, "ip_addresses", 1}},
		{nil, []any{"chain", 0, "error"}},
		{"", []any{"chain", 1, "subject"}},
		{"x509: malformed certificate", []any{"chain", 1, "error"}},
		{"bm9uc2Vuc2U=", []any{"certificates", 1}},
		{"ok", []any{"verdict"}},
	} {
		if got := at(m, append([]any{"conn", "upstream_tls"}, c.path...)...); got != c.want {
			t.Errorf("%v = %v, want %v", c.path, got, c.want)
		}
	}
	if sum, _ := at(m, "conn", "upstream_tls", "chain", 1, "sha256").(string); len(sum) != 64 {
		t.Errorf("a certificate that cannot be read has the hash %q", sum)
	}
	var list TLS
	if err := json.Unmarshal([]byte(`{"certificates":null}`), &list); err != nil || list.Certificates() != nil {
		t.Errorf("no certificates: %v, %v", list.Certificates(), err)
	}
}

func TestMessageJSON(t *testing.T) {
	d := &Detail{Exchange: *sample()}
	d.Kind = KindWebSocket
	d.Tally = [2]Tally{{1, 2}, {3, 4}}
	d.Messages = []Piece{
		{Opcode: OpText, Data: []byte(`{"a":1}`), Size: 7, HasSum: true, Compressed: true},
		{Opcode: OpText},
		{Opcode: OpText, Data: []byte("12"), Size: 3, HasSum: true},
		{Opcode: OpBinary, Data: []byte("\xff"), Size: 2, HasSum: true},
		{Opcode: OpClose, Data: []byte("\x03\xe8bye"), Size: 5, Side: Server},
		{Opcode: OpPing},
	}
	m := decode(t, d)
	for _, c := range []struct {
		want any
		path []any
	}{
		{1.0, []any{"messages", 0, "data", "a"}}, {true, []any{"messages", 0, "compressed"}}, {"text", []any{"messages", 0, "type"}}, {nil, []any{"messages", 0, "truncated"}},
		{"", []any{"messages", 1, "data"}},
		{"12", []any{"messages", 2, "data"}}, {2.0, []any{"messages", 2, "truncated"}},
		{"/w==", []any{"messages", 3, "data", "base64"}}, {1.0, []any{"messages", 3, "truncated"}},
		{1000.0, []any{"messages", 4, "code"}}, {"bye", []any{"messages", 4, "reason"}}, {"received", []any{"messages", 4, "dir"}},
		{nil, []any{"messages", 5, "data"}}, {9.0, []any{"messages", 5, "opcode"}},
		{2.0, []any{"bytes", "sent"}}, {3.0, []any{"message_count", "received"}},
	} {
		if got := at(m, c.path...); got != c.want {
			t.Errorf("%v = %#v, want %#v", c.path, got, c.want)
		}
	}
}

func TestFraming(t *testing.T) {
	x := sample()
	x.Response.Head.Framing = FramingNDJSON
	if x.Framing(Server) != FramingNDJSON || x.Framing(Client) != FramingSSE || (&Exchange{}).Framing(Server) != FramingSSE {
		t.Errorf("%s, %s, %s", x.Framing(Server), x.Framing(Client), (&Exchange{}).Framing(Server))
	}
	for want, p := range map[string]Process{"": {}, "curl": {Exe: "/usr/bin/curl", Argv: []string{"x"}}, "sh": {Argv: []string{"/bin/sh"}}} {
		if got := p.Name(); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

func TestHTTP2JSON(t *testing.T) {
	x := sample()
	x.Request.Head.Authority, x.Request.Head.Stream, x.Request.Head.Protocol = "api.anthropic.com:443", 7, "websocket"
	x.Response.Head.Protocol, x.Response.Head.Framing = "websocket", "grpc"
	x.Response.Body.Trailers = []Field{{"grpc-status", "3"}, {"grpc-message", strings.Repeat("%41", 3)}}
	x.Error.Detail = "CANCEL"
	m := decode(t, x)
	for _, c := range []struct {
		want any
		path []any
	}{
		{"api.anthropic.com:443", []any{"request", "authority"}}, {7.0, []any{"request", "stream_id"}}, {"websocket", []any{"request", "protocol"}},
		{"websocket", []any{"response", "protocol"}}, {"grpc", []any{"response", "framing"}}, {3.0, []any{"response", "grpc_status"}}, {"AAA", []any{"response", "grpc_message"}},
		{"CANCEL", []any{"error", "detail"}}, {nil, []any{"response", "stream_id"}},
	} {
		if got := at(m, c.path...); got != c.want {
			t.Errorf("%v = %#v, want %#v", c.path, got, c.want)
		}
	}
}
