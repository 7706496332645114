package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A spanReceiver is an endpoint that decodes what it gets with the official types.
type spanReceiver struct {
	*httptest.Server
	refuse func(n int, w http.ResponseWriter, r *http.Request) bool // the nth request for spans; nil: none

	mu      sync.Mutex
	n       int
	spans   map[string]*tracepb.Span // by ID
	times   map[string]int           // how often each was sent
	metrics map[string]bool
	headers []http.Header
	text    strings.Builder // all of it
	root    chan string     // the name of each root span
}

func receiveSpans(t *testing.T, refuse func(n int, w http.ResponseWriter, r *http.Request) bool) *spanReceiver {
	r := &spanReceiver{refuse: refuse, spans: map[string]*tracepb.Span{}, times: map[string]int{}, metrics: map[string]bool{}, root: make(chan string, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			err = r.take(w, req, body)
		}
		if err != nil {
			t.Errorf("the endpoint got %s: %v", req.URL.Path, err)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *spanReceiver) take(w http.ResponseWriter, req *http.Request, body []byte) error {
	if req.URL.Path == "/v1/traces" && r.refuse != nil {
		r.mu.Lock()
		r.n++
		n := r.n
		r.mu.Unlock()
		if r.refuse(n, w, req) {
			return nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = append(r.headers, req.Header)
	if req.URL.Path == "/v1/metrics" {
		d := &metricspb.MetricsData{}
		err := proto.Unmarshal(body, d)
		fmt.Fprintln(&r.text, d)
		for _, rm := range d.ResourceMetrics {
			for _, m := range rm.ScopeMetrics[0].Metrics {
				r.metrics[m.Name] = true
			}
		}
		return err
	}
	d := &tracepb.TracesData{}
	if err := proto.Unmarshal(body, d); err != nil {
		return err
	}
	fmt.Fprintln(&r.text, d)
	for _, rs := range d.ResourceSpans {
		for _, s := range rs.ScopeSpans[0].Spans {
			id := hex.EncodeToString(s.SpanId)
			r.spans[id] = s
			r.times[id]++
			if len(s.ParentSpanId) == 0 {
				r.root <- s.Name
			}
		}
	}
	return nil
}

// named returns the spans of that name, as they began.
func (r *spanReceiver) named(name string) []*tracepb.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Collect(maps.Values(r.spans))
	all = slices.DeleteFunc(all, func(s *tracepb.Span) bool { return s.Name != name })
	slices.SortFunc(all, func(a, b *tracepb.Span) int { return int(int64(a.StartTimeUnixNano - b.StartTimeUnixNano)) })
	return all
}

// said returns all that was told, as text.
func (r *spanReceiver) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func attribute(s *tracepb.Span, key string) string {
	for _, kv := range s.Attributes {
		if kv.Key == key {
			switch v := kv.Value.Value.(type) {
			case *commonpb.AnyValue_IntValue:
				return fmt.Sprint(v.IntValue)
			case *commonpb.AnyValue_StringValue:
				return v.StringValue
			}
			return kv.Value.String()
		}
	}
	return ""
}

// TestOTLP: an agent's run is told as one trace while it happens, and again from
// the record, with the same spans.
func TestOTLP(t *testing.T) {
	j, flags := recordAgent(t)
	r := receiveSpans(t, nil)
	j.env = append(j.env, "OTEL_EXPORTER_OTLP_HEADERS=x-key=canary%20key", "OTEL_RESOURCE_ATTRIBUTES=team=blue")
	out := j.must(j.inspect(append(flags, "--session", "told", "--otlp", r.URL), "python3", filepath.Join(j.home, "agent.py"), "https://"+modelHost), 0)
	if !regexp.MustCompile(`(?m)^trace: otlp: \d+ spans sent to ` + regexp.QuoteMeta(r.URL) + `/v1/traces$`).MatchString(out.stderr) {
		t.Errorf("it says %s", out.stderr)
	}
	checkAgentTrace(t, r)
	told := maps.Clone(r.times)

	doc := j.must(j.trace("flows", "dump", "--session", "told", "--format", "otlp"), 0).stdout
	var file struct {
		ResourceSpans []struct {
			ScopeSpans []struct {
				Spans []struct{ SpanID, TraceID string }
			}
		}
	}
	if err := json.Unmarshal([]byte(doc), &file); err != nil || len(file.ResourceSpans) != 1 {
		t.Fatalf("%v: %.2000s", err, doc)
	}
	written := map[string]int{}
	for _, s := range file.ResourceSpans[0].ScopeSpans[0].Spans {
		written[s.SpanID]++
	}
	if !maps.Equal(written, told) {
		t.Errorf("written %v, told %v", written, told)
	}
	if text := r.said() + doc; strings.Contains(text, "Oslo") || strings.Contains(text, "canary") || !strings.Contains(text, "blue") {
		t.Errorf("prompts or keys were told: %.5000s", text)
	}

	again := receiveSpans(t, nil)
	out = j.must(j.trace("flows", "dump", "--session", "told", "--format", "otlp", "--otlp-content", "--to", again.URL), 0)
	if !maps.Equal(again.times, told) || !strings.Contains(again.said(), "It is noon") || out.stdout != "" || !strings.Contains(out.stderr, "spans sent") {
		t.Errorf("sent again: %v, %s", again.times, out.stderr)
	}
	refusing := receiveSpans(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "no such project", http.StatusForbidden)
		return true
	})
	if out = j.trace("flows", "dump", "--session", "told", "--format", "otlp", "--to", refusing.URL); out.code != 1 || !strings.Contains(out.stderr, "403 Forbidden: no such project") {
		t.Errorf("refused: exit %d, %s", out.code, out.stderr)
	}
	if out = j.inspect([]string{"--otlp", "localhost:4318"}, "echo", "ran"); out.code != 2 || out.stdout != "" || !strings.Contains(out.stderr, "want a URL") {
		t.Errorf("no URL: exit %d, %s%s", out.code, out.stdout, out.stderr)
	}
}

// checkAgentTrace: what was told of the agent of recordAgent.
func checkAgentTrace(t *testing.T, r *spanReceiver) {
	t.Helper()
	calls := r.named("chat claude-test-1")
	if len(r.named("told")) != 1 || len(r.named("execute_tool get_time")) != 1 || len(calls) != 3 || len(r.named("POST")) != 3 {
		t.Fatalf("the spans are not those of an agent: %.5000s", r.said())
	}
	root, agent, tool := r.named("told")[0], r.spans[hex.EncodeToString(calls[0].ParentSpanId)], r.named("execute_tool get_time")[0]
	if agent == nil || !strings.HasPrefix(agent.Name, "invoke_agent python3") {
		t.Fatalf("no agent: %.5000s", r.said())
	}
	for i, want := range []string{"412 20", "472 21", "512 22"} {
		if got := attribute(calls[i], "gen_ai.usage.input_tokens") + " " + attribute(calls[i], "gen_ai.usage.output_tokens"); got != want {
			t.Errorf("call %d has %s tokens, want %s", i, got, want)
		}
		if string(calls[i].ParentSpanId) != string(agent.SpanId) || attribute(calls[i], "gen_ai.provider.name") != "anthropic" {
			t.Errorf("call %d: %v", i, calls[i])
		}
	}
	if string(agent.ParentSpanId) != string(root.SpanId) || string(tool.ParentSpanId) != string(agent.SpanId) {
		t.Errorf("agent and tool do not stand where they belong: %.5000s", r.said())
	}
	if tool.StartTimeUnixNano < calls[0].StartTimeUnixNano || tool.EndTimeUnixNano != calls[1].StartTimeUnixNano {
		t.Errorf("the tool ran from %d to %d", tool.StartTimeUnixNano, tool.EndTimeUnixNano)
	}
	for id, s := range r.spans {
		if r.times[id] != 1 || string(s.TraceId) != string(root.TraceId) || s != root && r.spans[hex.EncodeToString(s.ParentSpanId)] == nil {
			t.Errorf("told %d times: %v", r.times[id], s)
		}
	}
	for _, name := range []string{"gen_ai.client.token.usage", "gen_ai.client.operation.duration", "http.client.request.duration"} {
		if !r.metrics[name] {
			t.Errorf("no metric %s", name)
		}
	}
	for _, h := range r.headers {
		if h.Get("X-Key") != "canary key" {
			t.Errorf("fields %v", h)
		}
	}
}

// TestOTLPSecrets: with --keep-secrets they are in the record, and nowhere else.
func TestOTLPSecrets(t *testing.T) {
	need(t, "curl")
	o := serve(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"id":"c","object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"said"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}`)
	})
	r := receiveSpans(t, nil)
	j := newJob(t, both()[0])
	key := "sk-ant-api03-" + strings.Repeat("Aa0-", 12)
	j.must(j.inspect([]string{"--keep-secrets", "--otlp", r.URL, "--otlp-content"}, "curl", "-sSf", "-H", "Authorization: Bearer "+key,
		"-d", `{"model":"m-1","messages":[{"role":"user","content":"asked with `+key+`"}]}`, "http://"+o.addr+"/v1/chat/completions?key="+key, "http://"+o.addr+"/plain?key="+key), 0)
	if text := r.said(); strings.Contains(text, key) || !strings.Contains(text, "asked with") || !strings.Contains(text, "/plain?key=") {
		t.Errorf("told: %.5000s", text)
	}
	if rows := j.flows(); len(rows) != 2 || !strings.Contains(rows[1].Request.Path, key) {
		t.Errorf("not recorded: %+v", rows)
	}
}

