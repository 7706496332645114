package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"trace/store"
)

// BenchmarkSearch looks through a conversation of 300 turns with a language
// model, of which each is sent with all before it: 1 GB in all.
func BenchmarkSearch(b *testing.B) {
	b.Setenv("XDG_STATE_HOME", b.TempDir())
	r := recordBench(b)
	rnd := rand.New(rand.NewPCG(1, 1))
	words := func(n int) string {
		var t bytes.Buffer
		for t.Len() < n {
			fmt.Fprintf(&t, "%s%d ", []string{"func", "return", "the answer", "if err != nil", "value", "\"quoted\"\n\t"}[rnd.IntN(6)], rnd.IntN(5000))
		}
		return t.String()
	}
	messages := []map[string]string{{"role": "user", "content": words(2 << 20)}}
	size := 0
	for turn := range 300 {
		messages = append(messages, map[string]string{"role": "user", "content": words(5 << 10)})
		body, _ := json.Marshal(map[string]any{"model": "claude-x", "max_tokens": 9, "stream": true, "messages": messages})
		size += len(body)
		answer := []string{"The ans", "wer of tu", fmt.Sprintf("rn %d is ", turn), words(2 << 10)}
		r.turn(string(body), answer...)
		messages = append(messages, map[string]string{"role": "assistant", "content": fmt.Sprint(answer)})
	}
	r.flush()
	for name, o := range map[string]searchOptions{"answer": {most: 5}, "rare": {most: 5}, "case": {most: 5, ignoreCase: true}, "frequent": {most: 5}, "regexp": {most: 5, regexp: true}} {
		text := map[string]string{"answer": "answer of turn 299", "rare": "nowhere to be found", "case": "NOWHERE to be found", "frequent": "value1", "regexp": `value12\d\d \w+`}[name]
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			for range b.N {
				o := o
				if err := o.run(context.Background(), text, &terminal{Writer: io.Discard}, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// recordBench is record for benchmarks.
func recordBench(b *testing.B) *script {
	r := recordWith(&testing.T{}, "bench", store.Options{})
	b.Cleanup(func() { r.s.Finish(0, r.at) })
	return r
}
