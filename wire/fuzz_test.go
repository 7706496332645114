package wire_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"trace/flow"
)

// marshal writes s as the fuzzer's input: per step a byte that names side and
// end, and for data its length and the data.
func (s *script) marshal() []byte {
	var b []byte
	for _, st := range s.steps {
		b = append(b, byte(st.side)|byte(st.end)<<1)
		if st.end == flow.Open {
			b = binary.AppendUvarint(b, uint64(len(st.data)))
			b = append(b, st.data...)
		}
	}
	return b
}

// unmarshal reads what the fuzzer made of it. Anything is a script.
func unmarshal(b []byte) *script {
	s := newScript()
	for len(b) > 0 {
		side, end := flow.Side(b[0]&1), flow.How(b[0]>>1)%(flow.Stopped+1)
		b = b[1:]
		if end != flow.Open {
			s.end(side, end)
			continue
		}
		size, n := binary.Uvarint(b)
		b = b[max(n, 0):]
		size = min(size, uint64(len(b)))
		s.data(side, string(b[:size]))
		b = b[size:]
	}
	return s
}

// seeds returns the scripts of testdata and some with codings.
func seeds(f *testing.F) []*script {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	var all []*script
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		s, _ := parse(f, a)
		all = append(all, s)
	}
	events := "event: a\ndata: 1\n\n: x\n\ndata: 2\r\n\r\ndata: 3\r\r"
	for coding := range encoders {
		s := answer(encode(coding, []byte(events)), "Content-Encoding: "+headerName(coding), "Content-Type: text/event-stream")
		all = append(all, s)
	}
	return all
}

// FuzzDecoder: whatever passes, the decoder does not panic, its events are in
// order and add up, and they are the same in every split.
func FuzzDecoder(f *testing.F) {
	for i, s := range seeds(f) {
		f.Add(s.marshal(), uint64(i))
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		s := unmarshal(input)
		events := s.run(whole)
		check(t, s, events)
		for _, e := range events {
			if x := e.Ended; x != nil && strings.Contains(x.Encoding, "br") && (x.Truncated || x.Cut) {
				return // how much a broken brotli stream gives depends on the split
			}
		}
		want := show(events)
		for _, cut := range []split{bytewise, random(seed)} {
			split := s.run(cut)
			if got := show(split); got != want {
				t.Fatalf("%s\ngot\n%s\nwant\n%s", s, got, want)
			}
			if got, want := rawOf(split), rawOf(events); got != want {
				t.Fatalf("%s\nraw: got\n%s\nwant\n%s", s, got, want)
			}
		}
	})
}

// String shows the steps of s.
func (s *script) String() string {
	var b strings.Builder
	for _, st := range s.steps {
		fmt.Fprintf(&b, "%s %s %q\n", st.side, st.end, st.data)
	}
	return b.String()
}

// state is what check knows of one flow.
type state struct {
	opaque  bool
	framing [2]string
	socket  bool // switched to a WebSocket
	ended   bool
	final   bool
	bodyEnd [2]bool
	data    [2][]byte
	events  [2]int64
}

// check tests the order of the events and what they add up to.
func check(t *testing.T, s *script, events []flow.Event) {
	t.Helper()
	flows := map[int64]*state{}
	var passed [2]int64
	for i, e := range events {
		fail := func(why string) {
			t.Helper()
			t.Fatalf("%s\nevent %d: %s\n%s", s, i, why, show(events))
		}
		if e.Conn != s.conn.ID {
			fail("of another connection")
		}
		x := flows[e.Flow]
		switch {
		case e.Flow == 0 && e.Kind == flow.Mark:
			continue
		case e.Kind == flow.Request || e.Kind == flow.Opaque:
			if x != nil || e.Flow != int64(len(flows))+1 {
				fail("opens the wrong flow")
			}
			x = &state{opaque: e.Kind == flow.Opaque}
			if e.Head != nil {
				x.framing[flow.Client] = e.Head.Framing
			}
			flows[e.Flow] = x
			continue
		case x == nil:
			fail("of a flow that is not open")
		case x.ended:
			fail("after the end")
		case e.Kind == flow.Mark, e.Kind == flow.Raw:
			continue
		case e.Kind != flow.End && x.opaque != (e.Kind == flow.Message) && !(x.socket && e.Kind == flow.Message):
			fail("of another kind of flow")
		}
		if x.opaque {
			x.ended = e.Kind == flow.End
			passed[e.Side] += e.Size
		} else if why := x.step(e, &passed); why != "" {
			fail(why)
		}
	}
	for id, x := range flows {
		if !x.ended {
			t.Fatalf("%s\nflow %d did not end:\n%s", s, id, show(events))
		}
	}
	var sent [2]int64
	for _, st := range s.steps {
		sent[st.side] += int64(len(st.data))
	}
	if passed[0] > sent[0] || passed[1] > sent[1] {
		t.Fatalf("%s\n%d bytes were sent, %d recorded:\n%s", s, sent, passed, show(events))
	}
}

