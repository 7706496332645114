package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"trace/flow"
)

// dump runs `flows dump` and returns what it printed.
func dump(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := runCLI(t, append([]string{"flows", "dump"}, args...)...)
	if code != 0 {
		t.Fatalf("flows dump %v: exit %d, %s", args, code, stderr)
	}
	return stdout
}

// entriesOf returns the entries of a HAR, by their flows.
func entriesOf(t *testing.T, har string) string {
	t.Helper()
	var file struct {
		Log struct {
			Entries []struct {
				ID      string `json:"_id"`
				Request struct{ Method string }
			}
		}
	}
	if err := json.Unmarshal([]byte(har), &file); err != nil {
		t.Fatalf("%v in %s", err, har)
	}
	if file.Log.Entries == nil {
		t.Errorf("entries is no list in %s", har)
	}
	var ids []string
	for _, e := range file.Log.Entries {
		ids = append(ids, e.ID[strings.LastIndexByte(e.ID, '/')+1:])
	}
	return strings.Join(ids, " ")
}

// kindsOf returns the types of all lines.
func kindsOf(t *testing.T, lines string) string {
	t.Helper()
	var ts []string
	for line := range strings.Lines(lines) {
		var l struct{ Type string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		ts = append(ts, l.Type)
	}
	return strings.Join(ts, " ")
}

func TestDumpChoice(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	for args, want := range map[string]string{
		"": "1 2", "1": "1", "2 1": "2 1", "--status 404": "1", "--limit 3": "2", "1 2 --method post": "2", "1 2 --limit 1": "2",
		"--host nosuch": "", "2 -1 1 --kind http": "2 1", "--format har --session sample": "1 2", r.id + "/2": "2", "--all": "1 2", "1 1": "1", "--kind http --all --limit 1": "2",
	} {
		if got := entriesOf(t, dump(t, strings.Fields(args)...)); got != want {
			t.Errorf("flows dump %s: %q, want %q", args, got, want)
		}
	}
	for filter, want := range map[string]string{
		`.[]|select(.response.status==404)`: "1", `map({id})`: "1 2", `[]`: "", `.[1:3]`: "2",
	} {
		if got := entriesOf(t, dump(t, "--kind", "http", "--jq", filter)); got != want {
			t.Errorf("--jq %s: %q, want %q", filter, got, want)
		}
	}
	for args, c := range map[string]struct {
		code int
		want string
	}{
		"9":                {1, "no flow 9"},
		"3":                {1, "flow 3: har"},
		"4":                {1, "flow 4: har"},
		"x":                {1, "no flow"},
		"nosuch/1":         {1, "nosuch"},
		"--jq .[0].nosuch": {1, "--jq"},
		"--jq error":       {1, "--jq"},
		"--format tar":     {2, "har, jsonl"},
		"--dir /tmp":       {2, "--dir"},
		"--all 1":          {2, "exclude"},
		"--session nosuch": {1, "nosuch"},
		"--status 4x":      {2, "4x"},
	} {
		if _, stderr, code := runCLI(t, append([]string{"flows", "dump"}, strings.Fields(args)...)...); code != c.code || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("flows dump %s: exit %d, %q, want %d and %q", args, code, stderr, c.code, c.want)
		}
	}
	second := sampleSession(t)
	if got := dump(t, "--all", "--limit", "5", "--kind", "http"); strings.Count(got, `"_id"`) != 4 {
		t.Errorf("--all: %s", got)
	}
	if got := dump(t, "--all", "--limit", "1", "--kind", "http"); strings.Count(got, `"_id"`) != 1 || !strings.Contains(got, second.id+"/2") {
		t.Errorf("--all --limit 1: %s", got)
	}
	stdout, stderr, code := runCLI(t, "flows", "dump", "1", "9", "2")
	if got := entriesOf(t, stdout); got != "1 2" || code != 1 || !strings.Contains(stderr, "no flow 9") {
		t.Errorf("an unknown id among others: %q, exit %d, %q", got, code, stderr)
	}
	if _, stderr, _ := runCLI(t, "flows", "dump"); !strings.Contains(stderr, "2 flows left out") {
		t.Errorf("what HAR cannot hold is not told: %q", stderr)
	}
}

