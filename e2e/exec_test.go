package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A lasting is a session whose command runs until end is called.
type lasting struct {
	*job
	c    *exec.Cmd
	in   io.Closer
	said strings.Builder
	pid  int // of the command
}

// last starts a session called work.
func last(j *job, flags ...string) *lasting {
	j.t.Helper()
	l := &lasting{job: j}
	args := []string{traceBin, "run", "--inspect", "--session", "work", "--link", j.w.link, "--device", j.w.device}
	l.c = j.command(append(append(args, flags...), "--", "sh", "-c", "echo $$ >first; exec cat")...)
	l.c.Stderr = &l.said
	var err error
	if l.in, err = l.c.StdinPipe(); err != nil {
		j.t.Fatal(err)
	}
	if err := l.c.Start(); err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() {
		l.in.Close()
		l.c.Wait()
	})
	l.pid, _ = j.pid("first")
	return l
}

// end ends the session's command and waits for the session.
func (l *lasting) end() string {
	l.t.Helper()
	l.in.Close()
	if err := l.c.Wait(); err != nil {
		l.t.Errorf("%s: the session: %v\n%s", l.w, err, l.said.String())
	}
	return l.said.String()
}

// exec runs a further command in the session.
func (j *job) exec(argv ...string) result {
	j.t.Helper()
	return j.trace(append([]string{"exec", "work", "--"}, argv...)...)
}

// execWorlds are those in which entering differs.
func execWorlds() []world {
	var ws []world
	for _, w := range both() {
		ws = append(ws, world{w.root, "wireguard", "veth"})
		if tunOpens() {
			ws = append(ws, world{w.root, "direct", "tun"})
		}
	}
	return ws
}

// TestExec: what a second command sends is in the session's record, decrypted,
// byte for byte and under its own name; its status is ours.
func TestExec(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	for _, w := range execWorlds() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			l := last(j, "--upstream-ca", j.file("root.pem", ca.pem()), "--connect-to", host+":443:127.0.0.1:"+o.port)
			before := len(o.entries())
			j.env = append(j.env, "HTTPS_PROXY=http://127.0.0.1:1", "CURL_CA_BUNDLE=/nowhere", "MINE=kept", "TRACE_CA_PASSPHRASE=ours")
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					r := j.exec("sh", "-c", fmt.Sprintf(`curl -sS -A "$MINE$TRACE_CA_PASSPHRASE" -o /dev/null https://%s/bytes/%d; exit %d`, host, 10_000+i, i))
					if r.code != i || r.stderr != "" {
						t.Errorf("%d: exit %d, %s", i, r.code, r.stderr)
					}
				})
			}
			all.Wait()
			l.end()
			var got, want []string
			for _, e := range o.entries()[before:] {
				want = append(want, fmt.Sprintln(e.path, e.respSize, e.respHash, e.userAgent))
			}
			for _, row := range j.flows("--kind", "http") {
				got = append(got, fmt.Sprintln(row.Request.Path, row.Response.Size, row.Response.SHA256, "kept"))
				if p := row.Process; p == nil || filepath.Base(p.Exe) != "curl" || len(p.Parents) != 1 || slices.Contains(p.Parents, l.pid) {
					t.Errorf("%s: made by %+v; its shell is its one ancestor in the session", row.Request.Path, p)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if len(want) != 20 || !slices.Equal(got, want) {
				t.Errorf("recorded\n%s\nserved\n%s", got, want)
			}
		})
	}
}

