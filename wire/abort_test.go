package wire_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"trace/flow"
)

// coded returns a random message body with the fields that frame and code it.
func (w writer) coded() (fields, framed string) {
	p := text(w.size())
	if w.IntN(3) > 0 {
		coding := w.pick("gzip", "deflate", "raw", "zstd")
		p, fields = encode(coding, p), "Content-Encoding: "+headerName(coding)+"\r\n"
	}
	more, framed := w.content(string(p))
	return fields + more, framed
}

// TestAborted ends connections at random bytes in every way: what was opened
// ends, sizes and hashes are of what passed, and no split changes that.
func TestAborted(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(200) {
		w := writer{rand.New(rand.NewPCG(seed, 9))}
		s := newScript()
		for range 1 + w.IntN(3) { // a batch of pipelined requests, then their answers
			batch := 1 + w.IntN(3)
			for range batch {
				fields, body := w.coded()
				s.client("POST /x HTTP/1.1\r\nHost: h.test\r\n" + fields + "\r\n" + body)
			}
			for range batch {
				fields, body := w.coded()
				s.server(w.pick("", "HTTP/1.1 100 Continue\r\n\r\n") + "HTTP/1.1 200 OK\r\n" + fields + "\r\n" + body)
			}
		}
		// Cut the script at a random step, amid its data.
		n := w.IntN(len(s.steps))
		s.steps = s.steps[:n+1]
		last := &s.steps[n]
		last.data = last.data[:w.IntN(len(last.data)+1)]
		first := flow.Side(w.IntN(2))
		s.end(first, flow.CloseNotify+flow.How(w.IntN(5)))
		if w.IntN(4) > 0 {
			s.end(first.Other(), flow.CloseNotify+flow.How(w.IntN(5)))
		}
		events := s.run(whole)
		check(t, s, events)
		want := show(events)
		for i := range uint64(3) {
			if got := show(s.run(random(seed + i))); got != want {
				t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
			}
		}
		for _, e := range events {
			if e.Kind == flow.End && e.Error != nil {
				seen[fmt.Sprint(e.Error.Where, " ", e.Error.Code)]++
			}
		}
	}
	for _, want := range strings.Split("client reset,client truncated,upstream reset,upstream truncated,capture truncated", ",") {
		if seen[want] == 0 {
			t.Errorf("no flow ended by %s: %v", want, seen)
		}
	}
}
