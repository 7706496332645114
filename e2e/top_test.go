package e2e

import (
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A fetching is a recorded command that fetches what it is told.
type fetching struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
}

// fetching starts one, in a session of that name.
func (j *job) fetching(name, base string) *fetching {
	j.t.Helper()
	f := &fetching{t: j.t, cmd: j.command(traceBin, "run", "--inspect", "--quiet", "--session", name, "--",
		"sh", "-c", "while read path; do curl -sS "+base+"/$path -o /dev/null; done")}
	var err error
	if f.in, err = f.cmd.StdinPipe(); err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() {
		f.in.Close()
		f.cmd.Process.Kill()
		f.cmd.Wait()
	})
	return f
}

func (f *fetching) fetch(paths ...string) {
	f.t.Helper()
	if _, err := io.WriteString(f.in, strings.Join(paths, "\n")+"\n"); err != nil {
		f.t.Fatal(err)
	}
}

// hides waits until text does not stand on the screen.
func (s *screen) hides(text string) {
	s.t.Helper()
	seen := ""
	if !poll(func() bool {
		seen = s.tmux("capture-pane", "-p", "-J")
		return !strings.Contains(seen, text)
	}) {
		s.t.Fatalf("%q is still shown in\n%s", text, seen)
	}
}

// given reports an error unless the terminal is as it was, now that a program is over.
func (s *screen) given(how string) {
	s.t.Helper()
	if got := strings.TrimSpace(s.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag} #{wrap_flag}")); got != "0 1 1" {
		s.t.Errorf("%s: second screen, cursor, wrapping: %s, want 0 1 1", how, got)
	}
	s.runs("stty -a >after", 0)
	if before, after := s.text("before"), s.text("after"); before != after {
		s.t.Errorf("%s: the terminal's settings were\n%s\nand are\n%s", how, before, after)
	}
}

// TestTop watches a run, whose name is hostile, from its first flow to its violent
// end, on screens of several sizes, with every way to leave.
func TestTop(t *testing.T) {
	need(t, "curl", "stty")
	o := serve(t, nil, nil)
	ws := both()
	s := newScreen(t, ws[len(ws)-1])
	s.runs("stty -a >before", 0)
	s.start(traceBin + " top")
	s.shows("no session yet")
	f := s.fetching("we\x1b[2Jird", "http://"+o.addr)
	s.shows(`we\x1b[2Jird`)
	f.fetch("text/first", "bytes/70000")
	s.shows("/text/first")
	s.shows("2 flows, 0 open")
	s.shows("Model") // all panes have room

	s.keys("k", "Enter")
	s.shows("Flow ")
	s.shows("/text/first")
	s.hides("/bytes/70000")
	s.keys("n")
	s.shows("/bytes/70000")
	s.keys("Escape")
	s.shows("[Flows]")
	s.keys("Tab")
	s.shows("[Processes]")
	s.shows("> curl")
	s.keys("3", "Enter") // the only host
	s.shows("of 127.0.0.1")
	s.keys("Escape")
	s.shows("[Hosts]")
	s.keys("1", "/", "f", "i", "r", "s", "t", "Enter")
	s.hides("/bytes/70000")
	s.shows("1 flow, 0 open")
	s.keys("Escape")
	s.shows("/bytes/70000")

	for _, size := range []string{"140 40", "30 8", "80 24"} {
		w, h, _ := strings.Cut(size, " ")
		s.tmux("resize-window", "-x", w, "-y", h)
		rows, _ := strconv.Atoi(h)
		seen := ""
		if !poll(func() bool {
			seen = s.tmux("capture-pane", "-p")
			lines := strings.Split(seen, "\n")
			return len(lines) == rows+1 && strings.HasPrefix(lines[0], "trace top  we") && strings.HasPrefix(lines[rows-1], "q quit  / filter") &&
				strings.Contains(seen, "\n> ")
		}) {
			t.Errorf("%s: the screen shows\n%s", size, seen)
		}
	}
	s.keys("C-z")
	s.exited(stopped)
	s.given("stopped")
	s.start("fg")
	s.shows("2 flows, 0 open")
	f.fetch("text/last")
	s.shows("/text/last")

	f.cmd.Process.Signal(syscall.SIGKILL)
	s.hides("(running")
	s.keys("q")
	s.exited(0)
	s.given("q")
}

// TestTopLeaves ends `trace top` by signals, and looks at what it costs while nothing
// happens.
func TestTopLeaves(t *testing.T) {
	need(t, "curl", "stty")
	o := serve(t, nil, nil)
	ws := both()
	s := newScreen(t, ws[0])
	s.runs("stty -a >before", 0)
	f := s.fetching("quiet", "http://"+o.addr)
	for _, sig := range []string{"TERM", "HUP", "USR1"} {
		s.start("NO_COLOR=1 sh -c 'echo $$ >top." + sig + "; exec " + traceBin + " top'")
		s.shows("[Flows]")
		pid, err := strconv.Atoi(s.text("top." + sig))
		if err != nil {
			t.Fatal(err)
		}
		if sig == "TERM" {
			f.fetch("text")
			s.shows("1 flow,")
			if seen := s.tmux("capture-pane", "-p", "-e"); strings.Contains(seen, "\x1b[") {
				t.Errorf("NO_COLOR: %q", seen)
			}
			s.idle(pid)
		}
		code := map[string]int{"TERM": 143, "HUP": 129, "USR1": 138}[sig]
		s.must(s.run("kill", "-"+sig, strconv.Itoa(pid)), 0)
		s.exited(code)
		s.given(sig)
	}
	s.start("env -u NO_COLOR " + traceBin + " top")
	s.shows("[Flows]")
	if seen := s.tmux("capture-pane", "-p", "-e"); !strings.Contains(seen, "\x1b[") {
		t.Errorf("no colours: %q", seen)
	}
	s.keys("C-c")
	s.exited(0)
	s.given("Ctrl-C")
	s.runs("TERM=dumb "+traceBin+" top", 1)
	if r := s.run("env", "TERM=xterm", traceBin, "top"); r.code != 1 || !strings.Contains(r.stderr, "standard output is no terminal") {
		t.Errorf("no terminal: exit %d, %s", r.code, r.stderr)
	}
}

// idle looks how much processor time a top takes in two seconds, which its own clock
// tells.
func (s *screen) idle(pid int) {
	s.t.Helper()
	age := func() (n int) {
		_, rest, _ := strings.Cut(s.tmux("capture-pane", "-p", "-J"), "running, ")
		fmt.Sscanf(rest, "%ds", &n)
		return n
	}
	ticks := func() (n int) {
		f := stat(pid)
		if len(f) < 13 {
			s.t.Fatalf("top is gone: %q", f)
		}
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		return user + system
	}
	began, used := age(), ticks()
	if !poll(func() bool { return age() >= began+2 }) {
		s.t.Fatal("its clock stands still")
	}
	if used = ticks() - used; used > 20 {
		s.t.Errorf("%d hundredths of a second of processor time in two seconds without a flow", used)
	}
	s.t.Logf("%d0 ms of processor time in two seconds", used)
}
