package wire_test

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	kflate "github.com/klauspost/compress/flate"

	"trace/flow"
)

const pmd = "permessage-deflate"

// TestDeflateExamples plays RFC 7692 section 7.2.3.
func TestDeflateExamples(t *testing.T) {
	server := flow.Server
	for name, c := range map[string]struct {
		frames []string
		want   []string
	}{
		"7.2.3.1 one block":  {[]string{"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"}, []string{`server 1 "Hello" deflated`}},
		"7.2.3.1 fragmented": {[]string{"\x41\x03\xf2\x48\xcd", "\x89\x01x", "\x80\x04\xc9\xc9\x07\x00"}, []string{`server 9 "x"`, `server 1 "Hello" deflated`}},
		"7.2.3.2 sharing the window": {[]string{"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", "\xc1\x05\xf2\x00\x11\x00\x00"},
			[]string{`server 1 "Hello" deflated`, `server 1 "Hello" deflated`}},
		"7.2.3.2 not sharing it": {[]string{"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"},
			[]string{`server 1 "Hello" deflated`, `server 1 "Hello" deflated`}},
		"7.2.3.3 stored block": {[]string{"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"}, []string{`server 1 "Hello" deflated`}},
		"7.2.3.4 BFINAL":       {[]string{"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00"}, []string{`server 1 "Hello" deflated`}},
		"7.2.3.5 two blocks": {[]string{"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"},
			[]string{`server 1 "Hello" deflated`}},
		"7.2.3.6 empty fragment at the end": {[]string{"\x41\x0b\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", "\x80\x01\x00"},
			[]string{`server 1 "Hello" deflated`}},
		"empty message": {[]string{"\xc1\x01\x00", "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"}, []string{`server 1 "" deflated`, `server 1 "Hello" deflated`}},
		"empty fragments": {[]string{"\x41\x00", "\x00\x00", "\x00\x07\xf2\x48\xcd\xc9\xc9\x07\x00", "\x80\x00"},
			[]string{`server 1 "Hello" deflated`}},
		"BFINAL and a block after it, twice": {[]string{"\xc1\x0f\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00"},
			[]string{`server 1 "HelloHello" deflated`}},
		"BFINAL without an empty block": {[]string{"\xc1\x07\xf3\x48\xcd\xc9\xc9\x07\x00"}, []string{`server 1 "Hello" deflated`}},
		"not deflated":                  {[]string{"\x81\x05Hello", "\x82\x00"}, []string{`server 1 "Hello"`, `server 2 ""`}},
		"no data at all":                {[]string{"\xc1\x00", "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"}, []string{`server 1 "" deflated`, "mark upstream malformed: a deflated message has no data", `server 1 "Hello" deflated`}},
		"RSV1 again":                    {[]string{"\x41\x03\xf2\x48\xcd", "\xc0\x04\xc9\xc9\x07\x00"}, []string{"mark upstream malformed: a frame has a reserved bit set that no extension explains", `server 1 "Hello" deflated`}},
		"RSV1 of a control frame":       {[]string{"\xc9\x01a"}, []string{"mark upstream malformed: a frame has a reserved bit set that no extension explains", `server 9 "a"`}},
		"deflated text that is no UTF-8": {[]string{"\xc1\x07\x00\x01\x00\xfe\xff\xe9\x00"},
			[]string{`server 1 "\xe9" deflated`, "mark upstream malformed: a text message is not UTF-8"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, answer := range []string{pmd, pmd + "; server_no_context_takeover"} {
				if strings.Contains(name, "sharing the") && answer != pmd {
					continue
				}
				s := socket(pmd, answer)
				for _, f := range c.frames {
					s.data(server, f)
				}
				s.closing()
				expect(t, s, append(append([]string(nil), c.want...), closed)...)
			}
		})
	}
}

