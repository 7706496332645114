package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func after(ms float64) time.Time { return t0.Add(time.Duration(ms * float64(time.Millisecond))) }

func fields(kv ...string) []flow.Field {
	var fs []flow.Field
	for i := 0; i < len(kv); i += 2 {
		fs = append(fs, flow.Field{Name: kv[i], Value: kv[i+1]})
	}
	return fs
}

// call returns an LLM call that answers with an event stream, complete.
func call(id int64) *flow.Exchange {
	return &flow.Exchange{
		ID: id, Session: "01KDY", Kind: flow.KindHTTP, State: flow.StateComplete, Ordinal: 1,
		Started: after(0.1), RequestEnded: after(1.1), Responded: after(490), FirstEvent: after(500), Ended: after(700),
		Conn: flow.Conn{
			ID: id, Transport: "tcp", Host: "api.anthropic.com", Decrypted: true, Started: t0,
			Src:     netip.MustParseAddrPort("198.19.255.2:40112"),
			Dst:     netip.MustParseAddrPort("203.0.113.7:443"),
			Process: &flow.Process{PID: 42, Exe: "/usr/bin/curl"},
			Child:   flow.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", SNI: "api.anthropic.com"},
		},
		Request: &flow.Part{
			Head: &flow.Head{
				Method: "POST", Target: "/v1/messages", Path: "/v1/messages", Scheme: "https", Host: "api.anthropic.com", Port: 443, Version: "1.1",
				Fields: fields("Host", "api.anthropic.com", "Content-Type", "application/json", "X-Api-Key", "[REDACTED:header]"),
			},
			Body: &flow.Ended{Size: 61},
		},
		Response: &flow.Part{
			Head: &flow.Head{Status: 200, Reason: "OK", Version: "1.1", Streaming: true, Fields: fields("Content-Type", "text/event-stream; charset=utf-8", "Set-Cookie", "a=1, x", "Set-Cookie", "b=2", "Via", "1.1 p", "via", "1.1 q")},
			Body: &flow.Ended{Size: 200, Decoded: 200, Events: 2},
		},
		Redacted: 1,
	}
}

const callBody = `{"model":"claude-sonnet-4-5","max_tokens":16,"stream":true,"messages":[{"role":"user","content":"Hi"}]}`

func delta(index int, text string) flow.Piece {
	data := fmt.Sprintf("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":%q}}\n\n", text)
	return flow.Piece{Index: index, At: after(500 + 100*float64(index)), Side: flow.Server, Data: []byte(data)}
}

// plain returns an exchange with one whole answer.
func plain(id int64) *flow.Exchange {
	x := call(id)
	x.Request.Head.Method, x.Request.Head.Path = "GET", "/x?y=1"
	x.Response.Head = &flow.Head{Status: 404, Version: "1.1", Fields: fields("Content-Type", "text/plain")}
	x.Response.Body = &flow.Ended{Size: 4, Decoded: 4}
	x.FirstEvent = time.Time{}
	return x
}

// a script runs f against a log and returns its lines.
func script(t *testing.T, body func(int64, flow.Side) ([]byte, error), f func(l *JSONL) error) []map[string]any {
	t.Helper()
	var out bytes.Buffer
	l := &JSONL{W: &out, Body: body}
	if err := l.Meta(flow.Session{ID: "01KDY", Version: "0.1.0", Started: t0}); err != nil {
		t.Fatal(err)
	}
	if err := f(l); err != nil {
		t.Fatal(err)
	}
	return parse(t, out.Bytes())
}

func parse(t *testing.T, text []byte) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for i, line := range bytes.SplitAfter(text, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("line %d: %v in %q", i+1, err, line)
		}
		if line[len(line)-1] != '\n' {
			t.Errorf("line %d does not end: %q", i+1, line)
		}
		if seq, _ := m["seq"].(float64); int(seq) != i {
			t.Errorf("line %d has seq %v", i+1, m["seq"])
		}
		if _, ok := m["flow_id"].(string); !ok {
			t.Errorf("line %d has no flow_id: %s", i+1, line)
		}
		lines = append(lines, m)
	}
	return lines
}

