package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"trace/netns"
)

// find returns the check of that id.
func find(t *testing.T, r *Report, id string) Check {
	t.Helper()
	for _, c := range r.Checks {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no check %q", id)
	return Check{}
}

func TestRunOrdersAndFoldsSteps(t *testing.T) {
	r := Run(context.Background(), Options{Link: "direct", Version: "v1", Probe: func(_ context.Context, step func(Step)) error {
		step(Step{ID: "netns", Took: time.Millisecond})
		step(Step{ID: "lo", Took: 2 * time.Millisecond})
		step(Step{ID: "device", Found: "veth (trace0)"})
		step(Step{ID: "userns", Skip: true, Found: "not needed"})
		step(Step{ID: "dns", Err: errors.New("no such host"), Warn: true})
		step(Step{ID: "ipv6", Err: syscall.EACCES})
		return nil
	}})
	if !r.OK || r.Privacy || r.Device != "veth" || r.Link != "direct" || r.Kernel == "" {
		t.Errorf("report %+v", r)
	}
	if c := find(t, r, "netns"); c.Status != Pass || c.MS != 3 {
		t.Errorf("netns %+v: want the time of lo added", c)
	}
	for id, want := range map[string]string{"userns": Skip, "dns": Warn, "ipv6": Warn, "claude": Skip} {
		if c := find(t, r, id); c.Status != want {
			t.Errorf("%s is %s, want %s", id, c.Status, want)
		}
	}
	for i, c := range r.Checks {
		if c.ID != titles[i].id {
			t.Fatalf("check %d is %s, want %s", i, c.ID, titles[i].id)
		}
		if (c.Status == Warn || c.Status == Fail) && c.Hint == "" {
			t.Errorf("%s: %s without a hint", c.ID, c.Status)
		}
	}
}

// TestRunBlames: an error that ended the probe fails a check, whatever the
// steps said.
func TestRunBlames(t *testing.T) {
	for _, c := range []struct {
		err   error
		steps []Step
		id    string
		errno string
	}{
		{&netns.StepError{Step: "device", Err: syscall.EACCES}, nil, "device", "EACCES"},
		{&netns.StepError{Step: "lo", Err: syscall.EPERM}, nil, "netns", "EPERM"},
		{errors.New("stack: no"), nil, "exec", ""},
		{&netns.StepError{Step: "init", Err: syscall.EPIPE}, nil, "exec", "EPIPE"},
		{errors.New("link"), []Step{{ID: "link", Err: errors.New("handshake")}}, "link", ""},
	} {
		r := Run(context.Background(), Options{Probe: func(_ context.Context, step func(Step)) error {
			for _, s := range c.steps {
				step(s)
			}
			return c.err
		}})
		if got := find(t, r, c.id); r.OK || got.Status != Fail || got.Errno != c.errno || got.Hint == "" {
			t.Errorf("%v: %+v", c.err, got)
		}
	}
}

// TestErrorStays: a later success of the same check does not hide an error.
func TestErrorStays(t *testing.T) {
	r := Run(context.Background(), Options{Probe: func(_ context.Context, step func(Step)) error {
		step(Step{ID: "store", Err: syscall.EROFS})
		step(Step{ID: "store"})
		return nil
	}})
	if c := find(t, r, "store"); c.Status != Fail || r.OK {
		t.Errorf("%+v", c)
	}
}

// TestStepsAtOnce: parts of the road that are built at the same time tell their
// steps at the same time, and none is lost.
func TestStepsAtOnce(t *testing.T) {
	ids := []string{"netns", "device", "ca", "link", "store", "route"}
	for range 200 {
		r := Run(context.Background(), Options{Probe: func(_ context.Context, step func(Step)) error {
			var told sync.WaitGroup
			for _, id := range ids {
				told.Go(func() { step(Step{ID: id, Took: time.Millisecond}) })
			}
			told.Wait()
			return nil
		}})
		for _, id := range ids {
			if c := find(t, r, id); c.Status != Pass {
				t.Fatalf("%+v", c)
			}
		}
	}
}

func TestExplain(t *testing.T) {
	denied := map[string]string{"/proc/self/mountinfo": "1 2 3:4 / / rw - ext4 x rw"}
	with := func(path, text string) map[string]string {
		m := map[string]string{path: text}
		for k, v := range denied {
			if m[k] == "" {
				m[k] = v
			}
		}
		return m
	}
	for _, c := range []struct {
		step  string
		errno syscall.Errno
		files map[string]string
		says  string
	}{
		{"userns", syscall.ENOSPC, with("/proc/sys/user/max_user_namespaces", "0"), "sysctl -w user.max_user_namespaces="},
		{"netns", syscall.ENOSPC, with("/proc/sys/user/max_net_namespaces", "0"), "user.max_net_namespaces"},
		{"userns", syscall.ENOSPC, denied, "limit of namespaces"},
		{"userns", syscall.EAGAIN, denied, "ulimit -u"},
		{"userns", syscall.EINVAL, denied, "CONFIG_USER_NS"},
		{"userns", syscall.EPERM, with("/proc/self/mountinfo", "1 2 3:4 / /proc rw - proc x rw"), "chroot"},
		{"userns", syscall.EPERM, with("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"), "/etc/apparmor.d/trace"},
		{"lo", syscall.EPERM, with("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"), "/etc/apparmor.d/trace"},
		{"userns", syscall.EPERM, with("/proc/sys/kernel/unprivileged_userns_clone", "0"), "run trace as root"},
		{"userns", syscall.EPERM, with("/proc/self/status", "Seccomp:\t2"), "--security-opt seccomp="},
		{"userns", syscall.EACCES, denied, "security module"},
		{"device", syscall.ENOENT, denied, "modprobe tun"},
		{"device", syscall.EACCES, denied, "--device veth"},
		{"device", syscall.ENODEV, denied, "modprobe tun"},
		{"device", syscall.EOPNOTSUPP, denied, "modprobe veth"},
		{"link", 0, denied, "--link direct"},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			p := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := fmt.Errorf("wrapped: %w", &netns.StepError{Step: c.step, Err: c.errno})
		hint := Host{Root: root}.Explain(err)
		if !strings.Contains(hint, c.says) {
			t.Errorf("%s %v: %q does not say %q", c.step, c.errno, hint, c.says)
		}
		if strings.Contains(hint, "apparmor_restrict_unprivileged_userns=0") {
			t.Errorf("%s %v: the advice weakens the whole host: %q", c.step, c.errno, hint)
		}
	}
}

// databaseError is as SQLite's.
type databaseError int

func (e databaseError) Error() string { return "database or disk is full" }
func (e databaseError) Code() int     { return int(e) }

// TestExplainFiles: what cannot be written is explained, what cannot be read
// is another matter.
func TestExplainFiles(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{errors.New("anything"), ""},
		{&os.PathError{Op: "mkdir", Path: "x", Err: syscall.EACCES}, "XDG_STATE_HOME=DIR"},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EROFS}, "--no-save"},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, ""},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, ""},
		{&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, "free some space"},
		{databaseError(13), "free some space"},
		{databaseError(4874), "free some space"}, // an I/O error, extended
		{databaseError(14), ""},
	} {
		h := Host{}.Explain(fmt.Errorf("session: %w", c.err))
		if c.says == "" && h != "" || !strings.Contains(h, c.says) {
			t.Errorf("%v: %q, want %q", c.err, h, c.says)
		}
		if h := (Host{}).Explain(&netns.StepError{Step: "store", Err: c.err}); h == "" || !strings.Contains(h, c.says) {
			t.Errorf("store: %v: %q, want %q", c.err, h, c.says)
		}
	}
}

func TestFacts(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"/proc/sys/user/max_user_namespaces": "7\n", "/etc/ssl/cert.pem": "x"} {
		p := filepath.Join(root, name)
		os.MkdirAll(filepath.Dir(p), 0o755)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := Host{Root: root}
	if m := h.Limits(); m["user.max_user_namespaces"] != 7 || len(m) != 1 {
		t.Errorf("limits %v", m)
	}
	if f := h.TrustFiles(); len(f) != 1 || f[0] != "/etc/ssl/cert.pem" {
		t.Errorf("trust files %v", f)
	}
}
