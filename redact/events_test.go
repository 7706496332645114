package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// A dialect writes one piece of text as the event block of one API, and reads
// it back.
type dialect struct {
	name  string
	block func(piece string) string
	path  []string // to the piece in the data
	end   string   // a block that ends the text, if there is one
}

func quoteJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

var dialects = []dialect{
	{"anthropic text", func(p string) string {
		return `event: content_block_delta` + "\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":` + quoteJSON(p) + `}}` + "\n\n"
	}, []string{"delta", "text"}, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"},
	{"anthropic input", func(p string) string {
		return `data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":` + quoteJSON(p) + `}}` + "\r\n\r\n"
	}, []string{"delta", "partial_json"}, "data: {\"type\":\"content_block_stop\",\"index\":1}\n\n"},
	{"openai chat", func(p string) string {
		return `data: {"id":"chatcmpl-1","choices":[{"delta":{"content":` + quoteJSON(p) + `},"index":0,"finish_reason":null}]}` + "\n\n"
	}, []string{"choices", "delta", "content"}, "data: [DONE]\n\n"},
	{"openai tool", func(p string) string {
		return `data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":` + quoteJSON(p) + `}}]}}]}` + "\n\n"
	}, []string{"choices", "delta", "tool_calls", "function", "arguments"}, ""},
	{"responses", func(p string) string {
		return `data: {"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":` + quoteJSON(p) + `}` + "\n\n"
	}, []string{"delta"}, `data: {"type":"response.output_text.done","output_index":0,"content_index":0,"text":""}` + "\n\n"},
	{"gemini", func(p string) string {
		return `data: {"candidates":[{"content":{"parts":[{"text":` + quoteJSON(p) + `}],"role":"model"},"index":0}]}` + "\r\n\r\n"
	}, []string{"candidates", "content", "parts", "text"}, ""},
	{"unknown", func(p string) string {
		return `data: {"a":{"b":[7,` + quoteJSON(p) + `]}}` + "\n\n"
	}, nil, ""},
	{"plain", func(p string) string { return "data: " + p + "\n\n" }, nil, ""},
}

// feed sends blocks and returns the latest state of each, and how often one
// came again.
func feed(t *testing.T, blocks ...string) []string {
	t.Helper()
	e := New(testKey).Events()
	got := make([]string, len(blocks))
	seen := make([]bool, len(blocks))
	partial := map[int]bool{}
	take := func(outs []Out) {
		for _, o := range outs {
			if seen[o.Index] && !partial[o.Index] {
				t.Errorf("event %d came again though it was whole", o.Index)
			}
			seen[o.Index], partial[o.Index] = true, o.Partial
			got[o.Index] = string(o.Raw)
		}
	}
	for i, b := range blocks {
		raw := []byte(b)
		take(e.Event(raw))
		if !seen[i] {
			t.Fatalf("event %d did not come at once", i)
		}
		clear(raw) // it may be reused
	}
	take(e.Close())
	for i, p := range partial {
		if p {
			t.Errorf("event %d was never completed", i)
		}
	}
	return got
}

// piece reads the text of a block back.
func (d dialect) piece(t *testing.T, block string) string {
	t.Helper()
	_, data, ok := strings.Cut(block, "data: ")
	if !ok {
		t.Fatalf("%s: no data in %q", d.name, block)
	}
	data = strings.TrimRight(data, "\r\n")
	if d.name == "plain" {
		return data
	}
	var v any
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.Fatalf("%s: %q: %v", d.name, data, err)
	}
	if d.path == nil {
		return v.(map[string]any)["a"].(map[string]any)["b"].([]any)[1].(string)
	}
	for _, k := range d.path {
		if l, ok := v.([]any); ok {
			v = l[0]
		}
		v = v.(map[string]any)[k]
	}
	return v.(string)
}

// given are the first letters of a literal, which are not held back.
var given = regexp.MustCompile(`^(?:\\u[0-9a-f]{4}|%[0-9A-F]{2}|[A-Za-z0-9/+_=.-]){0,2}$`)

// alike reports whether got is want, but for the first letters of secrets:
// those that ended a piece were given out with it (see minBegun).
func alike(got, want string) bool {
	g, w := strings.Split(got, opening), strings.Split(want, opening)
	if len(g) != len(w) || g[len(g)-1] != w[len(w)-1] {
		return false
	}
	for i := range len(g) - 1 {
		early, ok := strings.CutPrefix(g[i], w[i])
		if !ok || !given.MatchString(early) {
			return false
		}
	}
	return true
}

