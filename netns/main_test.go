package netns

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleVar makes the test binary play the part of another program.
const roleVar = "NETNS_TEST_ROLE"

func TestMain(m *testing.M) {
	Init()
	os.Setenv("GORACE", "atexit_sleep_ms=0") // or each program of ours takes a second to end under the race detector
	if role, ok := os.LookupEnv(roleVar); ok {
		name, arg, _ := strings.Cut(role, " ")
		run, ok := roles[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such role:", name)
			os.Exit(99)
		}
		os.Exit(run(arg))
	}
	os.Exit(m.Run())
}

var (
	addr4 = netip.MustParsePrefix("198.19.255.2/32")
	addr6 = netip.MustParsePrefix("2001:db8:1:2::2/64")
)

func config(path string, args ...string) *Config {
	return &Config{Path: path, Args: append([]string{path}, args...), Addr4: addr4, Addr6: addr6, Offload: Checksum | TSO}
}

// skip is for what only another machine can do; where every machine must be able it is a failure.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("TRACE_NO_SKIP") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// testUser is nobody's on purpose: it is in no group and owns nothing.
const testUser = 12345

// asUser runs the calling test again as an ordinary user in a process of its own, and reports what that says. It returns true in
// that process. node opens /dev/net/tun to everybody, else only root may open it, in a mount namespace of the test's own.
func asUser(t *testing.T, node bool) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	role := "user"
	if node {
		role = "user tun"
	}
	runAs(t, exe, role, true)
	return false
}

// runAs runs the calling test again in a process that becomes somebody else first.
func runAs(t *testing.T, exe, role string, mounts bool) {
	t.Helper()
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), roleVar+"="+role, "HOME=/nonexistent", "TMPDIR=/tmp")
	cmd.Dir = "/"
	if mounts {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as %s: %v\n%s", role, err, out)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("as %s the test did not run:\n%s", role, out)
	}
	t.Logf("as %s:\n%s", role, out)
}

// everywhere runs f as root and as an ordinary user, over each kind of device.
func everywhere(t *testing.T, f func(t *testing.T, kind DeviceKind)) {
	t.Helper()
	for _, kind := range []DeviceKind{TUN, Veth} {
		t.Run(string(kind), func(t *testing.T) {
			if fd, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); kind == TUN && err != nil {
				skip(t, "%v", err)
			} else {
				fd.Close()
			}
			f(t, kind)
		})
	}
	if os.Geteuid() == 0 && CurrentRights() == Root {
		asUser(t, true)
	}
}

// role is a Config that runs this binary in a role.
func role(t *testing.T, kind DeviceKind, what string) *Config {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := config(exe)
	c.Env = append(os.Environ(), roleVar+"="+what)
	c.Device = kind
	return c
}

func start(t *testing.T, c *Config) *Namespace {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ns, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// run starts c with its output in a pipe, and returns that with the status.
func run(t *testing.T, c *Config) (string, Status) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c.Stdout, c.Stderr = w, w
	ns := start(t, c)
	if err := ns.Go(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	out := readAll(r)
	st, err := ns.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return out, st
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func contains(s, part string) bool { return strings.Contains(s, part) }

func readAll(r io.Reader) string {
	p, _ := io.ReadAll(r)
	return string(p)
}
