package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"trace/flow"
)

// crowd opens n streams whose answers have the field.
func (h *hostile) crowd(n uint32, field string) {
	block := smallBlock()
	name, value, _ := strings.Cut(field, ": ")
	answer := append([]byte{0x88, 0, byte(len(name))}, name...)
	answer = append(append(answer, byte(len(value))), value...)
	for i := range n {
		h.client(append(rawHeader(len(block), http2.FrameHeaders, 5, 2*i+1), block...))
		h.server(append(rawHeader(len(answer), http2.FrameHeaders, 4, 2*i+1), answer...))
	}
}

// TestCrowdOfEvents: the events that many streams leave incomplete are bounded
// together, and what was not held is part of its body.
func TestCrowdOfEvents(t *testing.T) {
	for _, field := range []string{"content-type: text/event-stream", "content-type: application/grpc"} {
		h := newHostile(t)
		h.crowd(100, field)
		piece := bytes.Repeat([]byte("\x00 data"), 64<<10/6)
		var start []byte
		if strings.HasSuffix(field, "grpc") {
			start = []byte("\x00\x00\xf0\x00\x00")
		}
		for i := range uint32(100) {
			h.server(append(rawHeader(len(start), http2.FrameData, 0, 2*i+1), start...))
			for range 16 { // a megabyte
				h.server(append(rawHeader(len(piece), http2.FrameData, 0, 2*i+1), piece...))
			}
		}
		if n := h.marks["an event of the stream is too long: it is kept as part of the body"] + h.marks["a message of the stream is too long: it is kept as part of the body"]; n < 30 || n > 50 {
			t.Errorf("%s: %v", field, h.marks)
		}
		h.holds(100 << 20)
		for i := range uint32(100) {
			h.server(append(rawHeader(3, http2.FrameData, http2.FlagDataEndStream, 2*i+1), "\n\n\n"...))
		}
		if h.kinds[flow.End] != 100 {
			t.Errorf("%s: %v", field, h.kinds)
		}
		h.holds(2 << 20)
		h.Close(epoch)
	}
}

// TestCrowdOfCodings: only so many bodies are decoded at a time.
func TestCrowdOfCodings(t *testing.T) {
	h := newHostile(t)
	h.crowd(1000, "content-encoding: gzip")
	gz := encode("gzip", []byte("hello"))
	for i := range uint32(1000) {
		h.server(append(rawHeader(15, http2.FrameData, 0, 2*i+1), gz[:15]...))
	}
	if n := h.marks["too many bodies are being decoded: this one is kept as it passed"]; n != 1000-256 {
		t.Errorf("%v", h.marks)
	}
	h.holds(32 << 20)
	for i := range uint32(1000) {
		h.server(append(rawHeader(len(gz)-15, http2.FrameData, http2.FlagDataEndStream, 2*i+1), gz[15:]...))
	}
	h.holds(2 << 20)
	h.Close(epoch)
}
