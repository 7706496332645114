package wire_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

// BenchmarkFramings measures the cutters on 16 MiB of events, pushed as they
// come from a socket and, to find what grows faster than its input, in pieces of
// 100 bytes with events of 1 MiB.
func BenchmarkFramings(b *testing.B) {
	const small = `{"model":"m","created_at":"2026-01-02T03:04:05Z","response":"word and \"word\"","done":false}`
	large := `{"text":"` + strings.Repeat("word and word \\n", 1<<16) + `"}`
	for _, kind := range []struct {
		name, path, contentType, field string
		event                          func(text string) string
	}{
		{"sse", "/", "text/event-stream", "", func(s string) string { return "data: " + s + "\n\n" }},
		{"ndjson", "/", "application/x-ndjson", "", func(s string) string { return s + "\n" }},
		{"json-array", "/m:stream", "application/json", "", func(s string) string { return s + "," }},
		{"aws-eventstream", "/", "application/vnd.amazon.eventstream", "", func(s string) string { return message(s, ":event-type", "chunk") }},
		{"multipart", "/", "multipart/mixed; boundary=boundary", "", func(s string) string { return "--boundary\r\nX: y\r\n\r\n" + s + "\r\n" }},
		{"grpc", "/", "application/grpc", "", func(s string) string { return msg(0, s) }},
		{"grpc-gzip", "/", "application/grpc", "Grpc-Encoding: gzip\r\n", func(s string) string { return msg(1, string(encode("gzip", []byte(s)))) }},
		{"grpc-web-text", "/", "application/grpc-web-text", "", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(msg(0, s))) }},
	} {
		for _, size := range []struct {
			name, text string
			push       int
		}{{"small", small, 32 << 10}, {"large", large, 100}} {
			b.Run(kind.name+"/"+size.name, func(b *testing.B) {
				event := kind.event(size.text)
				n := min(16<<20/len(event), 32<<20/len(size.text)) // or it is a bomb
				body := bytes.Repeat([]byte(event), n)
				if kind.name == "json-array" {
					body = append([]byte("["), body...)
				}
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					events := 0
					d := newDecoder(func(e flow.Event) {
						if e.Kind == flow.StreamEvent {
							events++
						}
					})
					d.Data(flow.Client, epoch, []byte("GET "+kind.path+" HTTP/1.1\r\n\r\n"))
					d.Data(flow.Server, epoch, fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n", kind.contentType, kind.field))
					for p := body; len(p) > 0; {
						m := min(len(p), size.push)
						d.Data(flow.Server, epoch, p[:m])
						p = p[m:]
					}
					d.End(flow.Server, epoch, flow.FIN)
					d.Close(epoch)
					if events != n {
						b.Fatalf("%d events of %d", events, n)
					}
				}
			})
		}
	}
}
