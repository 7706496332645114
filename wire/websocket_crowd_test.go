package wire_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"trace/flow"
	"trace/wire"
)

// A crowd is a connection of HTTP/2 that carries many WebSockets.
type crowd struct {
	*passage
	shown map[int64][]byte // the data of the last message, by flow
	sizes map[int64]int64
}

// newCrowd opens n WebSockets.
func newCrowd(n int, answer string) *crowd {
	c := &crowd{passage: new(passage), shown: map[int64][]byte{}, sizes: map[int64]int64{}}
	c.Decoder = &wire.Decoder{Conn: &flow.Conn{ID: 1}, Emit: func(e flow.Event) {
		c.add(e)
		if e.Kind == flow.Message {
			c.shown[e.Flow], c.sizes[e.Flow] = bytes.Clone(e.Data), e.Size
		}
	}}
	h := newH2()
	for i := range n {
		id := uint32(2*i + 1)
		h.client(connect(id, "sec-websocket-extensions: "+pmd))
		h.server(head(id, ":status: 200", "sec-websocket-extensions: "+answer))
	}
	c.Conn.Child.ALPN = "h2"
	for _, st := range h.steps {
		c.Data(st.side, epoch, st.data)
	}
	return c
}

// send sends p of the server's on the WebSocket i.
func (c *crowd) send(i int, p string) {
	for p != "" {
		n := min(len(p), 16<<10)
		f := []byte{0, byte(n >> 8), byte(n), 0, 0}
		f = binary.BigEndian.AppendUint32(f, uint32(2*i+1))
		c.Data(flow.Server, epoch, append(f, p[:n]...))
		p = p[n:]
	}
}

// TestWebSocketCrowd: the WebSockets of one connection together hold no more
// than a measure, and beyond it say what they leave out.
func TestWebSocketCrowd(t *testing.T) {
	const hello, n = "\xf2\x48\xcd\xc9\xc9\x07\x00", 1100
	start, rest := frame(flow.Server, 0x41, hello[:3]), frame(flow.Server, 0x80, hello[3:])
	for name, x := range map[string]struct {
		answer, mark string
		marks, good  int
	}{
		"windows":   {pmd, "the connection carries too many WebSockets: deflated messages of the server are not inflated", n - 1024, 1024},
		"inflating": {pmd + "; server_no_context_takeover", "too many messages are being inflated: one is left out", n - 256, 256},
	} {
		c := newCrowd(n, x.answer)
		for i := range n {
			c.send(i, start)
			if name == "windows" {
				c.send(i, rest)
			}
		}
		if name == "inflating" {
			for i := range n {
				c.send(i, rest)
			}
		}
		good := 0
		for _, p := range c.shown {
			if string(p) == "Hello" {
				good++
			}
		}
		if len(c.marks) != x.marks || c.marks[0] != x.mark || good != x.good {
			t.Errorf("%s: %d messages, %d marks, first %q", name, good, len(c.marks), c.marks[0])
		}
		c.marks = nil
		for i := range n { // there is room again, but not for windows
			c.send(i, start+rest)
		}
		if len(c.marks) > 0 {
			t.Errorf("%s: then %q", name, c.marks[0])
		}
		c.Close(epoch)
	}
}

// TestWebSocketCrowdData: what is handed over of a message is its beginning,
// also when there is room again after there was none.
func TestWebSocketCrowdData(t *testing.T) {
	c := newCrowd(6, "")
	piece := string(text(14 << 20))
	for i := range 5 {
		c.send(i, frame(flow.Server, 0x02, piece))
	}
	c.send(0, frame(flow.Server, 0x80, "")) // makes room
	c.send(4, frame(flow.Server, 0x80, "more"))
	c.send(5, frame(flow.Server, 0x82, piece))
	for i := range 4 {
		if i > 0 {
			c.send(i, frame(flow.Server, 0x80, ""))
		}
		if got := c.shown[int64(i+1)]; string(got) != piece {
			t.Errorf("%d: %d bytes", i, len(got))
		}
	}
	if got := c.shown[5]; len(got) != 8<<20 || !strings.HasPrefix(piece, string(got)) || c.sizes[5] != 14<<20+4 {
		t.Errorf("without room: %d bytes of %d", len(got), c.sizes[5])
	}
	if got := c.shown[6]; string(got) != piece {
		t.Errorf("with room again: %d bytes", len(got))
	}
	c.Close(epoch)
}