// TestSplit cuts each secret at every byte over two deltas.
func TestSplit(t *testing.T) {
	for _, s := range samples() {
		if strings.Contains(s.text, "\n") {
			continue // long: TestSplitSmall
		}
		text := "It is " + s.text + " so."
		whole, _ := New(testKey).String(text)
		for _, d := range dialects {
			if d.name == "plain" && strings.HasPrefix(s.kind, "private") {
				continue
			}
			for i := 1; i < len(text); i++ {
				blocks := []string{d.block(text[:i]), d.block(text[i:])}
				if d.end != "" {
					blocks = append(blocks, d.end)
				}
				got := feed(t, blocks...)
				all := d.piece(t, got[0]) + d.piece(t, got[1])
				if d.name != "plain" && d.name != "unknown" && s.kind != "azure-ad" && s.kind != "hf" && !alike(all, whole) || strings.Contains(all, s.secret) {
					t.Errorf("%s: %s cut at %d (%q):\n got %q\nwant %q", d.name, s.kind, i, text[max(0, i-8):i], all, whole)
					break
				}
			}
		}
	}
}

// TestSplitSmall sends each secret a few bytes at a time.
func TestSplitSmall(t *testing.T) {
	for _, s := range samples() {
		text := "It is\n" + s.text + "\nso."
		whole, _ := New(testKey).String(text)
		for _, d := range dialects[:6] {
			for _, size := range []int{1, 3, 7} {
				var blocks []string
				for rest := text; rest != ""; {
					n := min(size, len(rest))
					blocks = append(blocks, d.block(rest[:n]))
					rest = rest[n:]
				}
				var all strings.Builder
				for _, b := range feed(t, blocks...) {
					all.WriteString(d.piece(t, b))
				}
				if !alike(all.String(), whole) && s.kind != "azure-ad" && s.kind != "hf" {
					t.Errorf("%s: %s by %d:\n got %q\nwant %q", d.name, s.kind, size, all.String(), whole)
				}
			}
		}
	}
}

// TestLive: ordinary tokens are whole at once.
func TestLive(t *testing.T) {
	d := dialects[0]
	r := New(testKey)
	r.known.remember([]byte(chars(b62, 40)), kindHeader)
	e := r.Events()
	for _, w := range strings.SplitAfter("Hello world, the pass word is in your key chain; look at https now. Done!", " ") {
		outs := e.Event([]byte(d.block(w)))
		if len(outs) != 1 || outs[0].Partial || d.piece(t, string(outs[0].Raw)) != w {
			t.Errorf("%q: %+v", w, outs)
		}
	}
	outs := e.Event([]byte(d.block("it is sk-" + "ant-")))
	if len(outs) != 1 || !outs[0].Partial || d.piece(t, string(outs[0].Raw)) != "it is " {
		t.Errorf("the beginning of a secret was not held: %+v", outs)
	}
	outs = e.Event([]byte(d.end))
	if len(outs) != 2 || outs[0].Partial || d.piece(t, string(outs[0].Raw)) != "it is sk-"+"ant-" {
		t.Errorf("the end of the block completed nothing: %s", outs[0].Raw)
	}
}

// TestKnownSplit: a remembered value is found across deltas.
func TestKnownSplit(t *testing.T) {
	secret := "correct horse/battery" + "+staple 42"
	for i := 1; i < len(secret); i++ {
		r := New(testKey)
		r.known.remember([]byte(secret), kindHeader)
		e := r.Events()
		d := dialects[2]
		var last [2]string
		outs := append(e.Event([]byte(d.block("xx "+secret[:i]))), e.Event([]byte(d.block(secret[i:]+" yy")))...)
		for _, o := range append(outs, e.Close()...) {
			last[o.Index] = d.piece(t, string(o.Raw))
		}
		if got := last[0] + last[1]; got != "xx [REDACTED:header] yy" {
			t.Errorf("cut at %d: %q", i, got)
		}
	}
}

