package importer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"trace/flow"
)

// A reading is what came of a file, held against the order of events.
type reading struct {
	n      int
	err    error
	bad    []string
	events []flow.Event
}

func read(t testing.TB, text, format string) *reading {
	t.Helper()
	r := &reading{}
	type key struct{ conn, flow int64 }
	conns, flows := map[int64]int{}, map[key]int{} // 1: open, 2: over
	emit := func(e flow.Event) {
		e.Data = bytes.Clone(e.Data)
		r.events = append(r.events, e)
		switch k := (key{e.Conn, e.Flow}); e.Kind {
		case flow.ConnOpen:
			if conns[e.Conn]++; conns[e.Conn] != 1 || e.Facts == nil {
				t.Errorf("connection %d opens again", e.Conn)
			}
		case flow.ConnEnd:
			if conns[e.Conn]++; conns[e.Conn] != 2 {
				t.Errorf("connection %d ends and is not open", e.Conn)
			}
		case flow.Request, flow.Opaque:
			if flows[k]++; flows[k] != 1 || conns[e.Conn] != 1 {
				t.Errorf("flow %v opens again, or without a connection", k)
			}
		case flow.Query, flow.Gap:
		case flow.Mark:
			if e.Error == nil {
				t.Error("a mark that says nothing")
			}
		case flow.End:
			if flows[k]++; flows[k] != 2 {
				t.Errorf("flow %v ends and is not open", k)
			}
		default:
			if flows[k] != 1 {
				t.Errorf("%d of flow %v, which is not open", e.Kind, k)
			}
		}
		if e.Kind != flow.Gap && e.Kind != flow.Mark && conns[e.Conn] == 0 {
			t.Errorf("%d before its connection", e.Kind)
		}
	}
	r.n, r.err = Read(strings.NewReader(text), format, emit, func(b Bad) { r.bad = append(r.bad, fmt.Sprintf("%s: %v", b.Where, b.Err)) })
	for c, state := range conns {
		if state != 2 {
			t.Errorf("connection %d does not end", c)
		}
	}
	for f, state := range flows {
		if state != 2 {
			t.Errorf("flow %v does not end", f)
		}
	}
	return r
}

// first returns the first event of a kind.
func (r *reading) first(t *testing.T, kind flow.Kind) flow.Event {
	t.Helper()
	for _, e := range r.events {
		if e.Kind == kind {
			return e
		}
	}
	t.Fatalf("no event of kind %d in %+v, bad %v, %v", kind, r.events, r.bad, r.err)
	return flow.Event{}
}

