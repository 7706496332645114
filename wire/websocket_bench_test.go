package wire_test

import (
	"fmt"
	"testing"

	"trace/flow"
)

// BenchmarkWebSocket: messages of the client, masked, plain and deflated.
func BenchmarkWebSocket(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10, 1 << 20} {
		plain := text(size)
		for name, answer := range map[string]string{"plain": pmd, "takeover": pmd, "alone": pmd + "; client_no_context_takeover"} {
			payload, b0 := string(plain), byte(0x82)
			if name != "plain" {
				d := deflater{Rand: randOf(2)}
				payload, b0 = string(d.message(plain)), 0xc2
			}
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				p := pass(b, answer)
				p.Secrets = false
				f := []byte(frame(flow.Client, b0, payload))
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					p.Data(flow.Client, epoch, f)
				}
				if p.last.Size != int64(size) || len(p.marks) > 0 {
					b.Fatalf("%+v %q", p.last, p.marks)
				}
			})
		}
	}
}
