package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// richSession records what exports must carry: event streams, WebSockets, gRPC,
// binary and compressed bodies, trailers, 1xx, failures, bytes that are not
// decoded.
func richSession(t *testing.T) *script {
	t.Helper()
	r := recordRedacted(t, "rich")
	r.at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	on := emit(r.open("api.anthropic.com", 443, func(c *flow.Conn) { c.DNS, c.Connect, c.SSL = 2e6, 30e6, 20e6 }))
	on.request(1, "POST", "api.anthropic.com", "/v1/messages?beta=true", `{"model":"m","stream":true,"n":12345678901234567890}`)
	on(flow.Informational, 1, func(e *flow.Event) {
		e.Side, e.Head = flow.Server, &flow.Head{Status: 103, Version: "1.1", Fields: []flow.Field{{Name: "Link", Value: "</a>"}}}
	})
	on(flow.Response, 1, func(e *flow.Event) {
		e.Side, e.Head = flow.Server, &flow.Head{Status: 200, Reason: "OK", Version: "1.1", Streaming: true, Framing: flow.FramingSSE, Fields: []flow.Field{{Name: "content-type", Value: "text/event-stream"}}}
	})
	events := []string{"{\"type\":\"ping\"}", `{"text":"\u00e9\n"}`, "[DONE]"}
	for _, e := range events {
		on.event(1, e)
	}
	on(flow.BodyEnd, 1, func(e *flow.Event) {
		all := "data: " + strings.Join(events, "\n\ndata: ") + "\n\n"
		e.Side, e.Ended = flow.Server, &flow.Ended{Size: int64(len(all)), Decoded: int64(len(all)), Kept: int64(len(all)), Events: 3, SHA256: sha256.Sum256([]byte(all))}
	})
	on(flow.End, 1, nil)
	two := emit(r.open("b.example", 443, func(c *flow.Conn) { c.Protocol, c.Child.ALPN = "http2", "h2" }))
	two(flow.Request, 1, func(e *flow.Event) {
		e.Head = &flow.Head{Method: "PUT", Target: "/x y?q=1#f", Path: "/x y?q=1#f", Scheme: "https", Host: "b.example", Port: 443, Version: "2", Authority: "b.example", Stream: 5,
			Fields: []flow.Field{{Name: "content-type", Value: "application/octet-stream"}, {Name: "cookie", Value: "a=1"}, {Name: "cookie", Value: "b=2"}}}
	})
	two.body(1, flow.Client, binaryBody)
	two(flow.Response, 1, func(e *flow.Event) {
		e.Side, e.Head = flow.Server, &flow.Head{Status: 404, Version: "2", Stream: 5, Fields: []flow.Field{{Name: "content-type", Value: "text/plain"}, {Name: "content-encoding", Value: "gzip"}, {Name: "set-cookie", Value: "a=b, c"}, {Name: "set-cookie", Value: "d=e"}}}
	})
	two(flow.Body, 1, func(e *flow.Event) { e.Side, e.Data = flow.Server, []byte("naïve\n") })
	two(flow.BodyEnd, 1, func(e *flow.Event) {
		e.Side, e.Ended = flow.Server, &flow.Ended{Size: 27, Encoding: "gzip", Decoded: 7, Kept: 7, SHA256: [32]byte{7}, Trailers: []flow.Field{{Name: "x-end", Value: "1"}}}
	})
	two(flow.End, 1, nil)
	two.request(2, "GET", "b.example", "/lost", "")
	two(flow.End, 2, func(e *flow.Event) {
		e.Error = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "the server reset the connection", Detail: "CANCEL"}
	})
	ws := emit(r.open("c.example", 80, func(c *flow.Conn) { c.Decrypted, c.Child = false, flow.TLS{} }))
	ws(flow.Request, 1, func(e *flow.Event) {
		e.Head = &flow.Head{Method: "GET", Target: "/chat", Path: "/chat", Scheme: "http", Host: "c.example", Port: 80, Version: "1.1", Fields: []flow.Field{{Name: "Upgrade", Value: "websocket"}}}
	})
	ws.body(1, flow.Client, "")
	ws(flow.Response, 1, func(e *flow.Event) {
		e.Side, e.Head = flow.Server, &flow.Head{Status: 101, Reason: "Switching Protocols", Version: "1.1", Streaming: true, Protocol: "websocket", Fields: []flow.Field{{Name: "Upgrade", Value: "websocket"}}}
	})
	for i, m := range []string{`{"type":"hello"}`, "\x00\xff", "\x03\xe8bye"} {
		ws(flow.Message, 1, func(e *flow.Event) {
			e.Side, e.Opcode, e.Data, e.Size, e.SHA256, e.HasSum = flow.Side(i%2), []uint8{1, 2, 8}[i], []byte(m), int64(len(m)), sha256.Sum256([]byte(m)), true
		})
	}
	ws.body(1, flow.Server, "")
	ws(flow.End, 1, nil)
	opaque := emit(r.open("pinned.example", 443, func(c *flow.Conn) { c.Decrypted, c.Opaque, c.Protocol = false, "undecrypted", "tls" }))
	opaque(flow.Opaque, 1, func(e *flow.Event) { e.Reason = "undecrypted" })
	opaque(flow.Message, 1, func(e *flow.Event) { e.Data, e.Size = []byte("\x16\x03\xff"), 3 })
	opaque(flow.Message, 1, func(e *flow.Event) { e.Side, e.Data, e.Size = flow.Server, []byte("\x15\x03"), 2 })
	opaque(flow.End, 1, nil)
	for _, c := range []emit{on, two, ws} {
		c(flow.ConnEnd, 0, nil)
	}
	opaque(flow.ConnEnd, 0, func(e *flow.Event) { e.Facts.Sent, e.Facts.Received = 3, 2 })
	r.flush()
	return r
}

