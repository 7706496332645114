package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

// talk records a call to a language model whose answer comes in pieces.
func (r *script) talk(prompt string, pieces ...string) {
	body, _ := json.Marshal(map[string]any{"model": "claude-x", "max_tokens": 9, "stream": true, "messages": []any{map[string]any{"role": "user", "content": prompt}}})
	r.turn(string(body), pieces...)
	r.flush()
}

// turn is talk with the whole body.
func (r *script) turn(body string, pieces ...string) {
	on := emit(r.open("api.anthropic.com", 443, nil))
	on.request(1, "POST", "api.anthropic.com", "/v1/messages", body)
	on.answer(1, 200, "text/event-stream", true)
	events := []string{`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`}
	for _, p := range pieces {
		text, _ := json.Marshal(p)
		events = append(events, fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%s}}`, text))
	}
	events = append(events, `{"type":"content_block_stop","index":0}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}`, `{"type":"message_stop"}`)
	for _, e := range events {
		on.event(1, e)
	}
	on.streamEnd(1, events...)
}

// searched runs `flows search --json` and returns each hit as "ID where".
func searched(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := runCLI(t, append([]string{"flows", "search", "--json"}, args...)...)
	var xs []struct {
		ID    string
		Count int `json:"hit_count"`
		Hits  []struct {
			Where, Match string
			Index        *int
		}
	}
	if err := json.Unmarshal([]byte(stdout), &xs); err != nil || code != 0 {
		t.Fatalf("%q: exit %d, %v, %s", args, code, err, stderr)
	}
	var all []string
	for _, x := range xs {
		if x.Count < len(x.Hits) {
			t.Errorf("%q: flow %s counts %d hits and has %d", args, x.ID, x.Count, len(x.Hits))
		}
		for _, h := range x.Hits {
			place := x.ID + " " + h.Where
			if h.Index != nil {
				place += fmt.Sprint(" ", *h.Index)
			}
			all = append(all, place)
		}
	}
	return strings.Join(all, ", ")
}

func TestSearch(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	r.talk("Say \"héllo\"\nplease", "Straw", "berry", " fields for", "ever")
	socket := emit(r.open("ws.example", 443, nil))
	socket.request(1, "GET", "ws.example", "/sock", "")
	socket(flow.Response, 1, func(e *flow.Event) {
		e.Side, e.Head = flow.Server, &flow.Head{Status: 101, Version: "1.1", Streaming: true, Protocol: "websocket"}
	})
	socket(flow.Message, 1, func(e *flow.Event) { e.Opcode, e.Data, e.Size = 1, []byte("find me here"), 12 })
	r.flush() // it goes on
	for _, c := range []struct{ args, want string }{
		{"x=1", "1 request.url"},
		{"Hel", "2 response.event 0"},
		{"hel", ""},
		{"-i|HEL", "2 response.event 0"},
		{"12345678901234567890", "2 request.body"},
		{"pinned", "3 name"},
		{"203.0.113.7", "4 dns"},
		{"404 R", "1 response.status"},
		{"Content-Type: text/plain", "1 response.headers"},
		{"/usr/bin/curl", "1 process, 2 process, 3 process, 5 process, 6 process"},
		{"Strawberry fields", "5 answer"},
		{"-E|fields? \\w+ever\\b", "5 answer"},
		{"fields for", "5 response.event 4, 5 answer"},
		{"Say \"héllo\"\nplease", "5 request.body"},
		{"-i|say \"HÉLLO\"", "5 request.body"},
		{"find me", "6 message 0"},
		{"--host|*.anthropic.com|model", "5 request.body, 5 response.event 0"},
		{"--limit|2|/usr/bin/curl", "6 process"},
		{"--to|start|curl", ""},
		{"\xff\x00", "1 response.body"},
	} {
		if got := searched(t, strings.Split(c.args, "|")...); c.want == "" && got != "" || !strings.Contains(", "+got+", ", c.want) {
			t.Errorf("search %q: %q, want %q", c.args, got, c.want)
		}
	}
}

func TestSearchOutput(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "out")
	on := emit(r.open("a.example", 443, nil))
	on.request(1, "POST", "a.example", "/", strings.Repeat("hay ", 40)+"a \x1b[31m needle\u202e "+strings.Repeat("needle ", 20))
	on(flow.End, 1, nil)
	r.flush()
	stdout, stderr, code := runCLI(t, "flows", "search", "needle")
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if code != 0 || stderr != "" || len(lines) != 6 || !strings.Contains(lines[0], `a \x1b[31m «needle»\u202e `) || !strings.HasPrefix(lines[0], "   1  request.body ") || !strings.Contains(lines[5], "16 more") {
		t.Errorf("exit %d, %s%s", code, stderr, stdout)
	}
	if stdout, _, _ := runCLI(t, "flows", "search", "needle", "-m", "0"); strings.Count(stdout, "\n") != 21 {
		t.Errorf("all of them:\n%s", stdout)
	}
	if stdout, _, code := runCLI(t, "flows", "search", "needle", "--all"); code != 0 || !strings.HasPrefix(stdout, r.id+"/1  ") {
		t.Errorf("--all: exit %d\n%s", code, stdout)
	}
	if stdout, _, code := runCLI(t, "flows", "search", "needle", "--jq", `map({id,n:.hit_count})`, "--jq", ".[]"); code != 0 || stdout != `{"id":"1","n":21}`+"\n" {
		t.Errorf("--jq: exit %d, %s", code, stdout)
	}
	for _, args := range []string{"needless", "needless --json", "needless --jq ."} {
		want := ""
		if strings.Contains(args, "--") {
			want = "[]\n"
		}
		if stdout, stderr, code := runCLI(t, append([]string{"flows", "search"}, strings.Fields(args)...)...); code != 0 || stdout != want || (stderr == "") != (want != "") {
			t.Errorf("%s: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
	for _, c := range []struct{ args, want string }{{"-E a(b", "a(b"}, {"", "search"}, {"a b", "search"}, {"x --max-count -1", "-1"}, {"x --status 1", "--status"}} {
		if _, stderr, code := runCLI(t, append([]string{"flows", "search"}, strings.Fields(c.args)...)...); code != 2 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("search %s: exit %d, %s", c.args, code, stderr)
		}
	}
	if _, _, code := runCLI(t, "flows", "search", ""); code != 2 {
		t.Errorf("empty text: exit %d", code)
	}
	if _, stderr, code := runCLI(t, "flows", "search", "needle", "--jq", "error(1)"); code != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("a filter that errs: exit %d, %s", code, stderr)
	}
}

func TestWrittenForms(t *testing.T) {
	for text, want := range map[string]string{
		"plain":     "plain",
		"a\"b":      `a"b a\"b a\\\"b`,
		"é":         `é \u00e9 \\u00e9 \u00E9 \\u00E9`,
		"<😀":        `<😀 <\ud83d\ude00 <\\ud83d\\ude00 <\uD83D\uDE00 <\\uD83D\\uDE00`,
		"tab\there": "tab\there tab\\there tab\\\\there",
	} {
		if got := strings.Join(writtenForms(text), " "); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestShowFiltered passes one flow, with its bodies, through --jq.
func TestShowFiltered(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	sampleSession(t)
	if stdout, stderr, code := runCLI(t, "flows", "show", "2", "--jq", ".[0]", "--jq", ".[].request.body.n"); code != 0 || stdout != "12345678901234567890\n" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	for args, want := range map[string]int{"show 2 --jq .[0]|.x.y|keys": 1, "show 2 --jq map(": 2, "show 2 --jq . --answer": 2} {
		if stdout, stderr, code := runCLI(t, append([]string{"flows"}, strings.Fields(args)...)...); code != want || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// TestReach: what a match may reach is never less than what it does.
func TestReach(t *testing.T) {
	for expr, text := range map[string]string{
		`a`: "a", `a{3}`: "aaa", `(ab|cde)?f`: "cdef", `[é-ü]{2,4}`: "ééüé", `\bx\b`: "x", `(?i)STRASSE`: "straſſe", `a.c`: "a\U0001F600c",
	} {
		f, err := newFinder(expr, true, false)
		if err != nil {
			t.Fatal(err)
		}
		if ms := f.All([]byte(text)); len(ms) != 1 || ms[0][1]-ms[0][0] > f.Reach || f.Reach > 64 {
			t.Errorf("%s: %v, reach %d", expr, ms, f.Reach)
		}
	}
	for _, expr := range []string{`a+`, `a*b`, `a{3,}`, `(a{1000}){1000}`} {
		if f, err := newFinder(expr, true, false); err == nil && f.Reach != regexReach {
			t.Errorf("%s: reach %d", expr, f.Reach)
		}
	}
}

// TestLiteralFinder compares forms in both cases with what strings says.
func TestLiteralFinder(t *testing.T) {
	f := literalFinder([]string{"ab", "abc", "x"}, lower)
	if got := fmt.Sprint(f.All([]byte("ABCabxAbX"))); got != "[[0 3] [3 5] [5 6] [6 8] [8 9]]" {
		t.Error(got)
	}
}