// entry is a HAR of one entry, of which members are replaced.
func entry(members ...string) string {
	m := map[string]json.RawMessage{
		"startedDateTime": json.RawMessage(`"2026-01-02T03:04:05.000Z"`), "time": json.RawMessage("30"),
		"request":  json.RawMessage(`{"method":"POST","url":"https://a.example/v1/messages","httpVersion":"HTTP/1.1","headers":[]}`),
		"response": json.RawMessage(`{"status":200,"httpVersion":"HTTP/1.1","headers":[{"name":"Content-Type","value":"text/event-stream"}],"content":{"size":20,"text":"data: 1\n\n: x\n\ndata: 2\n\n"}}`),
		"timings":  json.RawMessage(`{"send":5,"wait":10,"receive":15}`),
	}
	for i := 0; i < len(members); i += 2 {
		m[members[i]] = json.RawMessage(members[i+1])
	}
	text, err := json.Marshal(map[string]any{"log": map[string]any{"entries": []any{m}}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestHAREvents(t *testing.T) {
	at := func(ms int) time.Time { return time.Date(2026, 1, 2, 3, 4, 5, ms*1e6, time.UTC) }
	for name, c := range map[string]struct {
		text  string
		times []time.Time
	}{
		"without":     {entry(), []time.Time{at(15), at(30)}},
		"Chrome":      {entry("_eventSourceMessages", `[{"time":1767323045.02,"eventName":"message","eventId":"","data":"1"},{"time":1767323045.025,"data":"2"}]`), []time.Time{at(20), at(25)}},
		"fewer times": {entry("_eventSourceMessages", `[{"time":1767323045.02,"data":"1"}]`), []time.Time{at(20), at(20)}},
	} {
		r := read(t, c.text, "")
		var got []time.Time
		var body string
		for _, e := range r.events {
			if e.Kind == flow.StreamEvent {
				got = append(got, e.At)
			}
			if (e.Kind == flow.StreamEvent || e.Kind == flow.Body) && e.Side == flow.Server {
				body += string(e.Data)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.times) || body != "data: 1\n\n: x\n\ndata: 2\n\n" || len(r.bad) > 0 || r.err != nil {
			t.Errorf("%s: %v, want %v; %q, %v, %v", name, got, c.times, body, r.bad, r.err)
		}
	}
}

// TestHARMessages: those of Chrome, in seconds, and of Playwright, in
// milliseconds.
func TestHARMessages(t *testing.T) {
	answer := `{"status":101,"headers":[{"name":"Upgrade","value":"websocket"}],"content":{}}`
	for _, times := range []string{"1767323045.25", "1767323045250"} {
		r := read(t, entry("response", answer, "request", `{"method":"GET","url":"wss://a.example/x"}`,
			"_webSocketMessages", `[{"type":"send","time":`+times+`,"opcode":1,"data":"hi"},{"type":"receive","time":`+times+`,"opcode":2,"data":"AP8="},{"type":"error","time":1,"opcode":-1,"data":"lost"}]`), "")
		m := r.first(t, flow.Message)
		if m.At != time.Date(2026, 1, 2, 3, 4, 5, 250e6, time.UTC) || string(m.Data) != "hi" || m.Side != flow.Client || !m.HasSum {
			t.Errorf("%s: %+v", times, m)
		}
		if h := r.first(t, flow.Request).Head; h.Scheme != "https" || h.Port != 443 || r.first(t, flow.Response).Head.Protocol != "websocket" || r.first(t, flow.Mark).Error.Message != "lost" {
			t.Errorf("%+v", h)
		}
	}
}

func TestHARVersions(t *testing.T) {
	for text, want := range map[string]string{"HTTP/1.1": "1.1", "http/2.0": "2", "h2": "2", "HTTP/2": "2", "h3": "3", "HTTP/1.0": "1.0", "": "1.1", "unknown": "1.1", "h3-29": "3"} {
		if got := version(word(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestMitmproxyOld: flows of version 18 name things in other ways.
func TestMitmproxyOld(t *testing.T) {
	r := read(t, tnet(map[string]any{
		"version": 18, "type": "http", "error": nil,
		"client_conn": map[string]any{"id": "c", "address": []any{[]byte("10.0.0.2"), 5000}, "cipher_name": "X", "tls_established": true, "sni": "a.example", "tls_version": "TLSv1.3", "timestamp_start": 1767323044.5},
		"server_conn": map[string]any{"id": "s", "ip_address": []any{"203.0.113.7", 443}, "address": []any{"a.example", 443}},
		"request": map[string]any{"method": []byte("GET"), "scheme": []byte("https"), "host": "a.example", "port": 443, "path": []byte("/x"), "authority": []byte(""), "http_version": []byte("HTTP/2.0"),
			"headers": []any{[]any{[]byte("a"), []byte("b\xff")}}, "content": []byte("body"), "trailers": nil, "timestamp_start": 1767323045.0, "timestamp_end": 1767323045.25},
		"response": nil,
	})+tnet(map[string]any{"version": 12}), "")
	if r.n != 1 || len(r.bad) != 1 || !strings.Contains(r.bad[0], "version 12") {
		t.Errorf("%d flows, %v", r.n, r.bad)
	}
	c, h := r.first(t, flow.ConnOpen).Facts, r.first(t, flow.Request)
	if c.Src.String() != "10.0.0.2:5000" || c.Dst.String() != "203.0.113.7:443" || c.Host != "a.example" || c.Child.Cipher != "X" || c.Child.Version != "1.3" || !c.Decrypted {
		t.Errorf("%+v", c)
	}
	if h.Head.Version != "2" || h.Head.Fields[0].Value != "b\xff" || h.At != time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) || string(r.first(t, flow.Body).Data) != "body" {
		t.Errorf("%+v", h)
	}
	if e := r.first(t, flow.End); e.Error == nil {
		t.Error("a flow without an answer is complete")
	}
}

// tnet writes a tnetstring as mitmproxy does.
func tnet(v any) string {
	kind, data := byte('~'), ""
	switch v := v.(type) {
	case []byte:
		kind, data = ',', string(v)
	case string:
		kind, data = ';', v
	case int:
		kind, data = '#', fmt.Sprint(v)
	case float64:
		kind, data = '^', fmt.Sprintf("%f", v)
	case bool:
		kind, data = '!', fmt.Sprint(v)
	case []any:
		kind = ']'
		for _, e := range v {
			data += tnet(e)
		}
	case map[string]any:
		kind = '}'
		for k, e := range v {
			data += tnet(k) + tnet(e)
		}
	}
	return fmt.Sprintf("%d:%s%c", len(data), data, kind)
}

// TestJSONLOdd: lines that make no sense cost themselves alone.
func TestJSONLOdd(t *testing.T) {
	lines := []string{
		`{"ts":"2026-01-02T03:04:05.000000Z","type":"request","flow_id":"S/1","method":"GET","path":"/","headers":{"b":"2","a":"1"},"body":null}`,
		`{"ts":"2026-01-02T03:04:05.000000Z","type":"unheard_of","flow_id":"S/9"}`,
		`{"ts":"2026-01-02T03:04:05.000000Z","type":"sse","flow_id":"S/9","data":{}}`,
		`{"ts":"never","type":"sse","flow_id":"S/1","data":{}}`,
		`{"ts":"2026-01-02T03:04:05.000000Z","type":"request","flow_id":"S/1","method":"GET","path":"/"}`,
		`{"ts":"2026-01-02T03:04:06.000000Z","type":"response_headers","flow_id":"S/1","status_code":200,"streaming":true,"headers":{}}`,
		`{"ts":"2026-01-02T03:04:06.000000Z","type":"sse","flow_id":"S/1","event":"a","id":"7","retry":5,"data":"x\ny"}`,
		`{"ts":"2026-01-02T03:04:07.000000Z","type":"stream_end","flow_id":"S/1","complete":true,"timings":{"send":1}}`,
		`{"ts":"2026-01-02T03:04:08.000000Z","type":"mark","flow_id":"","mark":"m1","text":"here"}`,
		`{"ts":"2026-01-02T03:04:08.000000Z","type":"requ`,
	}
	r := read(t, strings.Join(lines, "\n"), "jsonl")
	if r.n != 1 || fmt.Sprint(len(r.bad)) != "4" || !strings.HasPrefix(r.bad[3], "line 10: ") {
		t.Errorf("%d flows, %v", r.n, r.bad)
	}
	if e := r.first(t, flow.StreamEvent); string(e.Data) != "event: a\nid: 7\nretry: 5\ndata: x\ndata: y\n\n" {
		t.Errorf("%q", e.Data)
	}
	if e := r.first(t, flow.Mark); e.Conn != 0 || e.Error.Code != flow.CodeMark {
		t.Errorf("%+v", e)
	}
}

// TestJSONLEarly: what is noticed of a request stands before it in a log.
func TestJSONLEarly(t *testing.T) {
	lines := []string{
		`{"ts":"2026-01-02T03:04:04.000000Z","type":"connection_open","conn_id":"1","transport":"tcp"}`,
		`{"ts":"2026-01-02T03:04:04.000000Z","type":"error","flow_id":"S/1","conn_id":"1","where":"client","code":"malformed","message":"no gzip","fatal":false}`,
		`{"ts":"2026-01-02T03:04:05.000000Z","type":"request","flow_id":"S/1","conn_id":"1","method":"GET","path":"/"}`,
		`{"ts":"2026-01-02T03:04:05.000000Z","type":"response","flow_id":"S/1","conn_id":"1","status_code":200}`,
		`{"ts":"2026-01-02T03:04:06.000000Z","type":"error","flow_id":"S/2","conn_id":"9","code":"reset","message":"never"}`,
	}
	r := read(t, strings.Join(lines, "\n"), "jsonl")
	if r.n != 1 || len(r.bad) != 1 || !strings.HasPrefix(r.bad[0], "line 5: ") {
		t.Errorf("%d flows, %v", r.n, r.bad)
	}
	if e := r.first(t, flow.Mark); e.Flow == 0 || e.Error.Code != flow.CodeMalformed {
		t.Errorf("%+v", e)
	}
}

// TestReadError: an error of the file itself is told.
func TestReadError(t *testing.T) {
	text := entry()
	for _, format := range []string{FormatHAR, FormatJSONL, FormatMitmproxy, ""} {
		r := iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(text)))
		if _, err := Read(r, format, func(flow.Event) {}, func(Bad) {}); err == nil {
			t.Errorf("%q: no error", format)
		}
	}
	if _, err := Read(strings.NewReader(text), "tar", nil, nil); err == nil {
		t.Error("format tar is known")
	}
}

// FuzzRead: whatever the bytes are, events keep their order and nothing
// panics.
func FuzzRead(f *testing.F) {
	f.Add(entry())
	f.Add(entry("_webSocketMessages", `[{"type":"send","time":1,"opcode":1,"data":"hi"}]`, "response", `{"status":101,"headers":[{"name":"upgrade","value":"websocket"}],"content":{"text":"AA==","encoding":"base64"}}`))
	f.Add(tnet(map[string]any{"version": 20, "type": "tcp", "client_conn": map[string]any{"id": "c"}, "messages": []any{[]any{true, []byte("x"), 1.5}}}))
	f.Add(tnet(map[string]any{"version": 20, "type": "dns", "request": map[string]any{"questions": []any{map[string]any{"name": "a", "type": 1}}}}))
	f.Add(`{"ts":"2026-01-02T03:04:05Z","type":"connection_open","flow_id":"","conn_id":"1","transport":"tcp"}` + "\n" +
		`{"ts":"2026-01-02T03:04:05Z","type":"request","flow_id":"S/1","conn_id":"1","method":"POST","path":"/","framing":"grpc","body":{}}` + "\n" +
		`{"ts":"2026-01-02T03:04:05Z","type":"tcp","flow_id":"S/2","conn_id":"1","dir":"c2s","data":"AA==","size":1}` + "\n" +
		`{"ts":"2026-01-02T03:04:05Z","type":"connection_close","flow_id":"","conn_id":"1"}` + "\n" +
		`{"ts":"2026-01-02T03:04:05Z","type":"response","flow_id":"S/1","conn_id":"1","complete":false,"error":{"code":"reset"}}`)
	f.Fuzz(func(t *testing.T, text string) { read(t, text, "") })
}
