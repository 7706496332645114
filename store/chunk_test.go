package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"trace/flow"
	"trace/redact"
)

// prose returns n bytes of text that compresses like text.
func prose(r *rand.Rand, n int) []byte {
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "%s%d ", []string{"func", "return", "the answer", "if err != nil", "value", "\\n\\t"}[r.IntN(6)], r.IntN(5000))
	}
	return b.Bytes()[:n]
}

func TestCutBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	p := prose(r, 4<<20)
	for _, s := range []*sizes{&smallChunks, &largeChunks} {
		n := 0
		for rest := p; len(rest) > 0; n++ {
			k := cut(rest, s)
			if k < 1 || k > s.max || k < s.min && k != len(rest) {
				t.Fatalf("chunk of %d bytes of %d", k, len(rest))
			}
			rest = rest[k:]
		}
		if avg := len(p) / n; avg < s.avg/2 || avg > s.avg*3 {
			t.Errorf("average %d, want about %d", avg, s.avg)
		}
	}
}

func TestInsertionMovesFewCuts(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	p := prose(r, 1<<20)
	q := slices.Concat(p[:300_000], []byte("inserted"), p[300_000:])
	seen := map[string]bool{}
	for rest := p; len(rest) > 0; {
		k := cut(rest, &smallChunks)
		seen[string(rest[:k])] = true
		rest = rest[k:]
	}
	fresh := 0
	for rest := q; len(rest) > 0; {
		k := cut(rest, &smallChunks)
		if !seen[string(rest[:k])] {
			fresh++
		}
		rest = rest[k:]
	}
	if fresh > 4 {
		t.Errorf("an insertion of 8 bytes made %d new chunks", fresh)
	}
}

func TestRecipes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var spans []span
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			spans = append(spans, span{rapid.Int64Range(1, 1<<40).Draw(t, "first"), rapid.Int64Range(1, 1<<20).Draw(t, "count")})
		}
		got, err := parseRecipe(appendRecipe(nil, spans))
		if err != nil || !slices.Equal(got, spans) {
			t.Fatalf("%v, %v, want %v", got, err, spans)
		}
	})
	for _, bad := range [][]byte{{0x80}, {2}, {2, 0}, {1, 1}, {2, 1, 0x80}} {
		if s, err := parseRecipe(bad); err == nil {
			t.Errorf("parseRecipe(%x) = %v", bad, s)
		}
	}
}

func TestShiftSpans(t *testing.T) {
	got := shiftSpans([]span{{1, 3}, {8, 4}, {12, 1}}, 10, 100)
	if want := []span{{1, 3}, {8, 2}, {110, 2}, {112, 1}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ps []*piece
		var body []byte
		var idx int64
		for range rapid.IntRange(0, 30).Draw(t, "n") {
			p := &piece{idx: idx, at: rapid.Int64Range(0, 1<<50).Draw(t, "at"), flags: byte(rapid.IntRange(0, 31).Draw(t, "flags")) &^ isPartial,
				data: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")}
			if p.flags&isMessage != 0 {
				p.opcode, p.size = rapid.Byte().Draw(t, "opcode"), rapid.Int64Range(0, 1<<40).Draw(t, "size")
				p.sum = rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "sum")
			}
			if p.flags&isPlain == 0 {
				p.idx += rapid.Int64Range(0, 3).Draw(t, "gap")
				idx = p.idx + 1
			}
			body = append(body, p.data...)
			ps = append(ps, p)
		}
		got, err := parseTimes(appendTimes(nil, ps, 0), body, 0)
		if err != nil || len(got) != len(ps) {
			t.Fatalf("%d pieces, %v", len(got), err)
		}
		for i, p := range ps {
			g := got[i]
			if g.idx != p.idx || g.at != p.at || g.flags != p.flags || g.opcode != p.opcode || g.size != p.size ||
				!bytes.Equal(g.sum, p.sum) || !bytes.Equal(g.data, p.data) {
				t.Fatalf("piece %d: %+v, want %+v", i, g, p)
			}
		}
	})
}

func FuzzDamagedTables(f *testing.F) {
	f.Add([]byte{1, 2, 3}, []byte{8, 1, 2, 3, 4, 32})
	f.Fuzz(func(t *testing.T, a, b []byte) { // must not panic
		parseRecipe(a)
		parseTimes(b, a, 0)
		parseChain(a)
		if dec, err := newDecoder(); err == nil {
			unsqueeze(dec, a)
			dec.Close()
		}
		var x flow.Exchange
		decodeDoc(b, &x)
		decodeConn(b)
	})
}

// conversation is a generator of requests that resend everything each turn,
// as agents do.
type conversation struct {
	r     *rand.Rand
	head  string
	turns []string
}

func newConversation() *conversation {
	r := rand.New(rand.NewPCG(3, 3))
	return &conversation{r: r, head: fmt.Sprintf(`{"model":"m","max_tokens":32000,"stream":true,"system":%q,"tools":[%s],"messages":[`,
		prose(r, 20_000), strings.TrimSuffix(strings.Repeat(fmt.Sprintf(`{"name":"t","description":%q},`, prose(r, 1500)), 20), ","))}
}

// turn returns the next request. The marker of the cache moves to the last
// message each turn.
func (c *conversation) turn() []byte {
	c.turns = append(c.turns, fmt.Sprintf(`{"role":"user","content":[{"type":"tool_result","content":%q`, prose(c.r, 1000+c.r.IntN(5000))))
	var b bytes.Buffer
	b.WriteString(c.head)
	for i, t := range c.turns {
		b.WriteString(t)
		if i == len(c.turns)-1 {
			b.WriteString(`,"cache_control":{"type":"ephemeral"}}]}]}`)
		} else {
			b.WriteString(`}]},`)
		}
	}
	return b.Bytes()
}

// TestConversationGrowsWithWhatIsNew is what chunking is for.
func TestConversationGrowsWithWhatIsNew(t *testing.T) {
	turns := 100
	if os.Getenv("TRACE_LONG") != "" {
		turns = 300
	}
	s, path := create(t, Options{Redact: redact.New([32]byte{})})
	c := &script{s: s, conn: 1}
	c.open()
	conv := newConversation()
	var logical, last int64
	var want []byte
	for i := range turns {
		want = conv.turn()
		c.request("POST", "/v1/messages", "application/json", want)
		c.response(200, "text/event-stream", true)
		for j := range 50 {
			logical += int64(len(c.event(fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"turn %d word %d "}}`, i, j))))
		}
		c.end(nil)
		logical += int64(len(want))
		last++
	}
	fs := finish(t, s)
	r := open(t, path)
	got, err := r.Body(last, flow.Client)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("body of the last turn: %d bytes of %d, %v", len(got), len(want), err)
	}
	share := 100 * float64(fs.Bytes) / float64(logical)
	t.Logf("%d turns: %d bytes logical, %d on disk: %.2f %%", turns, logical, fs.Bytes, share)
	if limit := 2.0 * 300 / float64(turns); share > limit {
		t.Errorf("the file holds %.2f %% of what was sent, want at most %.1f %%", share, limit)
	}
}
