package redact

import (
	"bytes"
	"encoding/binary"
	"testing"

	"trace/flow"
)

// framings are all that EventsOf knows, with "" for messages.
var framings = []string{"", flow.FramingSSE, flow.FramingNDJSON, flow.FramingJSONArray, flow.FramingEventStream, flow.FramingGRPC, flow.FramingMultipart}

// FuzzFramings feeds events that need not be what their framing demands, and
// events that are, with any text in them.
func FuzzFramings(f *testing.F) {
	for _, s := range seeds() {
		b := []byte(s)
		f.Add(b[:len(b)/2], b[len(b)/2:], uint8(0))
		f.Add(b, b, uint8(1))
	}
	for _, c := range carriers {
		f.Add(c.wrap("It is sk-"), c.wrap("ant-api03-"+chars(b62, 93)), uint8(3))
		raw := c.wrap(quoteJSON("gh" + "p_" + chars(b62, 36)))
		f.Add(raw[:len(raw)/2], raw[len(raw)/2:], uint8(2))
	}
	f.Add(amazonEvent("chunk", []byte(`{"bytes":"e30="}`)), []byte("\x00\x00\x00\x10\x00\x00\x00\x00abcdefgh"), uint8(0))
	f.Add(frameMessage(0, protoField(1, protoField(1, protoField(1, []byte("\x0b\x0c"))))), []byte("\x0b\x0b\x0c\x0c"), uint8(0))
	f.Fuzz(func(t *testing.T, a, b []byte, settle uint8) {
		for _, name := range framings {
			events := [][]byte{a, b, frameMessage(0, a), frameEvent(a, b), frameMessage(0, protoField(1, b)), append([]byte("--b\r\n\r\n"), a...)}
			checkEvents(t, name, settle, events, nil)
		}
		for _, c := range carriers {
			if c.framing != "" || len(a) > 0 {
				checkEvents(t, c.framing, settle, [][]byte{c.wrap(string(a)), c.wrap(string(b)), c.wrap(string(a))}, c.unwrap)
			}
		}
	})
}

// checkEvents makes sure that each event comes back, whole in the end, and
// that what says to be unchanged is.
func checkEvents(t *testing.T, name string, settle uint8, events [][]byte, unwrap func(t *testing.T, raw []byte) string) {
	r := New(testKey)
	e := r.Messages()
	if name != "" {
		e = r.EventsOf(name, "")
	}
	got, partial := make([][]byte, len(events)), make([]bool, len(events))
	changed := make([]bool, len(events))
	take := func(outs []Out) {
		for _, o := range outs {
			if got[o.Index] != nil && !partial[o.Index] {
				t.Fatalf("%s: event %d came again though it was whole", name, o.Index)
			}
			got[o.Index], partial[o.Index] = append([]byte{}, o.Raw...), o.Partial
			changed[o.Index] = changed[o.Index] || o.Changed
		}
	}
	for i, raw := range events {
		mine := bytes.Clone(raw)
		take(e.Event(mine))
		clear(mine)
		if settle>>i&1 != 0 {
			take(e.Settle())
		}
	}
	take(e.Close())
	for i, raw := range events {
		if got[i] == nil || partial[i] || !changed[i] && !bytes.Equal(got[i], raw) {
			t.Fatalf("%s: event %d of %q: %q, partial %v, changed %v", name, i, events, got[i], partial[i], changed[i])
		}
		if unwrap != nil {
			unwrap(t, got[i])
		}
	}
	if r.Failures() != 0 {
		t.Fatalf("%s: the gate failed on %q", name, events)
	}
}

// TestFramingsFailClosed: what stands for an event that could not be judged is
// what its framing demands, and the stream goes on.
func TestFramingsFailClosed(t *testing.T) {
	for _, c := range carriers {
		r := New(testKey)
		g := binary.LittleEndian.Uint32([]byte("it i")) // an index out of range
		r.known.forms, r.known.grams = []form{{}}, map[uint32][]gram{g: {{5, 0}}}
		r.known.bits[hash4(g)>>6] = ^uint64(0)
		e := c.events(r)
		outs := e.Event(c.wrap("it is a secret"))
		if len(outs) != 1 || outs[0].N != 1 || !outs[0].Changed || outs[0].Partial || !bytes.Contains(outs[0].Raw, []byte(Withheld)) || r.Failures() != 1 {
			t.Errorf("%s: %+v", c.name, outs)
			continue
		}
		switch c.framing {
		case flow.FramingEventStream:
			amazonPayload(t, outs[0].Raw)
		case flow.FramingGRPC:
			grpcPayload(t, outs[0].Raw)
		case flow.FramingMultipart:
		default:
			if !valid(string(outs[0].Raw)) {
				t.Errorf("%s: %q", c.name, outs[0].Raw)
			}
		}
		r.known = known{}
		raw := c.wrap("and on")
		if outs = e.Event(raw); len(outs) != 1 || outs[0].Index != 1 || !bytes.Equal(outs[0].Raw, raw) {
			t.Errorf("%s: the stream does not go on: %+v", c.name, outs)
		}
	}
}