// TestDeflateBroken: a message whose data is broken costs itself, and with
// context takeover the deflated messages after it.
func TestDeflateBroken(t *testing.T) {
	const hello, good = "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", `server 1 "Hello" deflated`
	const mark = "mark upstream malformed: the deflated data of a message is broken: "
	const lost = "; deflated messages of the server that follow are not inflated, as they build on it"
	for name, c := range map[string]struct{ frame, event, mark string }{
		"bad block":      {"\xc1\x08\xf2\x48\xcd\xc9\xc9\x07\x00\x07", `server 1 "Hello" deflated no sum`, "flate: corrupt input"},
		"incomplete":     {"\xc1\x04\xf2\x48\xcd\xc9", `server 1 "Hel" deflated no sum`, ""},
		"with its tail":  {"\xc1\x0b\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", `server 1 "Hello" deflated no sum`, "flate: corrupt input"},
		"far reference":  {"\xc1\x05\xf2\x00\x11\x10\x00", `server 1 "H" deflated no sum`, ""},
		"not compressed": {"\xc1\x05Hello", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, takeover := range []bool{true, false} {
				answer := pmd
				if !takeover {
					answer += "; server_no_context_takeover"
				}
				s := socket(pmd, answer)
				s.server(c.frame)
				s.server(hello)
				s.server("\x81\x02hi")
				s.frame(flow.Client, 0xc1, hello[2:])
				s.closing()
				events := s.run(whole)
				check(t, s, events)
				got := lines(events)
				if !strings.HasPrefix(got[1], mark) || strings.HasSuffix(got[1], lost) != takeover || !strings.HasSuffix(got[0], "deflated no sum") {
					t.Fatalf("got\n%s", strings.Join(got, "\n"))
				}
				if c.mark != "" && (got[0] != c.event || !strings.HasPrefix(got[1], mark+c.mark)) {
					t.Errorf("got\n%s", strings.Join(got, "\n"))
				}
				want := []string{good, `server 1 "hi"`, `client 1 "Hello" deflated`, closed}
				if takeover {
					want[0] = `server 1 "\xf2H\xcd\xc9\xc9\a\x00" deflated`
				}
				if got, want := strings.Join(got[2:], "\n"), strings.Join(want, "\n"); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				splits(t, s, show(events))
			}
		})
	}
}

