package otel

import (
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"

	"trace/flow"
	"trace/llm"
)

// The most series of one metric; what is beyond goes into one of its own, as
// OpenTelemetry's SDKs do it.
const maxSeries = 2000

// Bounds of buckets, as the conventions advise.
var (
	tokenBounds   = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
	callBounds    = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	requestBounds = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
)

// metrics are those of one session since it began.
type metrics struct {
	started time.Time
	byName  map[string]*metric
	http    map[httpKey]*series // those of exchanges
	changed bool
}

// A metric is a histogram, or a counter where it has no bounds.
type metric struct {
	unit, what string
	bounds     []float64
	series     map[string]*series
}

// A series is a metric with certain attributes.
type series struct {
	attributes []*commonpb.KeyValue
	counts     []uint64
	count      uint64
	sum        float64
	min, max   float64
}

// An httpKey has what tells series of HTTP exchanges apart.
type httpKey struct {
	method, scheme, host, version, failed string
	port, status                          int
}

// measure counts an exchange and its calls.
func (m *metrics) measure(x *flow.Exchange, calls []*llm.Call) {
	if x.Request != nil && x.Request.Head != nil && x.Kind == flow.KindHTTP {
		h := x.Request.Head
		method, _ := knownMethod(h.Method)
		m.exchange(httpKey{method, h.Scheme, h.Host, version(x), errorType(x), h.Port, statusCode(x)}, x.Duration().Seconds())
	}
	for _, c := range calls {
		m.call(x, c)
	}
}

// exchange counts an HTTP exchange. Most are like one before.
func (m *metrics) exchange(k httpKey, took float64) {
	if s := m.http[k]; s != nil {
		s.add(requestBounds, took)
		m.changed = true
		return
	}
	a := &attributes{}
	a.str("http.request.method", k.method)
	a.str("server.address", k.host)
	a.nonzero("server.port", int64(k.port))
	a.str("url.scheme", k.scheme)
	a.str("network.protocol.version", k.version)
	a.nonzero("http.response.status_code", int64(k.status))
	a.str("error.type", k.failed)
	s := m.add("http.client.request.duration", "s", "How long HTTP exchanges took.", requestBounds, a, took)
	if m.http == nil {
		m.http = map[httpKey]*series{}
	}
	if len(m.http) < maxSeries {
		m.http[k] = s
	}
}

// call counts one call, under the names in use and the newer ones.
func (m *metrics) call(x *flow.Exchange, c *llm.Call) {
	a := &attributes{}
	a.str("gen_ai.operation.name", operation(c))
	a.str("gen_ai.provider.name", provider(c))
	a.str("gen_ai.request.model", c.Model)
	a.str("gen_ai.response.model", c.Served)
	if h := x.Request.Head; h != nil {
		a.str("server.address", h.Host)
		a.nonzero("server.port", int64(h.Port))
	}
	base := slices.Clip(a.list)
	kind, _ := callError(x, c)
	a.str("error.type", kind)
	from, to := callTimes(x, c)
	took := max(0, to.Sub(from)).Seconds()
	for _, name := range []string{"gen_ai.client.operation.duration", "gen_ai.client.inference.duration"} {
		m.add(name, "s", "How long calls to language models took.", callBounds, a, took)
	}
	if !c.FirstToken.IsZero() {
		first := max(0, c.FirstToken.Sub(from)).Seconds()
		for _, name := range []string{"gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.inference.time_to_first_chunk"} {
			m.add(name, "s", "How long the first piece of an answer took.", callBounds, a, first)
		}
	}
	u := c.Usage
	if u == nil {
		return
	}
	for _, d := range []struct {
		kind string
		n    int64
	}{{"input", prompt(u)}, {"output", u.Output}} {
		of := &attributes{list: slices.Clip(base)}
		of.str("gen_ai.token.type", d.kind)
		m.add("gen_ai.client.token.usage", "{token}", "Tokens of calls to language models.", tokenBounds, of, float64(d.n))
	}
	of := &attributes{list: base}
	for name, n := range map[string]int64{"input_tokens": prompt(u), "output_tokens": u.Output, "cache_read.input_tokens": u.CacheRead,
		"cache_write.input_tokens": u.CacheWrite, "reasoning.output_tokens": u.Reasoning} {
		m.add("gen_ai.client.inference.usage."+name, "{token}", "Tokens of calls to language models.", nil, of, float64(n))
	}
}

