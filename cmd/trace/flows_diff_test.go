package main

import (
	"encoding/json"
	"strings"
	"testing"

	"trace/flow"
)

// sampleRequest is a request with a body.
func sampleRequest(id int64, path, body string, fields ...flow.Field) *flow.Detail {
	d := &flow.Detail{Exchange: *sampleFlow(id, "POST", "api.example.org", path, 200), RequestBody: []byte(body)}
	d.Request.Head.Fields = append([]flow.Field{{Name: "Host", Value: "api.example.org"}, {Name: "Content-Type", Value: "application/json"}}, fields...)
	return d
}

func TestRequestDiff(t *testing.T) {
	beta := flow.Field{Name: "Anthropic-Beta", Value: "one"}
	id := flow.Field{Name: "X-Request-Id", Value: "7"}
	a := sampleRequest(1, "/v1/things?page=1&sort=up", `{"model":"a","n":12345678901234567890,"list":[1,2,3],"text":"one\ntwo\nthree\nfour\nfive\nsix","gone":{"x":[]},"odd name":true}`, beta, id)
	id.Value = "8"
	b := sampleRequest(2, "/v1/things?page=2&sort=up", `{"n": 12345678901234567890, "model":"b","list":[0,1,2,3],"text":"one\ntwo\nthree\n4\nfive\nsix","new":"\u001b[2J","odd name":false}`, id, beta)
	same := sampleRequest(3, "/v1/things?page=1&sort=up", `{"model" : "a","list":[1,2,3],"text":"one\ntwo\nthree\nfour\nfive\nsix","gone":{"x":[]},"odd name":true,"n":12345678901234567890}`, beta, id)
	text := sampleRequest(4, "/", "a\nb\n")
	binary := sampleRequest(5, "/", "\xff\x00")
	for name, c := range map[string][2]*flow.Detail{"json": {a, b}, "same": {a, same}, "text": {text, binary}, "query": {text, sampleRequest(6, "/?b=1&a=2", "a\nc\n")}} {
		for mode, width := range map[string]int{"tty": 80, "piped": 0} {
			w, out := screen(width, false)
			p := &printer{w: w}
			compareSides(&diffSide{d: c[0]}, &diffSide{d: c[1]}).print(p, maxBodyLines)
			if p.err != nil {
				t.Fatal(p.err)
			}
			golden(t, "diff-"+name+"-"+mode, out.String())
			if width > 0 && strings.Contains(out.String(), "\x1b") {
				t.Error("captured text reached the terminal unescaped")
			}
		}
		w, out := screen(0, false)
		if err := writeList(w, []jsonComparison{compareSides(&diffSide{d: c[0]}, &diffSide{d: c[1]}).json()}); err != nil {
			t.Fatal(err)
		}
		golden(t, "diff-"+name+"-json", out.String())
	}
}

// TestDiffCommand: what can be compared, and what is said of what cannot.
func TestDiffCommand(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := agentRun(t)
	if _, stderr, code := runCLI(t, "flows", "save", "first", "2"); code != 0 {
		t.Fatal(stderr)
	}
	for _, c := range []struct {
		args string
		code int
		says string // on stdout, or on stderr if the code is not 0
	}{
		{"diff 2 4", 0, "+ user ← 43 bytes"},
		{"diff last 5", 0, "6 → 5"},
		{"diff 5 -1", 0, "5 → 6"},
		{"diff first 2", 0, "template first → 2\n  the requests are the same"},
		{"diff first 4", 0, "template first → 4\n  + body.messages[1]"},
		{"diff first first", 0, "the requests are the same"},
		{"diff 2 4 --json", 0, `"same":false`},
		{"diff --session " + r.id + " --against agents", 0, "the requests are the same"},
		{"diff --against " + r.id + " --json", 0, `"shared_messages":5`},
		{"diff --jq map(select(.id==\"5\"))", 0, "4 → 5"},
		{"diff 1", 2, "compare it with what"},
		{"diff 1 2 3", 2, "accepts at most 2"},
		{"diff 1 2 --against x", 2, "exclude each other"},
		{"diff 1 99", 1, "no flow 99"},
		{"diff nosuch 1", 1, `template "nosuch"`},
		{"diff --against nosuch", 1, "nosuch"},
		{"stats --prices /no/such/file", 2, "/no/such/file"},
		{"show 6 --answer", 1, "no call to a language model"},
		{"show 1 --answer", 1, "overloaded_error: Overloaded"},
		{"show 2 --answer", 0, ""},
		{"show 4 --prompt --answer", 2, "exclude each other"},
	} {
		stdout, stderr, code := runCLI(t, append([]string{"flows"}, strings.Fields(c.args)...)...)
		said := stdout
		if c.code != 0 {
			said = stderr
		}
		if code != c.code || !strings.Contains(said, c.says) || c.code != 0 && (stdout != "" || strings.Count(stderr, "\n") != 1) {
			t.Errorf("flows %s: exit %d, stdout %q, stderr %q, want %d and %q", c.args, code, stdout, stderr, c.code, c.says)
		}
	}
}

// TestDiffJSON: elements that were added in one place do not shift the others;
// an order of members is none.
func TestDiffJSON(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{`{"a":1,"b":[1,2]}`, `{"b":[1,2],"a":1}`, `[]`},
		{`[1,2,3]`, `[0,1,2,3]`, `[{"path":"x[0]","old":null,"new":0}]`},
		{`[1,2,3]`, `[1,3]`, `[{"path":"x[1]","old":2,"new":null}]`},
		{`[{"a":1},{"b":1}]`, `[{"a":2},{"b":1}]`, `[{"path":"x[0].a","old":1,"new":2}]`},
		{`{"a b":1}`, `{"a b":null}`, `[{"path":"x[\"a b\"]","old":1,"new":null}]`},
		{`{"a":1,"a":2}`, `{"a":1,"a":3}`, `[{"path":"x.a","old":2,"new":3}]`},
		{`{"n":9007199254740993}`, `{"n":9007199254740992}`, `[{"path":"x.n","old":9007199254740993,"new":9007199254740992}]`},
		{`{"a":"\u00e9"}`, `{"a":"é"}`, `[]`},
		{`1`, `"1"`, `[{"path":"x","old":1,"new":"1"}]`},
		{strings.Repeat("[", 300) + "1" + strings.Repeat("]", 300), strings.Repeat("[", 300) + "2" + strings.Repeat("]", 300), ""},
	} {
		got, err := flow.MarshalJSON(append([]difference{}, diffJSON("x", json.RawMessage(c.a), json.RawMessage(c.b))...))
		if err != nil || c.want != "" && string(got) != c.want {
			t.Errorf("%s %s: %s, %v, want %s", c.a, c.b, got, err, c.want)
		}
	}
}
