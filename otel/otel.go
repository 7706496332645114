// Package otel tells recorded exchanges as OpenTelemetry spans and sends them.
//
// A [Teller] makes spans and metrics of what one session recorded, a [Sender]
// brings them to an endpoint that speaks OTLP over HTTP:
//
//	e, err := otel.ParseEndpoint("http://127.0.0.1:4318", os.Environ())
//	s := otel.NewSender(e, client, otel.Patience{})
//	t := otel.NewTeller(session, otel.Options{})
//	s.Spans(t.Resource(), t.Exchange(x, calls)) // for each exchange, as it ended
//	s.Spans(t.Resource(), t.End(session))
//	report := s.Close(5 * time.Second)
//
// # Theory of operation
//
// A session is one trace. Its identifiers are worked out from the session's and
// from the numbers of its flows, so that a span can name its parent before that
// is told (the root, which is the command, ends last), and what is sent twice,
// or again from the file, is the same span.
//
//	run                          the command
//	├── POST                     an HTTP exchange (http.go)
//	├── chat gpt-5               a call to a language model (call.go) …
//	│   └── POST                 … and the exchange that carried it
//	└── invoke_agent claude      a conversation with tools (agents.go)
//	    ├── chat claude-opus
//	    └── execute_tool Task    between the answer that called it and the request with its result
//	        └── invoke_agent Task    a sub-agent
//	            └── chat claude-haiku
//
// Which call goes on from which, and which tool call began a sub-agent, is what
// package llm finds out. Attributes have the names of the semantic conventions
// for HTTP and for generative AI: those in use (v1.41) and, where they differ,
// the newer ones beside them. Text of prompts, answers and tools, and the
// command's arguments, which often are a prompt, are told only if
// [Options.Content] says so.
//
// The sender has a queue with a bound (sender.go). While the endpoint takes what
// it gets, who fills the queue waits, and that is a reader of the record and
// never the road; while it does not, the oldest spans make room and are counted.
package otel

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"trace/flow"
	"trace/llm"
)

// Spans are spans of one session, as OTLP has them.
type Spans = []*tracepb.Span

// Options say how a session is told.
type Options struct {
	// Content has text told: messages, tools' input and results, arguments of
	// the command.
	Content bool
	// Environ are environment variables, of which OTEL_SERVICE_NAME and
	// OTEL_RESOURCE_ATTRIBUTES are obeyed.
	Environ []string
	// Host is the name of the machine that recorded; "" if it is not known.
	Host string
}

// A Teller makes spans and metrics of one session. It is not safe for concurrent
// use.
type Teller struct {
	o        Options
	s        flow.Session
	trace    []byte
	root     []byte
	resource *resourcepb.Resource
	told     bits
	last     time.Time // end of the last exchange

	threads llm.Threads
	agents  map[llm.Ref]*agent // by the first call of their conversations
	tools   tools
	learnt  map[llm.Ref]joined

	metrics metrics
}

// NewTeller makes what tells s.
func NewTeller(s flow.Session, o Options) *Teller {
	t := &Teller{o: o, s: s, agents: map[llm.Ref]*agent{}, learnt: map[llm.Ref]joined{}}
	sum := sha256.Sum256([]byte("trace\x00" + s.ID))
	t.trace = sum[:16]
	t.root = t.id("run")
	t.metrics.started = s.Started
	t.resource = t.makeResource()
	return t
}

// TraceID is the trace of the session with that ID.
func TraceID(session string) []byte {
	return NewTeller(flow.Session{ID: session}, Options{}).trace
}

// id works out the identifier of a span.
func (t *Teller) id(kind string, numbers ...int64) []byte {
	b := []byte("trace\x00" + t.s.ID + "\x00" + kind)
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	sum := sha256.Sum256(b)
	return sum[:8]
}

// span begins a span. An empty time is that of the session.
func (t *Teller) span(id, parent []byte, name string, kind tracepb.Span_SpanKind, from, to time.Time) *tracepb.Span {
	if from.IsZero() {
		from = t.s.Started
	}
	if to.Before(from) {
		to = from
	}
	return &tracepb.Span{TraceId: t.trace, SpanId: id, ParentSpanId: parent, Name: clean(name), Kind: kind,
		StartTimeUnixNano: nanos(from), EndTimeUnixNano: nanos(to), Flags: 1}
}

