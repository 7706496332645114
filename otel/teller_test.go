package otel

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"trace/flow"
	"trace/llm"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func longAttribute(n int) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: "long", Value: text(strings.Repeat("x", n))}
}

// exchangeAt is the exchange of that number, which begins as many seconds after
// the session and takes half of one.
func exchangeAt(id int64, method, path string, status int) *flow.Exchange {
	at := began.Add(time.Duration(id) * time.Second)
	x := &flow.Exchange{ID: id, Session: "01TEST", Kind: flow.KindHTTP, State: flow.StateComplete, Started: at, Ended: at.Add(500 * time.Millisecond),
		Request: &flow.Part{Head: &flow.Head{Method: method, Scheme: "https", Host: "api.test", Port: 443, Path: path, Version: "2"}, Body: &flow.Ended{Size: 3}}}
	x.Conn = flow.Conn{ID: 1, Dst: netip.MustParseAddrPort("203.0.113.7:443"), Process: &flow.Process{PID: 42, Exe: "/usr/bin/agent", Argv: []string{"agent", "-p", "canary prompt"}, Parents: []int{41}}}
	if status > 0 {
		x.Response = &flow.Part{Head: &flow.Head{Status: status}, Body: &flow.Ended{Size: 10}}
	}
	return x
}

// value returns an attribute as text.
func value(list []*commonpb.KeyValue, key string) string {
	for _, kv := range list {
		if kv.Key != key {
			continue
		}
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			return v.StringValue
		case *commonpb.AnyValue_ArrayValue:
			var words []string
			for _, e := range v.ArrayValue.Values {
				words = append(words, e.GetStringValue())
			}
			return strings.Join(words, ",")
		case *commonpb.AnyValue_IntValue:
			return fmt.Sprint(v.IntValue)
		case *commonpb.AnyValue_DoubleValue:
			return fmt.Sprint(v.DoubleValue)
		case *commonpb.AnyValue_BoolValue:
			return fmt.Sprint(v.BoolValue)
		}
	}
	return ""
}

// has holds attributes, as key=value, against a span.
func has(t *testing.T, s *tracepb.Span, want ...string) {
	t.Helper()
	for _, w := range want {
		key, v, _ := strings.Cut(w, "=")
		if got := value(s.Attributes, key); got != v {
			t.Errorf("%s: %s is %q, want %q", s.Name, key, got, v)
		}
	}
}

func TestExchange(t *testing.T) {
	teller := newTestTeller()
	ok := teller.Exchange(exchangeAt(1, "GET", "/a?b=c#d", 200), nil)
	if len(ok) != 1 || teller.Exchange(exchangeAt(1, "GET", "/a", 200), nil) != nil {
		t.Fatalf("%d spans, or told twice", len(ok))
	}
	s := ok[0]
	if s.Name != "GET" || s.Kind != tracepb.Span_SPAN_KIND_CLIENT || s.Status != nil || s.EndTimeUnixNano-s.StartTimeUnixNano != 5e8 {
		t.Errorf("%v", s)
	}
	has(t, s, "http.request.method=GET", "url.full=https://api.test/a?b=c", "server.address=api.test", "server.port=443", "http.response.status_code=200",
		"network.protocol.version=2", "network.peer.address=203.0.113.7", "process.pid=42", "process.parent_pid=41", "process.executable.name=agent",
		"process.command=agent", "process.command_args=", "trace.flow.id=1", "session.id=01TEST")
	s = teller.Exchange(exchangeAt(2, "BREW", "/", 503), nil)[0]
	if s.Name != "HTTP" || s.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("%v", s)
	}
	has(t, s, "http.request.method=_OTHER", "http.request.method_original=BREW", "error.type=503")
	x := exchangeAt(3, "GET", "/", 0)
	x.State, x.Error = flow.StateFailed, &flow.Error{Where: flow.AtUpstream, Code: flow.CodeRefused, Message: "connection refused"}
	s = teller.Exchange(x, nil)[0]
	has(t, s, "error.type=refused")
	if s.Status.GetMessage() != "connection refused" {
		t.Errorf("%v", s.Status)
	}
	x = &flow.Exchange{ID: 4, Kind: flow.KindTCP, State: flow.StateComplete, Started: began, Ended: began, Conn: flow.Conn{Host: "db.test", Dst: netip.MustParseAddrPort("[::1]:5432"), Opaque: "not_http"}}
	s = teller.Exchange(x, nil)[0]
	if s.Name != "tcp db.test:5432" {
		t.Error(s.Name)
	}
	if teller.Exchange(&flow.Exchange{ID: 5, Kind: flow.KindDNS}, nil) != nil {
		t.Error("a DNS query is told")
	}
	root := teller.End(flow.Session{ID: "01TEST", Name: "curl", Argv: []string{"/usr/bin/curl", "canary"}, Started: began, Ended: began.Add(time.Minute), State: "ended", Exit: 7, Flows: 5})
	if len(root) != 1 || root[0].ParentSpanId != nil || root[0].Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Fatalf("%v", root)
	}
	has(t, root[0], "process.exit.code=7", "error.type=exit 7", "process.executable.name=curl", "process.command_args=")
	for _, s := range append(ok, root...) {
		if string(s.TraceId) != string(TraceID("01TEST")) || len(s.TraceId) != 16 || len(s.SpanId) != 8 {
			t.Errorf("%s: trace %x, span %x", s.Name, s.TraceId, s.SpanId)
		}
	}
	if string(ok[0].ParentSpanId) != string(root[0].SpanId) {
		t.Error("the exchange is not below the root")
	}
}

