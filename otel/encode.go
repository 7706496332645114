package otel

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// marshal writes a message as OTLP wants it in a body.
func marshal(m proto.Message, asJSON bool) ([]byte, error) {
	if !asJSON {
		return proto.Marshal(m)
	}
	if d, ok := m.(*tracepb.TracesData); ok {
		m = hexIDs(d)
	}
	b, err := protojson.MarshalOptions{UseEnumNumbers: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer // protojson puts spaces in at random, so that nobody relies on its form
	err = json.Compact(&out, b)
	return out.Bytes(), err
}

// hexIDs returns d with identifiers that protojson, which writes bytes as base64,
// writes as the hex digits that OTLP wants there: those digits are base64, too,
// of other bytes.
func hexIDs(d *tracepb.TracesData) *tracepb.TracesData {
	d = proto.CloneOf(d)
	for _, r := range d.ResourceSpans {
		for _, s := range r.ScopeSpans {
			for _, span := range s.Spans {
				span.TraceId, span.SpanId, span.ParentSpanId = asBase64(span.TraceId), asBase64(span.SpanId), asBase64(span.ParentSpanId)
				for _, l := range span.Links {
					l.TraceId, l.SpanId = asBase64(l.TraceId), asBase64(l.SpanId)
				}
			}
		}
	}
	return d
}

func asBase64(id []byte) []byte {
	b, _ := base64.StdEncoding.DecodeString(hex.EncodeToString(id)) // 16 and 32 digits: whole groups
	return b
}

// data puts spans of one session into the message that carries them.
func data(res *resourcepb.Resource, spans []*tracepb.Span) *tracepb.ResourceSpans {
	return &tracepb.ResourceSpans{Resource: res, ScopeSpans: []*tracepb.ScopeSpans{{Scope: scopeIn(res), Spans: spans}}}
}

// scopeIn is the scope of the spans of a resource.
func scopeIn(res *resourcepb.Resource) *commonpb.InstrumentationScope {
	for _, kv := range res.GetAttributes() {
		if kv.Key == "telemetry.sdk.version" {
			return scopeOf(kv.Value.GetStringValue())
		}
	}
	return scopeOf("")
}

// SpansJSON writes spans of one session as OTLP/JSON, as they stand in the list
// "spans" of a document: separated by commas.
func SpansJSON(spans []*tracepb.Span) ([]byte, error) {
	whole, err := marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{data(nil, spans)}}, true)
	if err != nil {
		return nil, err
	}
	var doc struct {
		ResourceSpans []struct {
			ScopeSpans []struct{ Spans []json.RawMessage }
		}
	}
	if err := json.Unmarshal(whole, &doc); err != nil || len(doc.ResourceSpans) != 1 || len(doc.ResourceSpans[0].ScopeSpans) != 1 {
		return nil, fmt.Errorf("encode spans: %w", err)
	}
	var out []byte
	for i, s := range doc.ResourceSpans[0].ScopeSpans[0].Spans {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, s...)
	}
	return out, nil
}

// ResourceJSON writes a resource and the scope of its spans as OTLP/JSON.
func ResourceJSON(res *resourcepb.Resource) (resource, scope []byte, err error) {
	if resource, err = marshal(res, true); err == nil {
		scope, err = marshal(scopeIn(res), true)
	}
	return resource, scope, err
}
