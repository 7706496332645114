package flow

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 100_000, time.UTC)

// sample is the exchange of docs/cli.md.
func sample() *Exchange {
	at := func(ms float64) time.Time { return start.Add(time.Duration(ms * float64(time.Millisecond))) }
	return &Exchange{
		ID: 12, Session: "01JD", Kind: KindHTTP, State: StateComplete, Started: start, Ended: at(489.9), Ordinal: 1,
		Conn: Conn{
			ID: 7, Source: SourceNamespace, Host: "api.anthropic.com", Decrypted: true,
			Src: netip.MustParseAddrPort("198.19.255.2:40112"), Dst: netip.MustParseAddrPort("203.0.113.7:443"),
			Process: &Process{PID: 4242, Argv: []string{"curl", "-sS"}, Exe: "/usr/bin/curl", Parents: []int{4200}},
			DNS:     200 * time.Microsecond, Connect: 32400 * time.Microsecond, SSL: 20300 * time.Microsecond,
			Child: TLS{Version: "1.3", SNI: "api.anthropic.com", ALPN: "h2"},
		},
		Request: &Part{
			Head: &Head{
				Method: "POST", Scheme: "https", Host: "api.anthropic.com", Port: 443, Path: "/v1/messages?beta=true",
				Version: "2", Fields: []Field{{"Content-Type", "application/json"}, {"X-A", "<1&2>"}},
			},
			Body: &Ended{Size: 48211}, ContentType: "application/json",
		},
		Response: &Part{
			Head: &Head{Status: 200, Version: "2", Streaming: true},
			Body: &Ended{Size: 2114, Events: 37, Encoding: "gzip", Decoded: 9000}, ContentType: "text/event-stream", Withheld: true,
		},
		RequestEnded: at(1), Responded: at(402.2), FirstEvent: at(402),
		Redacted: 2,
		Error:    &Error{Where: AtClient, Code: CodeReset, Message: "m"},
		Marks:    []Note{{At: start, Error: &Error{Where: AtDecode, Code: CodeLimit, Message: "n"}}, {At: start}},
	}
}

// decode marshals v and reads the result as generic JSON.
func decode(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return m
}

// at follows keys and list positions into v.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = m[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

func TestExchangeJSON(t *testing.T) {
	m := decode(t, sample())
	for _, c := range []struct {
		want any
		path []any
	}{
		{"12", []any{"id"}},
		{"01JD", []any{"session"}},
		{"namespace", []any{"source"}},
		{"http", []any{"kind"}},
		{"complete", []any{"state"}},
		{"2026-01-02T03:04:05.000100Z", []any{"started"}},
		{489.9, []any{"duration_ms"}},
		{4242.0, []any{"process", "pid"}},
		{"-sS", []any{"process", "argv", 1}},
		{4200.0, []any{"process", "parents", 0}},
		{"7", []any{"conn", "id"}},
		{"198.19.255.2:40112", []any{"conn", "src"}},
		{"203.0.113.7:443", []any{"conn", "dst"}},
		{"api.anthropic.com", []any{"conn", "host"}},
		{"api.anthropic.com", []any{"conn", "sni"}},
		{"h2", []any{"conn", "alpn"}},
		{"1.3", []any{"conn", "tls"}},
		{true, []any{"conn", "decrypted"}},
		{"POST", []any{"request", "method"}},
		{443.0, []any{"request", "port"}},
		{"/v1/messages?beta=true", []any{"request", "path"}},
		{"2", []any{"request", "http_version"}},
		{"Content-Type", []any{"request", "headers", 0, 0}},
		{"<1&2>", []any{"request", "headers", 1, 1}},
		{48211.0, []any{"request", "body_size"}},
		{strings.Repeat("0", 64), []any{"request", "body_sha256"}},
		{"application/json", []any{"request", "content_type"}},
		{200.0, []any{"response", "status"}},
		{[]any{}, []any{"response", "headers"}},
		{nil, []any{"response", "body_sha256"}},
		{true, []any{"response", "streaming"}},
		{37.0, []any{"response", "events"}},
		{9000.0, []any{"response", "decoded_size"}},
		{0.2, []any{"timings", "dns"}},
		{32.4, []any{"timings", "connect"}},
		{20.3, []any{"timings", "ssl"}},
		{401.2, []any{"timings", "wait"}},
		{402.0, []any{"timings", "first_event"}},
		{2.0, []any{"redacted"}},
		{"client", []any{"error", "where"}},
		{"reset", []any{"error", "code"}},
		{"", []any{"error", "hint"}},
		{"limit", []any{"marks", 0, "code"}},
	} {
		if got := at(m, c.path...); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v = %#v, want %#v", c.path, got, c.want)
		}
	}
	if n := len(m["marks"].([]any)); n != 1 {
		t.Errorf("%d marks, want 1: a mark without an error says nothing", n)
	}
	if _, ok := m["response"].(map[string]any)["body_sha256"]; !ok {
		t.Error("body_sha256 is absent where it is withheld, want null")
	}
	if _, ok := m["request"].(map[string]any)["body"]; ok {
		t.Error("the list carries a body")
	}
}

