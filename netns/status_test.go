package netns

import (
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"ahead"

	"golang.org/x/sys/unix"
)

func TestStatus(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		for _, test := range []struct {
			script string
			want   int
		}{{"exit 0", 0}, {"exit 7", 7}, {"exit 255", 255}, {"kill -TERM $$", 143}, {"kill -KILL $$", 137}, {"kill -SEGV $$", 139}} {
			c := config("sh", "-c", test.script)
			c.Device = kind
			if out, st := run(t, c); st.ExitCode() != test.want {
				t.Errorf("%s: %v (%d), want %d; %s", test.script, st, st.ExitCode(), test.want, out)
			}
		}
	})
}

func TestCannotExecute(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		dir := t.TempDir()
		noMore := watchChildren(t)
		write := func(name, text string, mode os.FileMode) string {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(text), mode); err != nil {
				t.Fatal(err)
			}
			return file
		}
		denied := write("denied", "#!/bin/sh\n", 0o644)
		for _, test := range []struct {
			path string
			want int
		}{
			{"no-such-command-at-all", 127},
			{filepath.Join(dir, "missing"), 127},
			{denied, 126},
			{"denied", 126},
			{dir, 126},
			{write("noexec", "just words\n", 0o755), 126},
			{write("badinterp", "#!/no/such/shell\n", 0o755), 127},
			{denied + "/below", 126},
		} {
			c := config(test.path)
			c.Device = kind
			c.Env = []string{"PATH=/usr/bin:" + dir + ":/bin"}
			ns := start(t, c)
			err := ns.Go()
			var e *ExecError
			if !errors.As(err, &e) || e.ExitCode() != test.want {
				t.Errorf("%s: %v, want exit code %d", test.path, err, test.want)
			}
			ns.Close()
			noMore()
		}
		c := config("true")
		c.Device, c.Dir = kind, filepath.Join(dir, "nowhere")
		var e *StepError
		if err := start(t, c).Go(); !errors.As(err, &e) || e.Step != "chdir" || !errors.Is(err, unix.ENOENT) {
			t.Errorf("missing directory: %v", err)
		}
	})
}

// watchChildren returns a check that fails if this process has a child, dead or alive, that it has not now. Helpers that are about
// to end do not count. (This process is a subreaper: what earlier tests left behind came to it.)
func watchChildren(t *testing.T) func() {
	before := map[int]bool{}
	list := func(visit func(pid int)) {
		for _, tid := range threads(os.Getpid()) {
			for _, pid := range children(os.Getpid(), tid) {
				visit(pid)
			}
		}
	}
	list(func(pid int) { before[pid] = true })
	return func() {
		t.Helper()
		departedMu.Lock()
		defer departedMu.Unlock()
		for _, pid := range departed {
			before[pid] = true
		}
		list(func(pid int) {
			if !before[pid] {
				cmd, _ := os.ReadFile("/proc/" + itoa(pid) + "/cmdline")
				t.Errorf("process %d (%q) is left", pid, cmd)
			}
		})
	}
}

func TestStdio(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		in, feed, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := config("cat")
		c.Device, c.Stdin = kind, in
		go func() {
			feed.WriteString(strings.Repeat("0123456789abcdef", 10_000))
			feed.Close()
		}()
		out, st := run(t, c)
		in.Close()
		if len(out) != 160_000 || st.Code != 0 {
			t.Errorf("%d bytes, %v", len(out), st)
		}
	})
}

func TestIdentity(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		c := config("cat", "/proc/self/status")
		c.Device = kind
		out, _ := run(t, c)
		mine, err := os.ReadFile("/proc/thread-self/status")
		if err != nil {
			t.Fatal(err)
		}
		same := []string{"Uid", "Gid", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn"}
		switch CurrentRights() {
		case Root:
			same = append(same, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Groups")
		default:
			for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
				if v := field(out, set); strings.Trim(v, "0") != "" || v == "" {
					t.Errorf("%s is %s", set, v)
				}
			}
		}
		for _, f := range same {
			if got, want := field(out, f), field(string(mine), f); got != want || got == "" && f != "Groups" {
				t.Errorf("%s is %q, want %q", f, got, want)
			}
		}
	})
}

func field(status, name string) string {
	for _, line := range strings.Split(status, "\n") {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func TestDescriptors(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		mine := ahead.Inherited()
		sort.Ints(mine)
		want := ""
		for _, fd := range mine {
			to, _ := os.Readlink("/proc/self/fd/" + itoa(fd))
			want += itoa(fd) + " " + to + "\n"
		}
		if out, _ := run(t, role(t, kind, "fds")); out != want {
			t.Errorf("the target inherited\n%sand not\n%s", out, want)
		}
		// As for a shell's 55<file, or make's job server: it must pass, and not reach the helper.
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := unix.Dup3(int(w.Fd()), 55, 0); err != nil {
			t.Fatal(err)
		}
		w.Close()
		c := config("sh", "-c", "echo through >/proc/self/fd/55")
		c.Device = kind
		_, st := run(t, c)
		unix.Close(55)
		p := make([]byte, 100)
		n, err := r.Read(p)
		if string(p[:n]) != "through\n" || st.Code != 0 {
			t.Errorf("descriptor 55: %q, %v, %v", p[:n], err, st)
		}
		if n, err := r.Read(p); n != 0 {
			t.Errorf("more than was written: %q, %v", p[:n], err)
		}
	})
}
