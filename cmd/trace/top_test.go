package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"trace/console"
	"trace/flow"
	"trace/store"
)

// topOf returns a view of what `trace top REF` follows, and a function that brings it
// up to date and returns the screen.
func topOf(t *testing.T, ref string, color bool) (*topView, func() string) {
	t.Helper()
	source, err := newTopSource(ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.close)
	v := newTopView(source, color)
	v.resize(100, 24)
	return v, func() string {
		t.Helper()
		for more := true; more; {
			var err error
			if more, err = source.step(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		lines := v.lines(time.Now())
		if len(lines) != v.height && v.height > 0 {
			t.Errorf("%d lines on %d rows", len(lines), v.height)
		}
		return strings.Join(lines, "\n")
	}
}

// press presses keys.
func press(v *topView, keys ...console.Key) (quit bool) {
	for _, k := range keys {
		quit = v.press(k)
	}
	return quit
}

func typed(text string) (keys []console.Key) {
	for _, r := range text {
		keys = append(keys, console.Key(r))
	}
	return keys
}

// holds reports what is missing on a screen, and what is there behind a "!".
func holds(t *testing.T, what, screen string, words ...string) {
	t.Helper()
	for _, w := range words {
		if no, ok := strings.CutPrefix(w, "!"); strings.Contains(screen, no) == ok {
			t.Errorf("%s: %q in\n%s", what, w, screen)
		}
	}
}

// TestTopCalls shows calls that nobody has summarised: flows, groups, filters, one flow.
func TestTopCalls(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := agentRun(t)
	r.finish()
	v, screen := topOf(t, "", false)
	first := screen() // the state, then the calls, as time allows
	for until := time.Now().Add(10 * time.Second); !strings.Contains(first, "5 calls") && time.Now().Before(until); {
		first = screen()
	}
	holds(t, "flows", first, "agents "+r.id+" (ended)", "6 flows, 0 open", "5 calls; tokens: 380 in, 100 of them cached, 20 out", "; 1 error", "[Flows]", "claude-x", ">  6")
	press(v, console.Tab)
	holds(t, "processes", screen(), "[Processes]", "> curl", "6")
	press(v, '4')
	holds(t, "models", screen(), "[Models]", "> claude-x")
	press(v, console.Enter)
	holds(t, "of a model", screen(), "[Flows]", "of claude-x", "5 flows", "!>  6")
	press(v, console.Escape)
	holds(t, "back", screen(), "[Models]")
	press(v, console.BackTab, '1', '/')
	press(v, typed("MESSAGES !529x 529")...)
	holds(t, "typing", screen(), "/MESSAGES !529x 529_", "1 flow,")
	press(v, console.Enter, console.Enter)
	holds(t, "one flow", screen(), "Flow "+r.id+"/1", "Overloaded", "Esc back")
	if press(v, console.End, console.Up, console.PageUp, console.Home, console.Escape); v.detail != nil {
		t.Error("Escape leads not back")
	}
	press(v, console.Escape)
	holds(t, "all again", screen(), "6 flows")
	press(v, 'g', 'j', 'l', 'n', 'p', 'p')
	holds(t, "the one before", screen(), "Flow "+r.id+"/1")
	press(v, 'h', '?')
	holds(t, "help", screen(), "Shift-Tab")
	press(v, 'x', '/', console.CtrlU, 'q', console.Backspace, console.Backspace)
	if screen(); v.typing || v.help {
		t.Error("still typing, or help")
	}
	if !press(v, 'q') {
		t.Error("q does not quit")
	}
}

// TestTopLive: flows and sessions appear, the one that stood in goes, and what was
// open when a session ended is not any more.
func TestTopLive(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	_, none := topOf(t, "", false)
	holds(t, "nothing", none(), "no session yet", "records one")
	old := scripted(t, "old")
	emit(old.open("old.test", 443, nil)).request(1, "GET", "old.test", "/", "")
	old.finish()
	v, screen := topOf(t, "", false)
	holds(t, "the newest", screen(), "old "+old.id+" (ended)", "1 flow, 0 open")

	a := scripted(t, "first")
	on := emit(a.open("a.test", 443, nil))
	on.request(1, "GET", "a.test", "/waits", "")
	a.flush()
	v.source.looked = time.Time{} // the directory's time is a second's matter
	holds(t, "one runs", screen(), "first "+a.id+" (running", "!old.test", "1 flow, 1 open", "/waits")
	b := scripted(t, "second")
	emit(b.open("b.test", 443, nil)).request(1, "POST", "b.test", "/other", "")
	b.flush()
	v.source.looked = time.Time{}
	holds(t, "two run", screen(), "2 sessions, 2 running", "b.test", "/other", "curl[42] second", "2 flows, 2 open")
	press(v, '5')
	holds(t, "sessions", screen(), "first "+a.id, "second "+b.id)
	on.answer(1, 200, "text/plain", false)
	on.body(1, flow.Server, "hello")
	on(flow.End, 1, nil)
	a.flush()
	holds(t, "answered", screen(), "1 open", "5 bytes received")
	b.finish()
	for _, s := range v.source.sessions {
		s.checked = time.Time{}
	}
	holds(t, "one is over", screen(), "2 sessions, 1 running", "2 flows, 0 open")
}

// TestTopKilled: nothing touches the flows of a run that was killed.
func TestTopKilled(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "killed")
	emit(r.open("a.test", 443, nil)).request(1, "GET", "a.test", "/", "")
	r.flush()
	v, screen := topOf(t, r.id, false)
	holds(t, "before", screen(), "1 flow, 1 open")
	r.finish()
	row := v.source.rows[0]
	if err := v.source.settle(v.source.sessions[0]); err != nil || row.open {
		t.Errorf("open: %t, %v", row.open, err)
	}
}

// looks are the sequences that set how text looks.
var looks = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// TestTopEscapes: whatever a client sends, the terminal is told nothing but text and
// colours, in lines that fit, on a screen of any size.
func TestTopEscapes(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	evil := "\x1b]0;owned\x07\u202e\u009b2J\r\n世界"
	r := scripted(t, strings.ReplaceAll(evil, "\n", ""))
	for i := range 30 {
		on := emit(r.open(fmt.Sprintf("%d.test", i%3), 443, func(c *flow.Conn) { c.Process = &flow.Process{PID: 7, Exe: "/bin/" + evil, Argv: []string{evil}} }))
		on.request(1, "GET"+evil, evil, "/"+evil+strings.Repeat("x", 300), evil)
		on.answer(1, 200, evil, false)
		on.body(1, flow.Server, strings.Repeat(evil+"long ", 500))
		on(flow.End, 1, nil)
	}
	r.finish()
	v, screen := topOf(t, r.id, true)
	for _, size := range [][2]int{{80, 24}, {200, 60}, {40, 10}, {20, 6}, {5, 3}, {1, 1}} {
		v.resize(size[0], size[1])
		for _, keys := range [][]console.Key{{'1'}, {'2'}, {'3'}, {'4'}, {'5'}, {'1', '/', 0x9b, '世', console.Enter}, {console.Escape, 'G', 'k', console.Enter}, {console.Escape, '?'}, {'?'}} {
			press(v, keys...)
			for _, line := range strings.Split(screen(), "\n") {
				plain := looks.ReplaceAllString(line, "")
				if n := columns(plain); n > max(size[0], 2) {
					t.Errorf("%v, %q: %d columns: %q", size, keys, n, line)
				}
				for _, c := range plain {
					if unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) {
						t.Fatalf("%v, %q: %q", size, keys, line)
					}
				}
			}
		}
	}
}

