package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestFlowsClear(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	first := sampleSession(t)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"", 2, "--every"},
		{"--host a.example", 2, "--jq"},
		{"--every --jq .", 2, "exclude"},
		{"--every --all", 2, "--yes"},
		{"--every", 1, "is running"},
		{"--jq .[].id", 1, "no flow"},
		{"--every --session nosuch", 1, "nosuch"},
	} {
		stdout, stderr, code := runCLI(t, append([]string{"flows", "clear"}, strings.Fields(c.args)...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("flows clear %s: exit %d, %q, %q, want exit %d and one line with %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
	first.finish()
	second := sampleSession(t)
	second.finish()
	stdout, _, code := runCLI(t, "flows", "clear", "--jq", `map(select(.kind=="http"))`, "--method", "GET", "--dry-run")
	if code != 0 || stdout != second.id+"/1  GET a.example /one?x=1\n" {
		t.Errorf("--dry-run: exit %d, %q", code, stdout)
	}
	stdout, stderr, code := runCLI(t, "flows", "clear", "--jq", `map(select(.kind=="http"))`, "--method", "GET")
	if code != 0 || !strings.HasPrefix(stdout, "1 flow deleted from session "+second.id) || stderr != "" {
		t.Errorf("--jq: exit %d, %q, %q", code, stdout, stderr)
	}
	if got := ids(t); got != "2 3 4" {
		t.Errorf("left: %s", got)
	}
	if p, err := os.ReadFile(second.path); err != nil || bytes.Contains(p, []byte("one?x")) {
		t.Errorf("the path is still there, %v", err)
	}
	if _, stderr, code := runCLI(t, "flows", "clear", "--jq", "[]"); code != 0 || !strings.Contains(stderr, "no flow fits") {
		t.Errorf("nothing: exit %d, %q", code, stderr)
	}
	if stdout, _, code := runCLI(t, "flows", "clear", "--every"); code != 0 || !strings.HasPrefix(stdout, "3 flows") {
		t.Errorf("--every: exit %d, %q", code, stdout)
	}
	if got := ids(t, "--all"); got != "1 2 3 4" {
		t.Errorf("left in the other session: %s", got)
	}
	if stdout, _, code := runCLI(t, "flows", "clear", "--every", "--all", "--yes"); code != 0 || strings.Count(stdout, "\n") != 1 {
		t.Errorf("--all: exit %d, %q", code, stdout)
	}
	if got := ids(t, "--all"); got != "" {
		t.Errorf("left: %s", got)
	}
}
