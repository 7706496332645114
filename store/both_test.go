package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"trace/flow"
	"trace/redact"
)

// call makes a request with events on both sides.
func (c *script) call(framing string) {
	c.flow++
	c.put(flow.Event{Kind: flow.Request, Head: &flow.Head{Method: "POST", Target: "/s/m", Path: "/s/m", Host: "api.example.org", Version: "2", Stream: 1,
		Framing: framing, Streaming: true, Fields: []flow.Field{{Name: "content-type", Value: "application/grpc"}}}})
	c.put(flow.Event{Kind: flow.Response, Side: flow.Server, Head: &flow.Head{Status: 200, Version: "2", Stream: 1, Framing: framing, Streaming: true,
		Fields: []flow.Field{{Name: "content-type", Value: "application/grpc"}}}})
}

// grpcText is a message of gRPC with one text.
func grpcText(s string) []byte {
	p := append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(s))), s...)
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(p))), p...)
}

func (c *script) eventOf(side flow.Side, p []byte) {
	c.put(flow.Event{Kind: flow.StreamEvent, Side: side, Data: p})
}

// TestEventsOfBothSides: they come back in the order in which they came, and
// the bodies byte for byte, live and after.
func TestEventsOfBothSides(t *testing.T) {
	for _, o := range []Options{{}, {Redact: redact.New([32]byte{1})}} {
		s, path := create(t, o)
		r := open(t, path)
		told := newAccount(t, "follower")
		done := make(chan error, 1)
		go func() { done <- r.Follow(t.Context(), true, told.change) }()
		c := &script{s: s, conn: 1}
		c.open()
		c.call(flow.FramingGRPC)
		var bodies [2]bytes.Buffer
		var sides []flow.Side
		const n = 3 * maxLive
		check := func(when string) {
			t.Helper()
			ps, err := r.Events(1)
			if err != nil || len(ps) != len(sides) {
				t.Fatalf("%s: %d events of %d, %v", when, len(ps), len(sides), err)
			}
			for i, p := range ps {
				if p.Index != i || p.Side != sides[i] || !bytes.Equal(p.Data, grpcText(fmt.Sprint("event ", i))) || i > 0 && p.At.Before(ps[i-1].At) {
					t.Fatalf("%s: event %d: %+v", when, i, p)
				}
			}
			for side := range bodies {
				if b, err := r.Body(1, flow.Side(side)); err != nil || !bytes.Equal(b, bodies[side].Bytes()) {
					t.Fatalf("%s: body of side %d: %d bytes, want %d, %v", when, side, len(b), bodies[side].Len(), err)
				}
			}
		}
		for i := range n {
			side := flow.Side(i / 3 % 2) // in turn, and by threes
			if i > n/2 {
				side = flow.Server // then one side alone
			}
			p := grpcText(fmt.Sprint("event ", i))
			c.eventOf(side, p)
			bodies[side].Write(p)
			sides = append(sides, side)
			if i == 100 {
				flush(t, s)
				check("live")
			}
			if i%1000 == 999 { // no event by itself
				c.put(flow.Event{Kind: flow.Body, Side: side, Data: []byte("trailer")})
				bodies[side].WriteString("trailer")
			}
		}
		flush(t, s)
		if _, err := r.Body(1, flow.Client); err != nil {
			t.Fatal(err)
		}
		c.ended(flow.Client, bodies[0].Bytes(), 0)
		c.ended(flow.Server, bodies[1].Bytes(), 0)
		check("before the end")
		c.end(nil)
		c.close(nil)
		finish(t, s)
		check("after")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		told.compare(r)
		d, err := r.Detail(1)
		if err != nil || len(d.Events) != n || d.Kind != flow.KindHTTP || d.Request.Withheld || d.Response.Withheld || d.Request.Body == nil {
			t.Errorf("%d events, %+v, %v", len(d.Events), d.Exchange, err)
		}
		if order := told.order[1]; len(order) < n || order[0] != 0 {
			t.Errorf("%d told", len(order))
		}
	}
}

// TestFirstEventIsOfTheAnswer: the time to it is what the child waited for.
func TestFirstEventIsOfTheAnswer(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	c.call(flow.FramingGRPC)
	c.eventOf(flow.Client, grpcText("a"))
	when := c.now + 5
	c.now = when
	c.eventOf(flow.Server, grpcText("b"))
	c.end(nil)
	finish(t, s)
	if x, err := open(t, path).Flow(1); err != nil || !x.FirstEvent.Equal(at(when)) {
		t.Errorf("%v, %v", x.FirstEvent, err)
	}
}

