package llm

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMembersKeepOrderDuplicatesAndDigits(t *testing.T) {
	o, cut := parseObject([]byte(" {\"b\": 90071992547409931234 , \"a\":{\"x\":[1,{\"y\":\"]}\\\\\"}]}, \"b\":1e400,\"\\u0063\":\"q\\\"}\"}\n"))
	if cut || len(o) != 4 {
		t.Fatalf("%d members, cut %v", len(o), cut)
	}
	want := object{{"b", json.RawMessage("90071992547409931234")}, {"a", json.RawMessage(`{"x":[1,{"y":"]}\\"}]}`)},
		{"b", json.RawMessage("1e400")}, {"c", json.RawMessage(`"q\"}"`)}}
	for i, m := range want {
		if o[i].Name != m.Name || string(o[i].Value) != string(m.Value) {
			t.Errorf("member %d: %s = %s", i, o[i].Name, o[i].Value)
		}
	}
	if got := string(o.get("b")); got != "1e400" {
		t.Errorf("of duplicates the last counts, got %s", got)
	}
	if got := text(o.get("c")); got != `q"}` {
		t.Errorf("c = %q", got)
	}
	if got := string(o.at("a", "x")); got != `[1,{"y":"]}\\"}]` {
		t.Errorf("a.x = %s", got)
	}
}

func TestCutJSONKeepsWhatIsThere(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,"b":"hal`:                 `{"a":1,"b":"hal"}`,
		`{"a":1,"b":`:                     `{"a":1}`,
		`{"a":1,"b`:                       `{"a":1}`,
		`{"a":[1,{"b":[tru`:               `{"a":[1,{"b":[]}]}`,
		`{"a":"x\u00`:                     `{"a":"x"}`,
		`{"a":"x\`:                        `{"a":"x"}`,
		"{\"a\":\"x\ny\"}":                `{"a":"x\u000ay"}`,
		`{"a":1} trailing`:                `{"a":1}`,
		`{"a":1,}`:                        `{"a":1}`,
		"{\"a\":\"\xff\"}":                "{\"a\":\"\ufffd\"}",
		`<html>`:                          ``,
		``:                                ``,
		`{"a":"` + strings.Repeat("x", 9): `{"a":"xxxxxxxxx"}`,
	} {
		raw, _ := parseJSON([]byte(in))
		if string(raw) != want {
			t.Errorf("%s\n got %s\nwant %s", in, raw, want)
		}
	}
}

func TestDeepJSON(t *testing.T) {
	for _, n := range []int{1, maxDepth - 1, maxDepth, maxDepth + 1, 1 << 20} {
		for _, pair := range []string{"[]", "{}"} {
			p := strings.Repeat(strings.Replace(pair[:1], "{", `{"a":`, 1), n)
			p = strings.TrimSuffix(p, `"a":`) + strings.Repeat(pair[1:], n)
			if valid([]byte(p)) != json.Valid([]byte(p)) {
				t.Errorf("%d times %s: %v", n, pair, valid([]byte(p)))
			}
			if raw, _ := parseJSON([]byte(p)); raw != nil && !json.Valid(raw) {
				t.Errorf("%d times %s: mended to no JSON", n, pair)
			}
		}
	}
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string]int64{`12`: 12, `"12"`: 12, `1e3`: 1000, `-4`: -4, `9007199254740993`: 9007199254740993, `1e300`: 0, `null`: 0, `{}`: 0, `"x"`: 0} {
		if got := integer(json.RawMessage(in)); got != want {
			t.Errorf("%s = %d, want %d", in, got, want)
		}
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"c\u0041"}],"d":null}`))
	f.Add([]byte(`{"a":"x`))
	f.Add([]byte(`"\ud83d\ude00 \ud83d \ude00 \u00e9\n\/\b\f\t\r\"\\ \ud83d\ud83d\ude00"`))
	f.Add([]byte(`[1e5, -0.5E+3, tru, 01, "\x", nul]`))
	f.Fuzz(func(t *testing.T, p []byte) {
		if valid(p) != json.Valid(p) {
			t.Fatalf("valid says %v of %q", valid(p), p)
		}
		raw, _ := parseJSON(p)
		var s string
		if kind(raw) == '"' && json.Unmarshal(raw, &s) == nil && s != text(raw) {
			t.Fatalf("%s is %q, not %q", raw, s, text(raw))
		}
		if raw != nil && !json.Valid(raw) {
			t.Fatalf("not valid: %q", raw)
		}
		var n int
		for _, m := range members(raw) {
			if !json.Valid(m.Value) {
				t.Fatalf("member %q: %q", m.Name, m.Value)
			}
			n++
		}
		for _, e := range elements(raw) {
			if !json.Valid(e) {
				t.Fatalf("element %q", e)
			}
			n++
		}
		if n == 0 && (kind(raw) == '{' || kind(raw) == '[') && len(strings.TrimSpace(strings.Trim(string(raw), "{}[]"))) > 0 {
			t.Fatalf("nothing found in %q", raw)
		}
	})
}