// TestExecErrors: no session to go into, and no command to run, are said as
// what they are, with what to do.
func TestExecErrors(t *testing.T) {
	for _, w := range execWorlds() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			says := func(r result, code int, parts ...string) {
				t.Helper()
				j.must(r, code)
				for _, p := range parts {
					if !strings.Contains(r.stderr, p) {
						t.Errorf("%q is not said: %s", p, r.stderr)
					}
				}
			}
			says(j.exec("true"), 125, `"work"`, "hint: ")
			says(j.trace("exec", "--", "true"), 125, "no session", "hint: ")
			says(j.trace("exec", "work", "true"), 2, "--")
			says(j.trace("exec", "work", "other", "--", "true"), 2, "other")
			says(j.trace("exec", "work", "--"), 2, "no command")
			l := last(j)
			j.file("plain", "no program")
			says(j.exec("no-such-command"), 127, "no-such-command")
			says(j.exec("./plain"), 126, "plain")
			j.must(j.exec("sh", "-c", "kill -TERM $$"), 128+15)
			j.must(j.trace("exec", "--", "sh", "-c", "exit 9"), 9)
			// A newer run of that name has ended: the one that runs is meant.
			j.must(j.inspect([]string{"--session", "work", "--quiet"}, "true"), 0)
			j.must(j.exec("sh", "-c", "exit 8"), 8)
			files, _ := filepath.Glob(filepath.Join(j.home, "state/trace/sessions/*.db"))
			if os.Getuid() == 0 && !w.root && len(files) > 0 {
				says(j.finish([]string{traceBin, "exec", files[0], "--", "true"}), 125, ordinary.name, "hint: ")
			}
			says(j.inspect([]string{"--session", "other"}, traceBin, "exec", "work", "--", "true"), map[bool]int{true: 0, false: 125}[w.root])
			if w.root {
				says(j.run("unshare", "-pf", "--mount-proc", traceBin, "exec", "work", "--", "true"), 125, "not here", "hint: ")
			}
			if got := j.must(j.run("sh", "-c", "ulimit -Sn 77; exec "+traceBin+" exec work -- sh -c 'ulimit -Sn'"), 0).stdout; got != "77\n" {
				t.Errorf("limit %q", got)
			}
			l.end()
			says(j.exec("true"), 125, "not running", "ended", "hint: ")
			j.must(j.trace("run", "--session", "plain", "--", traceBin, "exec", "plain", "--", "true"), 125)
		})
	}
}

// TestExecLives: a session does not wait for those who entered, or with
// --wait-all it does; either way nobody is lost sight of.
func TestExecLives(t *testing.T) {
	need(t, "curl")
	o := serve(t, nil, nil)
	for _, w := range both() {
		for _, wait := range []bool{false, true} {
			t.Run(fmt.Sprint(w, wait), func(t *testing.T) {
				j := newJob(t, w)
				l := last(j, map[bool]string{true: "--wait-all", false: "--no-localhost"}[wait])
				c := j.command(traceBin, "exec", "work", "--", "sh", "-c",
					"echo $$ >second; while [ ! -e go ]; do sleep 0.02; done; curl -sS -o /dev/null http://127.0.0.1:"+o.port+"/text; echo $? >curl; exit 6")
				var said strings.Builder
				c.Stderr = &said
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				second, _ := j.pid("second")
				if !wait {
					if line := l.end(); !strings.Contains(line, fmt.Sprintf("sh[%d]", second)) {
						t.Errorf("it is not said who was left: %s", line)
					}
					if files, _ := filepath.Glob(filepath.Join(j.home, "state/trace/sessions/*")); len(files) != 1 {
						t.Errorf("the session ended and left %q", files)
					}
				} else {
					l.in.Close()
					j.become("", l.pid)
				}
				j.file("go", "now")
				c.Wait()
				if code := c.ProcessState.ExitCode(); code != 6 {
					t.Errorf("exit %d, %s", code, said.String())
				}
				got := j.text("curl")
				if wait && (got != "0" || said.String() != "") || !wait && (got == "0" || !strings.Contains(said.String(), "ended before")) {
					t.Errorf("curl: %s; said %q", got, said.String())
				}
				if wait {
					if line := l.end(); strings.Contains(line, "left behind") {
						t.Error(line)
					}
					if rows := j.flows("--kind", "http"); len(rows) != 1 || rows[0].Process == nil {
						t.Errorf("%+v", rows)
					}
				}
			})
		}
	}
}

