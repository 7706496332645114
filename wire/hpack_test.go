package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"trace/flow"
)

// blocks decodes header blocks one after the other, cut into pieces.
type blocks struct {
	hpackDecoder
	got []flow.Field
}

func newBlocks() *blocks {
	b := new(blocks)
	b.init(func(f flow.Field, long bool) {
		if long {
			f.Name = "(long)"
		}
		b.got = append(b.got, f)
	})
	return b
}

func (b *blocks) block(p []byte, cut func(int) int) ([]flow.Field, error) {
	b.got = nil
	for len(p) > 0 {
		n := cut(len(p))
		piece := bytes.Clone(p[:n])
		if _, err := b.write(piece); err != nil {
			return b.got, err
		}
		clear(piece)
		p = p[n:]
	}
	return b.got, b.end()
}

func all(n int) int { return n }
func one(int) int   { return 1 }

// appendixC holds the header blocks of RFC 7541 appendix C.3 to C.6: a run of
// blocks each, and the size of the table that the last one leaves.
var appendixC = []struct {
	name   string
	blocks []string
	table  uint64 // SETTINGS_HEADER_TABLE_SIZE; 0: the default
	size   uint64
}{
	{"C.3", []string{
		"828684410f7777772e6578616d706c652e636f6d",
		"828684be58086e6f2d6361636865",
		"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
	}, 0, 164},
	{"C.4", []string{
		"828684418cf1e3c2e5f23a6ba0ab90f4ff",
		"828684be5886a8eb10649cbf",
		"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
	}, 0, 164},
	{"C.5", []string{
		"4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
		"4803333037c1c0bf",
		"88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
	}, 256, 215},
	{"C.6", []string{
		"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
		"4883640effc1c0bf",
		"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
	}, 256, 215},
}

var appendixFields = map[string][]string{
	"C.3": {
		":method=GET :scheme=http :path=/ :authority=www.example.com",
		":method=GET :scheme=http :path=/ :authority=www.example.com cache-control=no-cache",
		":method=GET :scheme=https :path=/index.html :authority=www.example.com custom-key=custom-value",
	},
	"C.5": {
		":status=302 cache-control=private date=Mon, 21 Oct 2013 20:13:21 GMT location=https://www.example.com",
		":status=307 cache-control=private date=Mon, 21 Oct 2013 20:13:21 GMT location=https://www.example.com",
		":status=200 cache-control=private date=Mon, 21 Oct 2013 20:13:22 GMT location=https://www.example.com content-encoding=gzip set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
	},
}

func TestHPACKAppendixC(t *testing.T) {
	for _, c := range appendixC {
		want := appendixFields[c.name]
		if want == nil { // the same in the Huffman code
			want = appendixFields[map[string]string{"C.4": "C.3", "C.6": "C.5"}[c.name]]
		}
		for _, cut := range []func(int) int{all, one} {
			b := newBlocks()
			if c.table > 0 {
				b.table.resize(c.table)
			}
			for i, text := range c.blocks {
				p, err := hex.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				got, err := b.block(p, cut)
				if err != nil || join(got) != want[i] {
					t.Errorf("%s.%d: %v\n%s\nwant\n%s", c.name, i+1, err, join(got), want[i])
				}
			}
			if b.table.size != c.size {
				t.Errorf("%s: the table holds %d, want %d", c.name, b.table.size, c.size)
			}
		}
	}
}

func join(fs []flow.Field) string {
	var words []string
	for _, f := range fs {
		words = append(words, f.Name+"="+f.Value)
	}
	return strings.Join(words, " ")
}

// TestHPACKAgainstEncoder has another encoder write random blocks: the fields
// come back, through every eviction and change of the table's size.
func TestHPACKAgainstEncoder(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		var w bytes.Buffer
		e := hpack.NewEncoder(&w)
		b := newBlocks()
		b.allowed = 1 << 20
		e.SetMaxDynamicTableSizeLimit(1 << 20)
		for range 40 {
			if r.IntN(5) == 0 {
				e.SetMaxDynamicTableSize(uint32(r.IntN(1 << r.IntN(16))))
			}
			w.Reset()
			var want []flow.Field
			for range r.IntN(20) {
				f := flow.Field{Name: fmt.Sprintf("n%d", r.IntN(30)), Value: randomText(r, r.IntN(1<<r.IntN(11)))}
				if r.IntN(3) == 0 {
					f = staticTable[r.IntN(len(staticTable))]
				}
				want = append(want, f)
				if err := e.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value, Sensitive: r.IntN(5) == 0}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := b.block(w.Bytes(), func(n int) int { return 1 + r.IntN(n) })
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("seed %d: %v\n%q\nwant\n%q", seed, err, got, want)
			}
		}
	}
}

func randomText(r *rand.Rand, n int) string {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.IntN(256))
		if r.IntN(8) > 0 {
			p[i] = ' ' + p[i]%95
		}
	}
	return string(p)
}

// TestHuffmanOctets: every octet has the code that the RFC gives it.
func TestHuffmanOctets(t *testing.T) {
	for c := range 256 {
		p := hpack.AppendHuffmanString(nil, string([]byte{byte(c), 'a', byte(c)}))
		var h huffman
		got, _, err := h.decode(nil, p, 100)
		if err == nil {
			got, err = h.end(got)
		}
		if err != nil || string(got) != string([]byte{byte(c), 'a', byte(c)}) {
			t.Errorf("%d: %q %v", c, got, err)
		}
	}
}

