package wire_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"trace/flow"
	"trace/wire"
)

// A hostile is a decoder that is fed without end: it counts what comes out.
type hostile struct {
	*wire.Decoder
	t      *testing.T
	before uint64
	kinds  map[flow.Kind]int
	marks  map[string]int
	head   *flow.Head // of the last request
}

func newHostile(t *testing.T) *hostile {
	h := &hostile{t: t, kinds: map[flow.Kind]int{}, marks: map[string]int{}}
	h.Decoder = &wire.Decoder{Conn: &flow.Conn{Decrypted: true, Protocol: "http2"}, Secrets: true, Emit: func(e flow.Event) {
		h.kinds[e.Kind]++
		if e.Kind == flow.Mark {
			h.marks[e.Error.Message]++
		}
		if e.Kind == flow.Request {
			h.head = e.Head
		}
	}}
	h.before = heapNow()
	h.client([]byte(preface))
	h.server([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	return h
}

func heapNow() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what lies in a pool survives the first
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (h *hostile) client(p []byte) { h.Data(flow.Client, epoch, p) }
func (h *hostile) server(p []byte) { h.Data(flow.Server, epoch, p) }

// holds fails if the decoder holds more than limit.
func (h *hostile) holds(limit int) {
	h.t.Helper()
	if now := heapNow(); now > h.before+uint64(limit) {
		h.t.Errorf("%d KiB are held, %d at most", (now-h.before)>>10, limit>>10)
	}
	runtime.KeepAlive(h.Decoder)
}

// rawHeader returns the header of a frame.
func rawHeader(size int, kind http2.FrameType, flags http2.Flags, id uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(size)<<8|uint32(kind))
	b = append(b, byte(flags))
	return binary.BigEndian.AppendUint32(b, id)
}

// request returns the block of a small request.
func smallBlock() []byte { return []byte("\x82\x84\x87\x41\x81\x1f") }

// TestHPACKBomb: a block that refers to a large entry again and again is read
// to its end, and its head is kept up to a limit.
func TestHPACKBomb(t *testing.T) {
	h := newHostile(t)
	value := strings.Repeat("x", 4000)
	first := hpack.AppendHuffmanString(nil, value)
	entry := append([]byte{0x82, 0x84, 0x87, 0x40, 1, 'a', 0x7f | 0x80}, binary.AppendUvarint(nil, uint64(len(first)-127))...)
	entry = append(entry, first...)
	for stream := uint32(1); stream < 100; stream += 2 {
		h.client(append(rawHeader(len(entry), http2.FrameHeaders, 0, stream), entry...))
		bomb := bytes.Repeat([]byte{0xbe}, 16384) // 64 MB in one frame
		h.client(append(rawHeader(len(bomb), http2.FrameContinuation, http2.FlagContinuationEndHeaders, stream), bomb...))
		entry = []byte{0x82, 0x84, 0x87}
		if n := len(h.head.Fields); n < 100 || n > 300 {
			t.Fatalf("%d fields are kept", n)
		}
	}
	if n := h.marks["the header is too long: some of its fields are left out"]; n != h.kinds[flow.Request] || h.marks["too many streams are open: some are left out of the record"] != 1 {
		t.Errorf("%d requests: %v", h.kinds[flow.Request], h.marks)
	}
	h.holds(4 << 20)
}

// TestContinuationFlood: a header block without end, of frames of one byte and
// of none, of small fields and of one endless name.
func TestContinuationFlood(t *testing.T) {
	empty := rawHeader(0, http2.FrameContinuation, 0, 1)
	for name, c := range map[string]struct {
		start string
		next  byte
		marks int
	}{
		"fields":       {"\x82\x84\x87", 0x90, 0},                        // accept-encoding, again and again
		"name":         {"\x82\x84\x87\x00\x7f\xff\xff\xff\x7f", 'n', 0}, // of 256 MB
		"huffman name": {"\x82\x84\x87\x00\xff\xff\xff\xff\x7f", 0x1f, 0},
		"value":        {"\x82\x84\x87\x40\x01a\x7f\xff\xff\xff\x7f", 'v', 0},
		"sizes":        {"\x82\x84\x87", 0x20, 0}, // the table is set to 0
	} {
		h := newHostile(t)
		h.client(append(rawHeader(len(c.start), http2.FrameHeaders, http2.FlagHeadersEndStream, 1), c.start...))
		one := append(rawHeader(1, http2.FrameContinuation, 0, 1), c.next)
		flood := bytes.Repeat(append(bytes.Clone(empty), one...), 1000)
		for range 500 {
			h.client(flood)
		}
		h.holds(6 << 20)
		h.End(flow.Client, epoch, flow.Reset)
		h.Close(epoch)
		if h.kinds[flow.Request] != 1 || h.kinds[flow.End] != 1 {
			t.Errorf("%s: %v %v", name, h.kinds, h.marks)
		}
	}
}

// TestLongHeaders: a header of 10 MB, in a field and in many, whole and byte by
// byte, costs its own fields only.
func TestLongHeaders(t *testing.T) {
	longHeaders(t, 10<<20, 1<<20, 1000)
	longHeaders(t, 11<<17, 1) // beyond the limit, in less time
}

func longHeaders(t *testing.T, size int, steps ...int) {
	for name, fields := range map[string][]hpack.HeaderField{
		"one field":   {{Name: "long", Value: strings.Repeat("\x01long", size/5)}},
		"one name":    {{Name: strings.Repeat("n", size), Value: "v", Sensitive: true}},
		"many fields": manyFields(size),
	} {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: "/long"}, {Name: "x-before", Value: "kept"}}, fields...) {
			if err := enc.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := enc.WriteField(hpack.HeaderField{Name: "x-before", Value: "kept"}); err != nil {
			t.Fatal(err)
		}
		var frames bytes.Buffer
		frames.Write(rawHeader(0, http2.FrameHeaders, http2.FlagHeadersEndStream, 1))
		for p := block.Bytes(); len(p) > 0; {
			n := min(len(p), 16384)
			frames.Write(rawHeader(n, http2.FrameContinuation, 0, 1))
			frames.Write(p[:n])
			p = p[n:]
		}
		frames.Write(rawHeader(0, http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1))
		for _, step := range steps {
			h := newHostile(t)
			for p := frames.Bytes(); len(p) > 0; {
				n := min(len(p), step)
				h.client(p[:n])
				p = p[n:]
			}
			if h.head == nil || h.head.Path != "/long" || h.head.Get("x-before") != "kept" || h.kinds[flow.Mark] != 1 {
				t.Errorf("%s by %d: %v %v", name, step, h.kinds, h.marks)
			}
			if fs := h.head.Values("x-before"); name != "many fields" && len(fs) != 2 {
				t.Errorf("%s by %d: what follows is lost", name, step)
			}
			// The table is right: the next request refers to it.
			next := append(smallBlock(), 0xbe)
			if name == "one field" {
				next = next[:len(next)-1] // it emptied the table
			}
			h.client(append(rawHeader(len(next), http2.FrameHeaders, 5, 3), next...))
			if h.kinds[flow.Request] != 2 || h.head.Path != "/" {
				t.Errorf("%s by %d: the next request is lost: %v", name, step, h.marks)
			}
			h.holds(8 << 20)
			h.Close(epoch)
		}
	}
}