// TestOTLPTrouble: whatever the endpoint does, the command is not touched, the
// record is whole, and one line says what became of the spans.
func TestOTLPTrouble(t *testing.T) {
	need(t, "curl")
	o := serve(t, nil, nil)
	gone := httptest.NewServer(nil)
	gone.Close()
	hanging := make(chan struct{})
	t.Cleanup(func() { close(hanging) })
	for _, c := range []struct {
		name   string
		refuse func(n int, w http.ResponseWriter, r *http.Request) bool
		want   string
	}{
		{"down", nil, "otlp: 2 of 2 spans not taken by URL/v1/traces: .*refused; to send all again: trace flows dump --session \\S+ --format otlp --to URL"},
		{"refuses", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "unknown key", http.StatusUnauthorized)
			return true
		}, "otlp: 2 of 2 spans not taken by URL/v1/traces: it answers 401 Unauthorized: unknown key; to send all again: .*"},
		{"busy", func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 1 {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
			}
			return n == 1
		}, "otlp: 2 spans sent to URL/v1/traces"},
		{"overloaded", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}, "otlp: 2 of 2 spans not taken by URL/v1/traces: it answers 429 Too Many Requests; to send all again: .*"},
		{"hangs", func(_ int, _ http.ResponseWriter, r *http.Request) bool {
			select {
			case <-hanging:
			case <-r.Context().Done():
			}
			return true
		}, "otlp: 2 of 2 spans not taken by URL/v1/traces: no answer in time; to send all again: .*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := gone.URL
			if c.refuse != nil {
				url = receiveSpans(t, c.refuse).URL
			}
			j := newJob(t, both()[0])
			r := j.must(j.inspect([]string{"--otlp", url}, "sh", "-c", `curl -sSf "$1"; exit 7`, "sh", "http://"+o.addr+"/text"), 7)
			want := "(?m)^trace: " + strings.ReplaceAll(c.want, "URL", regexp.QuoteMeta(url)) + "$"
			if !regexp.MustCompile(want).MatchString(r.stderr) || strings.Count(r.stderr, "otlp:") != 1 {
				t.Errorf("it says %s\nwant %s", r.stderr, want)
			}
			if rows := j.flows(); len(rows) != 1 || rows[0].State != "complete" || r.stdout == "" {
				t.Errorf("%d flows: %+v; %q", len(rows), rows, r.stdout)
			}
		})
	}
}

// TestServeOTLP: of a serve, each session is a trace, told when it ends.
func TestServeOTLP(t *testing.T) {
	need(t, "curl")
	o := serve(t, nil, nil)
	r := receiveSpans(t, nil)
	j := newJob(t, both()[0])
	s := j.serving("--listen", "127.0.0.1:0", "--idle", "50ms", "--map", "o=http://"+o.addr, "--otlp", r.URL)
	for _, label := range []string{"ann", "bob"} {
		j.must(j.run("curl", "-sSf", s.url("reverse proxy")+"/@"+label+"/o/text"), 0)
		select {
		case name := <-r.root:
			if name != label {
				t.Errorf("a trace of %s, want %s", name, label)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no trace of %s: %s", label, s.said())
		}
	}
	if code := s.stop(); code != 0 || !strings.Contains(s.said(), "otlp: 4 spans sent to "+r.URL) {
		t.Errorf("exit %d: %s", code, s.said())
	}
	if gets := r.named("GET"); len(gets) != 2 || string(gets[0].TraceId) == string(gets[1].TraceId) {
		t.Errorf("spans %v", gets)
	}
}
