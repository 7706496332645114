package main

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"trace/flow"
	"trace/store"
)

// get records one exchange on a connection of its own.
func (r *script) get(host, path string) {
	on := emit(r.open(host, 443, nil))
	on.request(1, "GET", host, path, "")
	on.answer(1, 200, "text/plain", false)
	on.body(1, flow.Server, "ok")
	on(flow.End, 1, nil)
	on(flow.ConnEnd, 0, nil)
	r.flush()
}

func TestMark(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for args, want := range map[string]string{"mark x": "no session is running", "mark x --session nosuch": "nosuch"} {
		if _, stderr, code := runCLI(t, strings.Fields(args)...); code != 1 || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("trace %s: exit %d, %s", args, code, stderr)
		}
	}
	r := recordRedacted(t, "marked")
	if out, stderr, code := runCLI(t, "mark", "--list"); code != 0 || out != "" || !strings.Contains(stderr, "no marks") {
		t.Errorf("no marks: exit %d, %q, %q", code, out, stderr)
	}
	r.at = time.Now().Add(-time.Hour)
	r.get("a.example", "/one")
	if out, stderr, code := runCLI(t, "mark", "first", "try"); code != 0 || out != "m1\n" || stderr != "" {
		t.Fatalf("exit %d, %q, %q", code, out, stderr)
	}
	r.at = time.Now().Add(-100 * time.Millisecond)
	if out, _, code := runCLI(t, "mark", "--json", "between \x1b"); code != 2 || out != "" {
		t.Errorf("a control character: exit %d, %q", code, out)
	}
	out, _, code := runCLI(t, "mark", "--json", "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijk-AAAAAA")
	var m markJSON
	if err := json.Unmarshal([]byte(out), &m); err != nil || code != 0 || m.ID != "m2" || m.Session != r.id {
		t.Errorf("exit %d, %s, %v", code, out, err)
	}
	r.get("b.example", "/two")
	if out, stderr, code := runCLI(t, "mark", "twice", "--session", r.path); code != 0 || out != "m3\n" {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	if out, stderr, code := runCLI(t, "mark", "start"); code != 0 || out != "m4\n" || !strings.Contains(stderr, "m4") {
		t.Errorf("a name that is a time: exit %d, %q, %q", code, out, stderr)
	}
	runCLI(t, "mark", "twice")
	for args, want := range map[string]string{
		"--to\nfirst try": "1", "--from\nfirst try": "2", "--from\nm1\n--to\nm4": "2", "--from\nstart\n--to\nend": "2", "--from\nm3": "",
	} {
		if got := ids(t, strings.Split(args, "\n")...); got != want {
			t.Errorf("flows list %s: %q, want %q", args, got, want)
		}
	}
	for _, c := range []struct {
		from string
		code int
		want string
	}{{"twice", 1, "m3"}, {"nothing", 2, "nothing"}, {"m99", 2, "m99"}} {
		if _, stderr, code := runCLI(t, "flows", "list", "--from", c.from); code != c.code || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("--from %s: exit %d, %s", c.from, code, stderr)
		}
	}
	table, _, _ := runCLI(t, "flows", "list")
	lines := strings.Split(table, "\n")
	if len(lines) != 9 || !strings.Contains(lines[1], "/one") || !strings.Contains(lines[2], "first try  (m1)") || !strings.Contains(table, "twice") {
		t.Errorf("table:\n%s", table)
	}
	r.finish()
	if _, stderr, code := runCLI(t, "mark", "late", "--session", r.id); code != 1 || !strings.Contains(stderr, "has ended") {
		t.Errorf("after the end: exit %d, %s", code, stderr)
	}
	if got := ids(t, "--from", "first try"); got != "2" {
		t.Errorf("after the end: %q", got)
	}
	list, _, code := runCLI(t, "mark", "--list", "--json")
	var marks []markJSON
	if err := json.Unmarshal([]byte(list), &marks); err != nil || code != 0 || len(marks) != 5 || marks[4].Text != "twice" {
		t.Errorf("--list: exit %d, %v, %s", code, err, list)
	}
	if strings.Contains(list, "abcdefghijkl") {
		t.Errorf("a secret was kept: %s", list)
	}
	checkFollowed(t)
}

// TestOnlyMarks: a session without flows shows its marks, and no titles.
func TestOnlyMarks(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	scripted(t, "empty")
	runCLI(t, "mark", "alone")
	if out, stderr, code := runCLI(t, "flows", "list"); code != 0 || !strings.HasPrefix(out, "-- ") || strings.Count(out, "\n") != 1 || !strings.Contains(stderr, "no flows") {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
}

// checkFollowed wants the marks in the event log.
func checkFollowed(t *testing.T) {
	r, err := openSession("")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var log bytes.Buffer
	if err := followJSONL(context.Background(), r, &log); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), `"type":"mark"`); n != 5 || !strings.Contains(log.String(), `"mark":"m3","text":"twice"`) {
		t.Errorf("%d marks in\n%s", n, log.String())
	}
	lines, _, code := runCLI(t, "flows", "tail")
	order := regexp.MustCompile(`/one|/two|\(m\d\)`).FindAllString(lines, -1)
	if code != 0 || strings.Join(order, " ") != "/one (m1) (m2) /two (m3) (m4) (m5)" {
		t.Errorf("tail: exit %d\n%s", code, lines)
	}
}

// TestMarkLive wants followers of a running session, in its process and in
// others, to see both what the recorder writes and the marks of others.
func TestMarkLive(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "live")
	seen := make(chan string, 100)
	follow := func(rd *store.Reader, err error) {
		if err != nil {
			t.Error(err)
			return
		}
		defer rd.Close()
		err = rd.Follow(context.Background(), true, func(c store.Change) error {
			switch c.Step {
			case store.SessionNoted:
				seen <- c.Note.Error.Message
			case store.Done:
				seen <- c.Flow.Request.Head.Path
			}
			return nil
		})
		seen <- "end"
		if err != nil {
			t.Error(err)
		}
	}
	await := func(want string) {
		t.Helper()
		for range 2 {
			select {
			case got := <-seen:
				if got != want {
					t.Errorf("saw %q, want %q", got, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("nobody saw %q", want)
			}
		}
	}
	var following sync.WaitGroup
	t.Cleanup(following.Wait) // readers are closed before their directory goes
	following.Go(func() { follow(r.s.Reader()) })
	following.Go(func() { follow(store.Open(r.path)) })
	for _, name := range []string{"a", "b", "c"} {
		r.get("a.example", "/"+name)
		await("/" + name)
		if _, stderr, code := runCLI(t, "mark", name); code != 0 {
			t.Fatal(stderr)
		}
		await(name)
	}
	r.finish()
	await("end")
}