// callAt makes the exchange of that number one of the Messages API.
func callAt(id int64, request, answer map[string]any, status int) (*flow.Exchange, []*llm.Call) {
	x := exchangeAt(id, "POST", "/v1/messages", status)
	x.Request.Head.Host = "api.anthropic.com"
	d := &flow.Detail{Exchange: *x}
	d.RequestBody, _ = json.Marshal(request)
	d.ResponseBody, _ = json.Marshal(answer)
	return x, llm.Read(d)
}

type object_ = map[string]any
type list = []any

func says(role string, blocks ...any) object_ { return object_{"role": role, "content": blocks} }

func textBlock(s string) object_ { return object_{"type": "text", "text": s} }

func answering(id, stop string, blocks ...any) object_ {
	return object_{"id": id, "type": "message", "role": "assistant", "model": "claude-x-1", "content": blocks, "stop_reason": stop,
		"usage": object_{"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 5, "output_tokens": 7}}
}

// agentRun tells a run of an agent with a sub-agent, whose last call fails.
func agentRun(o Options) (spans map[string][]*tracepb.Span, teller *Teller) {
	tools := list{object_{"name": "Task", "description": "canary description", "input_schema": object_{"type": "object"}}}
	teller = NewTeller(flow.Session{ID: "01TEST", Name: "agent", Started: began}, o)
	ask := list{says("user", textBlock("canary question"))}
	use := object_{"type": "tool_use", "id": "toolu_1", "name": "Task", "input": object_{"prompt": "canary errand of the sub-agent, which is long enough to be found"}}
	first := object_{"model": "claude-x", "max_tokens": 99, "temperature": 0.5, "tools": tools, "messages": ask, "stop_sequences": list{"END"}}
	sub := object_{"model": "claude-small", "max_tokens": 9, "tools": tools[:0], "messages": list{says("user", textBlock("canary errand of the sub-agent, which is long enough to be found"))}}
	second := object_{"model": "claude-x", "max_tokens": 99, "tools": tools, "messages": append(ask, says("assistant", use),
		says("user", object_{"type": "tool_result", "tool_use_id": "toolu_1", "content": "canary result", "is_error": true}))}
	var all []*tracepb.Span
	for _, c := range []struct {
		id              int64
		request, answer object_
		status          int
	}{
		{1, first, answering("msg_1", "tool_use", use), 200},
		{2, sub, answering("msg_2", "end_turn", textBlock("canary answer")), 200},
		{3, second, object_{"type": "error", "error": object_{"type": "overloaded_error", "message": "canary message"}}, 529},
	} {
		all = append(all, teller.Exchange(callAt(c.id, c.request, c.answer, c.status))...)
	}
	all = append(all, teller.End(flow.Session{ID: "01TEST", Name: "agent", Started: began, Ended: began.Add(time.Minute), State: "ended"})...)
	spans = map[string][]*tracepb.Span{}
	for _, s := range all {
		spans[s.Name] = append(spans[s.Name], s)
	}
	return spans, teller
}

func TestAgents(t *testing.T) {
	spans, _ := agentRun(Options{})
	one := func(name string) *tracepb.Span {
		t.Helper()
		if len(spans[name]) == 0 {
			t.Fatalf("no span %q among %v", name, names(spans))
		}
		return spans[name][0]
	}
	below := func(child, parent *tracepb.Span) {
		t.Helper()
		if string(child.ParentSpanId) != string(parent.SpanId) {
			t.Errorf("%s is not below %s", child.Name, parent.Name)
		}
	}
	root, agent, tool, sub := one("agent"), one("invoke_agent agent"), one("execute_tool Task"), one("invoke_agent Task")
	below(agent, root)
	below(tool, agent)
	below(sub, tool)
	below(one("chat claude-small"), sub)
	calls := spans["chat claude-x"]
	if len(calls) != 2 {
		t.Fatalf("%d calls", len(calls))
	}
	below(calls[0], agent)
	below(calls[1], agent)
	for i, c := range []*tracepb.Span{calls[0], one("chat claude-small"), calls[1]} {
		below(spans["POST"][i], c)
	}
	has(t, calls[0], "gen_ai.operation.name=chat", "gen_ai.provider.name=anthropic", "gen_ai.system=anthropic", "gen_ai.request.model=claude-x", "gen_ai.response.model=claude-x-1",
		"gen_ai.request.max_tokens=99", "gen_ai.request.temperature=0.5", "gen_ai.request.stop_sequences=END", "gen_ai.response.id=msg_1", "gen_ai.response.finish_reasons=tool_use",
		"gen_ai.usage.input_tokens=115", "gen_ai.usage.output_tokens=7", "gen_ai.usage.cache_read.input_tokens=100", "gen_ai.usage.cache_write.input_tokens=5",
		"gen_ai.usage.cache_creation.input_tokens=5", "gen_ai.input.messages=", "trace.conversation.turn=1")
	has(t, calls[1], "error.type=overloaded_error", "trace.conversation.turn=2")
	if st := calls[1].Status; st.GetCode() != tracepb.Status_STATUS_CODE_ERROR || st.GetMessage() != "overloaded_error (HTTP 529)" {
		t.Errorf("%v", st)
	}
	has(t, tool, "gen_ai.tool.name=Task", "gen_ai.tool.call.id=toolu_1", "error.type=tool_error")
	if got := tool.EndTimeUnixNano - tool.StartTimeUnixNano; got != 15e8 {
		t.Errorf("the tool took %d", got)
	}
}

func names(spans map[string][]*tracepb.Span) (all []string) {
	for name := range spans {
		all = append(all, name)
	}
	return all
}

// TestContent: texts are told only where that was asked for.
func TestContent(t *testing.T) {
	spans, _ := agentRun(Options{})
	for name, list := range spans {
		if text := fmt.Sprint(name, list); strings.Contains(text, "canary") {
			t.Errorf("content is told: %.2000s", text)
		}
	}
	spans, _ = agentRun(Options{Content: true})
	call := spans["chat claude-x"][1]
	var in []struct {
		Role  string
		Parts []struct {
			Type, Content, ID, Name string
			Arguments, Response     any
		}
	}
	if err := json.Unmarshal([]byte(value(call.Attributes, "gen_ai.input.messages")), &in); err != nil || len(in) != 3 {
		t.Fatalf("%v, %+v", err, in)
	}
	if in[0].Parts[0].Content != "canary question" || in[1].Parts[0].Type != "tool_call" || in[1].Parts[0].Name != "Task" || in[2].Role != "tool" ||
		in[2].Parts[0].Type != "tool_call_response" || in[2].Parts[0].Response != "canary result" {
		t.Errorf("%+v", in)
	}
	if call.Status.GetMessage() != "canary message" {
		t.Errorf("%v", call.Status)
	}
	has(t, spans["execute_tool Task"][0], "gen_ai.tool.call.result=canary result")
	has(t, spans["chat claude-small"][0], `gen_ai.output.messages=[{"role":"assistant","parts":[{"type":"text","content":"canary answer"}],"finish_reason":"end_turn"}]`)
	has(t, spans["POST"][0], "process.command_args=agent,-p,canary prompt")
}

// TestLearn: a call that is told alone stands where it does among all.
func TestLearn(t *testing.T) {
	spans, _ := agentRun(Options{})
	teller := NewTeller(flow.Session{ID: "01TEST", Name: "agent", Started: began}, Options{})
	use := object_{"type": "tool_use", "id": "toolu_1", "name": "Task", "input": object_{"prompt": "canary errand of the sub-agent, which is long enough to be found"}}
	first, calls := callAt(1, object_{"model": "claude-x", "tools": list{object_{"name": "Task"}}, "messages": list{says("user", textBlock("canary question"))}}, answering("msg_1", "tool_use", use), 200)
	teller.Learn(first, calls)
	x, calls := callAt(2, object_{"model": "claude-small", "messages": list{says("user", textBlock("canary errand of the sub-agent, which is long enough to be found"))}}, answering("msg_2", "end_turn", textBlock("a")), 200)
	teller.Learn(x, calls)
	told := teller.Exchange(x, calls)
	if string(told[1].ParentSpanId) != string(spans["chat claude-small"][0].ParentSpanId) {
		t.Error("it stands elsewhere")
	}
	for _, s := range teller.End(flow.Session{ID: "01TEST"}) {
		if s.Name == "invoke_agent agent" {
			t.Error("an agent is told of which no call is")
		}
	}
}

// TestJSON: OTLP/JSON has identifiers in hex, numbers of 64 bits as text, and
// enumerations as numbers.
func TestJSON(t *testing.T) {
	spans, teller := agentRun(Options{})
	call := spans["chat claude-x"][1]
	b, err := SpansJSON(Spans{call})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		TraceID, SpanID, ParentSpanID string
		Kind                          int
		StartTimeUnixNano             string
		Status                        struct{ Code int }
		Links                         []struct{ SpanID string }
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.TraceID != hex.EncodeToString(call.TraceId) || got.SpanID != hex.EncodeToString(call.SpanId) || got.ParentSpanID != hex.EncodeToString(call.ParentSpanId) ||
		got.Kind != 3 || got.Status.Code != 2 || got.StartTimeUnixNano != fmt.Sprint(call.StartTimeUnixNano) || len(got.Links) != 1 || len(got.Links[0].SpanID) != 16 {
		t.Errorf("%+v of %s", got, b)
	}
	resource, scope, err := ResourceJSON(teller.Resource())
	if err != nil || !strings.Contains(string(resource), `{"key":"service.name","value":{"stringValue":"trace"}}`) || !strings.Contains(string(scope), `"name":"trace"`) {
		t.Errorf("%s %s %v", resource, scope, err)
	}
}

func TestResource(t *testing.T) {
	teller := NewTeller(flow.Session{ID: "1", Version: "v2"}, Options{Host: "box", Environ: []string{"OTEL_SERVICE_NAME=ci", "OTEL_RESOURCE_ATTRIBUTES=team=a%20b,host.name=x,service.name=no"}})
	list := teller.Resource().Attributes
	for key, want := range map[string]string{"service.name": "ci", "team": "a b", "host.name": "x", "service.instance.id": "1", "service.version": "v2"} {
		if got := value(list, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	keys := map[string]bool{}
	for _, kv := range list {
		if keys[kv.Key] {
			t.Errorf("%s twice", kv.Key)
		}
		keys[kv.Key] = true
	}
}

func TestMetrics(t *testing.T) {
	_, teller := agentRun(Options{})
	all := map[string]*metricspb.Metric{}
	for _, m := range teller.Metrics(began.Add(time.Minute)).ScopeMetrics[0].Metrics {
		all[m.Name] = m
	}
	h := all["http.client.request.duration"].GetHistogram()
	var n uint64
	for _, p := range h.GetDataPoints() {
		n += p.Count
		var in uint64
		for _, c := range p.BucketCounts {
			in += c
		}
		if in != p.Count || len(p.BucketCounts) != len(p.ExplicitBounds)+1 || p.BucketCounts[7] != p.Count { // 0.25 < 0.5 <= 0.5
			t.Errorf("%v", p)
		}
	}
	if n != 3 {
		t.Errorf("%d exchanges", n)
	}
	tokens := map[string]float64{}
	for _, p := range all["gen_ai.client.token.usage"].GetHistogram().GetDataPoints() {
		tokens[value(p.Attributes, "gen_ai.token.type")] += p.GetSum()
	}
	if tokens["input"] != 230 || tokens["output"] != 14 {
		t.Errorf("%v", tokens)
	}
	var sum int64
	for _, p := range all["gen_ai.client.inference.usage.cache_read.input_tokens"].GetSum().GetDataPoints() {
		sum += p.GetAsInt()
	}
	if sum != 200 {
		t.Errorf("%d tokens from caches", sum)
	}
	for _, name := range []string{"gen_ai.client.operation.duration", "gen_ai.client.inference.duration"} {
		if len(all[name].GetHistogram().GetDataPoints()) != 3 {
			t.Errorf("%s: %v", name, all[name])
		}
	}
	if teller.Metrics(began) != nil {
		t.Error("what did not change is told again")
	}
}

// TestBadText: what is no UTF-8 is told all the same.
func TestBadText(t *testing.T) {
	teller := newTestTeller()
	x := exchangeAt(1, "GET", "/\xff\xfe"+strings.Repeat("é", maxText), 200)
	x.Conn.Process.Argv[0] = "\xf0"
	if _, err := marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{data(teller.Resource(), teller.Exchange(x, nil))}}, false); err != nil {
		t.Error(err)
	}
}

// TestForgets: of a run that never ends, what is remembered of its tools has a
// bound, and of flows whose numbers are nonsense nothing is.
func TestForgets(t *testing.T) {
	var k tools
	for i := range 3 * maxTools {
		u := &tool{by: llm.Ref{Flow: int64(i + 1)}, callID: "t" + itoa(int64(i)), input: strings.Repeat("i", 8<<10)}
		k.add(llm.Ref{Flow: 1}, []*tool{u})
	}
	if n := len(k.called); n > maxTools || n != len(k.open) || n != len(k.order) || k.count != n || k.bytes != n*8<<10 || k.bytes > maxToolsInput {
		t.Errorf("%d, %d, %d, %d tools, %d bytes", n, len(k.open), len(k.order), k.count, k.bytes)
	}
	var b bits
	for i, want := range []bool{true, true, true, false} {
		if n := []int64{1 << 60, 1 << 60, 7, 7}[i]; b.add(n) != want || len(b) > 1 {
			t.Errorf("%d: %v, %d words", n, !want, len(b))
		}
	}
}

// TestAltered: a call that a rule changed says so.
func TestAltered(t *testing.T) {
	for _, code := range []string{flow.CodeAltered, flow.CodeMark} {
		x, calls := callAt(1, object_{"model": "m", "messages": []any{}}, object_{"type": "error", "error": object_{"type": "rate_limit_error"}}, 429)
		x.Marks = append(x.Marks, flow.Note{At: began, Error: &flow.Error{Code: code}})
		text := fmt.Sprint(newTestTeller().Exchange(x, calls))
		if strings.Contains(text, "trace.altered") != (code == flow.CodeAltered) {
			t.Errorf("%s: %.3000s", code, text)
		}
	}
}
