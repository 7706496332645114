package mcp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// found is what a path leads to in text, which is written in pieces of the sizes
// that next returns.
func found(t testing.TB, text, path string, next func(left int) int) (values []string, s *scanner, err error) {
	t.Helper()
	steps, _, err := parsePath(path)
	if err != nil {
		t.Fatal(err)
	}
	s = newScanner(steps)
	var b bytes.Buffer
	s.begun = func(string) { b.Reset() }
	s.sink = func(p []byte) { b.Write(p) }
	s.done = func() { values = append(values, b.String()) }
	for p := []byte(text); len(p) > 0; {
		n := next(len(p))
		piece := bytes.Clone(p[:n])
		if _, err := s.Write(piece); err != nil {
			return values, s, err
		}
		for i := range piece {
			piece[i] = '!' // what is kept of it would show
		}
		p = p[n:]
	}
	if !s.finish() {
		err = fmt.Errorf("too short")
	}
	return values, s, err
}

func whole(left int) int  { return left }
func byByte(int) int      { return 1 }
func anyhow(left int) int { return 1 + rand.IntN(left) }

const sampleJSON = ` {"model":"x","n":-1.5e3,"yes":true,"none":null,"a\"b":{"c.d":[1,2,3]},"é":"ü",
 "messages":[{"role":"user","content":"a \"quoted\"\n\u00e9 \ud83d\ude00 end"},{"role":"assistant","content":[{"type":"text","text":"[{]}"},{"text":"two"}]}, 7, "x", [] , {}]}`

func TestPaths(t *testing.T) {
	for _, c := range []struct {
		path string
		want []string
	}{
		{"model", []string{`"x"`}},
		{".model", []string{`"x"`}},
		{"$.n", []string{`-1.5e3`}},
		{"yes", []string{`true`}},
		{"none", []string{`null`}},
		{`["a\"b"]["c.d"][1]`, []string{`2`}},
		{`é`, []string{`"ü"`}},
		{"/messages/1/content/0/text", []string{`"[{]}"`}},
		{"messages[0].role", []string{`"user"`}},
		{"messages[*].role", []string{`"user"`, `"assistant"`}},
		{"messages[].content[*].text", []string{`"[{]}"`, `"two"`}},
		{"messages[2:4]", []string{`7`, `"x"`}},
		{"messages[4]", []string{`[]`}},
		{"messages[5]", []string{`{}`}},
		{"messages.*.role", []string{`"user"`, `"assistant"`}},
		{"messages[9]", nil},
		{"model[0]", nil},
		{"model.x", nil},
		{"messages.role", nil},
		{"[0]", nil},
		{"$", []string{strings.TrimSpace(sampleJSON)}},
	} {
		for name, next := range map[string]func(int) int{"whole": whole, "by byte": byByte, "anyhow": anyhow} {
			got, _, err := found(t, sampleJSON, c.path, next)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%s, %s: %q, want %q, %v", c.path, name, got, c.want, err)
			}
		}
	}
}

func TestBadPaths(t *testing.T) {
	for _, path := range []string{"a..b", "[", "[x]", `["x]`, "[-99999999999999]", "a]b[", "[3:1]", "[1:2:3]", strings.Repeat("a.", 600), "a[0]b"} {
		if steps, _, err := parsePath(path); err == nil {
			t.Errorf("%q is read as %+v", path, steps)
		}
	}
}

// TestShape tells of the children of a value.
func TestShape(t *testing.T) {
	for name, next := range map[string]func(int) int{"whole": whole, "by byte": byByte, "anyhow": anyhow} {
		_, s, err := found(t, `{"a":[1,2],"b":"`+strings.Repeat("xy", 100)+`","c":{"d":{}}, "e" : 12 }`, "$", next)
		if err != nil {
			t.Fatal(err)
		}
		want := `[{a array 5 [1,2]} {b string 202 "` + strings.Repeat("xy", 27) + `x…} {c object 8 {"d":{}}} {e number 2 12}]`
		if got := fmt.Sprint(s.members); got != want || s.children != 4 {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestStrings compares the texts of strings with those that encoding/json reads.
func TestStrings(t *testing.T) {
	for _, text := range []string{`""`, `"plain"`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9\u20AC\ud83d\ude00"`, `"\ud83d"`, `"\ude00x"`, `"\ud83d\ud83d\ude00"`, `"a\ud83dz"`, `"é😀"`} {
		var want string
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		for _, step := range []int{1, 2, 3, 100} {
			var b strings.Builder
			u := &unescaper{to: func(p []byte) { b.Write(p) }}
			for i := 0; i < len(text); i += step {
				u.write([]byte(text[i:min(len(text), i+step)]))
			}
			u.flush()
			if b.String() != want {
				t.Errorf("%s in pieces of %d: %q, want %q", text, step, b.String(), want)
			}
		}
	}
}

func TestNoJSON(t *testing.T) {
	for _, text := range []string{"", "plain", "{", `{"a"`, `{"a":`, `{"a":1`, `{"a" 1}`, `{1:2}`, `[1,`, `[1 2]`, `[}`, `{]`, `{"a":1]`, `["x`, "\x00", strings.Repeat("[", maxDepth+2)} {
		for _, next := range []func(int) int{whole, byByte} {
			if got, _, err := found(t, text, "$", next); err == nil {
				t.Errorf("%.20q is read as %q", text, got)
			}
		}
	}
}

// FuzzScan wants the same of any pieces, and that encoding/json agrees on what is
// JSON.
func FuzzScan(f *testing.F) {
	f.Add([]byte(sampleJSON), "messages[0].content", uint8(3))
	f.Add([]byte(`[1,[2,{"a":"\u00e9"}]]`), "[1][1].a", uint8(1))
	f.Add([]byte(`"\\"`), "$", uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, path string, step uint8) {
		if _, _, err := parsePath(path); err != nil {
			t.Skip()
		}
		a, sa, errA := found(t, string(text), path, whole)
		b, sb, errB := found(t, string(text), path, func(left int) int { return min(left, int(step)+1) })
		if errA == nil && (fmt.Sprint(a) != fmt.Sprint(b) || fmt.Sprint(sa.members) != fmt.Sprint(sb.members)) || (errA == nil) != (errB == nil) {
			t.Errorf("whole: %q %v, in pieces: %q %v", a, errA, b, errB)
		}
		if json.Valid(text) && errA != nil && !bytes.Contains(text, bytes.Repeat([]byte("["), 100)) {
			t.Errorf("%q: %v", text, errA)
		}
		for _, v := range a {
			if json.Valid(text) && !json.Valid([]byte(v)) {
				t.Errorf("%q in %q", v, text)
			}
		}
	})
}
