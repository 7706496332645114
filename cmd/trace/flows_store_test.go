package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ids runs `flows list --json` with args and returns the ids.
func ids(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := runCLI(t, append([]string{"flows", "list", "--json"}, args...)...)
	var xs []struct{ ID string }
	if err := json.Unmarshal([]byte(stdout), &xs); err != nil || code != 0 {
		t.Fatalf("%v: exit %d, %v, %s", args, code, err, stderr)
	}
	var ids []string
	for _, x := range xs {
		ids = append(ids, x.ID)
	}
	return strings.Join(ids, " ")
}

func TestListReal(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	for args, want := range map[string]string{
		"": "1 2 3 4", "--limit 2": "3 4", "--status 404": "1", "--status 2xx": "2", "--status 4XX": "1", "--method post": "2",
		"--kind tcp": "3", "--kind dns": "4", "--kind http": "1 2", "--host a.*": "1 2 4", "--host nosuch": "", "--session sample": "1 2 3 4",
		"--session " + r.id: "1 2 3 4", "--session " + r.path: "1 2 3 4", "--all": "1 2 3 4", "--from 1h": "1 2 3 4", "--to 1h": "", "--kind http --limit 1": "2",
	} {
		if got := ids(t, strings.Fields(args)...); got != want {
			t.Errorf("flows list %s: %q, want %q", args, got, want)
		}
	}
	for filter, want := range map[string]string{
		`map(select(.response.status==404)|.id)`: `["1"]` + "\n",
		`length`:                                 "4\n",
		`.[1].request.body_sha256`:               fmt.Sprintf("%q\n", fmt.Sprintf("%x", sha256.Sum256([]byte(`{"n":12345678901234567890}`)))),
	} {
		if got, stderr, code := runCLI(t, "flows", "list", "--jq", filter); got != want || code != 0 {
			t.Errorf("--jq %s: %q, %s, want %q", filter, got, stderr, want)
		}
	}
	if _, stderr, code := runCLI(t, "flows", "list", "--jq", ".nosuch"); code != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("a failing filter: exit %d, %q", code, stderr)
	}
	table, _, code := runCLI(t, "flows", "list")
	if code != 0 || strings.Count(table, "\n") != 5 || !strings.Contains(table, "/one?x=1") {
		t.Errorf("table: exit %d\n%s", code, table)
	}
	if _, stderr, code := runCLI(t, "flows", "list", "--session", "nosuch"); code != 1 || !strings.Contains(stderr, "nosuch") {
		t.Errorf("unknown session: exit %d, %s", code, stderr)
	}
}

func TestAllSessions(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	first := sampleSession(t)
	first.finish()
	second := sampleSession(t)
	if got := ids(t, "--all"); len(strings.Fields(got)) != 8 {
		t.Errorf("--all: %s", got)
	}
	if got := ids(t, "--all", "--limit", "3"); len(strings.Fields(got)) != 3 {
		t.Errorf("--all --limit 3: %s", got)
	}
	if got := ids(t, "--session", first.id); got != "1 2 3 4" {
		t.Errorf("--session: %s", got)
	}
	table, _, _ := runCLI(t, "flows", "list", "--all")
	if !strings.Contains(table, second.id+"/1 ") {
		t.Errorf("no SESSION/ID in\n%s", table)
	}
	if stdout, stderr, code := runCLI(t, "flows", "show", first.id+"/2", "--request-body"); stdout != `{"n":12345678901234567890}` || code != 0 {
		t.Errorf("SESSION/2: %q, %s", stdout, stderr)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(first.path), filepath.Base(second.path)+"0"+filepath.Ext(first.path)), []byte("SQLite format 3\x00cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	if stdout, _, _ := runCLI(t, "flows", "list", "--all", "--json"); strings.Count(stdout, `"session"`) != 8 {
		t.Errorf("a broken file hides others: %s", stdout)
	}
}

