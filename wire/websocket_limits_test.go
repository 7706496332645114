package wire_test

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"runtime"
	"strings"
	"testing"

	"trace/flow"
	"trace/wire"
)

// A passage plays long scripts without keeping them: it counts what comes out.
type passage struct {
	*wire.Decoder
	messages [2]int
	data     [2]int64 // bytes handed over
	raw      [2]int64
	last     flow.Event // the last Message, without its Data
	marks    []string
	end      *flow.Error
	ended    bool
}

// pass begins a WebSocket.
func pass(t testing.TB, answer string) *passage {
	t.Helper()
	p := new(passage)
	p.Decoder = &wire.Decoder{Conn: &flow.Conn{ID: 1}, Emit: p.add, Secrets: true}
	for _, st := range socket(pmd, answer).steps {
		p.Data(st.side, epoch, st.data)
	}
	return p
}

func (p *passage) add(e flow.Event) {
	switch e.Kind {
	case flow.Message:
		p.messages[e.Side]++
		p.data[e.Side] += int64(len(e.Data))
		p.last = e
		p.last.Data = nil
	case flow.Raw:
		p.raw[e.Side] += int64(len(e.Data))
	case flow.Mark:
		p.marks = append(p.marks, e.Error.Message)
	case flow.End:
		p.end, p.ended = e.Error, true
	}
}

func (p *passage) frame(side flow.Side, b0 byte, payload string) {
	p.Data(side, epoch, []byte(frame(side, b0, payload)))
}

// heap returns how many bytes live.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestWebSocketLargeMessage: of a message of 200 MiB the first 16 MiB are handed
// over, the rest is counted and hashed, and memory stays bounded meanwhile.
func TestWebSocketLargeMessage(t *testing.T) {
	piece := text(1 << 20)
	d := deflater{Rand: randOf(4)}
	flushed := string(d.message(piece)) + "\x00\x00\xff\xff" // blocks that build on nothing
	for deflated, pieces := range map[bool]int{false: 200, true: 40} {
		first, more, last := frame(flow.Client, 0x02, ""), frame(flow.Client, 0, string(piece)), frame(flow.Client, 0x80, "")
		if deflated {
			first, more, last = frame(flow.Client, 0x42, ""), frame(flow.Client, 0, flushed), frame(flow.Client, 0x80, "\x00")
		}
		p := pass(t, pmd)
		before := heap()
		sum := sha256.New()
		var most int64
		size := 0
		p.Data(flow.Client, epoch, []byte(first))
		for i := range pieces {
			sum.Write(piece)
			size += len(piece)
			p.Data(flow.Client, epoch, []byte(more))
			if i%20 == 19 {
				most = max(most, heap()-before)
			}
		}
		p.Data(flow.Client, epoch, []byte(last))
		m := p.last
		if p.messages[0] != 1 || m.Size != int64(size) || !m.HasSum || !bytes.Equal(m.SHA256[:], sum.Sum(nil)) || p.data[0] != 16<<20 || m.Compressed != deflated {
			t.Errorf("deflated %v: %d messages, %+v, %d bytes handed over, marks %q", deflated, p.messages, m, p.data, p.marks)
		}
		if most > 48<<20 {
			t.Errorf("deflated %v: up to %d bytes live", deflated, most)
		}
		if over := p.raw[0] - 64<<20; over > 1000 || !deflated && over < 0 { // the head is not counted
			t.Errorf("deflated %v: %d bytes of raw", deflated, p.raw[0])
		}
		p.frame(flow.Client, 0x81, "next")
		if p.last.Size != 4 {
			t.Errorf("deflated %v: then %+v", deflated, p.last)
		}
		p.Close(epoch)
	}
}

// deflateBomb returns a message that inflates to size zeros.
func deflateBomb(size int) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	zeros := make([]byte, 1<<20)
	for range size >> 20 {
		w.Write(zeros)
	}
	w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// TestWebSocketBomb: inflating stops at what can only be a bomb. Later messages
