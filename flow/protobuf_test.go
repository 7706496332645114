package flow

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestProtobuf(t *testing.T) {
	uuid := "\x0a$550e8400-e29b-41d4-a716-446655440000" // a message that is printable but for its first byte
	for _, c := range []struct{ in, want string }{
		{"", `{}`},
		{"\x08\x96\x01", `{"1":150}`},
		{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", `{"1":-1}`},
		{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f", `{"1":9223372036854775807}`},
		{"\x12\x07testing", `{"2":"testing"}`},
		{"\x12\x00", `{"2":""}`},
		{"\x1a\x03\x08\x96\x01", `{"3":{"1":150}}`},
		{"\x0a\x02hi\x10\x01\x0a\x02ho\x10\x02\x18\x03", `{"1":["hi","ho"],"2":[1,2],"3":3}`},
		{"\x18\x01\x08\x02\x18\x03", `{"3":[1,3],"1":2}`},
		{"\x0d\x00\x00\xc0\x3f", `{"1":{"fixed32":1069547520,"float":1.5}}`},
		{"\x0d\x00\x00\xc0\x7f", `{"1":{"fixed32":2143289344}}`},
		{"\x09\x00\x00\x00\x00\x00\x00\xf0\x3f", `{"1":{"fixed64":4607182418800017408,"double":1}}`},
		{"\x0b\x10\x01\x0c\x18\x02", `{"1":{"2":1},"3":2}`},
		{"\x0a\x02\xff\xfe", `{"1":{"base64":"//4="}}`},
		{"\x0a\x04a\nb\t", `{"1":"a\nb\t"}`},
		{"\x0a\x03<&>", `{"1":"<&>"}`},
		{"\x0a\x05\xc3\xa9\xe2\x82\xac", `{"1":"é€"}`},
		{"\x0a" + string(byte(len(uuid))) + uuid, `{"1":{"1":"550e8400-e29b-41d4-a716-446655440000"}}`},
		{"\xfa\xff\xff\xff\x0f\x01x", `{"536870911":"x"}`},

		{"\x08", ""}, {"\x00\x01", ""}, {"\x0a\x05hi", ""}, {"\x0b\x08\x01", ""}, {"\x0c", ""}, {"\x0b\x14", ""}, {"\x0e", ""},
		{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", ""}, {"\x0d\x00\x00", ""}, {"\x09\x00", ""},
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ""}, {"hello", ""},
	} {
		got, ok := Protobuf([]byte(c.in))
		if string(got) != c.want || ok != (c.want != "") {
			t.Errorf("%q: got %s, %t, want %s", c.in, got, ok, c.want)
		}
	}
}

// TestProtobufHostile: depth, number and size are bounded, and so is the time.
func TestProtobufHostile(t *testing.T) {
	begun := time.Now()
	nested := []byte("\x08\x01")
	for range 100_000 {
		n := len(nested)
		head := []byte{0x0a}
		for ; n > 0x7f; n >>= 7 {
			head = append(head, byte(n)|0x80)
		}
		if nested = append(append(head, byte(n)), nested...); len(nested) > 10_000 {
			break
		}
	}
	for name, p := range map[string][]byte{
		"messages": nested,
		"groups":   []byte(strings.Repeat("\x0b", 1<<20)),
		"balanced": []byte(strings.Repeat("\x0b", 1000) + strings.Repeat("\x0c", 1000)),
		"fields":   []byte(strings.Repeat("\x08\x01", 1<<20)),
		"large":    []byte(strings.Repeat("\x0a\x02hi", 2<<20)),
		"varied":   []byte(strings.Repeat("\x0a\x02\x08\x01", 60<<10)),
	} {
		text, ok := Protobuf(p)
		if want := name == "messages" || name == "varied"; ok != want {
			t.Errorf("%s: shown: %t", name, ok)
		}
		if ok && (!json.Valid(text) || Depth(text) > maxDepth || len(text) > 20*len(p)) {
			t.Errorf("%s: %d bytes, depth %d", name, len(text), Depth(text))
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// FuzzProtobuf: what is shown is JSON that may stand in ours.
func FuzzProtobuf(f *testing.F) {
	f.Add([]byte("\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01"))
	f.Add([]byte("\x0b\x10\x01\x0c\x0d\x00\x00\xc0\x7f\x09\x00\x00\x00\x00\x00\x00\xf0\x3f"))
	f.Add([]byte("\x0a\x26\x0a$550e8400-e29b-41d4-a716-446655440000"))
	f.Fuzz(func(t *testing.T, p []byte) {
		text, ok := Protobuf(p)
		if ok && (!json.Valid(text) || Depth(text) > maxDepth) {
			t.Fatalf("%x: %s", p, text)
		}
	})
}

func BenchmarkProtobuf(b *testing.B) {
	p := []byte(strings.Repeat("\x0a\x05hello\x10\x96\x01\x1a\x07\x0a\x05world", 1000))
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if _, ok := Protobuf(p); !ok {
			b.Fatal("not shown")
		}
	}
}
