package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

func TestCompare(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := recordRedacted(t, "compared")
	on := emit(r.open("a.example", 443, func(c *flow.Conn) {
		c.Child = flow.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", ALPN: "h2", Offered: []string{"h2", "http/1.1"}, SNI: "a.example", JA4: "t13d1516h2_abc"}
		c.Upstream = flow.TLS{Version: "1.2", Cipher: "TLS_AES_256_GCM_SHA384", ALPN: "h2", Verdict: "ok"}
	}))
	on.request(1, "POST", "a.example", "/x", "hello")
	on.answer(1, 200, "text/plain", false)
	on.body(1, flow.Server, "my key is sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijk-AAAAAA")
	on(flow.End, 1, nil)
	opaque := emit(r.open("pinned.example", 443, func(c *flow.Conn) { c.Decrypted, c.Opaque, c.Protocol, c.Sent = false, "tls_pinned", "tls", 77 }))
	opaque(flow.Opaque, 1, func(e *flow.Event) { e.Reason = "tls_pinned" })
	opaque(flow.End, 1, nil)
	refused := emit(r.open("down.example", 443, func(c *flow.Conn) { c.Decrypted, c.Child, c.Opaque = false, flow.TLS{}, "not_connected" }))
	refused(flow.Opaque, 1, func(e *flow.Event) { e.Reason = "not_connected" })
	refused(flow.End, 1, func(e *flow.Event) {
		e.Error = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeRefused, Message: "refused"}
	})
	r.flush()
	stdout, _, code := runCLI(t, "flows", "compare", "1", "--json")
	var c bothways
	if err := json.Unmarshal([]byte(stdout), &c); err != nil || code != 0 {
		t.Fatalf("exit %d, %v, %s", code, err, stdout)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("hello")))
	if c.Identical == nil || !*c.Identical || c.Request == nil || *c.Request.Child.BodySHA256 != sum || *c.Request.Forwarded.BodySHA256 != sum ||
		c.Response.Forwarded.BodySHA256 != nil || c.TLS == nil || c.TLS.Child.JA4 != "t13d1516h2_abc" || len(c.Differences) != 2 || c.Differences[1].Field != "tls.cipher" {
		t.Errorf("%s", stdout)
	}
	text, _, code := runCLI(t, "flows", "compare", "1")
	for _, want := range []string{"1  POST a.example/x", "the same bytes on both sides", sum + "  " + sum, "(withheld: redacted)", "version  1.3 ", "JA4", "verdict"} {
		if !strings.Contains(strings.ToUpper(text), strings.ToUpper(want)) || code != 0 {
			t.Errorf("exit %d, no %q in\n%s", code, want, text)
		}
	}
	if text, _, _ := runCLI(t, "flows", "compare", "2"); !strings.Contains(text, "one TLS connection") || !strings.Contains(text, "77 bytes") {
		t.Error(text)
	}
	if text, _, _ := runCLI(t, "flows", "compare", "-1"); !strings.Contains(text, "nothing left") {
		t.Error(text)
	}
	table, _, code := runCLI(t, "flows", "compare")
	if lines := strings.Split(table, "\n"); code != 0 || len(lines) != 5 || !strings.Contains(lines[1], "same") || !strings.Contains(lines[1], "tls.version, tls.cipher") || !strings.Contains(lines[3], "–") {
		t.Errorf("exit %d\n%s", code, table)
	}
	array, _, _ := runCLI(t, "flows", "compare", "--json", "--host", "a.*")
	var list []bothways
	if err := json.Unmarshal([]byte(array), &list); err != nil || len(list) != 1 || list[0].ID != "1" {
		t.Errorf("%v, %s", err, array)
	}
	for args, want := range map[string]int{"9": 1, "1 --host x": 2, "1 2": 2, "nosuch/1": 1, "--status x": 2} {
		if _, stderr, code := runCLI(t, append([]string{"flows", "compare"}, strings.Fields(args)...)...); code != want || strings.Count(stderr, "\n") != 1 {
			t.Errorf("compare %s: exit %d, %q", args, code, stderr)
		}
	}
}
