package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 100_000, time.UTC)

func later(ms float64) time.Time { return epoch.Add(time.Duration(ms * float64(time.Millisecond))) }

// inUTC makes local times those of UTC for a test.
func inUTC(t *testing.T) {
	old := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = old })
}

func sampleFlow(id int64, method, host, path string, status int) *flow.Exchange {
	x := &flow.Exchange{
		ID: id, Session: "01KDYHXM0Z", Kind: flow.KindHTTP, State: flow.StateComplete, Started: epoch, RequestEnded: later(1), Responded: later(402), Ended: later(489.9), Ordinal: 1,
		Conn: flow.Conn{
			ID: 7, Source: flow.SourceNamespace, Host: host, Decrypted: true, Src: netip.MustParseAddrPort("198.19.255.2:40112"), Dst: netip.MustParseAddrPort("203.0.113.7:443"),
			Process: &flow.Process{PID: 4242, Exe: "/usr/bin/curl", Argv: []string{"curl", "-sS", "https://" + host}},
			DNS:     200 * time.Microsecond, Connect: 32 * time.Millisecond, SSL: 20 * time.Millisecond,
			Child:    flow.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", SNI: host},
			Upstream: flow.TLS{Version: "1.2", ALPN: "http/1.1", Verdict: "ok"},
		},
		Request: &flow.Part{
			Head: &flow.Head{Method: method, Target: path, Scheme: "https", Host: host, Port: 443, Path: path, Version: "1.1", Fields: []flow.Field{{Name: "Host", Value: host}, {Name: "X-Api-Key", Value: "[REDACTED:header]"}}},
			Body: &flow.Ended{Size: 15},
		},
	}
	if status != 0 {
		x.Response = &flow.Part{
			Head: &flow.Head{Status: status, Reason: "OK", Version: "1.1", Fields: []flow.Field{{Name: "Content-Type", Value: "application/json"}}},
			Body: &flow.Ended{Size: 2114},
		}
	}
	return x
}

// sampleFlows holds one flow of each sort, and hostile ones.
func sampleFlows() []*flow.Exchange {
	call := sampleFlow(1, "POST", "api.anthropic.com", "/v1/messages?beta=true", 200)
	open := sampleFlow(2, "GET", "127.0.0.1", "/health", 0)
	open.State, open.Ended, open.Request.Head.Port, open.Conn.Process = flow.StateOpen, time.Time{}, 8443, nil
	hostile := sampleFlow(3, "GET", "evil.example", "/\x1b[2J\u202egnp.exe\n\xff\U000e0041", 404)
	wide := sampleFlow(4, "DELETE", "例え.テスト", "/日本語/😀/é", 500)
	opaque := &flow.Exchange{
		ID: 5, Session: call.Session, Kind: flow.KindTCP, State: flow.StateComplete, Started: later(10), Ended: later(70000), Ordinal: 1,
		Conn: flow.Conn{
			ID: 8, Host: "pinned.example", Dst: netip.MustParseAddrPort("203.0.113.9:443"), Src: call.Conn.Src, Protocol: "tls", Opaque: "undecrypted", Sent: 1200, Received: 5 << 20,
			Process: &flow.Process{PID: 99, Exe: "/opt/agent"}, Child: flow.TLS{SNI: "pinned.example"},
			Ended: later(70000), ChildEnd: flow.FIN, SrvEnd: flow.FIN,
		},
		Error: &flow.Error{Where: flow.AtClient, Code: flow.CodeClientRejected, Message: "agent does not trust the certificate of this run", Hint: "--bypass pinned.example"},
	}
	refused := &flow.Exchange{
		ID: 6, Session: call.Session, Kind: flow.KindTCP, State: flow.StateFailed, Started: later(20), Ended: later(21), Ordinal: 1,
		Conn:  flow.Conn{ID: 9, Dst: netip.MustParseAddrPort("[2001:db8::1]:5432"), Src: call.Conn.Src},
		Error: &flow.Error{Where: flow.AtUpstream, Code: flow.CodeRefused, Message: "connection refused"},
	}
	dns := &flow.Exchange{
		ID: 7, Session: call.Session, Kind: flow.KindDNS, State: flow.StateComplete, Started: later(30), Ended: later(31),
		DNS: &flow.DNS{Name: "api.anthropic.com", Type: "A", Rcode: "NOERROR", Answers: []string{"203.0.113.7"}},
	}
	return []*flow.Exchange{call, open, hostile, wide, opaque, refused, dns}
}

// golden compares got with testdata/views/name; UPDATE=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "views", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s changed; if that is meant, run with UPDATE=1:\n%s", name, got)
	}
}

