package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets a test start this binary as another process: one that asks for
// the status of the serve at a socket, and says what came.
func TestMain(m *testing.M) {
	if path := os.Getenv("CONTROL_TEST_ASK"); path != "" {
		fmt.Println(ask(path))
		os.Exit(0)
	}
	if path := os.Getenv("CONTROL_TEST_SERVE"); path != "" {
		l, err := NewListen(path)
		fmt.Println(err)
		if err == nil {
			(&Server{}).Serve(context.Background(), l)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func ask(path string) error {
	c, err := Dial(context.Background(), path)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Status(context.Background())
	return err
}

// serve runs s on a socket of its own until the test ends.
func serve(t *testing.T, path string, s *Server) {
	t.Helper()
	l, err := NewListen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestAsk: a serve that stands still hides no other, and is told of.
func TestAsk(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	if s, err := Ask(t.Context(), "", time.Minute); s != nil || !errors.Is(err, ErrNoServe) {
		t.Errorf("of no serve: %+v, %v", s, err)
	}
	still, err := NewListen("")
	if err != nil {
		t.Fatal(err)
	}
	defer still.Close()
	const patience = 50 * time.Millisecond
	says := fmt.Sprintf("trace serve, process %d, at %s does not answer", os.Getpid(), still.Path())
	if s, err := Ask(t.Context(), "", patience); s != nil || err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("of one that stands still: %+v, %v", s, err)
	}
	state, err := stateDir()
	if err != nil {
		t.Fatal(err)
	}
	serve(t, filepath.Join(state, socketName), &Server{Status: func(context.Context) (*Serve, error) { return &Serve{PID: 7}, nil }})
	if s, err := Ask(t.Context(), "", patience); s == nil || s.PID != 7 || err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("of one that stands still and another: %+v, %v", s, err)
	}
}

func TestStatus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "s.sock")
	started := time.Date(2026, 1, 2, 3, 4, 5, 600000, time.UTC)
	changed := 0
	serve(t, path, &Server{
		Status: func(context.Context) (*Serve, error) {
			return &Serve{PID: 7, Started: Time{started}, Peers: []Peer{{Name: "phone"}}, Flows: 3}, nil
		},
		PeersChanged: func(context.Context) error {
			if changed++; changed > 1 {
				return errors.New("peers: broken")
			}
			return nil
		},
	})
	c := dial(t, path)
	if c.PID != os.Getpid() {
		t.Errorf("serve's process is %d, want ours", c.PID)
	}
	s, err := c.Status(t.Context())
	if err != nil || s.PID != 7 || !s.Started.Equal(started) || s.Flows != 3 || s.Sessions == nil || s.Peers[0].Addresses == nil || !s.Peers[0].LatestHandshake.IsZero() {
		t.Errorf("status is %+v (%v)", s, err)
	}
	if err := c.PeersChanged(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.PeersChanged(t.Context()); err == nil || err.Error() != "peers: broken" {
		t.Errorf("error of a serve is %v", err)
	}
	var refused *RefusedError
	if _, err := c.Open(t.Context(), "X", Hello{}); !errors.As(err, &refused) {
		t.Errorf("a serve that takes no runs says %v", err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v (%v)", name, fi.Mode(), err)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNoServe) || !strings.Contains(err.Error(), path) {
		t.Errorf("without a socket: %v", err)
	}
	// A socket that was left behind: its listener is gone, its name is not.
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	u.SetUnlinkOnClose(false)
	u.Close()
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNoServe) {
		t.Errorf("with a socket that was left behind: %v", err)
	}
	l, err := NewListen(path)
	if err != nil {
		t.Fatalf("socket that was left behind is not replaced: %v", err)
	}
	l.Close()
	for _, name := range []string{path, path + lockSuffix} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is there after its end", name)
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewListen(path); err == nil {
		t.Error("a file of that name was replaced")
	}
}

// TestKilled starts serves as processes of their own: a second one is refused
// and named the first, and takes the place when that was killed.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	first := start(t, "CONTROL_TEST_SERVE="+path)
	var running *RunningError
	_, err := NewListen(path)
	if !errors.As(err, &running) || running.PID != first.Process.Pid {
		t.Fatalf("second serve: %v, want one that names %d", err, first.Process.Pid)
	}
	// Without its lock it is known by its answer.
	if err := os.Remove(path + lockSuffix); err != nil {
		t.Fatal(err)
	}
	if _, err = NewListen(path); !errors.As(err, &running) || running.PID != first.Process.Pid {
		t.Fatalf("second serve, lock gone: %v, want one that names %d", err, first.Process.Pid)
	}
	first.Process.Kill()
	first.Wait()
	l, err := NewListen(path)
	if err != nil {
		t.Fatalf("after the first was killed: %v", err)
	}
	l.Close()
}

// start starts this binary with a variable and waits until it has said that it
// is well.
func start(t *testing.T, env string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var said string
	if _, err := fmt.Fscanln(out, &said); err != nil || said != "<nil>" {
		t.Fatalf("it says %q (%v)", said, err)
	}
	return cmd
}

// TestOtherUser lets another user connect to a socket that he can reach, and the
// other way round.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("to be another user needs root")
	}
	dir, err := os.MkdirTemp("/tmp", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self := filepath.Join(dir, "self")
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(self, text, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.sock")
	serve(t, path, &Server{Status: func(context.Context) (*Serve, error) { return &Serve{}, nil }})
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "CONTROL_TEST_ASK="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "uid 65533 may not talk") {
		t.Errorf("another user gets %q (%v)", out, err)
	}
}

func TestLongPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30), "serve.sock")
	t.Cleanup(func() { // after the end of serve
		name, err := short(path)
		if err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Dir(name)); err == nil {
			t.Errorf("%s is there after its end", filepath.Dir(name))
		}
	})
	serve(t, path, &Server{Status: func(context.Context) (*Serve, error) { return &Serve{PID: 1}, nil }})
	if s, err := dial(t, path).Status(t.Context()); err != nil || s.PID != 1 {
		t.Errorf("status over a path that is too long: %+v, %v", s, err)
	}
}

func TestWhere(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "missing"))
	t.Setenv("XDG_STATE_HOME", dir)
	state := filepath.Join(dir, "trace", "serve.sock")
	if p, err := Path(); err != nil || p != state {
		t.Errorf("runtime directory that is not there: %s, %v", p, err)
	}
	serve(t, "", &Server{Status: func(context.Context) (*Serve, error) { return &Serve{PID: 1}, nil }})
	// Found also by who has a runtime directory.
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if p, err := Path(); err != nil || p != filepath.Join(dir, "trace", "serve.sock") {
		t.Errorf("runtime directory: %s, %v", p, err)
	}
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if s, err := dial(t, "").Status(t.Context()); err != nil || s.PID != 1 {
		t.Errorf("status: %+v, %v", s, err)
	}
}
