package netns

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"ahead"

	"golang.org/x/sys/unix"
)

func TestDeviceDenied(t *testing.T) {
	if !asUser(t, false) {
		return
	}
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err == nil { // only where the tests run as an ordinary user
		f.Close()
		skip(t, "%s is open to everybody", "/dev/net/tun")
	}
	noMore := watchChildren(t)
	c := config("true")
	c.Device = TUN
	var steps []Step
	c.Step = func(s Step) { steps = append(steps, s) }
	_, err := Start(t.Context(), c)
	var e *StepError
	if !errors.As(err, &e) || e.Step != "device" || !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v", err)
	}
	if last := steps[len(steps)-1]; last.Name != "device" || last.Err == nil || steps[0].Name != "userns" {
		t.Errorf("steps %v", steps)
	}
	noMore()

	c.Device = Auto
	ns := start(t, c)
	if notes := ns.Notes(); ns.Device().Kind != Veth || len(notes) != 1 || notes[0].Step != "device" || !errors.Is(notes[0].Err, unix.EACCES) {
		t.Errorf("auto: %v, %v", ns.Device().Kind, notes)
	}
	ns.Close()
	noMore()
}

// limitsVar tells the inner process of TestLimits which limit of its own user namespace to use up.
const limitsVar = "NETNS_TEST_LIMIT"

// TestLimits uses up the namespaces that may be made: the kernel says ENOSPC for each kind alike.
func TestLimits(t *testing.T) {
	if file := os.Getenv(limitsVar); file != "" {
		testLimit(t, file)
		return
	}
	if os.Geteuid() != 0 {
		skip(t, "only root can make the user namespaces that this test has to have")
	}
	for _, file := range []string{"max_net_namespaces", "max_mnt_namespaces", "max_user_namespaces"} {
		cmd := exec.Command(ahead.SelfExe, "-test.run=^TestLimits$", "-test.v")
		cmd.Env = append(os.Environ(), limitsVar+"="+file)
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true}
		if out, err := cmd.CombinedOutput(); err != nil || !contains(string(out), "--- PASS") {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

func testLimit(t *testing.T, file string) {
	want := map[string]string{"max_net_namespaces": "netns", "max_mnt_namespaces": "mntns", "max_user_namespaces": "userns"}[file]
	if os.Geteuid() == 0 {
		if err := os.WriteFile("/proc/sys/user/"+file, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		if want == "userns" {
			asUser(t, false)
			return
		}
	}
	noMore := watchChildren(t)
	_, err := Start(t.Context(), config("true"))
	var e *StepError
	if !errors.As(err, &e) || e.Step != want || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%s: %v", file, err)
	}
	noMore()
}

func TestMistakes(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no command":        func(c *Config) { c.Path = "" },
		"no address":        func(c *Config) { c.Addr4, c.Addr6 = netip.Prefix{}, netip.Prefix{} },
		"IPv6 as IPv4":      func(c *Config) { c.Addr4 = c.Addr6 },
		"MTU":               func(c *Config) { c.MTU = 65536 },
		"device":            func(c *Config) { c.Device = "tap" },
		"public nameserver": func(c *Config) { c.ListenDNS = []netip.Addr{netip.MustParseAddr("192.0.2.1")} },
	} {
		c := config("true")
		change(c)
		if ns, err := Start(t.Context(), c); err == nil {
			ns.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCancelled(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		noMore := watchChildren(t)
		ctx, cancel := context.WithCancel(t.Context())
		c := config("true")
		c.Device = kind
		c.CoversFunc = func() (Covers, error) {
			cancel()
			return Covers{}, nil
		}
		if _, err := Start(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		c.CoversFunc = func() (Covers, error) { return Covers{}, os.ErrPermission }
		if _, err := Start(t.Context(), c); !errors.Is(err, os.ErrPermission) {
			t.Errorf("covers fail: %v", err)
		}
		c.CoversFunc = nil
		ns := start(t, c)
		ns.Close()
		ns.Close()
		if err := ns.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: %v", err)
		}
		eventually(t, noMore)
	})
}

// eventually gives a helper that was forked while init was killed the moment that it takes to end.
func eventually(t *testing.T, check func()) {
	t.Helper()
	r := newReaper()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end) && r.collect(); {
		time.Sleep(10 * time.Millisecond)
	}
	check()
}
