package wire_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"trace/flow"
	"trace/wire"
)

func newDecoder(emit func(flow.Event)) *wire.Decoder {
	return &wire.Decoder{Conn: &flow.Conn{Decrypted: true}, Emit: emit}
}

// BenchmarkBody measures a long body in pieces of 64 KiB, hash included.
func BenchmarkBody(b *testing.B) {
	for _, coding := range []string{"identity", "chunked", "gzip", "br", "zstd"} {
		b.Run(coding, func(b *testing.B) {
			plain := bytes.Repeat(text(1<<20), 16)
			body, head := plain, "X: y"
			switch coding {
			case "identity":
			case "chunked":
				head = "Transfer-Encoding: chunked"
				var w bytes.Buffer
				for i := 0; i < len(plain); i += 16 << 10 {
					fmt.Fprintf(&w, "4000\r\n%s\r\n", plain[i:i+16<<10])
				}
				body = append(w.Bytes(), "0\r\n\r\n"...)
			default:
				body, head = encode(coding, plain), "Content-Encoding: "+coding
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				var kept int64
				d := newDecoder(func(e flow.Event) { kept += int64(len(e.Data)) })
				d.Data(flow.Client, epoch, []byte("GET / HTTP/1.1\r\n\r\n"))
				d.Data(flow.Server, epoch, []byte("HTTP/1.1 200 OK\r\n"+head+"\r\n\r\n"))
				for p := body; len(p) > 0; {
					n := min(len(p), 64<<10)
					d.Data(flow.Server, epoch, p[:n])
					p = p[n:]
				}
				d.End(flow.Server, epoch, flow.FIN)
				d.Close(epoch)
				if kept != int64(len(plain)) {
					b.Fatalf("kept %d", kept)
				}
			}
		})
	}
}

// BenchmarkExchange measures a small request with its answer on a connection
// that is kept alive.
func BenchmarkExchange(b *testing.B) {
	request := []byte("GET /v1/models?limit=10 HTTP/1.1\r\nHost: api.test\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer x\r\n\r\n")
	reply := []byte("HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"data\": [1]}")
	d := newDecoder(func(flow.Event) {})
	b.ReportAllocs()
	for b.Loop() {
		d.Data(flow.Client, epoch, request)
		d.Data(flow.Server, epoch, reply)
	}
}

// BenchmarkStreamEvents measures an event stream, a chunk an event, a push a
// chunk, plain and compressed.
func BenchmarkStreamEvents(b *testing.B) {
	event := []byte("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"word\"}}\n\n")
	b.Run("plain", func(b *testing.B) {
		benchmarkEvents(b, "X: y", func() []byte { return event })
	})
	b.Run("gzip", func(b *testing.B) {
		var w bytes.Buffer
		z := encoders["gzip"](&w)
		benchmarkEvents(b, "Content-Encoding: gzip", func() []byte {
			w.Reset()
			if _, err := z.Write(event); err != nil {
				b.Fatal(err)
			}
			if err := z.Flush(); err != nil {
				b.Fatal(err)
			}
			return w.Bytes()
		})
	})
}

func benchmarkEvents(b *testing.B, field string, next func() []byte) {
	n := 0
	d := newDecoder(func(e flow.Event) {
		if e.Kind == flow.StreamEvent {
			n++
		}
	})
	d.Data(flow.Client, epoch, []byte("GET / HTTP/1.1\r\n\r\n"))
	d.Data(flow.Server, epoch, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"+field+"\r\nTransfer-Encoding: chunked\r\n\r\n"))
	events := make([][]byte, 1000)
	for i := range events {
		p := next()
		events[i] = fmt.Appendf(nil, "%x\r\n%s\r\n", len(p), p)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i == len(events) {
			b.StopTimer() // a compressed stream cannot be repeated
			break
		}
		d.Data(flow.Server, epoch.Add(time.Duration(i)), events[i])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(min(b.N, len(events))), "ns/event")
	d.Close(epoch)
	if n != min(b.N, len(events)) {
		b.Fatalf("%d events of %d", n, b.N)
	}
}