// step takes the next event of an exchange and says what is wrong with it.
func (x *state) step(e flow.Event, passed *[2]int64) string {
	side := e.Side
	switch e.Kind {
	case flow.Informational, flow.Response:
		if x.final || x.bodyEnd[flow.Server] {
			return "a head after the final one"
		}
		x.final, x.framing[flow.Server] = e.Kind == flow.Response, e.Head.Framing
		x.socket = e.Head.Protocol == "websocket"
	case flow.Body, flow.StreamEvent:
		if x.bodyEnd[side] || side == flow.Server && !x.final {
			return "a body without its head"
		}
		if len(e.Data) == 0 {
			return "nothing"
		}
		x.data[side] = append(x.data[side], e.Data...)
		if e.Kind == flow.StreamEvent {
			x.events[side]++
			if x.framing[side] == "" || !flow.ParseEvent(x.framing[side], e.Data).Dispatched {
				return "no event"
			}
		}
	case flow.BodyEnd:
		if x.bodyEnd[side] || side == flow.Server && !x.final {
			return "a body that is not open"
		}
		x.bodyEnd[side] = true
		passed[side] += e.Ended.Size
		if int64(len(x.data[side])) != e.Ended.Kept || x.events[side] != e.Ended.Events {
			return "another size than was handed over"
		}
		if e.Ended.Encoding == "" && sha256.Sum256(x.data[side]) != e.Ended.SHA256 {
			return "another hash than of what was handed over"
		}
	case flow.Message:
		switch {
		case !x.bodyEnd[flow.Client] || !x.bodyEnd[flow.Server]:
			return "a message before the heads' bodies ended"
		case e.Opcode == 0 || int64(len(e.Data)) > e.Size:
			return "no whole message"
		case e.HasSum && int64(len(e.Data)) == e.Size && sha256.Sum256(e.Data) != e.SHA256:
			return "another hash than of the message"
		}
		if !e.Compressed {
			passed[side] += e.Size
		}
	case flow.End:
		if !x.bodyEnd[flow.Client] || x.final != x.bodyEnd[flow.Server] {
			return "an end before its bodies'"
		}
		if !x.final && e.Error == nil {
			return "complete without an answer"
		}
		x.ended = true
	default:
		return "unknown"
	}
	return ""
}

// FuzzStream: the events and pieces of an event stream are the stream, each
// event is one and no piece between holds one, in any split.
func FuzzStream(f *testing.F) {
	f.Add("data: a\n\ndata: b\r\n\r\ndata\r\r: c\n\n\n", uint64(1))
	f.Add("\ufeffdata\r\n\r\r\n\n\r\rdata:\n\r\ndata", uint64(2))
	f.Fuzz(func(t *testing.T, stream string, seed uint64) {
		s := answer([]byte(stream), "Content-Type: text/event-stream")
		events := s.run(whole)
		check(t, s, events)
		body, _, _ := decoded(events, flow.Server)
		if string(body) != stream {
			t.Fatalf("%q became %q", stream, body)
		}
		want := show(events)
		for _, cut := range []split{bytewise, random(seed)} {
			if got := show(s.run(cut)); got != want {
				t.Fatalf("%q: got\n%s\nwant\n%s", stream, got, want)
			}
		}
		var got []string
		for _, e := range events {
			if e.Kind == flow.StreamEvent {
				x := flow.ParseEvent(flow.FramingSSE, e.Data)
				got = append(got, x.Event+"|"+x.Data)
			}
		}
		if reference := dispatch(stream); strings.Join(got, "\x00") != strings.Join(reference, "\x00") {
			t.Fatalf("%q: got %q, want %q", stream, got, reference)
		}
	})
}

// dispatch reads an event stream as the HTML standard says, line by line.
func dispatch(stream string) (events []string) {
	stream = strings.TrimPrefix(stream, "\ufeff")
	stream = strings.ReplaceAll(stream, "\r\n", "\n")
	lines := strings.Split(strings.ReplaceAll(stream, "\r", "\n"), "\n")
	var event string
	var data []string
	for _, line := range lines[:len(lines)-1] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if data != nil {
				events = append(events, event+"|"+strings.Join(data, "\n"))
			}
			event, data = "", nil
		case name == "event":
			event = value
		case name == "data":
			data = append(data, value)
		}
	}
	return events
}