func TestShowReal(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	for args, want := range map[string]string{
		"1 --response-body": binaryBody, "1 --request-body": "", "2 --request-body": `{"n":12345678901234567890}`,
		"2 --response-body":                     "data: {\"text\":\"Hel\"}\n\ndata: [DONE]\n\n",
		r.id + "/1 --response-body":             binaryBody,
		"1 --response-body --session " + r.path: binaryBody,
	} {
		if stdout, stderr, code := runCLI(t, strings.Fields("flows show "+args)...); stdout != want || code != 0 || stderr != "" {
			t.Errorf("flows show %s: %q, exit %d, %s, want %q", args, stdout, code, stderr, want)
		}
	}
	for args, want := range map[string]string{"9": "no flow 9", "nosuch/1": "nosuch", "3 --request-body": "no HTTP exchange", "x": "no flow"} {
		if stdout, stderr, code := runCLI(t, strings.Fields("flows show "+args)...); stdout != "" || code != 1 || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("flows show %s: exit %d, %q, %q, want %q", args, code, stdout, stderr, want)
		}
	}
	for _, args := range []string{"show last", "show -1"} {
		if stdout, _, _ := runCLI(t, strings.Fields("flows "+args)...); !strings.HasPrefix(stdout, "DNS A a.example\n") {
			t.Errorf("flows %s: %s", args, stdout)
		}
	}
	stdout, _, _ := runCLI(t, "flows", "show", "2", "--json")
	var d struct {
		Request struct{ Body json.RawMessage }
		Events  []struct {
			Event string
			Data  any
		}
	}
	if err := json.Unmarshal([]byte(stdout), &d); err != nil || string(d.Request.Body) != `{"n":12345678901234567890}` || len(d.Events) != 2 || d.Events[1].Data != "[DONE]" || d.Events[0].Event != "message" {
		t.Errorf("show --json: %v, %+v", err, d)
	}
	stdout, _, _ = runCLI(t, "flows", "show", "3", "--json")
	var o struct {
		Messages []struct {
			Dir  string
			Data struct{ Base64 string }
			Size int
		}
	}
	if err := json.Unmarshal([]byte(stdout), &o); err != nil || len(o.Messages) != 1 || o.Messages[0].Dir != "sent" || o.Messages[0].Size != 3 || o.Messages[0].Data.Base64 != "FgP/" {
		t.Errorf("show 3 --json: %v, %s", err, stdout)
	}
}