func TestExchangeJSONOpen(t *testing.T) {
	m := decode(t, &Exchange{ID: 1, Kind: KindTCP, State: StateOpen, Started: start, Conn: Conn{Opaque: "not_http", Sent: 3}})
	for _, key := range []string{"duration_ms", "process", "error"} {
		if v, ok := m[key]; !ok || v != nil {
			t.Errorf("%s = %v, %t, want null", key, v, ok)
		}
	}
	if got := at(m, "bytes", "sent"); got != 3.0 {
		t.Errorf("bytes.sent = %v, want 3", got)
	}
	if _, ok := m["request"]; ok {
		t.Error("an opaque connection has a request")
	}
}

func TestDetailJSON(t *testing.T) {
	d := &Detail{Exchange: *sample(), ResponseBody: []byte{0xff, 0x00}}
	d.Events = []Piece{
		{At: start.Add(402 * time.Millisecond), Data: []byte("event: a\nid: 9\ndata: {\"n\":12345678901234567890}\n\n")},
		{Data: []byte(": keep-alive\n\n")},
		{Data: []byte("data: [DONE]\n\n")},
	}
	d.Messages = []Piece{{Side: Server, Opcode: 9, Size: 3, Data: []byte("a<b")}, {Size: 1, HasSum: true}}
	d.Kind = KindWebSocket
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	m := decode(t, d)
	for _, c := range []struct {
		want any
		path []any
	}{
		{"/wA=", []any{"response", "body", "base64"}},
		{402.0, []any{"events", 0, "at_ms"}},
		{"a", []any{"events", 0, "event"}},
		{"9", []any{"events", 0, "id"}},
		{"message", []any{"events", 1, "event"}},
		{"[DONE]", []any{"events", 1, "data"}},
		{0.0, []any{"events", 1, "at_ms"}},
		{"received", []any{"messages", 0, "dir"}},
		{9.0, []any{"messages", 0, "opcode"}},
		{nil, []any{"messages", 0, "sha256"}},
		{"a<b", []any{"messages", 0, "data"}},
		{"sent", []any{"messages", 1, "dir"}},
		{strings.Repeat("0", 64), []any{"messages", 1, "sha256"}},
	} {
		if got := at(m, c.path...); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v = %#v, want %#v", c.path, got, c.want)
		}
	}
	if v, ok := m["request"].(map[string]any)["body"]; !ok || v != nil {
		t.Errorf("the body of an empty request = %v, %t, want null", v, ok)
	}
	if !strings.Contains(string(b), `{"n":12345678901234567890}`) {
		t.Errorf("a number lost its text in %s", b)
	}
}

func TestTextValue(t *testing.T) {
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	for _, c := range []struct {
		in    string
		value bool // stands as the JSON value that it is
	}{
		{`{"a":1}`, true}, {" 12 \n", true}, {`"x"`, true}, {"null", true},
		{"", false}, {"[DONE]", false}, {`{"a":`, false}, {"1 2", false}, {"\"\xff\"", false},
		{deep, false}, {deep[1 : len(deep)-1], true}, {`"` + strings.Repeat("[", 500) + `\""`, true},
	} {
		_, ok := TextValue(c.in).(json.RawMessage)
		if ok != c.value {
			t.Errorf("TextValue(%.20q) is JSON: %t, want %t", c.in, ok, c.value)
		}
		if _, err := json.Marshal(TextValue(c.in)); err != nil {
			t.Errorf("TextValue(%.20q): %v", c.in, err)
		}
	}
}
