package redact

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// seeds are texts that have led into corners.
func seeds() []string {
	s := append([]string{
		"", "\\", `"`, `{"a":"\`, `{"password":"\"`, `{"a":"{\"b\":\"\\u00`, "-----BEGIN PRIVATE KEY-----", "%", "%2", "data:", `{"\u0070assword":"x"}`,
		`[{"name":"authorization","value":"abcdefgh"}]`, `{"headers":{"x":"abcdefghi"},"type":"mcp"}`, `{"grant_type":"x","code":"12345"}`,
		`{"api_key":1}{"otp":"2"}`, `{"x":"\ud83d\ude00 \ud83d sk-"}`, "://:a@", "a://b:c@d@", "?token=&key==", `{"a":"data:image/png;base64,AAAA"}`,
	}, negatives...)
	for _, p := range samples() {
		s = append(s, p.text, quoteJSON(p.text), `{"a":`+quoteJSON(quoteJSON(p.text))+`,"password":1}`)
	}
	return s
}

func check(t *testing.T, in []byte) {
	r := New(testKey)
	for _, contentType := range []string{"application/json", "text/plain", "application/x-www-form-urlencoded", "text/event-stream", "multipart/form-data; boundary=a"} {
		out, _ := r.Body(contentType, in)
		again, n := r.Body(contentType, out)
		if n != 0 || !bytes.Equal(out, again) {
			t.Fatalf("%s: not idempotent:\n  in %q\n out %q\nthen %q", contentType, in, out, again)
		}
		if contentType == "application/json" && valid(string(in)) && !valid(string(out)) {
			t.Fatalf("validity: %q became %q", in, out)
		}
	}
	r = New(testKey)
	whole, _ := apply(in, r.text(in, false))
	rng := rand.New(rand.NewPCG(uint64(len(in)), 1))
	for range 3 {
		st := r.Stream("text/plain")
		var out []byte
		for rest := in; len(rest) > 0; {
			n := 1 + rng.IntN(min(len(rest), 9))
			safe, _ := st.Write(rest[:n])
			out = append(out, safe...)
			rest = rest[n:]
		}
		rest, _ := st.Close()
		if out = append(out, rest...); len(in) < maxContext && !lookback(in) && !alike(string(out), string(whole)) {
			t.Fatalf("split:\n   in %q\n  got %q\nwhole %q", in, out, whole)
		}
	}
	if r.Failures() != 0 {
		t.Fatalf("the gate failed on %q", in)
	}
}

// lookback reports whether in may hold a secret whose beginning is given out
// before it can be known: see matchAzure and beginning.
func lookback(in []byte) bool {
	return bytes.Contains(in, []byte("Q~")) || bytes.Contains(in, []byte("api_org_"))
}

func FuzzBody(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(check)
}

// TestMixed puts samples, pieces of them and of syntax side by side.
func TestMixed(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2941))
	all := append(seeds(), "{", "}", "[", "]", ":", ",", `"`, `\`, "\n", " ", "=", "&", "?", "sk-", "eyJ", "password", "%3D", `\u0073`, "@", "[REDACTED:json]", "-----END PRIVATE KEY-----", "\r\n\r\n", "data: ", "--a")
	for range 4000 {
		var b []byte
		for range 1 + rng.IntN(5) {
			s := all[rng.IntN(len(all))]
			if i := rng.IntN(len(s) + 1); rng.IntN(2) == 0 && !strings.HasPrefix(s, opening) {
				s = s[i:]
			}
			b = append(b, s...)
		}
		check(t, b)
	}
}

// TestReference compares with the expressions that describe the formats:
// nothing that one of them finds remains.
func TestReference(t *testing.T) {
	var exprs []*regexp.Regexp
	for _, e := range []string{
		`\bsk-ant-[A-Za-z0-9]{2,16}-[A-Za-z0-9_-]{16,}`, `\bsk-(?:proj-|svcacct-|service-|admin-|None-|or-v1-|lf-)?[A-Za-z0-9][A-Za-z0-9_-]{19,}`,
		`\b(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b|\bAKIA[A-Z0-9]{16}\b`, `\bABSK[A-Za-z0-9+/]{60,}={0,2}|\bbedrock-api-key-[A-Za-z0-9+/=_-]{20,}`,
		`\b(?:gh[pour]_[A-Za-z0-9_]{36,255}|github_pat_[A-Za-z0-9_]{36,255})`, `\bghs_[A-Za-z0-9._-]{36,}`, `\bgl(?:pat|rt|dt|ptt|oas)-[A-Za-z0-9_-]{20,}`,
		`\bxox(?:[abceoprs]|e\.xox[bp])-[A-Za-z0-9-]{10,}|\bxoxd-[A-Za-z0-9%+/=_-]{20,}`, `\bxapp-\d-[A-Za-z0-9]+-\d+-[A-Za-z0-9]+`,
		`\bAIza[0-9A-Za-z_-]{35}`, `\bAQ\.[A-Za-z][A-Za-z0-9_-]{20,}`, `\bya29\.[A-Za-z0-9._-]{20,}`, `\b1//[0-9A-Za-z_-]{20,}`, `\bGOCSPX-[A-Za-z0-9_-]{28}`,
		`\b[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}`, `\b(?:hf|api_org)_[A-Za-z0-9]{34,}`, `\bgsk_[A-Za-z0-9]{40,}`, `\bxai-[0-9A-Za-z_]{60,}`, `\bpplx-[A-Za-z0-9]{40,}`,
		`\blsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}`, `\bnpm_[A-Za-z0-9]{36}`, `\b[sr]k_(?:live|test|prod)_[A-Za-z0-9]{10,99}`, `\bek_[A-Za-z0-9]{20,}`,
		`\beyJ[A-Za-z0-9_-]{8,}={0,2}\.eyJ[A-Za-z0-9_-]{8,}={0,2}\.[A-Za-z0-9_-]*`, `\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){4}`,
		`(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----`,
		`-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s:,-]|\\[nr])*`, `AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}`,
	} {
		exprs = append(exprs, regexp.MustCompile(e))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	all := samples()
	alphabet := "ABZaz059_-./+=~ \n"
	for range 3000 {
		var b strings.Builder
		for range 3 {
			s := all[rng.IntN(len(all))].text
			s = s[:len(s)-rng.IntN(len(s)/4+1)]
			b.WriteString(s)
			for range rng.IntN(30) {
				b.WriteByte(alphabet[rng.IntN(len(alphabet))])
			}
		}
		out, _ := New(testKey).String(b.String())
		for _, e := range exprs {
			if m := e.FindString(out); m != "" {
				t.Fatalf("%s\nfinds %q\n   in %q\n from %q", e, m, out, b.String())
			}
		}
	}
}

// TestFailsClosed: a panic withholds what was not judged.
func TestFailsClosed(t *testing.T) {
	broken := func() *Redactor {
		r := New(testKey)
		r.known.values, r.known.forms = map[string]bool{}, []form{{}}
		r.known.max = -1 << 62 // a slice bound out of range in tail
		r.known.grams = nil
		r.scratch = []*walker{nil}
		return r
	}
	r := broken()
	if out, n := r.Body("application/json", []byte(`{"a":"secret"}`)); string(out) != Withheld || n != 1 || r.Failures() != 1 {
		t.Errorf("%s, %d, %d", out, n, r.Failures())
	}
	e := New(testKey).Events()
	e.r.scratch = []*walker{nil, nil}
	outs := e.Event([]byte("data: {\"a\":\"{\\\"b\\\":1}\"}\n\n"))
	if len(outs) != 1 || !strings.Contains(string(outs[0].Raw), Withheld) || e.r.Failures() != 1 {
		t.Errorf("%+v", outs)
	}
	if outs = e.Event([]byte("data: {\"a\":1}\n\n")); len(outs) != 1 || outs[0].Index != 1 || string(outs[0].Raw) != "data: {\"a\":1}\n\n" {
		t.Errorf("the stream does not go on: %+v", outs)
	}
}

// conversation is the body of an LLM call of about n bytes.
func conversation(n int) []byte {
	code := "func (d *Decoder) Data(side Side, p []byte) error {\n\tif len(p) == 0 {\n\t\treturn fmt.Errorf(\"decode %s: %w\", side, io.EOF)\n\t}\n\tx := map[string]int{\"a\": 1}\n}\n"
	prose := "The tail is the end of a text that comes in pieces; what is not decided yet stays behind. See https://example.com/docs?x=1 for details, as ever. "
	type message map[string]any
	var ms []message
	for size := 0; size < n; {
		s := strings.Repeat(code, 4) + strings.Repeat(prose, 4)
		ms = append(ms, message{"role": "user", "content": []message{{"type": "tool_result", "tool_use_id": "toolu_01A09q90qw90lq917835lq9", "content": s}}})
		size += len(s)
	}
	b, err := json.Marshal(message{"model": "m", "max_tokens": 100, "messages": ms})
	if err != nil {
		panic(err)
	}
	return b
}

func BenchmarkJSON(b *testing.B) {
	p := conversation(1 << 20)
	r := New(testKey)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 { // cookies of a long run
		v := make([]byte, 40)
		for i := range v {
			v[i] = b62[rng.IntN(len(b62))]
		}
		r.known.remember(v, kindCookie)
	}
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if _, n := r.Body("application/json", p); n != 0 {
			b.Fatal(n)
		}
	}
}

func BenchmarkText(b *testing.B) {
	p := bytes.Repeat([]byte("The tail is the end of a text that comes in pieces; what is not decided yet stays behind. See the docs.\n"), 10_000)
	r := New(testKey)
	r.known.remember([]byte(chars(b62, 40)), kindHeader)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		r.Body("text/plain", p)
	}
}

func BenchmarkStream(b *testing.B) {
	p := bytes.Repeat([]byte("The tail is the end of a text that comes in pieces; what is not decided yet stays behind. See the docs.\n"), 320)
	r := New(testKey)
	s := r.Stream("")
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		s.Write(p)
	}
}

func BenchmarkEvent(b *testing.B) {
	r := New(testKey)
	e := r.Events()
	p := []byte(dialects[0].block(" some words"))
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		e.Event(p)
	}
}