// add takes in a value, and returns the series that has it.
func (m *metrics) add(name, unit, what string, bounds []float64, a *attributes, v float64) *series {
	if m.byName == nil {
		m.byName = map[string]*metric{}
	}
	d := m.byName[name]
	if d == nil {
		d = &metric{unit, what, bounds, map[string]*series{}}
		m.byName[name] = d
	}
	list := a.list
	key := keyOf(list)
	if d.series[key] == nil && len(d.series) >= maxSeries {
		over := &attributes{}
		over.yes("otel.metric.overflow", true)
		list = over.list
		key = keyOf(list)
	}
	s := d.series[key]
	if s == nil {
		s = &series{attributes: list, counts: make([]uint64, len(bounds)+1), min: v, max: v}
		d.series[key] = s
	}
	s.add(bounds, v)
	m.changed = true
	return s
}

func (s *series) add(bounds []float64, v float64) {
	s.counts[sort.SearchFloat64s(bounds, v)]++ // a bound belongs to the bucket below it
	s.count++
	s.sum += v
	s.min, s.max = min(s.min, v), max(s.max, v)
}

// keyOf tells lists of attributes apart.
func keyOf(list []*commonpb.KeyValue) string {
	var b strings.Builder
	for _, kv := range list {
		b.WriteString(kv.Key)
		b.WriteByte(0)
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			b.WriteString(v.StringValue)
		case *commonpb.AnyValue_IntValue:
			b.WriteString(itoa(v.IntValue))
		}
		b.WriteByte(0)
	}
	return b.String()
}

// Metrics tells what was counted since the session began, as of at. It returns
// nil if nothing was counted since the last time.
func (t *Teller) Metrics(at time.Time) *metricspb.ResourceMetrics {
	m := &t.metrics
	if !m.changed {
		return nil
	}
	m.changed = false
	if at.Before(m.started) {
		at = m.started
	}
	var all []*metricspb.Metric
	for _, name := range slices.Sorted(maps.Keys(m.byName)) {
		all = append(all, m.byName[name].tell(name, nanos(m.started), nanos(at)))
	}
	return &metricspb.ResourceMetrics{Resource: t.resource, ScopeMetrics: []*metricspb.ScopeMetrics{{Scope: t.scope(), Metrics: all}}}
}

// tell makes a metric as OTLP has it, cumulative from one time to another.
func (d *metric) tell(name string, from, to uint64) *metricspb.Metric {
	out := &metricspb.Metric{Name: name, Unit: d.unit, Description: d.what}
	const cumulative = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	keys := slices.Sorted(maps.Keys(d.series))
	if d.bounds == nil {
		sum := &metricspb.Sum{AggregationTemporality: cumulative, IsMonotonic: true}
		for _, key := range keys {
			s := d.series[key]
			sum.DataPoints = append(sum.DataPoints, &metricspb.NumberDataPoint{Attributes: s.attributes, StartTimeUnixNano: from, TimeUnixNano: to,
				Value: &metricspb.NumberDataPoint_AsInt{AsInt: int64(s.sum)}})
		}
		out.Data = &metricspb.Metric_Sum{Sum: sum}
		return out
	}
	h := &metricspb.Histogram{AggregationTemporality: cumulative}
	for _, key := range keys {
		s := d.series[key]
		total, least, most := s.sum, s.min, s.max
		h.DataPoints = append(h.DataPoints, &metricspb.HistogramDataPoint{Attributes: s.attributes, StartTimeUnixNano: from, TimeUnixNano: to,
			Count: s.count, Sum: &total, Min: &least, Max: &most, BucketCounts: slices.Clone(s.counts), ExplicitBounds: d.bounds})
	}
	out.Data = &metricspb.Metric_Histogram{Histogram: h}
	return out
}
