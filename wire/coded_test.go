package wire_test

import (
	"testing"
	"time"

	"trace/flow"
	"trace/wire"
)

// TestCoded: bytes that hide their text from redaction (HPACK, masked frames)
// are counted, not handed over, unless the record may hold secrets.
func TestCoded(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + "frames with a coded key"
	for _, secrets := range []bool{false, true} {
		var kept, size int64
		d := &wire.Decoder{Conn: &flow.Conn{Decrypted: true, Protocol: "http2"}, Secrets: secrets, Emit: func(e flow.Event) {
			if e.Kind == flow.Message {
				kept += int64(len(e.Data))
				size += e.Size
			}
		}}
		at := time.Unix(1, 0)
		d.Data(flow.Client, at, []byte(preface))
		d.End(flow.Client, at, flow.FIN)
		d.End(flow.Server, at, flow.FIN)
		d.Close(at)
		want := int64(0)
		if secrets {
			want = int64(len(preface))
		}
		if kept != want || size != int64(len(preface)) {
			t.Errorf("secrets %v: %d bytes of %d handed over, want %d of %d", secrets, kept, size, want, len(preface))
		}
	}
}
