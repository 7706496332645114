package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"ahead"

	"golang.org/x/sys/unix"
)

// gone waits until a process is no more, or is dead and nobody's concern.
func gone(t *testing.T, what string, pid int) {
	t.Helper()
	for range 300 {
		st, err := readStat(pid)
		if err != nil || st.state == 'Z' {
			return
		}
		time.Sleep(10 * time.Millisecond) // no event comes for somebody else's child
	}
	t.Errorf("%s %d still lives", what, pid)
}

// TestParentKilled kills a trace with SIGKILL: neither its command nor its helper outlives it for long.
func TestParentKilled(t *testing.T) {
	if !asUserToo(t) {
		return
	}
	cmd := exec.Command(ahead.SelfExe)
	cmd.Env = append(os.Environ(), roleVar+"=carrier pids; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var target, helper int
	if _, err := fmt.Fscan(out, &target, &helper); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		if p, _ := os.ReadFile("/proc/" + itoa(target) + "/comm"); string(p) == "sleep\n" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cmd.Process.Kill()
	began := time.Now()
	cmd.Wait()
	gone(t, "command", target)
	gone(t, "helper", helper)
	if took := time.Since(began); took < ahead.HelperLinger/2 {
		t.Errorf("the helper ended after %v: the device's end was waited for", took)
	}
}

// TestIgnored: what the user let be ignored stays so, although this program listens to it, and nothing else is.
func TestIgnored(t *testing.T) {
	before := ahead.IgnoredSignals() // whoever started the tests may have some ignored
	for _, test := range []struct {
		prefix string
		want   uint64
	}{{"", 0}, {"trap '' HUP; ", 1}, {"trap '' INT; ", 2}} {
		want := fmt.Sprintf("%x", before|test.want)
		cmd := exec.Command("sh", "-c", test.prefix+"exec "+selfExeOfTest(t))
		cmd.Env = append(os.Environ(), roleVar+"=carrier ignored")
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%q: ignored %s, %v; want %s", test.prefix, out, err, want)
		}
	}
	cmd := exec.Command(ahead.SelfExe)
	cmd.Env = append(os.Environ(), roleVar+"=carrier kill -TERM $$; exit 1")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 128+15 {
		t.Errorf("a signal that the carrier ignores is ignored in the command: %v\n%s", err, out)
	}
}

func selfExeOfTest(t *testing.T) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// TestOrphans: what the command leaves behind is waited for, and what belongs to others is not.
func TestOrphans(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		other := exec.Command("true")
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		noMore := watchChildren(t)
		c := config("sh", "-c", "for i in 1 2 3; do (sleep 0.02 & echo $!); done; sleep 0.3; (sleep 60 & echo $!); exit 6")
		c.Device = kind
		r, w := pipe(t)
		c.Stdout = w
		ns := start(t, c)
		if err := ns.Go(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		st, err := ns.Wait()
		if st.Code != 6 || err != nil {
			t.Errorf("%v, %v", st, err)
		}
		p := make([]byte, 100)
		n, _ := r.Read(p)
		pids := strings.Fields(string(p[:n]))
		var last int
		fmt.Sscan(pids[len(pids)-1], &last)
		// Helpers of traces that earlier tests killed may have come to this process and be about to end.
		m := slices.DeleteFunc(ns.Members(), func(pid int) bool {
			p, _ := os.ReadFile("/proc/" + itoa(pid) + "/cmdline")
			return string(p) == ahead.HelperName+"\x00"
		})
		if len(m) != 1 || m[0] != last {
			t.Errorf("members %v, want %d", m, last)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := ns.WaitAll(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitAll: %v", err)
		}
		unix.Kill(last, unix.SIGKILL)
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := ns.WaitAll(ctx); err != nil {
			t.Errorf("%v: %v", err, ns.Members())
		}
		if err := other.Wait(); err != nil {
			t.Errorf("another's child: %v", err)
		}
		ns.Close()
		if CurrentRights() != Root { // root's dead orphans are told from others' by their age only
			eventually(t, noMore)
		}
	})
}

// TestNested runs programs that make namespaces themselves.
func TestNested(t *testing.T) {
	if !asUserToo(t) {
		return
	}
	for _, script := range []string{
		"bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all sh -c 'exit 8'",
		"bwrap --ro-bind / / --dev /dev --unshare-all --share-net sh -c 'cat /proc/net/route; exit 8'",
		"unshare -Urn sh -c 'exit 8'",
	} {
		name, _, _ := strings.Cut(script, " ")
		if _, err := exec.LookPath(name); err != nil {
			skip(t, "%v", err)
		}
		c := config("sh", "-c", script)
		c.Covers.Files = []File{{Target: "/etc/hosts", Data: []byte("ours")}}
		out, st := run(t, c)
		if st.Code != 8 || contains(script, "share-net") && !contains(out, "trace0") {
			t.Errorf("%s: %v\n%s", script, st, out)
		}
	}
	// A namespace in a namespace, by the same binary.
	exe := selfExeOfTest(t)
	c := config(exe)
	c.Env = append(withoutRole(), roleVar+"=carrier exit 8")
	if out, st := run(t, c); st.Code != 8 {
		t.Errorf("nested: %v\n%s", st, out)
	}
}

// TestContainerRoot is root without CAP_SYS_ADMIN: all ids exist inside, and root can become another user.
func TestContainerRoot(t *testing.T) {
	switch CurrentRights() {
	case OrdinaryUser:
		skip(t, "only root can be that")
	case Root:
		runAs(t, selfExeOfTest(t), "container", false)
		return
	}
	c := config("sh", "-c", "cat /proc/self/uid_map /proc/self/setgroups; su -s /bin/sh nobody -c 'id -u -n'; grep CapEff /proc/self/status")
	c.Device = Veth
	out, st := run(t, c)
	if st.Code != 0 || !contains(out, "4294967295\nallow\nnobody\n") {
		t.Errorf("%v\n%s", st, out)
	}
	if ns := start(t, config("true")); ns.Rights() != ContainerRoot {
		t.Errorf("rights %v", ns.Rights())
	}
}

// TestVethFeatures: the far end sees what it can take and no more.
func TestVethFeatures(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		for _, want := range []Offload{Checksum, Checksum | TSO, Checksum | TSO | USO} {
			c := config("true")
			c.Device, c.Offload, c.MTU, c.GSOMaxSize = kind, want, 65456, 65000
			ns := start(t, c)
			if d := ns.Device(); d.Offload != want || d.MTU != 65456 || len(ns.Notes()) != 0 {
				t.Errorf("%v: %+v, %v", want, d, ns.Notes())
			}
			ns.Close()
		}
	})
}