func TestDumpEmpty(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	scripted(t, "empty").flush()
	if got := dump(t); !strings.Contains(got, `"entries":[`) || entriesOf(t, got) != "" {
		t.Errorf("an empty session: %s", got)
	}
	if got := kindsOf(t, dump(t, "--format", "jsonl")); got != "meta" {
		t.Errorf("an empty session: %q", got)
	}
}

// TestDumpJSONL: the lines are those of the live log, whatever their order
// between flows.
func TestDumpJSONL(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	want := "meta connection_open request response_headers response request response_headers sse sse stream_end connection_close connection_open tcp connection_close dns"
	if got := kindsOf(t, dump(t, "--format", "jsonl")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := kindsOf(t, dump(t, "--format", "jsonl", "2")); got != "meta connection_open request response_headers sse sse stream_end connection_close" {
		t.Errorf("flow 2: %q", got)
	}
	on := emit(r.open("b.example", 443, nil))
	on.request(1, "POST", "b.example", "/three", "{}")
	on.answer(1, 200, "text/event-stream", true)
	on.event(1, "{}")
	r.flush()
	if got := kindsOf(t, dump(t, "--format", "jsonl", "last")); got != "meta connection_open request response_headers sse" {
		t.Errorf("a flow that runs: %q", got)
	}
	if got := entriesOf(t, dump(t, "last")); got != "5" {
		t.Errorf("a flow that runs: %q", got)
	}
}

// TestDumpManyOnOneConnection: the end of a connection follows its last flow.
func TestDumpManyOnOneConnection(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "many")
	on := emit(r.open("a.example", 443, nil))
	for i := range int64(3) {
		on.request(i+1, "GET", "a.example", fmt.Sprint("/", i), "")
		on.answer(i+1, 200, "text/plain", false)
		on.body(i+1, flow.Server, "x")
		on(flow.End, i+1, nil)
	}
	on(flow.ConnEnd, 0, nil)
	r.flush()
	want := "meta connection_open request response_headers response request response_headers response connection_close"
	if got := kindsOf(t, dump(t, "--format", "jsonl", "3", "1")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDumpRequestJSON(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "files")
	r.at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	on := emit(r.open("api.anthropic.com", 443, nil))
	for i, path := range []string{"/v1/messages?beta=true", "/v1/messages", "/../..", "/x/models/gemini-2:streamGenerateContent?alt=sse"} {
		on.request(int64(i+1), "POST", "api.anthropic.com", path, `{"n":12345678901234567890}`)
		on(flow.End, int64(i+1), nil)
	}
	on.request(9, "GET", "api.anthropic.com", "/", "")
	r.flush()
	dir := filepath.Join(t.TempDir(), "new")
	want := []string{"001_030405_messages.json", "002_030405_messages.json", "003_030405_root.json", "004_030405_streamGenerateContent.json"}
	for round := range 2 {
		var lines strings.Builder
		for i, name := range want {
			fmt.Fprintf(&lines, "%s\n", filepath.Join(dir, "2026-01-02", fmt.Sprintf("%03d%s", round*4+i+1, name[3:])))
		}
		if got := dump(t, "--format", "request-json", "--dir", dir); got != lines.String() {
			t.Errorf("round %d: %s, want %s", round, got, lines.String())
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "2026-01-02", want[0]))
	var file struct {
		At      string `json:"captured_at"`
		Method  string
		URL     string
		Request json.RawMessage
	}
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil || file.At != "2026-01-02T03:04:05.101000Z" || file.Method != "POST" || file.URL != "https://api.anthropic.com/v1/messages?beta=true" || !strings.Contains(string(file.Request), "12345678901234567890") {
		t.Errorf("%v, %s", err, text)
	}
	if _, stderr, code := runCLI(t, "flows", "dump", "--format", "request-json"); code != 2 || !strings.Contains(stderr, "--dir") {
		t.Errorf("without --dir: exit %d, %s", code, stderr)
	}
	if err := os.WriteFile(dir+"f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := runCLI(t, "flows", "dump", "--format", "request-json", "--dir", dir+"f"); code != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("a file for a directory: exit %d, %s", code, stderr)
	}
}

// TestDumpPrograms: the programs for the flows of a session, and none for what
// is no request.
func TestDumpPrograms(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	sampleSession(t)
	for format, want := range map[string]string{"curl": "curl ", "python": "httpx.Request(", "node": "await fetch("} {
		if got := dump(t, "--format", format); strings.Count(got, want) != 2 || !strings.Contains(got, `12345678901234567890`) {
			t.Errorf("%s: %s", format, got)
		}
		if _, stderr, code := runCLI(t, "flows", "dump", "--format", format, "3"); code != 1 || !strings.Contains(stderr, "no place") {
			t.Errorf("%s of a tcp flow: exit %d, %s", format, code, stderr)
		}
	}
}

// TestDumpHTML: of an ID the whole conversation, of what is no call nothing.
func TestDumpHTML(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "talk")
	on := emit(r.open("api.anthropic.com", 443, nil))
	messages := `{"role":"user","content":"Hi <b>"}`
	for i, answer := range []string{"Hello", "Bye"} {
		n := int64(i + 1)
		on.request(n, "POST", "api.anthropic.com", "/v1/messages", `{"model":"m","max_tokens":9,"messages":[`+messages+`]}`)
		on.answer(n, 200, "application/json", false)
		content := `[{"type":"text","text":"` + answer + `"}]`
		on.body(n, flow.Server, `{"type":"message","role":"assistant","model":"m","content":`+content+`,"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}}`)
		on(flow.End, n, nil)
		messages += `,{"role":"assistant","content":` + content + `},{"role":"user","content":"More"}`
	}
	on.request(3, "GET", "api.anthropic.com", "/", "")
	on(flow.End, 3, nil)
	r.flush()
	for _, args := range [][]string{nil, {"1"}, {"2"}} {
		got, _, code := runCLI(t, append([]string{"flows", "dump", "--format", "html"}, args...)...)
		for text, n := range map[string]int{"Hello": 1, "Bye": 1, "More": 1, "Hi &lt;b&gt;": 4} {
			if strings.Count(got, text) != n || code != 0 {
				t.Errorf("%v: %q is there %d times, want %d", args, text, strings.Count(got, text), n)
			}
		}
	}
	if stdout, stderr, code := runCLI(t, "flows", "dump", "--format", "html", "--method", "GET"); code != 1 || stdout != "" || !strings.Contains(stderr, "language model") {
		t.Errorf("no call: exit %d, %q, %q", code, stdout, stderr)
	}
}