// TestWrapped: a long line is cut where it must be, its colours go on, and a huge one
// takes no time.
func TestWrapped(t *testing.T) {
	for _, c := range []struct {
		line string
		want string
	}{
		{"abcd", "abcd"},
		{"abcdefghij", "abcd|efgh|ij"},
		{"a世界b世", "a世|界b|世"},
		{"\x1b[31mabcdef\x1b[0mgh", "\x1b[31mabcd\x1b[0m|\x1b[31mef\x1b[0mgh"},
		{"\x1b[1m\x1b[31mabcdefghi", "\x1b[1m\x1b[31mabcd\x1b[0m|\x1b[1m\x1b[31mefgh\x1b[0m|\x1b[1m\x1b[31mi\x1b[0m"},
	} {
		if got := strings.Join(wrapped(nil, c.line, 4), "|"); got != c.want {
			t.Errorf("%q: %q, want %q", c.line, got, c.want)
		}
	}
	began := time.Now()
	if n := len(wrapped(nil, strings.Repeat("x", 4<<20), 80)); n != topDetailLines {
		t.Errorf("%d lines", n)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestTopHolds: of very many flows the newest are held, and it is said.
func TestTopHolds(t *testing.T) {
	s := &topSource{byKey: map[string]*topRow{}}
	for i := range topRows + topRows/10 + 5 {
		s.add(&topRow{key: rowKey("s", int64(i)), id: int64(i)}, time.Unix(int64(i), 0))
	}
	s.add(&topRow{key: "late", id: -1}, time.Unix(int64(topRows), 0))
	if len(s.rows) != len(s.byKey) || len(s.rows) > topRows+topRows/10 || s.dropped == 0 || s.rows[len(s.rows)-1].id < int64(topRows) {
		t.Errorf("%d rows, %d keys, %d dropped", len(s.rows), len(s.byKey), s.dropped)
	}
	for i := 1; i < len(s.rows); i++ {
		if s.rows[i].started.Before(s.rows[i-1].started) {
			t.Fatal("not in the order of their start")
		}
	}
}

// TestTopDamaged: a file that is no session is refused, and one that goes bad keeps
// nobody from the others.
func TestTopDamaged(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	bad := filepath.Join(t.TempDir(), "bad.db")
	if err := os.WriteFile(bad, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{{1, bad, []string{bad}}, {1, "nothing-of-that-name", []string{"nothing-of-that-name"}}, {2, "which session", []string{""}}, {2, "at most 1", []string{"a", "b"}}} {
		if _, stderr, code := runCLI(t, append([]string{"top"}, c.args...)...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: exit %d, %q", c.args, code, stderr)
		}
	}
	r := scripted(t, "good")
	emit(r.open("a.test", 443, nil)).request(1, "GET", "a.test", "/", "")
	r.flush()
	v, _ := topOf(t, r.id, false)
	b := scripted(t, "bad")
	emit(b.open("b.test", 443, nil)).request(1, "GET", "b.test", "/", "")
	b.finish()
	other, err := store.Open(b.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.path, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	v.source.sessions = append([]*topSession{newTopSession(flow.Session{ID: "BAD", File: b.path}, other)}, v.source.sessions...)
	if _, err := v.source.step(time.Now()); err == nil || !strings.Contains(err.Error(), "session BAD") || len(v.source.rows) != 1 {
		t.Errorf("%v, %d rows", err, len(v.source.rows))
	}
}
