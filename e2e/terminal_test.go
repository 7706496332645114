package e2e

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A screen is a terminal of the job's account: a tmux server of its own, in
// whose window an interactive shell runs.
type screen struct {
	*job
}

func newScreen(t *testing.T, w world) *screen {
	t.Helper()
	need(t, "tmux", "bash")
	s := &screen{newJob(t, w)}
	s.file("rc", "PROMPT_COMMAND='echo $? >status'")
	s.env = append(s.env, "TMUX_TMPDIR="+s.home, "T="+traceBin+" run --inspect --quiet --")
	t.Cleanup(func() { s.command("tmux", "-L", "e2e", "kill-server").Run() }) // a killed pane may have ended it
	s.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "exec bash --rcfile rc -i")
	s.exited(0)
	return s
}

func (s *screen) tmux(args ...string) string {
	s.t.Helper()
	return s.must(s.run(append([]string{"tmux", "-L", "e2e"}, args...)...), 0).stdout
}

// keys presses keys by their tmux names.
func (s *screen) keys(names ...string) {
	s.t.Helper()
	s.tmux(append([]string{"send-keys"}, names...)...)
}

// line types a line.
func (s *screen) line(text string) {
	s.t.Helper()
	s.tmux("send-keys", "-l", text, ";", "send-keys", "Enter")
}

// start types a command for the shell, on an empty screen.
func (s *screen) start(command string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.home, "status")); err != nil {
		s.t.Fatalf("%q: the shell is busy: %v", command, err)
	}
	s.tmux("send-keys", "-R", ";", "send-keys", "-l", command, ";", "send-keys", "Enter")
}

// exited waits until the shell asks for a command again, as what it started
// exited with code or was stopped. Until then nothing may be typed: programs
// throw away what they have not read when they reset the terminal.
func (s *screen) exited(code int) {
	s.t.Helper()
	var got string
	if !poll(func() bool {
		b, _ := os.ReadFile(filepath.Join(s.home, "status"))
		got = strings.TrimSpace(string(b))
		return got != ""
	}) || got != strconv.Itoa(code) {
		s.t.Fatalf("%s: exit %q, want %d\n%s", s.w, got, code, s.tmux("capture-pane", "-p"))
	}
}

// runs runs a command in the shell and wants its exit status.
func (s *screen) runs(command string, code int) {
	s.t.Helper()
	s.start(command)
	s.exited(code)
}

// shows waits until text stands on the screen. What was typed stands there
// too, so the text must differ from it.
func (s *screen) shows(text string) {
	s.t.Helper()
	seen := ""
	if !poll(func() bool {
		seen = s.tmux("capture-pane", "-p", "-J")
		return strings.Contains(seen, text)
	}) {
		s.t.Fatalf("%s: %q is not shown in\n%s", s.w, text, strings.TrimRight(seen, "\n"))
	}
}

// text waits until the file is there and returns what it holds.
func (j *job) text(name string) string {
	j.t.Helper()
	var b []byte
	if !poll(func() bool {
		b, _ = os.ReadFile(filepath.Join(j.home, name))
		return len(b) > 0
	}) {
		j.t.Fatalf("%s: no file %s", j.w, name)
	}
	return strings.TrimSpace(string(b))
}

// pid waits for a command that wrote its number to the file, and returns this
// number and that of the trace that is its parent.
func (j *job) pid(name string) (command, trace int) {
	j.t.Helper()
	command, err := strconv.Atoi(j.text(name))
	if err != nil {
		j.t.Fatal(err)
	}
	fields := stat(command)
	if len(fields) < 2 {
		j.t.Fatalf("%s: process %d is gone", j.w, command)
	}
	trace, _ = strconv.Atoi(fields[1])
	// Not exe: trace is not dumpable, so that its own user may not look.
	if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", trace)); string(comm) != "trace\n" {
		j.t.Fatalf("%s: the parent of %d is %q, not trace", j.w, command, comm)
	}
	return command, trace
}

// stat returns the fields of /proc/PID/stat from the state on, nil if the
// process is no more.
func stat(pid int) []string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.Fields(rest)
}

// become waits until all processes are in one of the states; none is "".
func (j *job) become(states string, pids ...int) {
	j.t.Helper()
	for _, pid := range pids {
		now := ""
		if !poll(func() bool {
			now = ""
			if f := stat(pid); len(f) > 0 && f[0] != "Z" {
				now = f[0]
			}
			return now == states || now != "" && strings.Contains(states, now)
		}) {
			j.t.Fatalf("%s: process %d is in state %q, want %q", j.w, pid, now, states)
		}
	}
}

