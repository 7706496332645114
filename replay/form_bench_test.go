package replay

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// conversation is the body of a call of an agent's, of about n bytes.
func conversation(n int) []byte {
	var messages []any
	for i := 0; n > 0; i++ {
		text := strings.Repeat(fmt.Sprintf("Line %d of a file, with words such as task-list and 12:30:%02d in it.\n", i, i%60), 20)
		messages = append(messages, map[string]any{"role": "user", "content": []any{map[string]any{"type": "tool_result", "tool_use_id": fmt.Sprintf("toolu_%012d", i), "content": text}}})
		n -= len(text)
	}
	p, _ := json.Marshal(map[string]any{"model": "m", "messages": messages})
	return p
}

func BenchmarkBodyLeaves(b *testing.B) {
	p := conversation(1 << 20)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		formOf(bodyLeaves("application/json", p))
	}
}
