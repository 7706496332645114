package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
)

// What TestMain makes for all tests.
var (
	traceBin string // the static binary, as users get it
	goClient string
	workDir  string // world-readable; below it each test has its own
	ordinary *account
)

// An account is somebody the tests run trace as.
type account struct {
	name     string
	uid, gid int
}

const ordinaryName = "trace-e2e"

func TestMain(m *testing.M) {
	if role := os.Getenv(peerVar); role != "" {
		os.Exit(peerMain(role))
	}
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "trace-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	workDir = dir
	traceBin, goClient = filepath.Join(dir, "trace"), filepath.Join(dir, "goclient")
	if err := build(traceBin, "../cmd/trace"); err != nil {
		return 1, err
	}
	if err := build(goClient, "./testdata/goclient"); err != nil {
		return 1, err
	}
	remove, err := makeOrdinary()
	if err != nil {
		return 1, err
	}
	defer remove()
	return m.Run(), nil
}

// build makes the static binary of pkg.
func build(out, pkg string) error {
	c := exec.Command("go", "build", "-trimpath", "-o", out, pkg)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return os.Chmod(out, 0o755)
}

// makeOrdinary finds or makes the ordinary user. An ordinary user who runs
// the tests is the only account there is.
func makeOrdinary() (remove func(), err error) {
	remove = func() {}
	if os.Getuid() != 0 {
		ordinary = &account{"self", os.Getuid(), os.Getgid()}
		return remove, nil
	}
	u, err := user.Lookup(ordinaryName)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		if msg, err := exec.Command("useradd", "--no-create-home", "--shell", "/bin/sh", ordinaryName).CombinedOutput(); err != nil {
			return remove, fmt.Errorf("useradd %s: %w: %s", ordinaryName, err, msg)
		}
		remove = func() { exec.Command("userdel", ordinaryName).Run() }
		u, err = user.Lookup(ordinaryName)
	}
	if err != nil {
		return remove, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	ordinary = &account{ordinaryName, uid, gid}
	return remove, nil
}