// types returns the types of JSON lines.
func types(t *testing.T, lines string) string {
	t.Helper()
	var ts []string
	for line := range strings.Lines(lines) {
		var l struct {
			Type   string
			FlowID string `json:"flow_id"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if _, id, ok := strings.Cut(l.FlowID, "/"); ok {
			l.Type += ":" + id
		}
		if !strings.HasPrefix(l.Type, "connection_") {
			ts = append(ts, l.Type)
		}
	}
	return strings.Join(ts, " ")
}

func TestTailOfEnded(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	sampleSession(t).finish()
	stdout, stderr, code := runCLI(t, "flows", "tail", "--json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	got := types(t, stdout)
	for _, want := range []string{"request:1 response_headers:1 response:1", "request:2 response_headers:2 sse:2 sse:2 stream_end:2", "tcp:3", "dns:4"} {
		var mine []string
		id := want[strings.LastIndexByte(want, ':'):]
		for _, ty := range strings.Fields(got) {
			if strings.HasSuffix(ty, id) {
				mine = append(mine, ty)
			}
		}
		if strings.Join(mine, " ") != want {
			t.Errorf("flow %s: %s, want %s", id, mine, want)
		}
	}
	if stdout, _, code := runCLI(t, "flows", "tail", "2", "--json"); code != 0 || types(t, stdout) != "meta request:2 response_headers:2 sse:2 sse:2 stream_end:2" {
		t.Errorf("tail 2 --json: exit %d, %s", code, types(t, stdout))
	}
	stdout, _, code = runCLI(t, "flows", "tail")
	if code != 0 || strings.Count(stdout, "\n") != 4 || !strings.Contains(stdout, "a.example/one?x=1") {
		t.Errorf("tail: exit %d\n%s", code, stdout)
	}
	stdout, _, code = runCLI(t, "flows", "tail", "2")
	if code != 0 || !strings.Contains(stdout, "> POST a.example/two (26 bytes)\n") || !strings.Contains(stdout, "message  [DONE]\n") || !strings.Contains(stdout, "= complete") {
		t.Errorf("tail 2: exit %d\n%s", code, stdout)
	}
}

// TestFollowLive writes the log of a run while it is recorded: each event
// stands in it before the next is recorded.
func TestFollowLive(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "live")
	reader, err := r.s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	log := follow(t, func(w io.Writer) error { return followJSONL(context.Background(), reader, w) })
	on := emit(r.open("a.example", 443, nil))
	log.until(`"type":"meta"`)
	on.request(1, "POST", "a.example", "/", "{}")
	log.until(`"type":"request"`)
	on.answer(1, 200, "text/event-stream", true)
	log.until(`"type":"response_headers"`)
	var data []string
	for i := range 5 {
		data = append(data, fmt.Sprintf(`{"i":%d}`, i))
		on.event(1, data[i])
		log.until(data[i])
	}
	on.streamEnd(1, data...)
	log.until(`"type":"stream_end"`)
	r.finish()
	if got, want := types(t, log.rest()), "meta request:1 response_headers:1 sse:1 sse:1 sse:1 sse:1 sse:1 stream_end:1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTailInterrupted(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	sampleSession(t)
	ours := make(chan os.Signal, 1) // so that the signal never ends the test
	signal.Notify(ours, os.Interrupt)
	defer signal.Stop(ours)
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- (&tailOptions{json: true}).run(context.Background(), "", &terminal{Writer: pw})
		pw.Close()
	}()
	if _, err := bufio.NewReader(pr).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, pr)
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-done; codeOf(err) != 130 || err.Error() != "" {
		t.Errorf("%d %q, want 130 and no word", codeOf(err), err)
	}
}

func TestSessionsReal(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	first := sampleSession(t)
	first.finish()
	second := sampleSession(t)
	stdout, _, code := runCLI(t, "sessions", "list", "--json")
	var list []sessionJSON
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != 0 || len(list) != 2 {
		t.Fatalf("exit %d, %v: %s", code, err, stdout)
	}
	a, b := list[0], list[1]
	if a.ID != first.id || a.State != "ended" || a.Flows != 4 || a.Exit == nil || *a.Exit != 3 || a.Ended == nil || a.Bytes == 0 || a.File != first.path {
		t.Errorf("first: %+v", a)
	}
	if b.ID != second.id || b.State != "running" || b.Exit != nil || b.Ended != nil {
		t.Errorf("second: %+v", b)
	}
	table, _, _ := runCLI(t, "sessions", "list")
	if strings.Count(table, "\n") != 3 || !strings.Contains(table, second.id) {
		t.Errorf("table:\n%s", table)
	}
	stdout, stderr, code := runCLI(t, "sessions", "rm", second.id, first.id, "nosuch")
	if code != 1 || stdout != first.id+"\n" || strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, "running") || !strings.Contains(stderr, "nosuch") {
		t.Errorf("rm: exit %d, %q, %q", code, stdout, stderr)
	}
	if _, err := os.Stat(first.path); !os.IsNotExist(err) {
		t.Errorf("%s is still there", first.path)
	}
	if left, _ := filepath.Glob(first.path + "*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(second.path); err != nil {
		t.Errorf("a running session was deleted: %v", err)
	}
}

func TestBrokenFiles(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	r.finish()
	whole, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"cut": whole[:len(whole)/3], "text": []byte("hello, this is no database at all, only text"), "empty": nil} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range []string{"flows list --json", "flows show 1", "flows tail"} {
			stdout, stderr, code := runCLI(t, append(strings.Fields(args), "--session", file)...)
			if code != 1 || !strings.Contains(stderr, file) || strings.Count(stderr, "\n") != 1 || bytes.ContainsAny([]byte(stdout), "[{") {
				t.Errorf("%s of a %s file: exit %d, %q, %q", args, name, code, stdout, stderr)
			}
		}
	}
}