func TestListTable(t *testing.T) {
	inUTC(t)
	for _, c := range []struct {
		name  string
		width int
		color bool
		all   bool
	}{{"list-80", 80, false, false}, {"list-40", 40, false, false}, {"list-132-color", 132, true, false}, {"list-piped", 0, false, false}, {"list-all", 100, false, true}} {
		t.Run(c.name, func(t *testing.T) {
			w, out := screen(c.width, c.color)
			if err := writeFlows(w, &choice{flows: sampleFlows()}, c.all); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name, out.String())
			if strings.ContainsRune(out.String(), '\u202e') || strings.Contains(out.String(), "\xff") || strings.Contains(out.String(), "\x1b[2J") {
				t.Error("captured text reached the terminal unescaped")
			}
		})
	}
}

func TestShowText(t *testing.T) {
	inUTC(t)
	xs := sampleFlows()
	json := &flow.Detail{Exchange: *xs[0], RequestBody: []byte(`{"n":12345678901234567890,"a":[]}`), ResponseBody: []byte("hi\x1b[31m\r\nthere\n")}
	json.Marks = []flow.Note{{At: epoch, Error: &flow.Error{Where: flow.AtDecode, Code: flow.CodeLimit, Message: "a limit", Hint: "raise it"}}}
	json.Redacted = 1
	stream := &flow.Detail{Exchange: *xs[0], Events: []flow.Piece{
		{At: later(402), Side: flow.Server, Data: []byte("event: delta\ndata: {\"text\":\"a\u202eb\"}\n\n")},
		{At: later(403), Side: flow.Server, Data: []byte(": ping\n\n")}, {At: later(450), Side: flow.Server, Data: []byte("data: [DONE]\n\n")},
	}}
	binary := &flow.Detail{Exchange: *xs[2], ResponseBody: []byte{0xff, 0xd8, 0}}
	opaque := &flow.Detail{Exchange: *xs[4], Messages: []flow.Piece{
		{At: later(11), Side: flow.Client, Data: []byte("\x16\x03\x01"), Size: 512}, {At: later(40), Side: flow.Server, Data: []byte("SSH-2.0\r\n"), Size: 9},
	}}
	for _, c := range []struct {
		name string
		d    *flow.Detail
	}{{"json", json}, {"stream", stream}, {"binary", binary}, {"opaque", opaque}, {"open", &flow.Detail{Exchange: *xs[1]}}, {"dns", &flow.Detail{Exchange: *xs[6]}}} {
		for mode, width := range map[string]int{"tty": 80, "piped": 0} {
			t.Run(c.name+"-"+mode, func(t *testing.T) {
				w, out := screen(width, false)
				if err := writeDetail(w, c.d); err != nil {
					t.Fatal(err)
				}
				golden(t, "show-"+c.name+"-"+mode, out.String())
				if width > 0 && strings.ContainsAny(out.String(), "\x1b\u202e\r") {
					t.Error("captured text reached the terminal unescaped")
				}
			})
		}
	}
}

func TestShowIsBoundedOnTerminals(t *testing.T) {
	d := &flow.Detail{Exchange: *sampleFlow(1, "GET", "h", "/", 200), ResponseBody: []byte(strings.Repeat("line\n", 5000))}
	stream := &flow.Detail{Exchange: d.Exchange}
	for i := range 1000 {
		stream.Events = append(stream.Events, flow.Piece{Index: i, At: epoch, Side: flow.Server, Data: []byte("data: x\n\n")})
	}
	for name, d := range map[string]*flow.Detail{"body": d, "events": stream} {
		w, out := screen(80, false)
		if err := writeDetail(w, d); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n > 260 || !strings.Contains(out.String(), "more: trace flows show 01KDYHXM0Z/1 --response-body") {
			t.Errorf("%s: %d lines, without the command for more:\n%.200s", name, n, out)
		}
		w, out = screen(0, false)
		if err := writeDetail(w, d); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n < 1000 {
			t.Errorf("%s: %d lines when piped", name, n)
		}
	}
}

func TestSessionsTable(t *testing.T) {
	inUTC(t)
	sessions := []flow.Session{
		{ID: "01KDYHXM0Z6ZVX3H5C7B6N8W2A", Name: "claude", State: "ended", Argv: []string{"claude", "-p", "hi\x1b[2J"}, Started: epoch, Ended: later(61000), Flows: 12, Opaque: 1, Exit: 3, Bytes: 120000},
		{ID: "01KDYHXM0Z6ZVX3H5C7B6N8W2B", Name: "cu\nrl", State: "crashed", Argv: []string{"curl"}, Started: epoch, Bytes: 90},
		{ID: "01KDYHXM0Z6ZVX3H5C7B6N8W2C", Name: "node", State: "running", Argv: []string{"node"}, Started: epoch, Flows: 1, Bytes: 4096},
	}
	for name, width := range map[string]int{"sessions-80": 80, "sessions-piped": 0} {
		w, out := screen(width, false)
		if err := writeSessions(w, sessions, later(5000)); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
		if width > 0 {
			fits(t, out.String(), width)
		}
	}
	w, out := screen(0, false)
	if err := writeSessionsJSON(w, sessions); err != nil {
		t.Fatal(err)
	}
	golden(t, "sessions-json", out.String())
}
