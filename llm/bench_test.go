package llm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

// BenchmarkRead reads a request of 300 messages, 1 MB.
func BenchmarkRead(b *testing.B) {
	k := newTalk("s", "Fix the bug")
	for i := range 150 {
		id := fmt.Sprint("toolu_", i)
		k.turn(result(id, strings.Repeat("line of a \"file\"\n\tmore of it\n", 200)), said("I look."), use(id, "Bash", fields{"command": strings.Repeat("cat x ", 10)}))
	}
	body, err := json.Marshal(fields{"model": k.model, "max_tokens": 99, "system": k.system, "messages": k.messages, "tools": k.tools})
	if err != nil {
		b.Fatal(err)
	}
	d := &flow.Detail{Exchange: flow.Exchange{State: flow.StateComplete, Started: began}, RequestBody: body}
	d.Request = &flow.Part{Head: &flow.Head{Method: "POST", Host: "api.anthropic.com", Path: "/v1/messages"}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if c := Read(d); len(c) != 1 || len(c[0].Messages) != 301 {
			b.Fatal("not read")
		}
	}
}

// BenchmarkThreads joins calls of 300 messages to the conversation.
func BenchmarkThreads(b *testing.B) {
	calls := longTalk(100, 300)
	for b.Loop() {
		var t Threads
		for i, c := range calls {
			t.Add(Turn{Ref: Ref{Flow: int64(i + 1)}, Call: c})
		}
	}
}

// BenchmarkCompare compares two turns of 300 messages.
func BenchmarkCompare(b *testing.B) {
	calls := longTalk(2, 300)
	for b.Loop() {
		Compare(calls[0], calls[1])
	}
}