// poll asks until done, for a time that is too long for anything here.
func poll(done func() bool) bool {
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

const (
	running = "RSD"    // the states of a process that is not stopped
	stopped = 128 + 20 // what a shell says of a job that Ctrl-Z stopped
)

// edits has an editor, started by x, take the screen, be stopped, and follow the size of
// the window.
func (s *screen) edits(x string) {
	s.t.Helper()
	s.start(x + " vim.tiny -u NONE -N new.txt")
	s.shows("[New")
	s.keys("i", "one", "Escape")
	s.keys("C-z")
	s.exited(stopped)
	s.start("fg")
	if !poll(func() bool { // until it has the terminal again, a key may be lost, and so may be part of a line
		s.keys("C-g")
		return strings.Contains(s.tmux("capture-pane", "-p"), "--100%--")
	}) {
		s.t.Fatalf("%s: the editor does not come back\n%s", s.w, s.tmux("capture-pane", "-p"))
	}
	for _, size := range [][2]string{{"80", "24"}, {"100", "30"}} {
		s.tmux("resize-window", "-x", size[0], "-y", size[1])
		if want := "columns=" + size[0]; !poll(func() bool { // it may be asked before it has heard of the new size
			s.line(":set columns?")
			return strings.Contains(s.tmux("capture-pane", "-p"), want)
		}) {
			s.t.Fatalf("%s: the editor never says %s\n%s", s.w, want, s.tmux("capture-pane", "-p"))
		}
	}
	s.line(":wq")
	s.exited(0)
	if got := s.text("new.txt"); got != "one" {
		s.t.Errorf("vim wrote %q", got)
	}
	s.tmux("resize-window", "-x", "80", "-y", "24")
	s.runs(`until [ "$(stty size)" = "24 80" ]; do sleep 0.02; done`, 0) // tmux takes its time, and programs drop a key for it
}

// interrupts ends commands that x starts by keys.
func (s *screen) interrupts(x string) {
	s.t.Helper()
	for i, c := range []struct {
		key  string
		code int
	}{{"C-c", 130}, {`C-\`, 131}} {
		s.start(fmt.Sprintf("%s sh -c 'echo $$ >pid%d; exec sleep 1000'", x, i))
		command, trace := s.pid(fmt.Sprintf("pid%d", i))
		s.keys(c.key)
		s.become("", command, trace)
		s.exited(c.code)
	}
}

// suspends stops a command that x starts, again and again, and has it go on.
func (s *screen) suspends(x string) {
	s.t.Helper()
	s.start(x + " sh -c 'echo $$ >job; exec sleep 1000'")
	command, trace := s.pid("job")
	for range 3 {
		s.keys("C-z")
		s.exited(stopped)
		s.become("T", command, trace)
		s.start("fg")
		s.become(running, command, trace)
	}
	s.keys("C-z")
	s.exited(stopped)
	s.become("T", command, trace)
	s.runs("bg", 0)
	s.become(running, command, trace)
	s.start("kill %1; wait %1")
	s.become("", command, trace)
	s.exited(128 + 15)
}

// TestScreen: programs that take the whole terminal, and a REPL, work as they
// do outside, and leave the terminal as it was.
func TestScreen(t *testing.T) {
	need(t, "vim.tiny", "less", "htop", "top", "/usr/bin/python3")
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			s := newScreen(t, w)
			s.runs("stty -a >before", 0)

			s.edits("$T")

			s.file("long.txt", strings.Repeat("a line\n", 100)+"last line\n")
			s.start("$T less long.txt")
			s.shows("a line")
			s.keys("G")
			s.shows("last line")
			s.keys("q")
			s.exited(0)

			s.start("$T htop")
			s.shows("Quit")
			s.keys("q")
			s.exited(0)
			s.start("$T top")
			s.shows("load average")
			s.keys("q")
			s.exited(0)

			s.start("$T /usr/bin/python3 -q")
			s.shows(">>>")
			s.line("6*7, __import__('sys').stdin.isatty()")
			s.shows("(42, True)")
			s.line("print('wait'+'ing'); __import__('time').sleep(100)")
			s.shows("waiting")
			s.keys("C-c")
			s.shows("KeyboardInterrupt")
			s.line("print('al'+'ive')")
			s.shows("alive")
			s.keys("C-d")
			s.exited(0)

			s.runs("stty -a >after", 0)
			if before, after := s.text("before"), s.text("after"); before != after {
				t.Errorf("the terminal's settings were\n%s\nand are\n%s", before, after)
			}
		})
	}
}

// TestKeys: Ctrl-C, Ctrl-\, Ctrl-Z with fg and bg, and a change of the
// window's size do to trace what they do to a command alone.
func TestKeys(t *testing.T) {
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			s := newScreen(t, w)
			s.runs("ulimit -c 0; set -o pipefail", 0)
			s.interrupts("$T")
			s.start(`$T sh -c 'trap "echo asked; exit 9" INT; echo $$ >pid; while :; do sleep 0.05; done' | (trap "" INT; exec cat)`)
			s.pid("pid")
			s.keys("C-c")
			s.shows("asked")
			s.exited(9)

			s.suspends("$T")

			s.runs("$T sh -c 'echo $$ >reader; read line; echo [$line]' &", 0)
			command, trace := s.pid("reader")
			s.become("T", command, trace) // it may not read from the terminal
			s.start("fg")
			s.become(running, command, trace)
			s.line("a line")
			s.shows("[a line]")
			s.exited(0)

			s.start(`$T bash -c 'trap "echo resized to \$(stty size)" WINCH; echo $$ >sized; while [ ! -e stop ]; do sleep 0.05; done'`)
			s.pid("sized")
			s.tmux("resize-window", "-x", "101", "-y", "31")
			s.shows("resized to 31 101")
			s.file("stop", "now")
			s.exited(0)
		})
	}
}

// TestShell: an interactive shell inside has jobs of its own, and the outer
// shell gets its terminal back.
func TestShell(t *testing.T) {
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			s := newScreen(t, w)
			s.start("$T bash --rcfile rc -i")
			s.exited(0) // the inner shell's start
			s.runs("sh -c 'echo $$ >job; exec sleep 1000' &", 0)
			job, err := strconv.Atoi(s.text("job"))
			if err != nil {
				t.Fatal(err)
			}
			s.start("jobs")
			s.shows("Running")
			s.exited(0)
			s.start("fg")
			if !poll(func() bool { f := stat(job); return len(f) > 5 && f[2] == f[5] }) { // its group is the terminal's
				t.Fatal("fg did not bring the job to the front")
			}
			s.keys("C-z")
			s.exited(stopped)
			s.become("T", job)
			s.runs("bg", 0)
			s.become(running, job)
			s.runs("kill -INT %1; wait %1", 130)
			s.start("sh -c 'echo $$ >second; exec sleep 1000'")
			s.text("second")
			s.keys("C-c")
			s.exited(130)
			s.runs("suspend", 128+19)
			s.runs("fg", 0)
			s.runs("exit 7", 7)
			s.runs("true", 0)
		})
	}
}

// TestHangup: when the terminal goes, the command is told and trace ends in
// order; with nohup both stay.
func TestHangup(t *testing.T) {
	const told = `'trap "echo told >told; exit 3" HUP; echo $$ >pid; while :; do sleep 0.05; done'`
	for _, w := range both() {
		for _, c := range []struct {
			name, line string
			leader     bool // trace is what the terminal runs
			code       int
		}{
			{"shell", "$T sh -c " + told, false, 3},
			{"leader", "exec $T sh -c " + told, true, 3},
			{"plain", "$T sh -c 'echo $$ >pid; exec sleep 1000'", false, 129},
			{"background", "$T sh -c " + told + " &", false, 3},
		} {
			t.Run(w.String()+"/"+c.name, func(t *testing.T) {
				s := newScreen(t, w)
				if c.line = strings.TrimSpace(c.line); c.leader {
					s.tmux("respawn-pane", "-k", c.line)
				} else {
					s.start(c.line)
				}
				command, trace := s.pid("pid")
				s.tmux("kill-pane")
				s.become("", command, trace)
				if c.code == 3 && s.text("told") != "told" {
					t.Error("the command was not told")
				}
				r := s.trace("sessions", "list", "--json")
				if want := fmt.Sprintf(`"exit":%d,`, c.code); !strings.Contains(r.stdout, want) || !strings.Contains(r.stdout, `"state":"ended"`) {
					t.Errorf("the session: %s %s, want %s", r.stdout, r.stderr, want)
				}
			})
		}
		t.Run(w.String()+"/nohup", func(t *testing.T) {
			s := newScreen(t, w)
			s.start("nohup $T sh -c 'echo $$ >pid; while [ ! -e stop ]; do sleep 0.05; done; echo stayed' >out 2>&1 &")
			command, trace := s.pid("pid")
			s.tmux("kill-pane")
			s.file("stop", "now")
			s.become("", command, trace)
			if got := s.text("out"); !strings.HasSuffix(got, "stayed") {
				t.Errorf("nohup: %q", got)
			}
		})
	}
}

// TestNoTerminal: pipes, files and a session without a terminal.
func TestNoTerminal(t *testing.T) {
	for _, w := range both() {
		j := newJob(t, w)
		j.env = append(j.env, "T="+traceBin+" run --inspect --quiet --")
		j.file("in.txt", "from a file\n")
		for _, c := range []struct {
			line, want string
			code       int
		}{
			{"$T echo piped | cat", "piped\n", 0},
			{"$T sh -c 'exit 4' | cat; exit ${PIPESTATUS[0]}", "", 4},
			{"$T yes | head -n 2; exit ${PIPESTATUS[0]}", "y\ny\n", 141},
			{"$T cat <in.txt", "from a file\n", 0},
			{"echo a pipe | $T cat", "a pipe\n", 0},
			{"$T true <&- >&- 2>&-", "", 0},
			{"setsid -w $T sh -c '(: </dev/tty) 2>/dev/null || echo none; exit 5' </dev/null", "none\n", 5},
			{"nohup $T echo hung </dev/null", "hung\n", 0},
			{"$T sh -c 'sh -c \"exec 3>&2; kill -USR1 \\$\\$\"; echo $?'", "138\n", 0},
			{"exec 7<in.txt; $T cat /dev/fd/7", "from a file\n", 0},
			{"timeout 0.3 $T sleep 1000", "", 124},
			{"timeout -s INT 0.3 $T sleep 1000", "", 124},
		} {
			t.Run(w.String()+"/"+c.line, func(t *testing.T) {
				j := &job{t: t, w: w, home: j.home, env: j.env}
				r := j.must(j.run("bash", "-c", c.line), c.code)
				if r.stdout != c.want {
					t.Errorf("stdout %q, want %q; stderr %q", r.stdout, c.want, r.stderr)
				}
			})
		}
	}
}

// TestNested: a trace inside of a trace records, and so does the outer one;
// namespaces of the command's own work.
func TestNested(t *testing.T) {
	need(t, "curl", "unshare", "bwrap", "su")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			outer := []string{"--session", "outer", "--upstream-ca", j.file("root.pem", ca.pem()), "--connect-to", host + ":443:127.0.0.1:" + o.port}
			r := j.must(j.inspect(outer, traceBin, "run", "--inspect", "--session", "inner", "--", "curl", "-sS", "https://"+host+"/bytes/70000", "-o", "got"), 0)
			log := o.entries()
			last := log[len(log)-1]
			for _, name := range []string{"outer", "inner"} {
				rows := j.flows("--session", name, "--kind", "http")
				if len(rows) != 1 || rows[0].Response == nil || rows[0].Response.SHA256 != last.respHash || rows[0].Response.Size != last.respSize {
					t.Errorf("%s: %+v, the server sent %+v; %s", name, rows, last, r.stderr)
				}
			}
			j.must(j.inspect(nil, "unshare", "-Urn", "true"), 0)
			j.must(j.inspect(nil, "unshare", "-Urnmpf", "--mount-proc", "sh", "-c", "exit 6"), 6)
			outer = append(outer[2:], "--session", "bwrap")
			j.must(j.inspect(outer, "bwrap", "--unshare-all", "--share-net", "--dev-bind", "/", "/", "--tmpfs", j.home, "curl", "-sS", "https://"+host+"/text"), 0)
			if w.root {
				j.must(j.inspect(nil, "su", "-s", "/bin/sh", ordinary.name, "-c", "true"), 0)
				r := j.must(j.run("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--",
					traceBin, "run", "--inspect", "--", "su", "-s", "/bin/sh", ordinary.name, "-c", "id -un; unshare -Urn true"), 0)
				if r.stdout != ordinary.name+"\n" {
					t.Errorf("su without CAP_SYS_ADMIN: %q %s", r.stdout, r.stderr)
				}
			}
		})
	}
}

// TestOrphan: what daemonized is not waited for, and trace's end is not
// delayed by it.
func TestOrphan(t *testing.T) {
	need(t, "setsid")
	for _, w := range both() {
		j := newJob(t, w)
		c := j.command(traceBin, "run", "--inspect", "--", "sh", "-c", `setsid sh -c 'echo $$ >pid; exec sleep 30' </dev/null >/dev/null 2>&1 &
			while [ ! -s pid ]; do sleep 0.01; done; exit 4`)
		r := j.must(j.done(c), 4)
		pid, err := strconv.Atoi(j.text("pid"))
		if err != nil {
			t.Fatal(err)
		}
		if r.took > 5*time.Second {
			t.Errorf("%s: the orphan was waited for: %v", w, r.took)
		}
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
}