// kinds returns the types of the lines with their flows.
func kinds(lines []map[string]any) string {
	var ks []string
	for _, l := range lines {
		k := l["type"].(string)
		if id := l["flow_id"].(string); id != "" {
			k += ":" + strings.TrimPrefix(id, "01KDY/")
		}
		ks = append(ks, k)
	}
	return strings.Join(ks, " ")
}

func bodies(id int64, side flow.Side) ([]byte, error) {
	if side == flow.Client {
		return []byte(callBody), nil
	}
	return []byte("gone"), nil
}

// example writes the session of testdata/example.jsonl.
func example(l *JSONL) error {
	x := call(1)
	l.Opened(x)
	l.Requested(x)
	l.Responded(x)
	l.Streamed(x, delta(0, "Hello"))
	l.Streamed(x, flow.Piece{Index: 1, Data: []byte(": ping\n\n")})
	l.Streamed(x, delta(2, "!"))
	l.Done(x)
	y := plain(2)
	l.Opened(y)
	return l.Done(y)
}

func TestGolden(t *testing.T) { golden(t, "example.jsonl", example) }

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name, want string
		do         func(l *JSONL) error
	}{
		{"as it happens", "meta connection_open request:1 response_headers:1 sse:1 sse:1 stream_end:1 connection_open request:2 response_headers:2 response:2", example},
		{"answer before the request has ended", "meta connection_open request:1 response_headers:1 stream_end:1", func(l *JSONL) error {
			x := call(1)
			l.Opened(x)
			l.Responded(x)
			l.Requested(x)
			return l.Done(x)
		}},
		{"only the end", "meta connection_open request:1 response_headers:1 response:1", func(l *JSONL) error { return l.Done(plain(1)) }},
		{"nothing after the end", "meta connection_open request:1 response_headers:1 stream_end:1", func(l *JSONL) error {
			l.Done(call(1))
			l.Streamed(call(1), delta(0, "late"))
			x := call(1)
			x.Marks = []flow.Note{{Error: &flow.Error{Code: "late"}}}
			l.Noted(x)
			l.Responded(call(1))
			l.Requested(call(1))
			return l.Done(call(1))
		}},
		{"two flows interleave", "meta connection_open connection_open request:2 request:1 response_headers:1 response_headers:2 response:2 stream_end:1", func(l *JSONL) error {
			x, y := call(1), plain(2)
			l.Opened(x)
			l.Opened(y)
			l.Requested(y)
			l.Requested(x)
			l.Responded(x)
			l.Responded(y)
			l.Done(y)
			return l.Done(x)
		}},
		{"no answer", "meta connection_open request:1 error:1 response:1 connection_close", func(l *JSONL) error {
			x := call(1)
			x.Response, x.State = nil, flow.StateFailed
			x.Error = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "connection reset"}
			x.Conn.Ended = after(700)
			return l.Done(x)
		}},
		{"a partial event holds those behind it", "meta connection_open request:1 response_headers:1 sse:1 sse:1 sse:1 stream_end:1", func(l *JSONL) error {
			x := call(1)
			p := delta(0, "s")
			p.Partial = true
			l.Streamed(x, p)
			l.Streamed(x, delta(1, "k-"))
			l.Streamed(x, delta(0, "so"))
			q := delta(2, "s")
			q.Partial = true
			l.Streamed(x, q)
			return l.Done(x)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := kinds(script(t, bodies, c.do)); got != c.want {
				t.Errorf("\ngot  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestPartialIsReplaced(t *testing.T) {
	lines := script(t, bodies, func(l *JSONL) error {
		x := call(1)
		p := delta(0, "s")
		p.Partial = true
		l.Streamed(x, p)
		l.Streamed(x, delta(1, "k-"))
		return l.Streamed(x, delta(0, "so"))
	})
	var text string
	for _, l := range lines {
		if l["type"] == "sse" {
			text += l["data"].(map[string]any)["delta"].(map[string]any)["text"].(string)
		}
	}
	if text != "sok-" {
		t.Errorf("text %q, want sok-", text)
	}
}

// find returns the first line of that type.
func find(t *testing.T, lines []map[string]any, kind string) map[string]any {
	t.Helper()
	for _, l := range lines {
		if l["type"] == kind {
			return l
		}
	}
	t.Fatalf("no %s line", kind)
	return nil
}

// same checks keys of a line; a nil wanted value means that the key is absent.
func same(t *testing.T, line map[string]any, want map[string]any) {
	t.Helper()
	for k, w := range want {
		got, ok := line[k]
		if w == nil {
			if ok {
				t.Errorf("%s: %s = %v, want it absent", line["type"], k, got)
			}
			continue
		}
		if !reflect.DeepEqual(got, w) {
			t.Errorf("%s: %s = %#v, want %#v", line["type"], k, got, w)
		}
	}
}

func TestFields(t *testing.T) {
	lines := script(t, bodies, example)
	same(t, find(t, lines, "request"), map[string]any{
		"ts": "2026-01-02T03:04:05.000100Z", "t": 1767323045.0001, "flow_id": "01KDY/1", "conn_id": "1", "session": "01KDY",
		"url": "https://api.anthropic.com/v1/messages", "authority": "api.anthropic.com", "body_encoding": "json", "body_size": 61.0,
		"body_truncated": nil, "redacted": 1.0,
		"client": map[string]any{"addr": "198.19.255.2", "port": 40112.0, "pid": 42.0, "process": "curl"},
	})
	same(t, find(t, lines, "response_headers"), map[string]any{
		"status_code": 200.0, "streaming": true, "ttfb_ms": 489.9, "reason": "OK",
		"headers": map[string]any{"content-type": "text/event-stream; charset=utf-8", "set-cookie": "a=1, x\nb=2", "via": "1.1 p, 1.1 q"},
	})
	same(t, find(t, lines, "sse"), map[string]any{"index": 0.0, "event": "content_block_delta", "offset_ms": 499.9, "raw": nil})
	same(t, find(t, lines, "stream_end"), map[string]any{"complete": true, "reason": "eof", "sse_count": 2.0, "body_size": 200.0, "error": nil})
	same(t, find(t, lines, "response"), map[string]any{"complete": true, "status_code": 404.0, "body": "gone", "body_encoding": "text", "body_size": 4.0, "streaming": nil})
	same(t, find(t, lines, "connection_open"), map[string]any{
		"flow_id": "", "transport": "tcp",
		"tls": map[string]any{"version": "1.3", "cipher": "TLS_AES_128_GCM_SHA256", "sni": "api.anthropic.com", "intercepted": true},
	})
}

func TestBodies(t *testing.T) {
	for _, c := range []struct {
		name, body string
		ended      *flow.Ended
		want       map[string]any
	}{
		{"empty", "", &flow.Ended{}, map[string]any{"body_encoding": "none", "body_size": 0.0}},
		{"text", "hello", &flow.Ended{Size: 5}, map[string]any{"body": "hello", "body_encoding": "text"}},
		{"json text", `"hello"`, &flow.Ended{Size: 7}, map[string]any{"body": "hello", "body_encoding": "json"}},
		{"binary", "\xff\x00", &flow.Ended{Size: 2}, map[string]any{"body": "/wA=", "body_encoding": "base64"}},
		{"still coming", "12", nil, map[string]any{"body": "12", "body_encoding": "text", "body_truncated": 2.0, "body_size": nil, "body_sha256": nil}},
		{"over the limit", "12", &flow.Ended{Size: 3, Truncated: true}, map[string]any{"body": "12", "body_truncated": 2.0, "body_size": 3.0}},
		{"cut", "12", &flow.Ended{Size: 2, Cut: true}, map[string]any{"body": "12", "body_truncated": nil}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := call(1)
			x.Request.Body = c.ended
			lines := script(t, func(int64, flow.Side) ([]byte, error) { return []byte(c.body), nil }, func(l *JSONL) error { return l.Requested(x) })
			r := find(t, lines, "request")
			same(t, r, c.want)
			if v, ok := r["body"]; c.body == "" && (!ok || v != nil) {
				t.Errorf("body = %v, %t, want null", v, ok)
			}
		})
	}
	x := call(1)
	x.Request.Withheld = true
	same(t, find(t, script(t, bodies, func(l *JSONL) error { return l.Requested(x) }), "request"), map[string]any{"body_sha256": nil})
}

// TestNoEvents: a stream that turned out to hold none keeps its body.
func TestNoEvents(t *testing.T) {
	x := call(1)
	x.Response.Body = &flow.Ended{Size: 9, Decoded: 9, Kept: 9}
	lines := script(t, func(int64, flow.Side) ([]byte, error) { return []byte(`{"code":4}`), nil }, func(l *JSONL) error { return l.Done(x) })
	same(t, find(t, lines, "stream_end"), map[string]any{"body": map[string]any{"code": 4.0}, "body_encoding": "json", "sse_count": 0.0})
	lines = script(t, bodies, func(l *JSONL) error { return l.Done(call(1)) })
	same(t, find(t, lines, "stream_end"), map[string]any{"body": nil, "body_encoding": nil})
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		block string
		want  map[string]any
	}{
		{"data: [DONE]\n\n", map[string]any{"event": "message", "data": "[DONE]"}},
		{"id: 7\nretry: 300\ndata: a\ndata: b\n\n", map[string]any{"data": "a\nb", "id": "7", "retry": 300.0}},
		{"data: {\"n\":1e3}\r\n\r\n", map[string]any{"data": map[string]any{"n": 1000.0}}},
		{"data: \"\xff\"\n\n", map[string]any{"data": "\"\ufffd\"", "raw": "ZGF0YTogIv8iCgo="}},
	} {
		lines := script(t, bodies, func(l *JSONL) error { return l.Streamed(call(1), flow.Piece{Data: []byte(c.block)}) })
		same(t, find(t, lines, "sse"), c.want)
	}
}

func TestOpaque(t *testing.T) {
	x := &flow.Exchange{
		ID: 3, Kind: flow.KindTCP, State: flow.StateComplete, Ordinal: 1, Started: t0, Ended: after(9),
		Conn:  flow.Conn{ID: 5, Transport: "tcp", Opaque: "undecrypted", Sent: 10, Received: 100, Ended: after(9), SrvEnd: flow.Reset, Child: flow.TLS{SNI: "h"}},
		Marks: []flow.Note{{At: after(1), Error: &flow.Error{Where: flow.AtClient, Code: flow.CodeClientRejected, Message: "alert"}}},
	}
	x.Error = x.Marks[0].Error
	lines := script(t, bodies, func(l *JSONL) error {
		l.Opened(x)
		l.Streamed(x, flow.Piece{Side: flow.Client, Data: []byte("\x16\x03"), Size: 10})
		return l.Done(x)
	})
	if got, want := kinds(lines), "meta connection_open tls_error tcp:3 tcp:3 connection_close"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	same(t, lines[2], map[string]any{"stage": "client_finish", "pinned_suspected": true, "sni": "h", "error": "alert", "conn_id": "5"})
	same(t, lines[3], map[string]any{"dir": "c2s", "size": 10.0, "data": "FgM=", "opaque_reason": "undecrypted"})
	same(t, lines[4], map[string]any{"dir": "s2c", "size": 100.0, "data": nil})
	same(t, lines[5], map[string]any{"bytes_c2s": 10.0, "bytes_s2c": 100.0, "reason": "reset"})
}

func TestOthers(t *testing.T) {
	dns := &flow.Exchange{ID: 4, Kind: flow.KindDNS, State: flow.StateComplete, Started: t0, DNS: &flow.DNS{Name: "a.example", Type: "A", Rcode: "NXDOMAIN"}}
	udp := &flow.Exchange{ID: 5, Kind: flow.KindUDP, State: flow.StateComplete, Ordinal: 1, Started: t0, Conn: flow.Conn{ID: 9, Transport: "udp", Sent: 3}}
	lines := script(t, bodies, func(l *JSONL) error {
		l.Opened(dns)
		l.Done(dns)
		l.Done(udp)
		l.ConnClosed(&flow.Conn{ID: 11, Ended: t0})
		l.SessionNoted(&flow.Note{At: t0, Error: &flow.Error{Code: "helper", Where: flow.AtCapture, Message: "helper ended"}})
		l.SessionNoted(&flow.Note{At: t0, Error: &flow.Error{Code: flow.CodeGap, Message: "disk full"}})
		return l.SessionNoted(&flow.Note{At: t0, Error: &flow.Error{Code: flow.CodeMark, Message: "now", Detail: "m7"}})
	})
	if got, want := kinds(lines), "meta dns:4 connection_open udp:5 connection_open connection_close error drop mark"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	same(t, lines[1], map[string]any{"name": "a.example", "qtype": "A", "rcode": "NXDOMAIN", "answers": []any{}})
	same(t, lines[3], map[string]any{"dir": "c2s", "size": 3.0})
	same(t, lines[6], map[string]any{"code": "helper", "fatal": false})
	same(t, lines[7], map[string]any{"reason": "disk full"})
	same(t, lines[8], map[string]any{"mark": "m7", "text": "now"})
}

func TestReason(t *testing.T) {
	fail := func(where flow.Where, code string) *flow.Exchange {
		return &flow.Exchange{State: flow.StateFailed, Error: &flow.Error{Where: where, Code: code}}
	}
	for _, c := range []struct {
		x    *flow.Exchange
		want string
	}{
		{&flow.Exchange{State: flow.StateComplete}, "eof"},
		{&flow.Exchange{State: flow.StateOpen}, "capture_stopped"},
		{fail(flow.AtClient, flow.CodeReset), "client_abort"},
		{fail(flow.AtUpstream, flow.CodeReset), "reset"},
		{fail(flow.AtUpstream, flow.CodeTruncated), "server_abort"},
		{fail(flow.AtUpstream, flow.CodeTimeout), "timeout"},
		{fail(flow.AtUpstream, flow.CodeRefused), ""},
		{fail(flow.AtCapture, flow.CodeTruncated), "capture_stopped"},
	} {
		if got := reason(c.x); got != c.want {
			t.Errorf("%s %v: %q, want %q", c.x.State, c.x.Error, got, c.want)
		}
	}
}

func TestAddress(t *testing.T) {
	for want, h := range map[string]flow.Head{
		"https://a.example/x?y":   {Scheme: "https", Host: "a.example", Port: 443, Path: "/x?y"},
		"http://a.example:81/":    {Scheme: "http", Host: "a.example", Port: 81, Path: "/"},
		"http://[2001:db8::1]/":   {Scheme: "http", Host: "2001:db8::1", Port: 80, Path: "/"},
		"http://[2001:db8::1]:8/": {Scheme: "http", Host: "2001:db8::1", Port: 8, Path: "/"},
		"http://a.example":        {Scheme: "http", Host: "a.example", Path: "*"},
		"":                        {Scheme: "http", Path: "/"},
	} {
		if got := address(&h); got != want {
			t.Errorf("%+v: %q, want %q", h, got, want)
		}
	}
}

// broken fails after n writes.
type broken struct{ n int }

func (b *broken) Write(p []byte) (int, error) {
	if b.n--; b.n < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestErrorsStay(t *testing.T) {
	l := &JSONL{W: &broken{1}, Body: bodies}
	l.Meta(flow.Session{})
	if err := l.Requested(call(1)); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Requested = %v", err)
	}
	if err := l.Done(call(2)); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Done = %v", err)
	}
	gone := errors.New("gone")
	l = &JSONL{W: io.Discard, Body: func(int64, flow.Side) ([]byte, error) { return nil, gone }}
	if err := l.Done(plain(1)); !errors.Is(err, gone) || !strings.Contains(err.Error(), "flow 1") {
		t.Errorf("Done = %v", err)
	}
}