// TestDeflateForgets: what broken data gives does not depend on what was
// inflated before, by whomever. The data refers back without a code for
// distances.
func TestDeflateForgets(t *testing.T) {
	var b []byte
	var n int
	put := func(v, bits int) {
		for i := range bits {
			if n%8 == 0 {
				b = append(b, 0)
			}
			b[n/8] |= byte(v>>i&1) << (n % 8)
			n++
		}
	}
	put(4, 3) // not final, dynamic codes
	put(1, 5) // 258 lengths
	put(0, 5)
	put(14, 4)
	for i := range 18 { // lengths of the codes for 18 (2), 0 (2), 2 (2), 1 (2)
		put(map[int]int{2: 2, 3: 2, 15: 2, 17: 2}[i], 3)
	}
	// Their codes: 0 is 00, 1 is 01, 2 is 10, 18 is 11, from the left.
	zeros := func(k int) { put(3, 2); put(k-11, 7) }
	zeros(97)
	put(2, 2) // "a": 1 bit
	zeros(138)
	zeros(20)
	put(1, 2) // the end: 2 bits
	put(1, 2) // a length of 3: 2 bits
	put(0, 2) // distances: none
	put(0, 1) // "a"
	put(3, 2) // refer back …
	put(0, 30)
	play := func() string {
		s := socket(pmd, pmd+"; server_no_context_takeover")
		s.frame(flow.Server, 0xc2, string(b))
		s.closing()
		return show(s.run(whole))
	}
	want := play()
	if !strings.Contains(want, "is broken") {
		t.Fatal(want)
	}
	for i := range 50 {
		d := deflater{Rand: randOf(uint64(i))}
		s := socket(pmd, pmd)
		s.frame(flow.Server, 0xc2, string(d.message(text(10_000+i))))
		s.run(whole)
		if got := play(); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// A deflater makes messages of permessage-deflate, by one of two encoders.
type deflater struct {
	*rand.Rand
	b bytes.Buffer
	w interface {
		Write([]byte) (int, error)
		Flush() error
		Close() error
	}
	takeover bool
	window   int // 0: an encoder with the full one
}

func (d *deflater) reset() {
	d.b.Reset()
	if d.window > 0 {
		d.w, _ = kflate.NewWriterWindow(&d.b, d.window)
	} else {
		d.w, _ = flate.NewWriter(&d.b, 1+d.IntN(9))
	}
}

// message deflates p, in one or several blocks, sometimes in final ones.
func (d *deflater) message(p []byte) []byte {
	if d.w == nil || !d.takeover {
		d.reset()
	}
	d.b.Reset()
	for d.IntN(3) == 0 && len(p) > 0 {
		n := d.IntN(len(p) + 1)
		d.write(p[:n])
		p = p[n:]
		if d.IntN(2) == 0 {
			d.must(d.w.Flush())
		} else if !d.takeover {
			d.must(d.w.Close())
			old := bytes.Clone(d.b.Bytes())
			d.reset()
			d.b.Write(old)
		}
	}
	d.write(p)
	if d.IntN(4) == 0 {
		d.must(d.w.Close())
		d.w = nil
		return append(bytes.Clone(d.b.Bytes()), 0)
	}
	d.must(d.w.Flush())
	out, ok := bytes.CutSuffix(d.b.Bytes(), []byte("\x00\x00\xff\xff"))
	if !ok {
		panic("no tail")
	}
	return bytes.Clone(out)
}

func (d *deflater) write(p []byte) {
	_, err := d.w.Write(p)
	d.must(err)
}

func (d *deflater) must(err error) {
	if err != nil {
		panic(err)
	}
}

// TestDeflateRandom has encoders make random messages of both sides, with and
// without context takeover, in fragments with control frames between them: each
// is handed over as it was.
func TestDeflateRandom(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		window := []int{0, 0, 1 << 8, 1 << 11, 1 << 15}[r.IntN(5)]
		var d [2]deflater
		answer := pmd
		for side := range d {
			d[side] = deflater{Rand: r, takeover: r.IntN(2) == 0, window: window}
			if !d[side].takeover {
				answer += "; " + flow.Side(side).String() + "_no_context_takeover"
			}
			if window > 0 {
				answer += fmt.Sprintf("; %s_max_window_bits=%d", flow.Side(side), len(fmt.Sprintf("%b", window))-1)
			}
		}
		s := socket(pmd+"; client_max_window_bits", answer)
		var want []string
		for range 30 {
			side := flow.Side(r.IntN(2))
			message := text(r.IntN(1 << r.IntN(17)))
			message = message[r.IntN(len(message)/2+1):]
			line := fmt.Sprintf("%s 1 %q", side, message)
			if len(message) > 100 {
				line = fmt.Sprintf("%s 1 %d bytes %x", side, len(message), sha256.Sum256(message))
			}
			payload, b0 := message, byte(0x01)
			if r.IntN(4) > 0 {
				payload, b0 = d[side].message(message), 0x41
				line += " deflated"
			}
			for r.IntN(2) == 0 {
				n := r.IntN(len(payload) + 1)
				s.frame(side, b0, string(payload[:n]))
				payload, b0 = payload[n:], 0
				if r.IntN(3) == 0 {
					s.frame(side, 0x89, "ping")
					want = append(want, side.String()+` 9 "ping"`)
				}
			}
			s.frame(side, b0|0x80, string(payload))
			want = append(want, line)
		}
		s.closing()
		for _, cut := range []split{whole, random(seed)} {
			events := s.run(cut)
			check(t, s, events)
			if got, want := strings.Join(lines(events), "\n"), strings.Join(append(want, closed), "\n"); got != want {
				t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
			}
		}
	}
}