func manyFields(size int) []hpack.HeaderField {
	fs := make([]hpack.HeaderField, size/35)
	for i := range fs {
		fs[i] = hpack.HeaderField{Name: fmt.Sprintf("name-%d", i%100), Value: strings.Repeat("v", 30)}
	}
	return fs
}

// TestStreamFloods: streams that are opened and reset at once, settings, pings
// and the like without end leave nothing behind; streams that are never closed
// are followed up to a limit.
func TestStreamFloods(t *testing.T) {
	h := newHostile(t)
	block := smallBlock()
	for i := range uint32(100_000) {
		p := append(rawHeader(len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2*i+1), block...)
		p = append(p, rawHeader(4, http2.FrameRSTStream, 0, 2*i+1)...)
		h.client(append(p, 0, 0, 0, 8))
	}
	if h.kinds[flow.Request] != 100_000 || h.kinds[flow.End] != 100_000 || len(h.marks) > 0 {
		t.Errorf("%v %v", h.kinds, h.marks)
	}
	h.holds(64 << 10)

	before := h.kinds[flow.Raw]
	for _, p := range [][]byte{
		append(rawHeader(6*100, http2.FrameSettings, 0, 0), bytes.Repeat([]byte("\x00\x01\xff\xff\xff\xff"), 100)...),
		append(rawHeader(8, http2.FramePing, 0, 0), "12345678"...),
		append(rawHeader(4, http2.FrameWindowUpdate, 0, 0), 0, 0, 0, 1),
		append(rawHeader(5, http2.FramePriority, 0, 999_999), 0, 0, 0, 1, 1),
		append(rawHeader(508, http2.FrameGoAway, 0, 0), bytes.Repeat([]byte("\x00\x01\x01\x01"), 127)...),
		rawHeader(0, 0x42, 0, 7),
		rawHeader(0, http2.FrameSettings, http2.FlagSettingsAck, 0),
		append(rawHeader(4, http2.FrameRSTStream, 0, 5), 0, 0, 0, 1),
		append(rawHeader(3, http2.FrameData, 0, 3), "abc"...),
	} {
		for range 3000 {
			h.client(p)
			h.server(p)
		}
	}
	if h.kinds[flow.Raw] != before || h.kinds[flow.Mark] != 2 { // the GOAWAYs, once a side
		t.Errorf("%v %v", h.kinds, h.marks)
	}
	h.holds(64 << 10)
	h.Close(epoch)
}

