package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A made release: of the tree as it is, for this machine alone.
type made struct {
	dir  string
	sums map[string]string
	src  source
	o    options
}

var scratch string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "trace-release-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// release is made once for all tests.
var release = sync.OnceValues(func() (made, error) { return makeOf("..", filepath.Join(scratch, "dist")) })

func makeOf(root, out string) (made, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return made{}, err
	}
	m := made{dir: out, o: options{root: root, out: out, gocmd: os.Getenv("GO"), maintainer: "Jo <jo@example.com>", targets: []target{{"linux", runtime.GOARCH}}}}
	m.src = source{root, "v1.2.3-rc1", strings.Repeat("ab", 20), time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	m.sums, err = releaseOf(m.o, m.src)
	return m, err
}

func made1(t *testing.T) made {
	t.Helper()
	m, err := release()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// file returns the one file of the release whose name ends so.
func (m made) file(t *testing.T, end string) string {
	t.Helper()
	for name := range m.sums {
		if strings.HasSuffix(name, end) {
			return filepath.Join(m.dir, name)
		}
	}
	t.Fatalf("no %s among %v", end, m.sums)
	return ""
}

// TestReproducible: the same source at another place makes the same bytes.
func TestReproducible(t *testing.T) {
	first := made1(t)
	copied := filepath.Join(t.TempDir(), "elsewhere")
	copyTree(t, "..", copied)
	t.Setenv("TZ", "Pacific/Auckland")
	t.Setenv("GOFLAGS", "-trimpath=false -buildvcs=auto")
	t.Setenv("GODEBUG", "http2client=0")
	second, err := makeOf(copied, filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(first.sums, second.sums) || len(first.sums) != 4 {
		t.Errorf("%v\n%v", first.sums, second.sums)
	}
	if runtime.GOOS != "linux" {
		return
	}
	check := exec.Command("sha256sum", "--strict", "-c", sumsFile)
	check.Dir = first.dir
	if out, err := check.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != len(first.sums) {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
}

// copyTree copies what git would have: neither what is hidden nor what was built.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		hidden := rel != "." && strings.HasPrefix(d.Name(), ".")
		if d.IsDir() && (hidden || rel == "bin" || rel == "dist") {
			return fs.SkipDir
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if hidden || !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestArchive: what is in it, and that it runs from where it was unpacked.
func TestArchive(t *testing.T) {
	m := made1(t)
	packed, err := os.ReadFile(m.file(t, ".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(bytes.NewReader(plain)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Uid != 0 || h.Uname != "root" || !h.ModTime.Equal(m.src.date) {
			t.Errorf("%s: uid %d, %s, %v", h.Name, h.Uid, h.Uname, h.ModTime)
		}
	}
	base := "trace_v1.2.3-rc1_linux_" + runtime.GOARCH
	for _, want := range []string{"trace", "trace.spdx.json", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", noticesFile, "docs/cli.md",
		"docs/prices.example.json", "man/man1/trace.1", "man/man1/trace-run.1", "completions/trace.bash", "completions/_trace", "completions/trace.fish"} {
		if !slices.Contains(names, base+"/"+want) {
			t.Errorf("%s is missing", want)
		}
	}
	dir := t.TempDir()
	if err := unpack(bytes.NewReader(plain), dir); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(dir, base, "trace"), "version").Output()
	if want := "trace v1.2.3-rc1 (commit " + m.src.commit + ", 2026-03-04T05:06:07Z)\n"; err != nil || string(out) != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
	for shell, name := range map[string]string{"bash": "trace.bash", "zsh": "_trace", "fish": "trace.fish"} {
		needs(t, shell)
		if out, err := exec.Command(shell, "-n", filepath.Join(dir, base, "completions", name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}

// TestUnpack: an archive does not write beside the directory that it is unpacked to.
func TestUnpack(t *testing.T) {
	packed, err := tarball(time.Unix(0, 0), "", []file{{"../outside", 0o644, []byte("x"), plain}})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "in")
	if err := unpack(bytes.NewReader(packed), dir); err == nil {
		t.Error("it was unpacked")
	}
	if _, err := os.Stat(filepath.Join(dir, "..", "outside")); err == nil {
		t.Error("a file stands outside")
	}
}

// needs skips a test that wants a program, or fails it where nothing may be skipped.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("TRACE_NO_SKIP") == "1" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// TestDiffering: what a verification found is told by file.
func TestDiffering(t *testing.T) {
	sum := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	there, again := sum("a")+"  a\n"+sum("b")+"  b\n", sum("a")+"  a\n"+sum("c")+"  b\n"
	if got, want := differing(there, again), "there  "+sum("b")+"  b\nagain  "+sum("c")+"  b"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
