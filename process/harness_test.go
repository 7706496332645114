package process

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"trace/flow"
	"trace/netns"
)

// roleVar makes the test binary play the part of another program.
const roleVar = "PROCESS_TEST_ROLE"

func init() {
	if os.Getenv(roleVar) == "headless" {
		runtime.LockOSThread() // the main goroutine is to end the first thread
	}
}

func TestMain(m *testing.M) {
	netns.Init()
	if name := os.Getenv(roleVar); name != "" {
		os.Exit(roles[name](os.Args[1:]))
	}
	os.Exit(m.Run())
}

// skip is for what only another machine can do; where every machine must be able it is a failure.
func skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("TRACE_NO_SKIP") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// testUser is nobody's on purpose: it is in no group and owns nothing.
const testUser = 12345

// both runs f as who we are and, if that is root, as an ordinary user in a process of its own.
func both(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		f(t)
		return
	}
	t.Run("root", f)
	t.Run("user", func(t *testing.T) {
		cmd := exec.Command(copyOf(t, 0o755), "-test.run=^"+strings.TrimSuffix(t.Name(), "/user")+"$", "-test.v")
		cmd.Env = append(os.Environ(), "HOME=/nonexistent", "TMPDIR=/tmp", "PROCESS_TEST_SEALED="+copyOf(t, 0o711))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testUser, Gid: testUser}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: ") {
			t.Fatalf("as a user: %v\n%s", err, out)
		}
		t.Logf("as a user:\n%s", out)
	})
}

// copyOf is the test binary where everybody can reach it.
func copyOf(t testing.TB, mode os.FileMode) string {
	t.Helper()
	p, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp("/tmp", "process.test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(f.Name()) })
	defer f.Close()
	if _, err := f.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := f.Chmod(mode); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// A world is a namespace in which a program runs, and whose packets the test answers.
type world struct {
	t      testing.TB
	ns     *netns.Namespace
	device *netns.Device
	finder *Finder
	diag   *os.File
	in     *os.File      // what the program reads
	out    *bufio.Reader // what it says
	ended  chan struct{} // closed when the program ended
}

var (
	addr4 = netip.MustParsePrefix("198.19.255.2/32")
	addr6 = netip.MustParsePrefix("2001:db8:1:2::2/64")
)

// newWorld runs the test binary in a role.
func newWorld(t testing.TB, role string, args ...string) *world {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return runWorld(t, role, append([]string{exe}, args...)...)
}

// runWorld runs any command; role is for the test binary below it.
func runWorld(t testing.TB, role string, argv ...string) *world {
	t.Helper()
	inR, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer inR.Close()
	out, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer outW.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ns, err := netns.Start(ctx, &netns.Config{
		Path: argv[0], Args: argv, Env: append(os.Environ(), roleVar+"="+role), Stdin: inR, Stdout: outW,
		Addr4: addr4, Addr6: addr6,
	})
	if err != nil {
		t.Fatal(err)
	}
	diag, err := ns.Diag(ctx)
	if err != nil {
		ns.Close()
		t.Fatal(err)
	}
	w := &world{t: t, ns: ns, device: ns.Device(), in: in, out: bufio.NewReader(out), diag: diag, ended: make(chan struct{}),
		finder: &Finder{Diag: diag, Root: ns.PID(), Helper: ns.HelperPID(), NetNS: ns.NetNS()}}
	t.Cleanup(func() {
		for _, pid := range ns.Members() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		ns.Close()
		in.Close()
		out.Close()
		diag.Close()
		<-w.ended
	})
	if err := ns.Go(); err != nil {
		close(w.ended)
		t.Fatal(err)
	}
	go func() {
		ns.Wait()
		close(w.ended)
	}()
	return w
}

// poke lets one process of the program read a byte.
func (w *world) poke() {
	w.t.Helper()
	if _, err := w.in.Write([]byte{'\n'}); err != nil {
		w.t.Fatal(err)
	}
}

// hear reads the program's next line, which begins with what, and returns its rest as a number.
func (w *world) hear(what string) (n int) {
	w.t.Helper()
	line, err := w.out.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, what) {
		w.t.Fatalf("heard %q, %v; want %q", line, err, what)
	}
	fmt.Sscanf(line[len(what):], "%d", &n)
	return n
}

// find finds who sent p.
func (w *world) find(p *packet) *flow.Process {
	w.t.Helper()
	found := w.finder.Find(p.src, p.dst, p.network)
	if found == nil {
		w.t.Fatalf("nobody made %s %v → %v", p.network, p.src, p.dst)
	}
	return found
}

// next returns the next connection or datagram of the program.
func (w *world) next() *packet {
	w.t.Helper()
	w.device.File.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		buf := make([]byte, 70000)
		n, err := w.device.File.Read(buf)
		if err != nil {
			w.t.Fatal("device:", err)
		}
		if p := parse(buf[:n], w.device.HeaderLen()); p != nil {
			return p
		}
	}
}

func netipPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}
