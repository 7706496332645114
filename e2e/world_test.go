package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A world is a way to run trace: as whom, over which link and device.
type world struct {
	root   bool
	link   string
	device string
}

func (w world) String() string {
	who := "user"
	if w.root {
		who = "root"
	}
	return who + "," + w.link + "," + w.device
}

// worlds returns all that this machine can make: root is half of them.
func worlds(t *testing.T) []world {
	var ws []world
	for _, root := range []bool{true, false} {
		if root && os.Getuid() != 0 {
			continue
		}
		for _, link := range []string{"wireguard", "direct"} {
			for _, device := range []string{"tun", "veth"} {
				w := world{root, link, device}
				if device == "tun" && !tunOpens() {
					t.Run(w.String(), func(t *testing.T) { t.Skip("needs a /dev/net/tun that this user may open") })
					continue
				}
				ws = append(ws, w)
			}
		}
	}
	return ws
}

// tunOpens tells whether the tests can have a TUN device: root makes a node
// that all may open.
func tunOpens() bool {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return err == nil || os.Getuid() == 0
}

// both returns the default world of root and of an ordinary user.
func both() []world {
	ws := []world{{false, "wireguard", "auto"}}
	if os.Getuid() == 0 {
		ws = append(ws, world{true, "wireguard", "auto"})
	}
	return ws
}

// A job is one run of trace in a world.
type job struct {
	t      *testing.T
	w      world
	home   string
	env    []string
	stdin  string
	within []string // what commands are run by as root: in another namespace, say
}

func newJob(t *testing.T, w world) *job {
	t.Helper()
	home, err := os.MkdirTemp(workDir, "home-")
	if err != nil {
		t.Fatal(err)
	}
	j := &job{t: t, w: w, home: home}
	j.own(home)
	return j
}

// own gives a file to the account of the job.
func (j *job) own(path string) {
	j.t.Helper()
	if os.Getuid() == 0 && !j.w.root {
		if err := os.Chown(path, ordinary.uid, ordinary.gid); err != nil {
			j.t.Fatal(err)
		}
	}
}

// file writes a file that the account can read and returns its path.
func (j *job) file(name, text string) string {
	j.t.Helper()
	p := filepath.Join(j.home, name)
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		j.t.Fatal(err)
	}
	j.own(p)
	return p
}

// A result is what a finished command left.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// cleanEnv is the environment of every job: nothing of the machine's trust
// settings gets in.
func (j *job) cleanEnv() []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + j.home, "XDG_STATE_HOME=" + filepath.Join(j.home, "state"),
		"TERM=dumb", "LANG=C.UTF-8", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "NO_COLOR=1",
		"PYTHONDONTWRITEBYTECODE=1",
	}, j.env...)
}

// command prepares argv to run as the account of the job.
func (j *job) command(argv ...string) *exec.Cmd {
	j.t.Helper()
	if !j.w.root && os.Getuid() == 0 && j.w.device == "tun" {
		argv = openTUN(argv)
	} else if !j.w.root && os.Getuid() == 0 {
		argv = append(asOrdinary(), argv...)
	}
	argv = append(slices.Clone(j.within), argv...)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	j.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir = j.home
	c.Env = j.cleanEnv()
	if j.stdin != "" {
		c.Stdin = strings.NewReader(j.stdin)
	}
	return c
}

func asOrdinary() []string {
	return []string{"setpriv", fmt.Sprintf("--reuid=%d", ordinary.uid), fmt.Sprintf("--regid=%d", ordinary.gid), "--clear-groups", "--inh-caps=-all", "--"}
}

// openTUN runs argv as the ordinary user with a /dev/net/tun that he may
// open, which most distributions give him: a node of our own, bound over the
// machine's in a mount namespace of our own.
func openTUN(argv []string) []string {
	const script = `set -e
d=$(mktemp -d); mount -t tmpfs none "$d"; mknod "$d/tun" c 10 200; chmod 0666 "$d/tun"
mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
mount --bind "$d/tun" /dev/net/tun; umount "$d" 2>/dev/null || umount -l "$d"; rmdir "$d"
exec "$@"`
	return append(append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"}, asOrdinary()...), argv...)
}

// run runs argv as the account of the job.
func (j *job) run(argv ...string) result {
	j.t.Helper()
	return j.done(j.command(argv...))
}

// finish runs argv as it is: as root where the tests are.
func (j *job) finish(argv []string) result {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir, c.Env = j.home, j.cleanEnv()
	return j.done(c)
}

// done runs c to its end.
func (j *job) done(c *exec.Cmd) result {
	j.t.Helper()
	var out, errb bytes.Buffer
	c.Stdout, c.Stderr = &out, &errb
	start := time.Now()
	err := c.Run()
	r := result{stdout: out.String(), stderr: errb.String(), took: time.Since(start)}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			r.code = 128 + int(ws.Signal())
		}
	default:
		j.t.Fatalf("run %q: %v", c.Args, err)
	}
	return r
}

// trace runs `trace ARGS`.
func (j *job) trace(args ...string) result {
	j.t.Helper()
	return j.run(append([]string{traceBin}, args...)...)
}

// inspect runs `trace run --inspect FLAGS -- CMD` in the job's world.
func (j *job) inspect(flags []string, cmd ...string) result {
	j.t.Helper()
	args := []string{"run", "--inspect", "--link", orDefault(j.w.link, "wireguard"), "--device", orDefault(j.w.device, "auto")}
	args = append(append(append(args, flags...), "--"), cmd...)
	return j.trace(args...)
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// must fails the test unless r has this exit code.
func (j *job) must(r result, code int) result {
	j.t.Helper()
	if r.code != code {
		j.t.Fatalf("%s: exit %d, want %d\nstdout: %.2000s\nstderr: %.4000s", j.w, r.code, code, r.stdout, r.stderr)
	}
	return r
}

// A row is one element of `flows list --json`.
type row struct {
	Source                            string
	ID, Session, Kind, State, Started string
	Duration                          float64 `json:"duration_ms"`
	Conn                              struct {
		ID, Src, Dst, Host, SNI, ALPN, TLS, Opaque, Protocol string
		Decrypted                                            bool
	}
	Process *struct {
		PID     int
		Argv    []string
		Exe     string
		Parents []int
	}
	Request, Response *part
	Bytes             *struct{ Sent, Received int64 }
	DNS               *struct {
		Name, Type, Rcode string
		Answers           []string
	}
	Redacted int
	Error    *note
	Marks    []note
	Timings  map[string]float64
}

type note struct{ Where, Code, Message, Hint, Detail string }

type part struct {
	Method, Scheme, Host, Path string
	Port                       int
	Version                    string `json:"http_version"`
	Status                     int
	Headers                    [][2]string
	Size                       int64  `json:"body_size"`
	SHA256                     string `json:"body_sha256"`
	ContentType                string `json:"content_type"`
	Streaming                  bool
	Events                     int64
	Trailers                   [][2]string
	Truncated                  bool
	Encoding                   string `json:"content_encoding"`
	Provisional                []part `json:"informational"`
}

// flows reads the newest session's record.
func (j *job) flows(args ...string) []row {
	j.t.Helper()
	r := j.must(j.trace(append([]string{"flows", "list", "--json"}, args...)...), 0)
	var rows []row
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil {
		j.t.Fatalf("flows list --json: %v\n%.1000s", err, r.stdout)
	}
	return rows
}

// need skips the test where a client is missing; continuous integration has
// them all and lets nothing be skipped.
func need(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("needs %s", n)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}
