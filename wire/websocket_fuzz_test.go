package wire_test

import (
	"fmt"
	"testing"

	"trace/flow"
)

// answers are the agreements that FuzzWebSocket tries.
var answers = []string{
	"", pmd, pmd + "; client_no_context_takeover", pmd + "; server_no_context_takeover; server_max_window_bits=9",
	"other", pmd + ", other", pmd + "; bad=\"",
}

// FuzzWebSocket: whatever frames pass, the decoder does not panic, its events
// add up, and they and the wire form are the same in every split.
func FuzzWebSocket(f *testing.F) {
	const hello, again, final = "\xf2\x48\xcd\xc9\xc9\x07\x00", "\xf2\x00\x11\x00\x00", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"
	seed := func(answer byte, build func(s *script)) {
		s := newScript()
		build(s)
		f.Add(s.marshal(), answer, uint64(answer))
	}
	for answer := range byte(len(answers)) {
		seed(answer, func(s *script) {
			for _, side := range []flow.Side{flow.Client, flow.Server} {
				s.frame(side, 0xc1, hello)
				s.frame(side, 0x41, again[:2])
				s.frame(side, 0x89, "ping")
				s.frame(side, 0x80, again[2:])
				s.frame(side, 0xc2, final)
				s.frame(side, 0x81, "\u20ac")
			}
			s.closing()
		})
		seed(answer, func(s *script) {
			s.client("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x81\x02hi")
			s.server("\x81\x7e\x00\x02hi\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01a\xc1\x00\xc1\x01\x00\xf3\x01a\x00\x01b\x09\x01c\x01\x02\xe2\x82")
			s.server("\x80\x01\xac\x88\x02\x03\xed\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00abc")
			s.end(flow.Client, flow.Reset)
		})
	}
	f.Fuzz(func(t *testing.T, input []byte, answer byte, seed uint64) {
		s := socket(pmd, answers[int(answer)%len(answers)])
		for _, st := range unmarshal(input).steps {
			st.at += s.steps[1].at
			s.steps = append(s.steps, st)
		}
		events := s.run(whole)
		check(t, s, events)
		want, raw := show(events), rawOf(events)
		for _, cut := range []split{bytewise, random(seed)} {
			split := s.run(cut)
			if got := show(split); got != want {
				t.Fatalf("%s\ngot\n%s\nwant\n%s", s, got, want)
			}
			if got := rawOf(split); got != raw {
				t.Fatalf("%s\nraw: got\n%s\nwant\n%s", s, got, raw)
			}
		}
		var sent, kept [2]string
		for _, st := range s.steps {
			sent[st.side] += string(st.data)
		}
		for _, e := range events {
			if e.Kind == flow.Raw {
				kept[e.Side] += string(e.Data)
			}
		}
		for _, side := range []flow.Side{flow.Client, flow.Server} {
			if n := len(kept[side]); sent[side][:n] != kept[side] {
				t.Fatalf("%s: raw of %s is %s", s, side, fmt.Sprintf("%q", kept[side]))
			}
		}
	})
}