// TestExecKilled: a second command does not outlive its trace, and a signal to that
// alone reaches it.
func TestExecKilled(t *testing.T) {
	for _, w := range both() {
		j := newJob(t, w)
		l := last(j)
		c := j.command(traceBin, "exec", "work", "--", "sh", "-c", "echo $$ >killed; exec sleep 1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		command, _ := j.pid("killed")
		c.Process.Kill()
		j.become("", command)
		c.Wait()
		c = j.command(traceBin, "exec", "work", "--", "sh", "-c", "trap 'echo told >told; exit 7' TERM; echo $$ >asked; while :; do sleep 0.02; done")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		j.pid("asked")
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
		if code := c.ProcessState.ExitCode(); code != 7 || j.text("told") != "told" {
			t.Errorf("%s: exit %d", w, code)
		}
		l.end()
	}
}

// TestExecNested: inside of the session, from the session that a session is
// in, and in a session that a guest started.
func TestExecNested(t *testing.T) {
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			l := last(j)
			const where = "readlink /proc/self/ns/net"
			inside := j.must(j.exec("sh", "-c", where), 0).stdout
			if r := j.must(j.exec(traceBin, "exec", "work", "--", "sh", "-c", where), 0); r.stdout != inside {
				t.Errorf("a guest's guest is in %s, not %s", r.stdout, inside)
			}
			r := j.must(j.exec(traceBin, "run", "--inspect", "--quiet", "--session", "inner", "--", "sh", "-c",
				where+"; "+traceBin+" exec inner -- sh -c '"+where+"'"), 0)
			lines := strings.Fields(r.stdout)
			if len(lines) != 2 || lines[0] != lines[1] || lines[0] == strings.TrimSpace(inside) {
				t.Errorf("inner: %q, outer %q", lines, inside)
			}
			// From outside into the inner one.
			c := j.command(traceBin, "exec", "work", "--", traceBin, "run", "--inspect", "--quiet", "--session", "deep", "--", "sh", "-c", where+" >deep; while [ ! -e stop ]; do sleep 0.02; done")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			deep := j.text("deep")
			if r := j.must(j.trace("exec", "deep", "--", "sh", "-c", where), 0); strings.TrimSpace(r.stdout) != deep {
				t.Errorf("deep: in %s, not %s", r.stdout, deep)
			}
			j.file("stop", "now")
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
			l.end()
		})
	}
}

// TestExecScreen: a second command has the terminal as the first would.
func TestExecScreen(t *testing.T) {
	need(t, "vim.tiny")
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			s := newScreen(t, w)
			l := last(s.job)
			s.runs("X='"+traceBin+" exec work --'; ulimit -c 0", 0)
			s.runs("stty -a >before", 0)
			s.edits("$X")
			s.interrupts("$X")
			s.suspends("$X")
			s.start("$X bash --rcfile rc -i")
			s.exited(0) // the inner shell's start
			s.runs("tty >inner </dev/tty", 0)
			s.runs("suspend", 128+19)
			s.runs("fg", 0)
			s.runs("exit 7", 7)
			s.runs("stty -a >after", 0)
			if before, after := s.text("before"), s.text("after"); before != after {
				t.Errorf("the terminal's settings were\n%s\nand are\n%s", before, after)
			}
			l.end()
		})
	}
}

// TestExecHidden: where users see only processes that they may look into, trace
// is not among these, and a session is found all the same.
func TestExecHidden(t *testing.T) {
	needRoot(t)
	j := newJob(t, world{false, "direct", "veth"})
	const script = `mount -t proc -o hidepid=2 proc /proc || exit 99
mkfifo hold; chown --reference=. hold
"$@" run --inspect --session hidden -- sh -c 'echo >up; exec cat hold' & while [ ! -e up ]; do sleep 0.02; done
"$@" exec hidden -- sh -c '[ ! -e /proc/1 ] && exit 5'; code=$?
echo >hold; wait; exit $code`
	argv := append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"}, asOrdinary()...)
	j.must(j.finish(append(argv, traceBin)), 5)
}
