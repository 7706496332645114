package wire_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"trace/flow"
)

// An h2 writes a script in frames, by another implementation.
type h2 struct {
	*script
	peer [2]*h2peer
}

// An h2peer writes the frames of one side.
type h2peer struct {
	*http2.Framer
	s    *script
	side flow.Side
	out  bytes.Buffer
	enc  *hpack.Encoder
	head bytes.Buffer
}

const preface = http2.ClientPreface

// newH2 returns a connection on which both sides have said their SETTINGS.
func newH2() *h2 {
	h := idleH2()
	h.conn.Child.ALPN = "h2"
	h.script.client(preface)
	h.client(func(c *h2peer) error { return c.WriteSettings() })
	h.server(func(c *h2peer) error { return c.WriteSettings() })
	h.client(func(c *h2peer) error { return c.WriteSettingsAck() })
	return h
}

// idleH2 returns a connection on which nothing was said.
func idleH2() *h2 {
	h := &h2{script: newScript()}
	for i := range h.peer {
		p := &h2peer{s: h.script, side: flow.Side(i)}
		p.Framer = http2.NewFramer(&p.out, nil)
		p.AllowIllegalWrites = true
		p.enc = hpack.NewEncoder(&p.head)
		h.peer[i] = p
	}
	return h
}

func (h *h2) client(frames ...func(*h2peer) error) { h.peer[0].send(frames...) }
func (h *h2) server(frames ...func(*h2peer) error) { h.peer[1].send(frames...) }

// send makes one step of frames.
func (p *h2peer) send(frames ...func(*h2peer) error) {
	for _, f := range frames {
		if err := f(p); err != nil {
			panic(err)
		}
	}
	p.s.data(p.side, p.out.String())
	p.out.Reset()
}

// block encodes "name: value" lines.
func (p *h2peer) block(fields ...string) []byte {
	p.head.Reset()
	for _, f := range fields {
		name, value, _ := strings.Cut(f[1:], ": ")
		if err := p.enc.WriteField(hpack.HeaderField{Name: f[:1] + name, Value: value}); err != nil {
			panic(err)
		}
	}
	return bytes.Clone(p.head.Bytes())
}

type h2frame = func(*h2peer) error

// head writes HEADERS, head ends the stream with it.
func head(id uint32, fields ...string) h2frame { return headFrame(id, false, fields) }
func last(id uint32, fields ...string) h2frame { return headFrame(id, true, fields) }

func headFrame(id uint32, end bool, fields []string) h2frame {
	return func(p *h2peer) error {
		return p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndStream: end, EndHeaders: true})
	}
}

func get(id uint32, path string, more ...string) h2frame {
	return last(id, append([]string{":method: GET", ":scheme: https", ":authority: h.test", ":path: " + path}, more...)...)
}

func post(id uint32, path string, more ...string) h2frame {
	return head(id, append([]string{":method: POST", ":scheme: https", ":authority: h.test", ":path: " + path}, more...)...)
}

func data(id uint32, text string) h2frame {
	return func(p *h2peer) error { return p.WriteData(id, false, []byte(text)) }
}

func lastData(id uint32, text string) h2frame {
	return func(p *h2peer) error { return p.WriteData(id, true, []byte(text)) }
}

func reset(id uint32, code http2.ErrCode) h2frame {
	return func(p *h2peer) error { return p.WriteRSTStream(id, code) }
}

func goAway(last uint32, code http2.ErrCode, debug string) h2frame {
	return func(p *h2peer) error { return p.WriteGoAway(last, code, []byte(debug)) }
}

func rawFrame(kind http2.FrameType, flags http2.Flags, id uint32, payload string) h2frame {
	return func(p *h2peer) error { return p.WriteRawFrame(kind, flags, id, []byte(payload)) }
}

// close ends both sides, the client first.
func (h *h2) close() *h2 {
	h.end(flow.Client, flow.CloseNotify)
	h.end(flow.Server, flow.CloseNotify)
	return h
}

// expect plays the script in many splits and compares its events, without the
// times, the hashes and the sizes that are those of the data.
func (h *h2) expect(t *testing.T, want ...string) {
	t.Helper()
	events := h.run(whole)
	check(t, h.script, events)
	all, raw := show(events), rawOf(events)
	var got []string
	for line := range strings.Lines(all) {
		var words []string
		for _, w := range strings.Split(strings.TrimSpace(line), " ")[1:] {
			if !strings.HasPrefix(w, "sha256=") && !strings.HasPrefix(w, "decoded=") && !strings.HasPrefix(w, "kept=") {
				words = append(words, w)
			}
		}
		got = append(got, strings.Join(words, " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	cuts := []split{bytewise}
	for seed := range uint64(10) {
		cuts = append(cuts, random(seed))
	}
	for i, cut := range cuts {
		events := h.run(cut)
		if got := show(events); got != all {
			t.Fatalf("split %d: got\n%s\nwant\n%s", i, got, all)
		}
		if got := rawOf(events); got != raw {
			t.Fatalf("split %d: raw: got\n%s\nwant\n%s", i, got, raw)
		}
	}
}
