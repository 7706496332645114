package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"trace/flow"
)

const (
	replayedKey  = "sk-ant-api03-recordedrecordedrecorded"
	replayingKey = "sk-ant-api03-replayingreplayingreplaying"
	replayedBody = `{"model":"old","n":12345678901234567890, "messages":[{"role":"user","content":"hi"}]}`
)

// keeper is a server that wants the key, and keeps what it was sent.
type keeper struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func newKeeper(t *testing.T, start func(*httptest.Server)) *keeper {
	t.Helper()
	k := &keeper{}
	k.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		k.mu.Lock()
		k.seen = append(k.seen, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("X-Api-Key"), body))
		k.mu.Unlock()
		if r.Header.Get("X-Api-Key") != replayingKey {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"answer":"new","key":%q}`, r.Header.Get("X-Api-Key"))
	}))
	k.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(k.Server)
	t.Cleanup(k.Close)
	return k
}

// last returns what was sent last, and how often something was.
func (k *keeper) last() (string, int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.seen) == 0 {
		return "", 0
	}
	return k.seen[len(k.seen)-1], len(k.seen)
}

// recordCall records one call with a key, and one that is signed.
func recordCall(t *testing.T) *script {
	r := recordRedacted(t, "calls")
	on := emit(r.open("api.anthropic.com", 443, nil))
	for i, auth := range []flow.Field{{Name: "X-Api-Key", Value: replayedKey}, {Name: "Authorization", Value: "AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=00"}} {
		n := int64(i + 1)
		on(flow.Request, n, func(e *flow.Event) {
			e.Head = &flow.Head{Method: "POST", Target: "/v1/messages", Path: "/v1/messages", Scheme: "https", Host: "api.anthropic.com", Port: 443, Version: "1.1",
				Fields: []flow.Field{{Name: "Host", Value: "api.anthropic.com"}, auth, {Name: "Content-Length", Value: fmt.Sprint(len(replayedBody))}, {Name: "content-type", Value: "application/json"}}}
		})
		on.body(n, flow.Client, replayedBody)
		on.answer(n, 200, "application/json", false)
		on.body(n, flow.Server, `{"answer":"old","key":"x"}`)
		on(flow.End, n, nil)
	}
	on(flow.ConnEnd, 0, nil)
	r.flush()
	return r
}

// TestReplay sends a recorded call again, with its key from the environment, and
// adds the answer to the session, while that runs and when it has ended.
func TestReplay(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("ANTHROPIC_API_KEY", "")
	k := newKeeper(t, (*httptest.Server).Start)
	r := recordCall(t)
	_, stderr, code := runCLI(t, "flows", "replay", "1", "--to", k.URL)
	if _, n := k.last(); code != 1 || n != 0 || !strings.Contains(stderr, "header X-Api-Key was redacted") || !strings.Contains(stderr, "ANTHROPIC_API_KEY") {
		t.Errorf("without the key: exit %d, %s", code, stderr)
	}
	t.Setenv("ANTHROPIC_API_KEY", replayingKey)
	for i, state := range []string{"running", "ended"} {
		if state == "ended" {
			r.finish()
		}
		stdout, stderr, code := runCLI(t, "flows", "replay", "1", "--to", k.URL)
		if sent, _ := k.last(); code != 0 || sent != "POST /v1/messages "+replayingKey+" "+replayedBody {
			t.Fatalf("%s: exit %d, %s, sent %q", state, code, stderr, sent)
		}
		for _, want := range []string{fmt.Sprintf("%s/%d  POST http://127.0.0.1", r.id, i+3), "replay of  " + r.id + "/1", "~ body answer\n  - \"old\"\n  + \"new\"", "the value of ANTHROPIC_API_KEY"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: no %q in\n%s", state, want, stdout)
			}
		}
		var x struct {
			Source   string
			ReplayOf string `json:"replay_of"`
			State    string
			Response struct{ Body map[string]string }
		}
		shown, _, _ := runCLI(t, "flows", "show", fmt.Sprint(i+3), "--json")
		if err := json.Unmarshal([]byte(shown), &x); err != nil || x.Source != "replay" || x.ReplayOf != r.id+"/1" || x.State != "complete" || x.Response.Body["answer"] != "new" || x.Response.Body["key"] != "[REDACTED:anthropic]" {
			t.Errorf("%s: %v %s", state, err, shown)
		}
	}
	if file, err := os.ReadFile(r.path); err != nil || bytes.Contains(file, []byte("replayingreplaying")) {
		t.Errorf("the key is in the record: %v", err)
	}
	if list, _, _ := runCLI(t, "sessions", "list", "--json"); strings.Count(list, `"state":"ended"`) != 1 {
		t.Errorf("sessions: %s", list)
	}
	if _, stderr, code := runCLI(t, "flows", "replay", "2", "--to", k.URL); code != 1 || !strings.Contains(stderr, "Signature Version 4") {
		t.Errorf("signed: exit %d, %s", code, stderr)
	}
}

// TestReplayChanged: --set, --header, --edit, --dry-run, --json, over TLS with
// --connect-to and --upstream-ca.
func TestReplayChanged(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("ANTHROPIC_API_KEY", "")
	k := newKeeper(t, (*httptest.Server).StartTLS)
	recordCall(t).finish()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	dry, stderr, code := runCLI(t, "flows", "replay", "1", "--dry-run", "--set", "model=new")
	want := fmt.Sprintf("POST /v1/messages HTTP/1.1\nHost: api.anthropic.com\nX-Api-Key: $ANTHROPIC_API_KEY\nContent-Length: %d\ncontent-type: application/json\n\n%s", len(replayedBody), strings.Replace(replayedBody, "old", "new", 1))
	if code != 0 || dry != want || !strings.Contains(stderr, "to https://api.anthropic.com") {
		t.Errorf("--dry-run: exit %d\n%s\nwant\n%s", code, dry, want)
	}
	editor := filepath.Join(t.TempDir(), "editor")
	if err := os.WriteFile(editor, []byte("#!/bin/sh\nsed -i s/hi/edited/ \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", editor)
	stdout, stderr, code := runCLI(t, "flows", "replay", "1", "--edit", "--set", `messages[0].role=system`, "--header", "x-api-key: "+replayingKey, "--json",
		"--to", "https://example.com/other?x", "--connect-to", "example.com:443:"+k.Listener.Addr().String(), "--upstream-ca", ca)
	const body = `{"model":"old","n":12345678901234567890,"messages":[{"role":"system","content":"edited"}]}`
	if sent, _ := k.last(); code != 0 || sent != "POST /other?x "+replayingKey+" "+body {
		t.Fatalf("exit %d, %s, sent %q", code, stderr, sent)
	}
	var out struct {
		ID, Session string
		Status      int
		Changes     []struct{ What, Old, New string }
		Flow        struct{ Source string }
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || out.ID != "3" || out.Status != 200 || out.Flow.Source != "replay" || len(out.Changes) == 0 {
		t.Errorf("--json: %v %s", err, stdout)
	}
	if err := os.WriteFile(editor, []byte("#!/bin/sh\necho broken > \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := runCLI(t, "flows", "replay", "1", "--edit", "--dry-run"); code != 1 || !strings.Contains(stderr, "no JSON any more") {
		t.Errorf("a broken edit: exit %d, %s", code, stderr)
	} else if _, kept, _ := strings.Cut(stderr, "kept in "); true {
		os.RemoveAll(filepath.Dir(strings.TrimSpace(strings.TrimSuffix(kept, ")\n"))))
	}
	// Without the roots the server is not trusted: an error, which is recorded.
	if _, stderr, code := runCLI(t, "flows", "replay", "1", "--header", "x-api-key: x", "--to", "https://example.com", "--connect-to", "::"+k.Listener.Addr().String()); code != 1 || !strings.Contains(stderr, "--upstream-ca FILE") {
		t.Errorf("untrusted: exit %d, %s", code, stderr)
	}
	if got := ids(t, "--kind", "tcp"); got != "4" {
		t.Errorf("the failure is not recorded: %q", got)
	}
}

// TestTemplates keeps a request, without its secrets, and sends it.
func TestTemplates(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	t.Setenv("ANTHROPIC_API_KEY", replayingKey)
	k := newKeeper(t, (*httptest.Server).Start)
	r := scripted(t, "secrets") // kept
	on := emit(r.open("api.anthropic.com", 443, nil))
	on(flow.Request, 1, func(e *flow.Event) {
		e.Head = &flow.Head{Method: "POST", Target: "/v1/messages", Path: "/v1/messages", Scheme: "https", Host: "api.anthropic.com", Port: 443, Version: "1.1",
			Fields: []flow.Field{{Name: "Host", Value: "api.anthropic.com"}, {Name: "X-Api-Key", Value: replayedKey}, {Name: "content-type", Value: "application/json"}}}
	})
	on.body(1, flow.Client, replayedBody)
	on(flow.End, 1, nil)
	on(flow.ConnEnd, 0, nil)
	r.finish()
	stdout, stderr, code := runCLI(t, "flows", "save", "hello", "1")
	path := filepath.Join(state, "trace", "templates", "hello.json")
	if code != 0 || stdout != path+"\n" {
		t.Fatalf("exit %d, %q, %s", code, stdout, stderr)
	}
	text, err := os.ReadFile(path)
	fi, serr := os.Stat(path)
	if err != nil || serr != nil || fi.Mode().Perm() != 0o600 || bytes.Contains(text, []byte(replayedKey)) || !bytes.Contains(text, []byte(`"[REDACTED:anthropic]"`)) {
		t.Errorf("%v %v %s", err, fi.Mode(), text)
	}
	if _, stderr, code := runCLI(t, "flows", "save", "hello", "1"); code != 1 || !strings.Contains(stderr, "--force") {
		t.Errorf("twice: exit %d, %s", code, stderr)
	}
	if _, _, code := runCLI(t, "flows", "save", "hello", "1", "--force"); code != 0 {
		t.Errorf("--force: exit %d", code)
	}
	tpl, err := readTemplate("hello")
	if err != nil {
		t.Fatal(err)
	}
	if d := tpl.Detail(); string(d.RequestBody) != replayedBody || d.Request.Head.Get("x-api-key") != "[REDACTED:anthropic]" {
		t.Errorf("read %+v", d)
	}
	stdout, stderr, code = runCLI(t, "flows", "replay", "hello", "--to", k.URL)
	if sent, _ := k.last(); code != 0 || sent != "POST /v1/messages "+replayingKey+" "+replayedBody || !strings.Contains(stdout, "replay of  hello") {
		t.Errorf("exit %d, %s\n%s\nsent %q", code, stderr, stdout, sent)
	}
	if got := ids(t, "--session", r.id); len(strings.Fields(got)) != 2 {
		t.Errorf("not in the session of its original: %s", got)
	}
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, code = runCLI(t, "flows", "replay", "hello", "--to", k.URL); code != 0 || !strings.Contains(stdout, "no recorded answer") {
		t.Errorf("without its session: exit %d, %s\n%s", code, stderr, stdout)
	}
	if got := ids(t, "--session", "replay"); got != "1" {
		t.Errorf("not in a session of its own: %s", got)
	}
}

func TestReplayUsage(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	recordCall(t).finish()
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"replay", "which request", 2}, {"replay 1 2", "one ID", 2}, {"replay 99", "no flow 99", 1}, {"replay nosuch", "no such template", 1},
		{"replay 1 --header nocolon", "NAME: VALUE", 2}, {"replay 1 --set x", "PATH=VALUE", 2}, {"replay 1 --to ftp://x", "--to", 2}, {"replay 1 --to nonsense", "--to", 2},
		{"replay 1 --connect-to x", "--connect-to", 2}, {"replay 1 --header x-api-key:x --set m..=1", "a name is missing", 1}, {"save", "arg", 2}, {"save 12 1", "begins with a letter", 2},
		{"save a/b 1", "begins with a letter", 2}, {"save x 99", "no flow 99", 1}, {"save x 2", "Signature Version 4", 1},
	} {
		stdout, stderr, code := runCLI(t, append([]string{"flows"}, strings.Fields(c.args)...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("flows %s: exit %d, %q %q, want %d %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
	if _, stderr, code := runCLI(t, "flows", "replay", "1", "--header", "x-api-key: x", "--upstream-ca", "/no/such"); code != 1 || !strings.Contains(stderr, "/no/such") {
		t.Errorf("--upstream-ca: exit %d, %s", code, stderr)
	}
}