// nanos is a time as OTLP has it.
func nanos(at time.Time) uint64 {
	if at.IsZero() || at.Unix() < 0 {
		return 0
	}
	return uint64(at.UnixNano())
}

// Exchange tells an exchange that has ended, with the calls that llm.Read made
// of it, if any: itself, the calls, and the tools whose results they brought. An
// exchange is told once; nil is returned for the second time, and for what is
// no span: a DNS query.
func (t *Teller) Exchange(x *flow.Exchange, calls []*llm.Call) Spans {
	if x.Kind == flow.KindDNS || !t.told.add(x.ID) {
		return nil
	}
	if x.Ended.After(t.last) {
		t.last = x.Ended
	}
	calls = inferences(calls)
	parent, own := t.root, t.id("flow", x.ID)
	if len(calls) == 1 {
		parent = t.callID(llm.Ref{Flow: x.ID})
	}
	spans := []*tracepb.Span{t.exchange(x, own, parent)}
	for i, c := range calls {
		ref := llm.Ref{Flow: x.ID, Call: i}
		j, known := t.learnt[ref]
		if !known {
			j = t.join(x, c, ref)
		}
		delete(t.learnt, ref)
		if j.agent != nil {
			j.agent.saw(x, c)
		}
		spans = append(spans, t.call(x, c, ref, j))
		spans = append(spans, j.tools...)
	}
	t.metrics.measure(x, calls)
	return spans
}

// Learn takes note of calls, so that those around them find their place, of
// which themselves may not be told. Calls are learnt as they began.
func (t *Teller) Learn(x *flow.Exchange, calls []*llm.Call) {
	for i, c := range inferences(calls) {
		ref := llm.Ref{Flow: x.ID, Call: i}
		t.learnt[ref] = t.join(x, c, ref)
	}
}

// inferences are the calls that ask a model for something, which counting
// tokens is not.
func inferences(calls []*llm.Call) []*llm.Call {
	return slices.DeleteFunc(slices.Clone(calls), func(c *llm.Call) bool { return c.API == llm.CountTokens })
}

// End tells what is known only when all exchanges are: agents, tools that never
// gave a result, and s, the session as it is now.
func (t *Teller) End(s flow.Session) Spans {
	t.s = s
	end := s.Ended
	if end.Before(t.last) {
		end = t.last
	}
	spans := append(t.unfinished(end), t.agentSpans()...)
	name := s.Name
	if name == "" {
		name = "run"
	}
	root := t.span(t.root, nil, name, tracepb.Span_SPAN_KIND_INTERNAL, s.Started, end)
	a := t.attributes()
	a.str("trace.source", string(s.Source))
	a.int("trace.flows", s.Flows)
	a.nonzero("trace.flows.opaque", s.Opaque)
	a.nonzero("trace.gaps", s.Gaps)
	if len(s.Argv) > 0 {
		a.str("process.executable.name", baseName(s.Argv[0]))
		a.str("process.command", s.Argv[0])
		if t.o.Content {
			a.strs("process.command_args", s.Argv)
			a.str("process.working_directory", s.Dir)
		}
		if s.State == "ended" {
			a.int("process.exit.code", int64(s.Exit))
		}
	}
	if s.State == "ended" && s.Exit != 0 && len(s.Argv) > 0 {
		fail(root, a, "exit "+strconv.Itoa(s.Exit), "")
	}
	if s.State == "crashed" {
		fail(root, a, "crashed", "the run was killed")
	}
	root.Attributes = a.list
	return append(spans, root)
}

// Resource tells whose spans these are: of one session.
func (t *Teller) Resource() *resourcepb.Resource { return t.resource }

func (t *Teller) makeResource() *resourcepb.Resource {
	a := &attributes{}
	own := map[string]string{}
	for _, pair := range resourcePairs(t.o.Environ) {
		own[pair[0]] = pair[1]
	}
	set := func(key, value string) {
		if _, given := own[key]; !given {
			a.str(key, value)
		}
	}
	set("service.name", "trace")
	set("service.version", t.s.Version)
	set("service.instance.id", t.s.ID)
	set("host.name", t.o.Host)
	set("telemetry.sdk.name", "trace")
	set("telemetry.sdk.language", "go")
	set("telemetry.sdk.version", t.s.Version)
	for _, pair := range resourcePairs(t.o.Environ) {
		if own[pair[0]] == pair[1] {
			a.str(pair[0], pair[1])
			delete(own, pair[0]) // once
		}
	}
	return &resourcepb.Resource{Attributes: a.list}
}

