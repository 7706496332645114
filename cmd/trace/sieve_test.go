package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

// TestTailFilters takes a session that is over: what comes through, and that
// what comes late is whole.
func TestTailFilters(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	runCLI(t, "mark", "here")
	on := emit(r.open("b.example", 443, nil))
	on.request(1, "POST", "b.example", "/grpc", "")
	for i := range 3 { // before the answer
		on(flow.StreamEvent, 1, func(e *flow.Event) { e.Side, e.Data = flow.Client, fmt.Appendf(nil, "data: %d\n\n", i) })
	}
	on.answer(1, 503, "text/plain", false)
	on.body(1, flow.Server, "busy")
	on(flow.End, 1, nil)
	on(flow.ConnEnd, 0, nil)
	r.finish()
	lines := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := runCLI(t, append([]string{"flows", "tail"}, args...)...)
		if code != 0 || stderr != "" {
			t.Errorf("tail %q: exit %d, %s", args, code, stderr)
		}
		var ids []string
		for line := range strings.SplitSeq(strings.TrimSuffix(stdout, "\n"), "\n") {
			if f := strings.Fields(line); len(f) > 1 && f[0] != "--" {
				ids = append(ids, f[1])
			}
		}
		return strings.Join(ids, " ")
	}
	for args, want := range map[string]string{
		"": "4 1 2 3 5", "--host b.*": "5", "--status 5xx": "5", "--method get": "1", "--kind http": "1 2 5", "--kind tcp": "3", "--from start --to start+150ms": "1 2", "--llm": "",
	} {
		if got := strings.Fields(lines(strings.Fields(args)...)); !sameSet(got, strings.Fields(want)) {
			t.Errorf("tail %s: %v, want %s", args, got, want)
		}
	}
	stdout, _, code := runCLI(t, "flows", "tail", "--jq", "map(select(.response.status>=404))", "--jq", "map(.id)|.[]")
	if code != 0 || stdout != "\"1\"\n\"5\"\n" {
		t.Errorf("--jq: exit %d, %q", code, stdout)
	}
	stdout, stderr, code := runCLI(t, "flows", "tail", "--jq", `map(if .id=="1" then error("no") else .id end)|.[]`)
	if code != 1 || strings.Count(stdout, "\n") != 4 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "flow 1") {
		t.Errorf("a filter that errs once: exit %d, %q, %q", code, stdout, stderr)
	}
	whole := tailLog(t, "--json", "--host", "b.example")
	if want := "meta mark connection_open request sse sse sse response_headers response connection_close"; !sameSet(lineTypes(whole), strings.Fields(want)) {
		t.Errorf("the log of one host: %v", lineTypes(whole))
	}
	for _, args := range [][]string{{"--json", "--status", "503"}, {"--json", "--jq", `map(select(.response.status==503))`}} {
		got := tailLog(t, args...)
		if !sameSet(lineTypes(got), lineTypes(whole)) {
			t.Errorf("%q: %v, want %v", args, lineTypes(got), lineTypes(whole))
		}
		for _, line := range got {
			if id, _ := line["flow_id"].(string); id != "" && id != r.id+"/5" {
				t.Errorf("%q: a line of %s", args, id)
			}
		}
	}
	if _, _, code := runCLI(t, "flows", "tail", "1", "--host", "x"); code != 2 {
		t.Errorf("an ID and a filter: exit %d", code)
	}
	if _, stderr, code := runCLI(t, "flows", "tail", "--from", "nowhere"); code != 2 || !strings.Contains(stderr, "nowhere") {
		t.Errorf("no such mark: exit %d, %s", code, stderr)
	}
}

func sameSet(a, b []string) bool {
	n := map[string]int{}
	for _, s := range a {
		n[s]++
	}
	for _, s := range b {
		n[s]--
	}
	for _, k := range n {
		if k != 0 {
			return false
		}
	}
	return true
}

// tailLog runs `flows tail` and reads its lines.
func tailLog(t *testing.T, args ...string) (lines []map[string]any) {
	t.Helper()
	stdout, stderr, code := runCLI(t, append([]string{"flows", "tail"}, args...)...)
	if code != 0 {
		t.Fatalf("%q: exit %d, %s", args, code, stderr)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(stdout, "\n"), "\n") {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		lines = append(lines, m)
	}
	return lines
}

func lineTypes(lines []map[string]any) (kinds []string) {
	for _, m := range lines {
		kinds = append(kinds, fmt.Sprint(m["type"]))
	}
	return kinds
}
