package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A serving is a `trace serve` that runs.
type serving struct {
	t   *testing.T
	cmd *exec.Cmd
	end sync.Once
}

// said returns what it has printed.
func (s *serving) said() string {
	b, err := os.ReadFile(s.cmd.Stderr.(*os.File).Name())
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// prints has a command print into a file, which holds all of it at any time.
func (s *serving) prints() {
	f, err := os.Create(filepath.Join(s.t.TempDir(), "stderr"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { f.Close() })
	s.cmd.Stderr = f
}

// serving starts `trace serve ARGS` as the account of the job, and returns when it
// says to its manager that it is ready. It is stopped with the test.
func (j *job) serving(args ...string) *serving {
	j.t.Helper()
	s := j.tryServing(args...)
	if s.cmd.ProcessState != nil {
		j.t.Fatalf("trace serve %q: %v\n%s", args, s.cmd.ProcessState, s.said())
	}
	return s
}

// tryServing is serving that may end at once.
func (j *job) tryServing(args ...string) *serving {
	j.t.Helper()
	dir := j.t.TempDir() // the path of a socket is short
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		j.t.Fatal(err)
	}
	defer notify.Close()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) { // another account shall reach it
		os.Chmod(d, 0o755)
	}
	os.Chmod(filepath.Join(dir, "n"), 0o777)
	s := &serving{t: j.t, cmd: j.command(append([]string{traceBin, "serve"}, args...)...)}
	s.cmd.Env = append(s.cmd.Env, "NOTIFY_SOCKET="+filepath.Join(dir, "n"))
	s.prints()
	if err := s.cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { s.stop() })
	exited := make(chan struct{})
	go func() {
		s.end.Do(func() { s.cmd.Wait() })
		close(exited)
		notify.SetReadDeadline(time.Now())
	}()
	b := make([]byte, 100)
	if n, err := notify.Read(b); err != nil || string(b[:n]) != "READY=1" {
		<-exited
	}
	return s
}

// stop ends the serve as its manager would, and returns its exit code.
func (s *serving) stop() int {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.end.Do(func() { s.cmd.Wait() }) // or waits for who does
	return s.cmd.ProcessState.ExitCode()
}

// url returns the first URL that was printed on the line of a kind of listener.
func (s *serving) url(kind string) string {
	s.t.Helper()
	for line := range strings.Lines(s.said()) {
		if strings.Contains(line, kind+":") {
			if m := regexp.MustCompile(`http://[^\s,;)]+`).FindString(line); m != "" {
				return m
			}
		}
	}
	s.t.Fatalf("no URL of %s in %s", kind, s.said())
	return ""
}

// pid returns the process of the serve.
func (s *serving) pid() int { return s.cmd.Process.Pid }