// TestSecretsInEvents: split over events of each framing and both sides.
func TestSecretsInEvents(t *testing.T) {
	key, _, _ := planted()
	wrap := map[string]func(string) []byte{
		flow.FramingGRPC:   grpcText,
		flow.FramingNDJSON: func(s string) []byte { return fmt.Appendf(nil, "{\"response\":%q}\n", s) },
		flow.FramingJSONArray: func(s string) []byte {
			return fmt.Appendf(nil, `{"candidates":[{"content":{"parts":[{"text":%q}]}}]}`, s)
		},
		flow.FramingSSE: func(s string) []byte {
			return fmt.Appendf(nil, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", s)
		},
		flow.FramingMultipart: func(s string) []byte {
			return fmt.Appendf(nil, "--b\r\nContent-Type: application/json\r\n\r\n{\"delta\":{\"text\":%q}}\r\n", s)
		},
	}
	for framing, event := range wrap {
		s, path := create(t, Options{Redact: redact.New([32]byte{1})})
		c := &script{s: s, conn: 1}
		c.open()
		c.call(framing)
		for _, side := range []flow.Side{flow.Client, flow.Server} {
			c.put(flow.Event{Kind: flow.Body, Side: side, Data: []byte("[")})
			c.eventOf(side, event("the key is "+key[:6]))
			for i := 6; i < len(key)-3; i += 7 {
				c.put(flow.Event{Kind: flow.Body, Side: side, Data: []byte(",")})
				c.eventOf(side, event(key[i:min(i+7, len(key)-3)]))
			}
			last := event(key[len(key)-3:] + " and that is all")
			c.put(flow.Event{Kind: flow.Body, Side: side, Data: last[:len(last)-4]}) // the stream was cut
			c.ended(side, nil, 0)
		}
		c.end(nil)
		finish(t, s)
		r := open(t, path)
		for _, side := range []flow.Side{flow.Client, flow.Server} {
			b, err := r.Body(1, side)
			if n := strings.Count(string(b), "[REDACTED:"); err != nil || n != 1 && n != 2 {
				t.Errorf("%s: %q, %v", framing, b, err)
			}
			for i := 20; i+7 <= len(key)-3; i++ {
				if bytes.Contains(b, []byte(key[i:i+7])) {
					t.Errorf("%s: %q is there: %q", framing, key[i:i+7], b)
					break
				}
			}
		}
		x, err := r.Flow(1)
		if err != nil || !x.Request.Withheld || !x.Response.Withheld || x.Redacted < 2 {
			t.Errorf("%s: %+v %+v, %v", framing, x.Request, x.Response, err)
		}
		ps, err := r.Events(1)
		if err != nil || slices.ContainsFunc(ps, func(p flow.Piece) bool { return p.Partial }) {
			t.Errorf("%s: %v, %v", framing, ps, err)
		}
	}
}

// TestLongBetween: an event that was too long to be one comes as pieces of the
// body, in which a secret may be cut.
func TestLongBetween(t *testing.T) {
	key, _, _ := planted()
	s, path := create(t, Options{Redact: redact.New([32]byte{1})})
	c := &script{s: s, conn: 1}
	c.open()
	c.call(flow.FramingSSE)
	c.eventOf(flow.Server, []byte("data: 1\n\n"))
	text := "data: " + strings.Repeat("words and words ", 3*maxBetween/16) + key + strings.Repeat(" more words", 2*maxBetween/11) + "\n\n"
	for rest := text; rest != ""; {
		n := min(1000, len(rest))
		c.put(flow.Event{Kind: flow.Body, Side: flow.Server, Data: []byte(rest[:n])})
		rest = rest[n:]
	}
	c.eventOf(flow.Server, []byte("data: 2\n\n"))
	c.put(flow.Event{Kind: flow.Body, Side: flow.Server, Data: []byte(": the end\n\n")})
	c.end(nil)
	finish(t, s)
	r := open(t, path)
	want := "data: 1\n\n" + strings.Replace(text, key, "[REDACTED:anthropic]", 1) + "data: 2\n\n: the end\n\n"
	if b, err := r.Body(1, flow.Server); err != nil || string(b) != want {
		t.Errorf("%d bytes, want %d, %v", len(b), len(want), err)
	}
	if ps, err := r.Events(1); err != nil || len(ps) != 2 {
		t.Errorf("%v, %v", ps, err)
	}
}
