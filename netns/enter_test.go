package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// guests is a namespace whose first command runs until its input ends, with a place in it.
type guests struct {
	t     *testing.T
	ns    *Namespace
	place *Place
	dir   string
	end   func() // of the first command
}

func receive(t *testing.T, kind DeviceKind) *guests {
	t.Helper()
	r, w := pipe(t)
	c := config("cat")
	c.Device, c.Stdin = kind, r
	g := &guests{t: t, ns: start(t, c), dir: t.TempDir(), end: func() { w.Close() }}
	if err := g.ns.Go(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	l, err := g.ns.Listen(t.Context(), "tcp4", "127.0.0.1:0") // the helper runs, and can be told from older ones
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	g.open()
	return g
}

func (g *guests) open() {
	g.t.Helper()
	var err error
	if g.place, err = OpenPlace(os.Getpid()); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { g.place.Close() })
}

// script is an entry that runs a script of a shell, in the test's directory.
func (g *guests) script(text string, env ...string) *Entry {
	return &Entry{Path: "sh", Args: []string{"sh", "-c", text}, Dir: g.dir, Env: append(os.Environ(), env...)}
}

// run enters, waits, and returns what the script left in the file out.
func (g *guests) run(text string, env ...string) (string, Status) {
	g.t.Helper()
	e, err := g.place.Enter(g.script(text, env...))
	if err != nil {
		g.t.Fatal(err)
	}
	defer e.Close()
	st, err := e.Wait()
	if err != nil {
		g.t.Fatal(err)
	}
	p, _ := os.ReadFile(filepath.Join(g.dir, "out"))
	return string(p), st
}

// facts is what a command can tell of where it is and what it may.
const facts = `{ readlink /proc/self/ns/net /proc/self/ns/mnt /proc/self/ns/user; pwd; id -u; id -g; ulimit -Sn; umask
	grep -E '^(Cap|NoNewPrivs|Seccomp:|SigBlk|SigIgn)' /proc/self/status; } >out`

// TestEnter: who enters is where the first command is and has its rights, and the status is native.
func TestEnter(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		g := receive(t, kind)
		out, st := g.run(facts + "; exit 7")
		if st.ExitCode() != 7 {
			t.Errorf("status %v", st)
		}
		// A first command tells the same, but for its namespaces' numbers.
		c := config("sh", "-c", facts)
		c.Dir, c.Device = g.dir, kind
		if _, st := run(t, c); st.ExitCode() != 0 {
			t.Fatal(st)
		}
		p, _ := os.ReadFile(filepath.Join(g.dir, "out"))
		got, want := strings.Split(out, "\n"), strings.Split(string(p), "\n")
		if len(got) < 10 || !slices.Equal(got[3:], want[3:]) {
			t.Errorf("entered:\n%s\nfirst:\n%s", out, p)
		}
		for i, name := range []string{"net", "mnt", "user"} {
			if link, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", g.ns.PID(), name)); link == "" || link != got[i] {
				t.Errorf("%s: in %s, the first command in %s", name, got[i], link)
			}
		}
		if _, st := g.run("kill -SEGV $$"); st.ExitCode() != 128+11 {
			t.Errorf("killed: %v", st)
		}
	})
}

// TestEnterContainer does the same as root without CAP_SYS_ADMIN.
func TestEnterContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		skip(t, "needs root")
	}
	if CurrentRights() == Root {
		runAs(t, selfExeOfTest(t), "container", false)
		return
	}
	g := receive(t, Auto)
	out, st := g.run("{ grep CapEff /proc/$PPID/status | cut -f2; grep CapEff /proc/self/status; chown 1:1 . && stat -c %u .; } >out; exit 3")
	first, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.ns.PID()))
	_, caps, _ := strings.Cut(string(first), "CapEff:")
	caps, _, _ = strings.Cut(caps, "\n")
	if st.ExitCode() != 3 || !strings.Contains(out, "CapEff:"+caps+"\n1\n") {
		t.Errorf("%v, %q; the first command has %q", st, out, caps)
	}
}

