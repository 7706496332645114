package store

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// roundTrip returns x after its document.
func roundTrip(t testing.TB, x *flow.Exchange) *flow.Exchange {
	t.Helper()
	var y flow.Exchange
	if err := decodeDoc(new(docCoder).encode(nil, x), &y); err != nil {
		t.Fatal(err)
	}
	return &y
}

func sampleExchange() *flow.Exchange {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)
	head := &flow.Head{
		Method: "POST", Target: "/v1/messages?beta=true", Scheme: "https", Host: "api.anthropic.com", Port: 443, Path: "/v1/messages?beta=true",
		Version: "2", Authority: "api.anthropic.com:443", Stream: 1 << 40, Fields: []flow.Field{
			{Name: "content-type", Value: "application/json"}, {Name: "x-odd", Value: "\xff\x00\n"}, {Name: "", Value: "no colon"},
			{Name: "x-odd", Value: "\xff\x00\n"}, {Name: "user-agent", Value: "claude-cli/2.1.3 (external, cli)"}},
	}
	answer := &flow.Head{Status: 200, Reason: "OK", Version: "1.1", Streaming: true, Framing: flow.FramingSSE, Protocol: "websocket"}
	return &flow.Exchange{
		Request: &flow.Part{Head: head, Withheld: true, ContentType: "application/json", Body: &flow.Ended{Size: 48211, Decoded: 9, Kept: 3, Truncated: true}},
		Response: &flow.Part{Head: answer, Informational: []*flow.Head{{Status: 103, Version: "1.1"}},
			Body: &flow.Ended{Size: 1, SHA256: [32]byte{1, 2, 31: 255}, Encoding: "gzip", Cut: true, Events: 37, Trailers: []flow.Field{{Name: "grpc-status", Value: "0"}}}},
		RequestEnded: at, Responded: at.Add(-time.Second), FirstEvent: at.Add(time.Hour),
		Tally: [2]flow.Tally{{Messages: 3, Bytes: 1 << 50}, {}},
		DNS:   &flow.DNS{Name: "h.test", Type: "A", Answers: []string{"192.0.2.1"}, Took: time.Millisecond},
		Marks: []flow.Note{{At: at, Error: &flow.Error{Where: flow.AtClient, Code: "malformed", Message: "a\"b", Detail: "CANCEL"}}},
	}
}

func TestDocument(t *testing.T) {
	for name, x := range map[string]*flow.Exchange{"nothing": {}, "sample": sampleExchange(), "one part": {Response: &flow.Part{}}} {
		if y := roundTrip(t, x); !reflect.DeepEqual(x, y) {
			t.Errorf("%s: %+v became %+v", name, x, y)
		}
	}
	x := sampleExchange()
	x.Request.Body.SHA256[0] = 1 // of a withheld body
	if y := roundTrip(t, x); y.Request.Body.SHA256 != [32]byte{} {
		t.Error("the hash of a withheld body was kept")
	}
	for i, w := range docWords {
		if docIndex[w] != uint64(i) {
			t.Errorf("%q stands twice in docWords", w)
		}
	}
}

// TestDocumentRandom: heads of any fields come back, also where there are more
// strings than are remembered.
func TestDocumentRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		h := &flow.Head{Method: "GET", Fields: make([]flow.Field, 1+r.IntN(100))}
		word := func() string {
			if r.IntN(3) == 0 {
				return docWords[r.IntN(len(docWords))]
			}
			return strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(40))
		}
		for i := range h.Fields {
			h.Fields[i] = flow.Field{Name: word(), Value: word()}
		}
		x := &flow.Exchange{Request: &flow.Part{Head: h}}
		if y := roundTrip(t, x); !reflect.DeepEqual(x, y) {
			t.Fatalf("%v became %v", h.Fields, y.Request.Head.Fields)
		}
	}
}

// FuzzDocument: no document makes the reader panic or take much memory, and
// what can be read can be written.
func FuzzDocument(f *testing.F) {
	f.Add(new(docCoder).encode(nil, sampleExchange()))
	f.Add([]byte{docForm, 1, 0, 1, 0, 255, 255, 255, 255, 15})
	f.Add([]byte(`{"request":{"head":{"method":"GET"}}}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		var x flow.Exchange
		if decodeDoc(p, &x) != nil || len(p) == 0 || p[0] != docForm {
			return
		}
		if y := roundTrip(t, &x); !reflect.DeepEqual(&x, y) {
			t.Fatalf("%+v became %+v", &x, y)
		}
	})
}

func BenchmarkDocument(b *testing.B) {
	x := sampleExchange()
	x.DNS, x.Marks = nil, nil
	var p []byte
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p = new(docCoder).encode(p[:0], x)
		}
		b.ReportMetric(float64(len(p)), "bytes")
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var y flow.Exchange
			if err := decodeDoc(p, &y); err != nil {
				b.Fatal(err)
			}
		}
	})
}