// scope is who made the spans.
func (t *Teller) scope() *commonpb.InstrumentationScope { return scopeOf(t.s.Version) }

func scopeOf(version string) *commonpb.InstrumentationScope {
	return &commonpb.InstrumentationScope{Name: "trace", Version: version}
}

// The most bytes of an attribute that is no content.
const maxText = 8 << 10

// attributes collects those of one span. What is empty is left out.
type attributes struct{ list []*commonpb.KeyValue }

// attributes begins those of a span of the session.
func (t *Teller) attributes() *attributes {
	a := &attributes{list: make([]*commonpb.KeyValue, 0, 24)} // as many as most have
	a.str("session.id", t.s.ID)
	return a
}

// An attribute is one in a piece: there are many.
type attribute[V any] struct {
	kv    commonpb.KeyValue
	any   commonpb.AnyValue
	value V
}

func newAttribute[V any](key string, v V) *attribute[V] {
	b := &attribute[V]{value: v}
	b.kv.Key, b.kv.Value = key, &b.any
	return b
}

func (a *attributes) add(key string, v *commonpb.AnyValue) {
	a.list = append(a.list, &commonpb.KeyValue{Key: key, Value: v})
}

func text(s string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: s}}
}

func (a *attributes) str(key, v string) {
	if v != "" {
		b := newAttribute(key, commonpb.AnyValue_StringValue{StringValue: safe(v, maxText)})
		b.any.Value = &b.value
		a.list = append(a.list, &b.kv)
	}
}

// long adds a text of content, which is cut by whoever made it.
func (a *attributes) long(key, v string) {
	if v != "" {
		a.add(key, text(safe(v, 0)))
	}
}

func (a *attributes) strs(key string, vs []string) {
	if len(vs) == 0 {
		return
	}
	list := &commonpb.ArrayValue{}
	for _, v := range vs {
		list.Values = append(list.Values, text(safe(v, maxText)))
	}
	a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: list}})
}

func (a *attributes) int(key string, n int64) {
	b := newAttribute(key, commonpb.AnyValue_IntValue{IntValue: n})
	b.any.Value = &b.value
	a.list = append(a.list, &b.kv)
}

func (a *attributes) nonzero(key string, n int64) {
	if n != 0 {
		a.int(key, n)
	}
}

func (a *attributes) double(key string, v float64) {
	a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: v}})
}

func (a *attributes) yes(key string, is bool) {
	if is {
		a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: true}})
	}
}

// safe returns v as protobuf takes it and not too long, in bytes of its own: it may
// be a piece of a body that nobody else keeps, and wait in a queue.
func safe(v string, most int) string {
	if v = clean(v); most > 0 && len(v) > most {
		return cutText(v, most)
	}
	return strings.Clone(v)
}

// clean makes text valid UTF-8, which protobuf insists on.
func clean(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// cutText shortens s to n bytes, and says so by an ellipsis.
func cutText(s string, n int) string {
	for n = max(0, n-len("…")); n > 0 && !utf8.RuneStart(s[n]); n-- {
	}
	return s[:n] + "…"
}

// fail says of a span that it failed. kind is error.type; more, which may be
// "", is for people.
func fail(s *tracepb.Span, a *attributes, kind, more string) {
	a.str("error.type", kind)
	message := kind
	if more != "" {
		message = more
	}
	s.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: safe(message, maxText)}
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// bits is a set of small numbers.
type bits []uint64

// maxBits bounds the numbers in a set: a file may claim any.
const maxBits = 1 << 26

// add adds n, and reports whether it was not there. Of numbers that are not small
// it does not know.
func (b *bits) add(n int64) bool {
	if n < 0 || n >= maxBits {
		return true
	}
	i, bit := int(n/64), uint64(1)<<(n%64)
	if i >= len(*b) {
		*b = append(*b, make([]uint64, i+1-len(*b))...)
	}
	if (*b)[i]&bit != 0 {
		return false
	}
	(*b)[i] |= bit
	return true
}