// TestHPACKErrors: each way in which a block can be wrong is told as what it is,
// at the same byte in every split.
func TestHPACKErrors(t *testing.T) {
	for name, c := range map[string]struct {
		block string
		want  error
	}{
		"index 0":              {"\x80", errIndex},
		"no such entry":        {"\xbe", errIndex},
		"no such name":         {"\x7f\x00", errIndex},
		"name index 0 is fine": {"\x00\x01a\x01b", nil},
		"endless integer":      {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", errInteger},
		"zeros without end":    {"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", errInteger},
		"large table":          {"\x3f\xe2\x1f", errTableSize},
		"largest table":        {"\x3f\xe1\x1f", nil},
		"table, late":          {"\x82\x20", nil},
		"end of string":        {"\x00\x84\xff\xff\xff\xff\x00", errHuffman}, // EOS
		"padding of zeros":     {"\x00\x81\x18\x00", errHuffman},             // a, then 000
		"padding of an octet":  {"\x00\x82\x1f\xff\x00", errHuffman},
		"padding":              {"\x00\x81\x1f\x00", nil},
		"half a name":          {"\x00\x02a", errBlockEnd},
		"no value":             {"\x00\x01a", errBlockEnd},
		"half an integer":      {"\xff", errBlockEnd},
	} {
		for i, cut := range []func(int) int{all, one} {
			b := newBlocks()
			if _, err := b.block([]byte(c.block), cut); err != c.want {
				t.Errorf("%s, split %d: %v, want %v", name, i, err, c.want)
			}
		}
	}
}

// TestHPACKLargeTable: of a table beyond our limit the newest entries are held,
// and what is missing is known to be missing by our limit.
func TestHPACKLargeTable(t *testing.T) {
	var w bytes.Buffer
	e := hpack.NewEncoder(&w)
	b := newBlocks()
	b.allowed = 16 << 20
	e.SetMaxDynamicTableSizeLimit(16 << 20)
	e.SetMaxDynamicTableSize(16 << 20)
	value := strings.Repeat("v", 10_000)
	for i := range 300 { // 3 MB
		w.Reset()
		if err := e.WriteField(hpack.HeaderField{Name: fmt.Sprintf("n%d", i), Value: value}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.block(w.Bytes(), all); err != nil {
			t.Fatal(err)
		}
	}
	if b.table.size > maxTable || b.table.size < maxTable-11_000 {
		t.Errorf("%d bytes are held", b.table.size)
	}
	for _, c := range []struct {
		field string
		want  error
	}{{"n299", nil}, {"n250", nil}, {"n100", errTableShort}} {
		w.Reset()
		if err := e.WriteField(hpack.HeaderField{Name: c.field, Value: value}); err != nil {
			t.Fatal(err)
		}
		got, err := b.block(w.Bytes(), all)
		if err != c.want || err == nil && join(got) != c.field+"="+value {
			t.Errorf("%s: %v", c.field, err)
		}
	}
	// A smaller table holds what both hold.
	b = newBlocks()
	b.allowed = 16 << 20
	b.table.resize(16 << 20)
	b.table.add(flow.Field{Name: "a", Value: value}, false)
	b.table.add(flow.Field{}, true)
	b.table.add(flow.Field{Name: "b"}, false)
	if _, err := b.table.get(63); err != errTableShort {
		t.Error(err)
	}
	b.table.resize(4096)
	if f, err := b.table.get(62); err != nil || f.Name != "b" {
		t.Error(f, err)
	}
	if _, err := b.table.get(63); err != errIndex {
		t.Error(err)
	}
}

// FuzzHPACK: what another decoder reads is read alike, and no split changes what
// is read. Ours may take what the other one refuses.
func FuzzHPACK(f *testing.F) {
	for _, c := range appendixC {
		for _, text := range c.blocks {
			p, _ := hex.DecodeString(text)
			f.Add(p, []byte{0x82}, uint64(1))
		}
	}
	f.Add([]byte("\x3f\xe1\x1f\x20\x40\x01a\x01b\xbe"), []byte{0xbe}, uint64(2))
	f.Add([]byte("\x00\x81\xff\x01b"), []byte("\x0f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), uint64(3))
	f.Add([]byte("\x40\x86\xff\xff\xff\xfa\xff\xff\x00"), []byte{}, uint64(4))
	f.Fuzz(func(t *testing.T, first, second []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 5))
		var want []flow.Field
		reference := hpack.NewDecoder(4096, func(h hpack.HeaderField) {
			want = append(want, flow.Field{Name: h.Name, Value: h.Value})
		})
		whole, bytewise, random := newBlocks(), newBlocks(), newBlocks()
		for _, p := range [][]byte{first, second} {
			want = nil
			_, refErr := reference.Write(p)
			if refErr == nil {
				refErr = reference.Close()
			}
			got, err := whole.block(p, all)
			if refErr == nil && (err != nil || !slices.Equal(got, want)) {
				t.Fatalf("%x: got %q, %v, want %q", p, got, err, want)
			}
			for _, b := range []*blocks{bytewise, random} {
				cut := one
				if b == random {
					cut = func(n int) int { return 1 + r.IntN(n) }
				}
				again, errAgain := b.block(p, cut)
				if err != errAgain || !slices.Equal(again, got) || b.table.size != whole.table.size {
					t.Fatalf("%x: got %q, %v, whole %q, %v", p, again, errAgain, got, err)
				}
			}
			if err != nil || refErr != nil {
				return // of no use any more
			}
		}
	})
}