// imported imports a file and returns the new session.
func imported(t *testing.T, text string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file.any")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := runCLI(t, append([]string{"import", file}, args...)...)
	if code != 0 || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("import: exit %d, %q, %s", code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// without removes members of these names, wherever they stand.
func without(v any, names ...string) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if slices.Contains(names, k) {
				delete(v, k)
			} else {
				v[k] = without(e, names...)
			}
		}
	case []any:
		for i, e := range v {
			v[i] = without(e, names...)
		}
	}
	return v
}

// sameHAR compares two HARs but for members of these names.
func sameHAR(t *testing.T, what, got, want string, names ...string) {
	t.Helper()
	var g, w struct{ Log struct{ Entries []any } }
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if len(g.Log.Entries) != len(w.Log.Entries) {
		t.Fatalf("%s: %d entries, want %d", what, len(g.Log.Entries), len(w.Log.Entries))
	}
	for i := range g.Log.Entries {
		g, w := without(g.Log.Entries[i], names...), without(w.Log.Entries[i], names...)
		if !reflect.DeepEqual(g, w) {
			a, _ := json.Marshal(g)
			b, _ := json.Marshal(w)
			t.Errorf("%s: entry %d:\n got %s\nwant %s", what, i+1, a, b)
		}
	}
}

// TestImportRoundTrip: what was exported and imported exports as before.
func TestImportRoundTrip(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	first := richSession(t)
	want := dump(t)
	har := imported(t, want)
	sameHAR(t, "har", dump(t, "--session", har), want, "_id", "_redacted")
	// The log does not say what the process was called with, nor the exact bytes of
	// JSON and events; its fields of 1xx and trailers are objects.
	log := imported(t, dump(t, "--format", "jsonl", "--session", first.id))
	sameHAR(t, "jsonl", dump(t, "--session", log), want, "_id", "_redacted", "_process", "_informational")
	got, again := neutral(dump(t, "--format", "jsonl", "--session", log), log), neutral(dump(t, "--format", "jsonl", "--session", first.id), first.id)
	for i := range min(len(got), len(again)) {
		if got[i] != again[i] {
			t.Errorf("jsonl, line %d:\n got %s\nwant %s", i+2, got[i], again[i])
		}
	}
	if len(got) != len(again) {
		t.Errorf("jsonl: %d lines, want %d", len(got), len(again))
	}
	// A flow file has neither 1xx, nor the times of events, nor processes, codes of errors, hashes.
	proxied := imported(t, dump(t, "--format", "mitmproxy", "--session", first.id))
	sameHAR(t, "mitmproxy", dump(t, "--session", proxied), want, "_id", "_redacted", "_process", "_informational", "_failure", "_bodySha256", "_connectionId", "_streamId", "time", "bodySize", "_transferSize", "compression", "timings", "startedDateTime", "_webSocketMessages")
	a, b := dump(t, "--format", "mitmproxy", "--session", proxied), dump(t, "--format", "mitmproxy", "--session", imported(t, dump(t, "--format", "mitmproxy", "--session", proxied)))
	if len(a) != len(b) {
		t.Errorf("mitmproxy: %d bytes, after another import %d", len(a), len(b))
	}
	if got := ids(t, "--session", proxied, "--kind", "tcp"); got != "5" {
		t.Errorf("mitmproxy: tcp flows %q", got)
	}
}

