package mirror

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trace/netns"
)

// roleVar makes the test binary play the part of another program.
const roleVar = "MIRROR_TEST_ROLE"

// atOnce keeps programs that were built with the race detector from waiting a
// second at their end.
const atOnce = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	netns.Init()
	switch os.Getenv(roleVar) {
	case "":
		os.Exit(m.Run())
	case "agent":
		os.Exit(agent())
	case "tracer":
		os.Exit(tracer())
	case "user":
		os.Exit(becomeUser())
	}
	os.Exit(99)
}

// testUser is nobody's on purpose: it is in no group and owns nothing.
const testUser = 12345

// becomeUser turns root into testUser and runs the same test again.
func becomeUser() int {
	os.Unsetenv(roleVar)
	p, err := os.ReadFile("/proc/self/exe") // a copy that the user may execute
	if err != nil {
		fmt.Println(err)
		return 1
	}
	f, err := os.CreateTemp("/tmp", "mirror.test")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.Remove(f.Name())
	_, err = f.Write(p)
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		fmt.Println(err)
		return 1
	}
	cmd := exec.Command(f.Name(), os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testUser, Gid: testUser}}
	if cmd.Run() != nil {
		return 1
	}
	return 0
}

// everywhere runs f as who we are and, if that is root, as an ordinary user.
func everywhere(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Run("here", f) // with a clean-up of its own
	if os.Geteuid() == 0 && !t.Failed() {
		asUser(t)
	}
}

// asUser runs the calling test again as an ordinary user in a process of its own.
func asUser(t *testing.T) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), roleVar+"=user", "HOME=/nonexistent", "TMPDIR=/tmp", atOnce)
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("as ordinary user: %v\n%s", err, out)
	}
	t.Logf("as ordinary user:\n%s", out)
}

// skip is for what only another machine can do; where every machine must be
// able it is a failure.
func skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("TRACE_NO_SKIP") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// world is a namespace with an agent in it, and the mirror around them.
type world struct {
	t  testing.TB
	ns *netns.Namespace
	m  *Mirror

	mu    sync.Mutex
	notes []Note

	in  io.WriteCloser
	out *bufio.Scanner
}

// config is a Config of a command as every test needs it.
func config(path string, args ...string) *netns.Config {
	return &netns.Config{Path: path, Args: append([]string{path}, args...),
		Addr4: netip.MustParsePrefix("198.19.255.2/32"), Addr6: netip.MustParsePrefix("2001:db8:1:2::2/64")}
}

// newWorld puts up a namespace and its mirror, among services of the host. The
// agent runs when it returns.
func newWorld(t testing.TB, m *Mirror, services ...*net.TCPListener) *world {
	t.Helper()
	w := prepare(t, m, "agent")
	for _, l := range services {
		foreign(t, l)
	}
	w.start()
	return w
}

// prepare is newWorld but that neither mirror nor command has been started, and
// that another role than the agent's may be played.
func prepare(t testing.TB, m *Mirror, role string) *world {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := config(exe)
	c.Env = append(os.Environ(), roleVar+"="+role, atOnce)
	inR, inW, outR, outW := pipes(t)
	c.Stdin, c.Stdout = inR, outW
	w := &world{t: t, in: inW, out: bufio.NewScanner(outR)}
	w.enter(m, c)
	return w
}

// enter makes the namespace for a command.
func (w *world) enter(m *Mirror, c *netns.Config) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	ns, err := netns.Start(ctx, c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ns.Close() })
	w.ns, w.m = ns, m
	m.Inside, m.Note = ns, w.note
	if m.Log == nil {
		m.Log = w.t.Logf
	}
}

// newTracer is newWorld in a process of its own, as a second trace is.
func newTracer(t *testing.T) *world {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleVar+"=tracer", atOnce)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("tracer: %v", err)
		}
	})
	return w
}

// tracer has an agent in a namespace of its own, which speaks for it. Notes
// are a failure.
func tracer() int {
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(roleVar, "agent")
	ctx := context.Background()
	ns, err := netns.Start(ctx, config(exe))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer ns.Close()
	code := 0
	m := &Mirror{Inside: ns, Note: func(n Note) {
		fmt.Fprintln(os.Stderr, n)
		code = 1
	}}
	err = m.Start(ctx)
	if err == nil {
		err = ns.Go()
	}
	if err == nil {
		_, err = ns.Wait()
	}
	if err = errors.Join(err, m.Close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func pipes(t testing.TB) (inR, inW, outR, outW *os.File) {
	t.Helper()
	inR, inW, err1 := os.Pipe()
	outR, outW, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range []*os.File{inR, inW, outR, outW} {
			f.Close()
		}
	})
	return inR, inW, outR, outW
}

// start makes the mirrors and then lets the command run.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	w.t.Cleanup(func() {
		if err := w.m.Close(); err != nil {
			w.t.Errorf("Close: %v", err)
		}
	})
	if err := w.m.Start(ctx); err != nil {
		w.t.Fatal(err)
	}
	if err := w.ns.Go(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) note(n Note) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, n)
}

// noted returns the notes of a kind.
func (w *world) noted(kind Kind) (ns []Note) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.notes {
		if n.Kind == kind {
			ns = append(ns, n)
		}
	}
	return ns
}

// do has the agent do something and returns what it says.
func (w *world) do(format string, args ...any) string {
	w.t.Helper()
	fmt.Fprintf(w.in, format+"\n", args...)
	if !w.out.Scan() {
		w.t.Fatalf("the agent is gone: %v", w.out.Err())
	}
	return w.out.Text()
}

// must is do where all but want is a failure.
func (w *world) must(want, format string, args ...any) {
	w.t.Helper()
	if got := w.do(format, args...); got != want {
		w.t.Errorf("inside, "+format+": %s, want %s", append(args, got, want)...)
	}
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if f() {
			return
		}
	}
	t.Fatalf("not within a minute: %s", what)
}

// serveHost echoes on an address of the host.
func serveHost(t testing.TB, network, addr string) *net.TCPListener {
	t.Helper()
	l, err := listenPlain(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go echoes(l)
	return l
}

// listenPlain listens as net.Listen does but that "tcp6" takes no IPv4 and
// other networks on [::] do.
func listenPlain(network, addr string) (*net.TCPListener, error) {
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// foreign makes the test's own listener look like another program's: one that
// is not closed on exec came from elsewhere. Nothing must be executed while it
// is open.
func foreign(t testing.TB, l *net.TCPListener) *net.TCPListener {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { _, err = unix.FcntlInt(fd, unix.F_SETFD, 0) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// freePort returns a port that nobody holds.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return portOf(l)
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// name says of an error only its errno, as the agent does. Who writes to a
// connection that was reset meets other errors than who reads.
func name(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "ECONNREFUSED"
	case errors.Is(err, syscall.EADDRINUSE):
		return "EADDRINUSE"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ENOTCONN):
		return "ECONNRESET"
	}
	return err.Error()
}

// ask sends text to a server that echoes, ends its direction, and returns what
// came back or the errno.
func ask(addr, text string) string {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return name(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		return name(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return name(err)
	}
	p, err := io.ReadAll(c)
	if err != nil {
		return name(err)
	}
	return "ok " + string(p)
}
