package wire_test

import (
	"testing"

	"golang.org/x/net/http2"

	"trace/flow"
)

// BenchmarkHTTP2Body measures a long body in frames of 16 KiB, pushed in pieces
// of 64 KiB, hash included.
func BenchmarkHTTP2Body(b *testing.B) {
	h := newH2()
	h.client(get(1, "/"))
	h.server(head(1, ":status: 200"))
	piece := string(text(16 << 10))
	answer := idleH2()
	answer.server(head(1, ":status: 200"))
	answer.steps = nil
	var frames []h2frame
	for range 1023 {
		frames = append(frames, data(1, piece))
	}
	answer.server(append(frames, lastData(1, piece))...)
	body := answer.steps[0].data
	b.SetBytes(16 << 20)
	b.ReportAllocs()
	for b.Loop() {
		var kept int64
		d := newDecoder(func(e flow.Event) { kept += int64(len(e.Data)) })
		d.Conn.Protocol = "http2"
		for _, st := range h.steps {
			d.Data(st.side, epoch, st.data)
		}
		for p := body; len(p) > 0; {
			n := min(len(p), 64<<10)
			d.Data(flow.Server, epoch, p[:n])
			p = p[n:]
		}
		d.Close(epoch)
		if kept != 16<<20 {
			b.Fatalf("kept %d", kept)
		}
	}
}

// BenchmarkHTTP2Exchange measures a small request with its answer, as
// BenchmarkExchange does for HTTP/1.
func BenchmarkHTTP2Exchange(b *testing.B) {
	h := newH2()
	request := []string{":method: GET", ":scheme: https", ":authority: api.test", ":path: /v1/models?limit=10", "user-agent: bench", "accept: */*", "authorization: Bearer x"}
	reply := []string{":status: 200", "date: Thu, 01 Jan 1970 00:00:00 GMT", "content-type: application/json", "content-length: 13"}
	for range 2 { // then all of it stands in the tables
		h.client(last(1, request...))
		h.server(head(1, reply...))
	}
	steps := h.steps[:len(h.steps)-2]
	sent, got := h.steps[len(h.steps)-2].data, h.steps[len(h.steps)-1].data
	h.steps = nil
	h.server(lastData(1, "{\"data\": [1]}"))
	got = append(got, h.steps[0].data...)
	d := newDecoder(func(flow.Event) {})
	d.Conn.Protocol = "http2"
	for _, st := range steps {
		d.Data(st.side, epoch, st.data)
	}
	stream := uint32(1)
	number := func(p []byte) {
		for len(p) > 0 {
			size := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
			copy(p[5:], rawHeader(0, http2.FrameData, 0, stream)[5:])
			p = p[9+size:]
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		stream += 2
		number(sent)
		number(got)
		d.Data(flow.Client, epoch, sent)
		d.Data(flow.Server, epoch, got)
	}
}