// neutral takes away what tells one session from another.
func neutral(lines, id string) (out []string) {
	for line := range strings.Lines(strings.ReplaceAll(lines, id, "ID")) {
		var m map[string]any
		json.Unmarshal([]byte(line), &m)
		if m["type"] == "meta" {
			continue
		}
		delete(m, "informational")
		delete(m, "redacted")
		if c, _ := m["client"].(map[string]any); c != nil {
			delete(c, "process")
		}
		text, _ := json.Marshal(m)
		out = append(out, string(text))
	}
	return out
}

// TestImportLive: a log in which flows interleave gives the same ids.
func TestImportLive(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	r.finish()
	stdout, _, _ := runCLI(t, "flows", "tail", "--json")
	id := imported(t, stdout)
	for _, args := range [][]string{{"show", "1", "--response-body"}, {"show", "2", "--request-body"}, {"show", "2", "--response-body"}} {
		want, _, _ := runCLI(t, append(append([]string{"flows"}, args...), "--session", r.id)...)
		got, stderr, code := runCLI(t, append(append([]string{"flows"}, args...), "--session", id)...)
		if got != want || code != 0 || want == "" {
			t.Errorf("%v: %q, %s, want %q", args, got, stderr, want)
		}
	}
	if got := ids(t, "--session", id); got != "1 2 3 4" {
		t.Errorf("ids %q", got)
	}
	sessions, _, _ := runCLI(t, "sessions", "list", "--json")
	if !strings.Contains(sessions, `"source":"import"`) || !strings.Contains(sessions, `"name":"file"`) {
		t.Errorf("%s", sessions)
	}
}

const foreignHAR = "\xef\xbb\xbf" + `{"log":{"pages":[{"x":[1,{}]}],"version":"1.2","entries":[
{"startedDateTime":"2026-01-02T03:04:05.678+01:00","time":12,"request":{"method":"GET","url":"https://h.example/a?key=AIza%s","httpVersion":"h2","headers":[{"name":":authority","value":"h.example"},{"name":"Authorization","value":"Bearer %s"}],"bodySize":0},"response":{"status":200,"statusText":"","httpVersion":"h2","headers":[{"name":"content-type","value":"application/json"}],"content":{"size":2,"text":"e30=","encoding":"base64"},"bodySize":-1},"timings":{"blocked":1,"dns":-1,"connect":null,"send":1,"wait":5,"receive":5},"_unknown":{"deep":[]}},
{"startedDateTime":"yesterday","request":{"method":"GET","url":"https://h.example/"}},
{"startedDateTime":"2026-01-02T03:04:06Z","request":{"method":"GET","url":"not a url"}},
null,
"text",
{"startedDateTime":"2026-01-02T03:04:07Z","time":0,"request":{"method":"POST","url":"http://h.example:81","headers":[],"postData":{"mimeType":"x","params":[{"name":"a b","value":"c&d"}]}},"response":{"status":0,"_error":"net::ERR_FAILED","content":{}},"timings":{}}
]}}`