// TestDumpTerminal: a terminal gets no binary, and nothing that it would obey.
func TestDumpTerminal(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "tty")
	on := emit(r.open("a.example", 443, nil))
	on.request(1, "POST", "a.example", "/", "say \x1b[31m \u202e it's")
	on.answer(1, 200, "text/plain", false)
	on.body(1, flow.Server, "\u202e\u009b31m"+strings.Repeat("é", 70000))
	on(flow.End, 1, nil)
	r.flush()
	for format, escaped := range map[string]string{"har": `\u202e`, "jsonl": `\u202e`, "curl": "base64 -d", "python": "b64decode", "node": "Buffer.from"} {
		var out, errs bytes.Buffer
		o := dumpOptions{format: format}
		if err := o.run(t.Context(), nil, &terminal{Writer: &out, tty: true}, &errs); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if got := out.String(); strings.ContainsAny(got, "\x1b\u202e\u009b") || !strings.Contains(got, escaped) || !utf8.ValidString(got) {
			t.Errorf("%s: %.300q", format, got)
		}
	}
	var out bytes.Buffer
	o := dumpOptions{format: "mitmproxy"}
	if err := o.run(t.Context(), nil, &terminal{Writer: &out, tty: true}, &out); codeOf(err) != 1 || !strings.Contains(err.Error(), "> FILE") || out.Len() > 0 {
		t.Errorf("mitmproxy to a terminal: %v, %q", err, out.String())
	}
}