// TestInterleaved: channels do not mix.
func TestInterleaved(t *testing.T) {
	secret := "sk-" + "ant-api03-" + chars(b62, 60)
	block := func(index int, p string) string {
		return fmt.Sprintf(`data: {"type":"content_block_delta","delta":{"type":"text_delta","text":%s},"index":%d}`, quoteJSON(p), index) + "\n\n"
	}
	got := feed(t, block(0, "a "+secret[:20]), block(1, "b "+secret[:30]), block(0, secret[20:]+" c"), block(1, secret[30:]+" d"))
	var all [4]string
	for i := range got {
		all[i] = dialects[0].piece(t, got[i])
	}
	if want := [4]string{"a [REDACTED:anthropic]", "b [REDACTED:anthropic]", " c", " d"}; all != want {
		t.Errorf("got %q", all)
	}
}

// TestBounds: what goes on for longer than is held is replaced all the same.
func TestBounds(t *testing.T) {
	d := dialects[0]
	key := strings.Repeat(chars(b62, 64)+"\n", 2000)
	for _, s := range []sample{
		{kind: "private-key", text: "-----BEGIN " + "PRIVATE KEY-----\n" + key + "-----END " + "PRIVATE KEY-----"},
		{kind: "openai", text: "sk-" + chars(b62, 100_000)},
		{kind: "json", text: `"client_secret":"` + chars(b62, 100_000) + `\"` + chars(b62, 100_000) + `"`},
		{kind: "jwt", text: "eyJ" + chars(b62, 100_000) + ".eyJ" + chars(b62, 100_000) + "." + chars(b62, 99)},
	} {
		var blocks []string
		text := "so " + s.text + "! said he."
		for rest := text; rest != ""; {
			n := min(1000, len(rest))
			blocks = append(blocks, d.block(rest[:n]))
			rest = rest[n:]
		}
		var all strings.Builder
		for _, b := range feed(t, blocks...) {
			all.WriteString(d.piece(t, b))
		}
		whole, _ := New(testKey).String(text)
		if all.String() != whole {
			t.Errorf("%s: %d bytes left: %.200q\nwant %q", s.kind, all.Len(), all.String(), whole)
		}
		st := New(testKey).Stream("text/plain")
		var out bytes.Buffer
		for rest := []byte(text); len(rest) > 0; {
			n := min(777, len(rest))
			safe, _ := st.Write(rest[:n])
			out.Write(safe)
			rest = rest[n:]
		}
		rest, _ := st.Close()
		out.Write(rest)
		if out.String() != whole {
			t.Errorf("stream: %s: %d bytes left: %.200q", s.kind, out.Len(), out.String())
		}
	}
}

func TestEventLines(t *testing.T) {
	secret := "gh" + "p_" + chars(b62, 36)
	for in, want := range map[string]string{
		"id: " + secret + "\ndata: x\n\n":                                 "id: [REDACTED:github]\ndata: x\n\n",
		": " + secret + "\r\n\r\n":                                        ": [REDACTED:github]\r\n\r\n",
		"data: {\"a\":\r\ndata: \"" + secret + "\"}\r\n\r\n":              "data: {\"a\":\r\ndata: \"[REDACTED:github]\"}\r\n\r\n",
		"data: a " + secret + "\ndata: b\n\n":                             "data: a [REDACTED:github]\ndata: b\n\n",
		"data: {\"api_key\":12345678,\"x\":1}\n\n":                        "data: {\"api_key\":\"[REDACTED:json]\",\"x\":1}\n\n",
		"data: {\"x\":\"{\\\"otp\\\":12345678}\"}\n\n":                    "data: {\"x\":\"{\\\"otp\\\":\\\"[REDACTED:json]\\\"}\"}\n\n",
		"\ufeffdata: {\"password\":\"a b\",\"n\":\"" + secret + "\"}\n\n": "\ufeffdata: {\"password\":\"[REDACTED:json]\",\"n\":\"[REDACTED:github]\"}\n\n",
	} {
		if got := feed(t, in); got[0] != want {
			t.Errorf("%q:\n got %q\nwant %q", in, got[0], want)
		}
		out, n := New(testKey).Body("text/event-stream", []byte(in+"data: 2\n\n"))
		if string(out) != want+"data: 2\n\n" || n == 0 {
			t.Errorf("Body(%q) = %q, %d", in, out, n)
		}
	}
}