// TestEnterDescriptors: what the caller inherited is there, and nothing of ours.
func TestEnterDescriptors(t *testing.T) {
	g := receive(t, Auto)
	f, err := os.CreateTemp(g.dir, "inherited")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 77)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	list := exec.Command(selfExeOfTest(t))
	list.Env = append(os.Environ(), roleVar+"=fds")
	out, st := g.run("exec "+selfExeOfTest(t)+" >out", roleVar+"=fds")
	if st.ExitCode() != 0 || !strings.Contains(out, fmt.Sprintln(fd, f.Name())) {
		t.Errorf("%v, %q", st, out)
	}
	for line := range strings.Lines(out) {
		number, _, _ := strings.Cut(line, " ")
		if flags, err := unix.FcntlInt(uintptr(mustAtoi(t, number)), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			t.Errorf("%s is none that a child of this process has", strings.TrimSpace(line))
		}
	}
}

func mustAtoi(t *testing.T, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEnterLimit: the soft limit of open files is what this process was started with, although Go raised it.
func TestEnterLimit(t *testing.T) {
	const limitVar = "NETNS_TEST_LIMIT"
	if os.Getenv(limitVar) == "" {
		out, err := exec.Command("sh", "-c", "ulimit -Sn 77; "+limitVar+"=77 exec "+selfExeOfTest(t)+" -test.v -test.run=^TestEnterLimit$").CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	g := receive(t, Auto)
	if out, _ := g.run("ulimit -Sn >out"); out != os.Getenv(limitVar)+"\n" {
		t.Errorf("limit %q", out)
	}
}

// TestCannotEnter: what is no command, or has no place to run in, is told as what it is.
func TestCannotEnter(t *testing.T) {
	if !asUserToo(t) {
		return
	}
	g := receive(t, Auto)
	plain := filepath.Join(g.dir, "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]int{"no-such-command": 127, "./none": 127, plain: 126, "/": 126} {
		var e *ExecError
		if _, err := g.place.Enter(&Entry{Path: path, Dir: g.dir}); !errors.As(err, &e) || e.ExitCode() != code {
			t.Errorf("%s: %v, want %d", path, err, code)
		}
	}
	var step *StepError
	if _, err := g.place.Enter(&Entry{Path: "true", Dir: filepath.Join(g.dir, "none")}); !errors.As(err, &step) || !errors.Is(err, unix.ENOENT) || step.Step != "chdir" {
		t.Errorf("no directory: %v", err)
	}
	if _, err := g.place.Enter(&Entry{Path: "true", Dir: "relative"}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("relative directory: %v", err)
	}
	if _, err := g.place.Enter(&Entry{}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("no command: %v", err)
	}
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPlace(sleep.Process.Pid); !errors.Is(err, ErrNoPlace) {
		t.Errorf("a process without namespaces: %v", err)
	}
	sleep.Process.Kill()
	sleep.Wait()
	if _, err := OpenPlace(sleep.Process.Pid); !errors.Is(err, ErrNoPlace) {
		t.Errorf("a process that ended: %v", err)
	}
}

// TestEnterHidden: a file system that was mounted since is not in the namespace, and its directory is another there.
func TestEnterHidden(t *testing.T) {
	if os.Geteuid() != 0 || CurrentRights() != Root {
		skip(t, "needs root")
	}
	g := receive(t, Auto)
	if err := unix.Mount("x", g.dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(g.dir, unix.MNT_DETACH)
	var here, there unix.Stat_t
	if unix.Stat(g.dir, &here) != nil || unix.Stat(g.place.Root()+g.dir, &there) != nil {
		t.Fatal("cannot look")
	}
	if here.Dev == there.Dev {
		skip(t, "mounts reach the namespace here")
	}
	if _, err := g.place.Enter(g.script("touch out")); !errors.Is(err, unix.ESTALE) {
		t.Errorf("another directory: %v", err)
	}
}

// TestEnterMembers: who entered counts as one of the namespace, and so does what it leaves behind.
func TestEnterMembers(t *testing.T) {
	if !asUserToo(t) {
		return
	}
	g := receive(t, Auto)
	e, err := g.place.Enter(g.script("setsid sh -c 'echo $$ >left; read x <stop' & wait"))
	if err != nil {
		t.Fatal(err)
	}
	stop := filepath.Join(g.dir, "stop")
	if err := unix.Mkfifo(stop, 0o600); err != nil {
		t.Fatal(err)
	}
	left := 0
	for range 500 {
		p, _ := os.ReadFile(filepath.Join(g.dir, "left"))
		if _, err := fmt.Sscanln(string(p), &left); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond) // the shell says nothing else
	}
	if all := g.ns.Members(); !slices.Contains(all, e.PID()) || !slices.Contains(all, left) || !slices.Contains(all, g.ns.PID()) || slices.Contains(all, g.ns.HelperPID()) {
		t.Errorf("members %v: %d entered, %d is its child, %d was first, %d is the helper", all, e.PID(), left, g.ns.PID(), g.ns.HelperPID())
	}
	g.end()
	if st, err := g.ns.Wait(); err != nil || st.ExitCode() != 0 {
		t.Error(st, err)
	}
	e.Close()
	var all []int
	for range 200 {
		if all = g.ns.Members(); slices.Equal(all, []int{left}) {
			break
		}
		time.Sleep(5 * time.Millisecond) // the helper of the user's process is ours now and ends by itself
	}
	if !slices.Equal(all, []int{left}) {
		t.Errorf("members %v, want only %d", all, left)
	}
	short, cancel := context.WithTimeout(t.Context(), 2*membersPoll)
	defer cancel()
	if err := g.ns.WaitAll(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody was waited for: %v", err)
	}
	w, err := os.OpenFile(stop, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	long, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := g.ns.WaitAll(long); err != nil {
		t.Errorf("an end was not seen: %v", err)
	}
}

// TestEnterWithoutHelper: the command may have killed it.
func TestEnterWithoutHelper(t *testing.T) {
	if !asUserToo(t) {
		return
	}
	departedMu.Lock()
	others := slices.Clone(departed)
	departedMu.Unlock()
	for _, pid := range others {
		gone(t, "helper", pid) // whose namespace would do as well
	}
	g := receive(t, Auto)
	if _, st := g.run("true"); st.ExitCode() != 0 {
		t.Error(st)
	}
	unix.Kill(g.ns.HelperPID(), unix.SIGKILL)
	<-g.ns.HelperDone()
	g.place.Close()
	g.open()
	if out, _ := g.run("readlink /proc/self/ns/net >out"); out != fmt.Sprintf("net:[%d]\n", g.ns.NetNS()) {
		t.Errorf("entered %q", out)
	}
}

// TestEnterAtOnce: many may, and nothing is left of them.
func TestEnterAtOnce(t *testing.T) {
	if !asUserToo(t) {
		return
	}
	g := receive(t, Auto)
	g.run("true")
	before, files := goleak.IgnoreCurrent(), openFiles(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			e, err := g.place.Enter(g.script(fmt.Sprintf("exit %d", i)))
			if err != nil {
				t.Error(err)
				return
			}
			if st, err := e.Wait(); err != nil || st.ExitCode() != i {
				t.Errorf("%d: %v, %v", i, st, err)
			}
			e.Close()
			if _, err := g.place.Enter(&Entry{Path: "none"}); err == nil {
				t.Error("entered as nothing")
			}
		})
	}
	all.Wait()
	goleak.VerifyNone(t, before)
	if now := openFiles(t); now > files {
		t.Errorf("%d open descriptors, %d before", now, files)
	}
}
