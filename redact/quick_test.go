package redact

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"trace/flow"
)

// checkClean fails if something is found in a text that isClean let pass.
func checkClean(t *testing.T, r *Redactor, in []byte) (clean bool) {
	clean = r.isClean(in)
	if r.known.isAbsent(in) {
		s := r.scan.reset(&r.known, in)
		s.blob = true
		if spans, _ := s.scan(); len(spans) > 0 {
			t.Fatalf("absent is %v in %q", spans, in)
		}
	}
	if !clean {
		return false
	}
	for _, url := range []bool{false, true} {
		s := r.scan.reset(&r.known, in)
		s.url = url
		if spans, _ := s.scan(); len(spans) > 0 {
			t.Fatalf("clean is %v of %q (url %v)", spans, in, url)
		}
	}
	return true
}

// crumbs are what names, separators and the beginnings of secrets are made of.
var crumbs = strings.Fields(`: = " ' \ \\" // :// ? & # ; , . - _ % %3a %3D \u003a \u0070 + @ [ ] { } key token x-api-key X-API-KEY authorization
	password Authorization code secret TOKEN API_KEY sk- sk-ant- eyJ AKIA ghp_ bearer Bearer Q~ 1// https http user a b 0 1 42 value abcdefgh
	abcdefghijklmnop 0123456789 hunter2hunter2 Signature Credential PrivateKey [REDACTED:header] aws_secret_access_key AIza hooks.slack.com/ m ESC[0m`)

func crumble(rng *rand.Rand) []byte {
	var b []byte
	for range 1 + rng.IntN(9) {
		b = append(b, crumbs[rng.IntN(len(crumbs))]...)
		switch rng.IntN(6) {
		case 0:
			b = append(b, ' ')
		case 1:
			b = append(b, byte(rng.UintN(256)))
		}
	}
	return b
}

// TestClean: what isClean lets pass holds nothing that a scan finds.
func TestClean(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := New(testKey)
	clean := 0
	for i := range 60_000 {
		in := crumble(rng)
		if i%5000 == 4000 { // from now on it is remembered
			r.known.remember([]byte(fmt.Sprint("hunter2hunter2", i, string(in))), kindHeader)
			r.known.remember(in, kindHeader)
		}
		if i%20 == 0 { // remembered, whole or cut
			f := r.known.forms
			if len(f) > 0 {
				v := f[rng.IntN(len(f))].text
				in = append(in, v[:1+rng.IntN(len(v))]...)
			}
		}
		if checkClean(t, r, in) {
			clean++
		}
	}
	if clean < 6000 {
		t.Errorf("%d texts were clean", clean)
	}
	for _, s := range seeds() {
		checkClean(t, r, []byte(s))
	}
	for _, s := range []string{"application/json", "Mon, 02 Jan 2026 15:04:05 GMT", "gzip, deflate, br", "/v1/items/12?page=3", "a: b, c;q=0.5"} {
		if !r.isClean([]byte(s)) && !strings.ContainsAny(s, "=") {
			t.Errorf("%q is looked at", s)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s), uint8(0), uint8(9))
	}
	f.Fuzz(func(t *testing.T, in []byte, from, n uint8) {
		r := New(testKey)
		checkClean(t, r, in)
		if i := int(from); i < len(in) {
			r.known.remember(in[i:min(len(in), i+int(n))], kindHeader)
		}
		checkClean(t, r, in)
	})
}

// TestMemoryOfNames: a Redactor that remembers what passed says the same as
// one that looks at everything anew.
func TestMemoryOfNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	quick, slow := New(testKey), New(testKey)
	quick.Tag()
	slow.Tag()
	word := func() string { return crumbs[rng.IntN(len(crumbs))] }
	for i := range 20_000 {
		slow.seen, slow.types = nil, [2]typeOf{}
		if i%2 == 0 {
			h := &flow.Head{Method: "GET", Target: "/" + word() + "?" + word() + "=" + word()}
			h.Path = h.Target
			for range rng.IntN(6) {
				h.Fields = append(h.Fields, flow.Field{Name: []string{"Accept", "x-api-key", "Cookie", "Date", "X-Note", word()}[rng.IntN(6)], Value: word() + word()})
			}
			a, n := quick.Head(h, false)
			b, m := slow.Head(h, false)
			if n != m || !reflect.DeepEqual(a, b) {
				t.Fatalf("%d: %+v\n became %d %+v\nand not %d %+v", i, h, n, a, m, b)
			}
			continue
		}
		var s string
		for range 1 + rng.IntN(4) {
			s += fmt.Sprintf(`,%s:{"name":"x","value":%s,%s:%d}`, quoteJSON(word()), quoteJSON(word()+word()), quoteJSON(word()), rng.IntN(3)*123456789123456789)
		}
		if i%7 == 0 {
			s = fmt.Sprintf(`,%s:%s`, quoteJSON("{"+s[1:]+"}"), quoteJSON("{"+s[1:]+"}"))
		}
		in := []byte("{" + s[1:] + "}")
		a, n := quick.Body("application/json", in)
		b, m := slow.Body("application/json", in)
		if n != m || string(a) != string(b) {
			t.Fatalf("%d: %s\n became %d %s\nand not %d %s", i, in, n, a, m, b)
		}
	}
}