// are read where they do not build on it.
func TestWebSocketBomb(t *testing.T) {
	evil := deflateBomb(100 << 20)
	const hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"
	const mark = "a message grows beyond measure when inflated: the rest is left out"
	for _, takeover := range []bool{false, true} {
		answer, why := pmd+"; client_no_context_takeover", mark
		if takeover {
			answer, why = pmd, mark+"; deflated messages of the client that follow are not inflated, as they build on it"
		}
		p := pass(t, answer)
		before := heap()
		p.frame(flow.Client, 0xc2, evil)
		if m := p.last; m.HasSum || m.Size < 64<<20 || m.Size > 70<<20 || p.data[0] != 16<<20 || len(p.marks) != 1 || p.marks[0] != why {
			t.Errorf("takeover %v: %+v, %d bytes, marks %q", takeover, m, p.data, p.marks)
		}
		if grown := heap() - before; grown > 1<<20 {
			t.Errorf("takeover %v: holds %d bytes", takeover, grown)
		}
		p.frame(flow.Client, 0xc1, hello)
		want := int64(5)
		if takeover {
			want = int64(len(hello))
		}
		if p.last.Size != want || !p.last.Compressed {
			t.Errorf("takeover %v: then %+v", takeover, p.last)
		}
		p.frame(flow.Server, 0xc1, hello)
		p.frame(flow.Client, 0x81, "plain")
		if p.last.Size != 5 || p.messages != [2]int{3, 1} || len(p.marks) != 1 {
			t.Errorf("takeover %v: then %+v, marks %q", takeover, p.last, p.marks)
		}
		p.Close(epoch)
	}
	s := socket(pmd, pmd) // at the same byte in every split
	s.frame(flow.Server, 0xc2, evil)
	s.closing()
	if got, want := show(s.run(bytewise)), show(s.run(whole)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestWebSocketFloods: tiny frames without end cost neither memory nor more
// than their number in time, and the record one Mark for each kind of fault.
func TestWebSocketFloods(t *testing.T) {
	const n = 30_000
	for name, f := range map[string]string{
		"fragments of a byte": "\x00\x01a", "empty fragments": "\x00\x00", "pings": "\x89\x00",
		"odd frames": "\xff\x7e\x00\x01a", "deflated": "\xc1\x01\x00", "fragments of a message that is deflated": "\x00\x05\x00\x00\x00\xff\xff",
	} {
		p := pass(t, pmd)
		if name != "deflated" {
			p.frame(flow.Server, 0x42, "\x00\x00\x00\xff\xff")
		}
		before := heap()
		flood := []byte(strings.Repeat(f, 1000))
		for range n / 1000 {
			p.Data(flow.Server, epoch, flood)
		}
		if grown := heap() - before; grown > 4<<20 {
			t.Errorf("%s: %d bytes live", name, grown)
		}
		if len(p.marks) > 8 {
			t.Errorf("%s: %d marks", name, len(p.marks))
		}
		if name == "deflated" && (p.messages[1] != n || p.last.Size != 0) {
			t.Errorf("%s: %d messages, %+v", name, p.messages, p.last)
		}
		p.Close(epoch)
		if !p.ended {
			t.Errorf("%s: did not end", name)
		}
	}
}

// TestWebSocketFinals: final blocks, of which each costs much, are bounded, but
// not at a number that an encoder comes to.
func TestWebSocketFinals(t *testing.T) {
	const piece = "\xf3\x48\xcd\xc9\xc9\x07\x00" // "Hello" in a final block
	for n, mark := range map[int]string{
		900:     "",
		100_000: "the deflated data of a message is broken: it has too many final blocks",
	} {
		p := pass(t, pmd+"; server_no_context_takeover")
		p.frame(flow.Server, 0xc2, strings.Repeat(piece, n)+"\x00")
		if got := strings.Join(p.marks, "|"); got != mark || mark == "" && p.last.Size != int64(5*n) {
			t.Errorf("%d: %+v, %q", n, p.last, got)
		}
		p.Close(epoch)
	}
	s := socket(pmd, pmd)
	s.frame(flow.Server, 0xc2, strings.Repeat(piece, 2000))
	s.closing()
	if got, want := show(s.run(bytewise)), show(s.run(whole)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestWebSocketIdle: what an idle WebSocket holds: nothing to speak of, and
// with context takeover the window of each direction.
func TestWebSocketIdle(t *testing.T) {
	const n = 20
	d := deflater{Rand: randOf(1)}
	plain := string(text(100_000))
	deflated := string(d.message([]byte(plain)))
	for _, c := range []struct {
		answer string
		most   int64
	}{
		{"", 8 << 10}, {pmd + "; server_no_context_takeover; client_no_context_takeover", 8 << 10}, {pmd, 2*40<<10 + 8<<10},
	} {
		before := heap()
		var all []*passage
		for range n {
			p := pass(t, c.answer)
			for side := range flow.Side(2) {
				for range 2 {
					p.frame(side, 0x81, plain)
					if c.answer != "" {
						p.frame(side, 0xc1, deflated)
					}
				}
			}
			if p.messages[0] < 2 || p.last.Size != 100_000 {
				t.Fatalf("%v %+v %q", p.messages, p.last, p.marks)
			}
			all = append(all, p)
		}
		if each := (heap() - before) / n; each > c.most {
			t.Errorf("%q: each holds %d bytes", c.answer, each)
		}
		for _, p := range all {
			p.Close(epoch)
		}
	}
}

// TestWebSocketCoroutinesEnd: whatever happens in the middle of a deflated
// message, nothing keeps running.
func TestWebSocketCoroutinesEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, how := range []flow.How{flow.Open, flow.FIN, flow.Reset} {
		for _, rest := range []string{"", "\xff\xff\xff\xff", frame(flow.Client, 0x81, "b"), "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xffmask"} {
			p := pass(t, pmd)
			p.frame(flow.Client, 0x41, "\xf2\x48\xcd")
			p.frame(flow.Server, 0x41, "\xf2\x48\xcd")
			p.Data(flow.Client, epoch, []byte(rest))
			if how != flow.Open {
				p.End(flow.Client, epoch, how)
			}
			p.Close(epoch)
		}
	}
	p := pass(t, pmd)
	p.frame(flow.Client, 0x41, "\xf2\x48\xcd")
	emit := p.Emit
	p.Emit = func(e flow.Event) {
		if e.Kind == flow.Message {
			panic("by Emit")
		}
		emit(e)
	}
	func() {
		defer func() { _ = recover() }()
		p.frame(flow.Client, 0x89, "ping")
		t.Error("no panic")
	}()
	p.Close(epoch)
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if i == 1000 {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}