// TestImportForeign: secrets of a file go through the gate, times stay, what
// makes no sense is named and the rest imported.
func TestImportForeign(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "net.har")
	key, token := strings.Repeat("Aa0", 12)[:35], strings.Repeat("tok3n", 8)
	if err := os.WriteFile(file, fmt.Appendf(nil, foreignHAR, key, token), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := runCLI(t, "import", file, "--session", "phone")
	if code != 1 || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, "2 flows from") || !strings.Contains(stderr, "4 entries could not be read") {
		t.Errorf("exit %d, %q, %s", code, stdout, stderr)
	}
	for _, want := range []string{"entry 2: ", "entry 3: ", "entry 4: ", "entry 5: "} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not named in %s", want, stderr)
		}
	}
	got, _, _ := runCLI(t, "flows", "list", "--json", "--session", "phone")
	for _, want := range []string{`"started":"2026-01-02T02:04:05.679000Z"`, `"source":"import"`, `"path":"/a?key=[REDACTED:`, "Bearer [REDACTED:", `"status":200`, `"http_version":"2"`, `"authority":"h.example"`,
		`"state":"failed"`, "net::ERR_FAILED", `"port":81`, `"wait":5,`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if strings.Contains(got, token) || strings.Contains(got, key) {
		t.Errorf("a secret passed the gate: %s", got)
	}
	if body, _, _ := runCLI(t, "flows", "show", "2", "--request-body"); body != "a+b=c%26d" {
		t.Errorf("params: %q", body)
	}
	kept, _, _ := runCLI(t, "import", file, "--keep-secrets", "--output", filepath.Join(t.TempDir(), "kept.db"))
	if n, _, _ := runCLI(t, "sessions", "list", "--json"); strings.Contains(n, strings.TrimSpace(kept)) {
		t.Error("--output: the session is in the state directory")
	}
	runCLI(t, "import", file, "--keep-secrets", "--session", "open")
	if got, _, _ := runCLI(t, "flows", "list", "--json", "--session", "open"); !strings.Contains(got, token) {
		t.Errorf("--keep-secrets: %s", got)
	}
}

// TestImportRefused: files of which nothing can be read leave no session.
func TestImportRefused(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := t.TempDir()
	for name, c := range map[string]struct{ text, want string }{
		"text":     {"hello", "is no HAR"},
		"empty":    {"", "is empty"},
		"json":     {`{"a":1}`, "is no HAR"},
		"nolog":    {`{"log":{"version":"1.2"}}`, "log.entries"},
		"list":     {`{"log":{"entries":{}}}`, "["},
		"cut":      {`{"log":{"entries":[{"startedDateTime":"20`, "entry 1"},
		"allbad":   {`{"log":{"entries":[1,2]}}`, "none of its 2 entries"},
		"mitm cut": {"99:4:type;3:tcp;", "flow 1"},
		"mitm old": {"15:7:version;2:12#}", "none of its 1 entry"},
		"numbers":  {"123", "is no HAR"},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := runCLI(t, "import", file)
		if code != 1 || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, %q, %q, want %q", name, code, stdout, stderr, c.want)
		}
	}
	for args, code := range map[string]int{"import": 2, "import a b": 2, "import --format tar " + dir: 2, "import " + dir: 1, "import " + dir + "/nosuch": 1} {
		if _, stderr, got := runCLI(t, strings.Fields(args)...); got != code || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q", args, got, stderr)
		}
	}
	if stdout, _, _ := runCLI(t, "sessions", "list", "--json"); stdout != "[]\n" {
		t.Errorf("sessions are left: %s", stdout)
	}
	if id := imported(t, `{"log":{"entries":[]}}`); id == "" {
		t.Error("an empty archive is one all the same")
	}
}

// TestImportDamaged: of a file that breaks, what stood before is kept.
func TestImportDamaged(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	richSession(t)
	for format, n := range map[string]int{"har": 2, "mitmproxy": 2, "jsonl": 2} {
		text := dump(t, "--format", format, "--session", "rich")
		file := filepath.Join(t.TempDir(), "cut."+format)
		if err := os.WriteFile(file, []byte(text[:len(text)*7/10]), 0o600); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := runCLI(t, "import", file)
		if code != 1 || stdout == "" || !strings.Contains(stderr, "could not be read") {
			t.Errorf("%s: exit %d, %q, %s", format, code, stdout, stderr)
		}
		if got := strings.Fields(ids(t, "--session", strings.TrimSpace(stdout))); len(got) < n {
			t.Errorf("%s: flows %v of the beginning are there", format, got)
		}
	}
}