// TestOpenStreams: streams that are never closed are followed up to a limit,
// and end with the connection.
func TestOpenStreams(t *testing.T) {
	h := newHostile(t)
	block := smallBlock()
	for i := range uint32(50_000) {
		h.client(append(rawHeader(len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2*i+1), block...))
		h.client(append(rawHeader(1, http2.FrameData, 0, 2*i+1), 'x'))
		h.server(append(rawHeader(1, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2*i+1), 0x88))
	}
	if h.kinds[flow.Request] != 10_000 || h.kinds[flow.Response] != 10_000 || h.kinds[flow.Mark] != 1 {
		t.Errorf("%v %v", h.kinds, h.marks)
	}
	h.holds(32 << 20)
	// What looks at all of them, or says something, does so a few times only.
	marks := h.kinds[flow.Mark]
	for i := range uint32(50_000) {
		last := 1<<31 - 1 - i
		h.server(append(rawHeader(8, http2.FrameGoAway, 0, 0), byte(last>>24), byte(last>>16), byte(last>>8), byte(last), 0, 0, 0, 0))
		h.server(append(rawHeader(1, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1), 0x88))
		h.server(rawHeader(0, http2.FrameData, 0, 77_777))
	}
	if n := h.kinds[flow.Mark] - marks; n > 3 {
		t.Errorf("%d marks: %v", n, h.marks)
	}
	for i := range uint32(10_000) {
		h.client(append(rawHeader(4, http2.FrameRSTStream, 0, 2*i+1), 0, 0, 0, 8))
	}
	if h.kinds[flow.End] != 10_000 {
		t.Errorf("%v", h.kinds)
	}
	h.holds(64 << 10)
	h.Close(epoch)
}

// TestLargeFrames: frames of 16 MB pass through without being held.
func TestLargeFrames(t *testing.T) {
	h := newHostile(t)
	block := smallBlock()
	h.client(append(rawHeader(len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1), block...))
	piece := make([]byte, 64<<10)
	for _, kind := range []http2.FrameType{http2.FrameData, http2.FramePriority, 0x42, http2.FrameGoAway} {
		id := uint32(1)
		if kind == http2.FrameGoAway {
			id = 0
		}
		h.client(rawHeader(1<<24-1, kind, 0, id))
		for left := 1<<24 - 1; left > 0; left -= len(piece) {
			h.client(piece[:min(left, len(piece))])
		}
	}
	h.holds(1 << 20)
	if h.kinds[flow.Mark] != 0 {
		t.Errorf("%v", h.marks)
	}
	h.Close(epoch)
}
