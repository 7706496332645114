package llm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What nobody sends on purpose costs no more than what is sent.
func TestHostileSizes(t *testing.T) {
	const n = 20_000
	nested := strings.Repeat(`{"type":"tool_result","tool_use_id":"t","content":[`, 4900) + strings.Repeat(`]}`, 4900)
	many := func(element string) string { return strings.TrimSuffix(strings.Repeat(element+",", n), ",") }
	var fields, events strings.Builder
	for i := range n {
		fmt.Fprintf(&fields, `"f%d":%d,`, i, i)
		fmt.Fprintf(&events, "data: {\"type\":\"content_block_start\",\"index\":%d,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n", i)
	}
	head := `{"model":"m","max_tokens":1,`
	for name, c := range map[string][2]string{
		"nested":    {head + `"messages":[{"role":"user","content":[` + nested + `]}]}`, `{}`},
		"messages":  {head + `"messages":[` + many(`{"role":"user","content":"x"}`) + `]}`, `{}`},
		"fields":    {head + fields.String() + `"messages":[]}`, `{` + fields.String() + `"content":[]}`},
		"tools":     {head + `"tools":[` + many(`{"name":"x"}`) + `],"messages":[]}`, `{}`},
		"events":    {head + `"messages":[]}`, events.String()},
		"one delta": {head + `"messages":[]}`, strings.Repeat("data: {\"type\":\"message_delta\",\"delta\":{"+strings.TrimSuffix(fields.String(), ",")[:1000]+"},\"usage\":{}}\n\n", 1000)},
		"brackets":  {head + `"messages":[{"role":"user","content":` + strings.Repeat("[", 1<<20), `[` + strings.Repeat(`{"a":`, 1<<18)},
		"quotes":    {head + `"messages":[{"role":"user","content":"` + strings.Repeat(`\\\"`, 1<<20) + `"}]}`, strings.Repeat(`"\`, 1<<18)},
		"lines":     {head + `"messages":[{"role":"user","content":"` + strings.Repeat(`a b c\n`, n) + `"}]}`, `{}`},
	} {
		began := processorTime(t)
		d := exchange("api.anthropic.com", "/v1/messages", c[0], c[1])
		calls := Read(d)
		var th Threads
		for i, c := range calls {
			th.Add(Turn{Ref: Ref{Flow: int64(i) + 1}, Call: c})
		}
		if len(calls) > 0 {
			other := Read(exchange("api.anthropic.com", "/v1/messages", strings.NewReplacer("x", "y", "f1", "g1", "a b", "c d").Replace(c[0]), `{}`))
			Compare(calls[0], other[0])
			Compare(calls[0], &Call{API: Messages})
		}
		if took := processorTime(t) - began; took > 3*time.Second {
			t.Errorf("%s: %v", name, took)
		} else {
			t.Log(name, took)
		}
	}
}
