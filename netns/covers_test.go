package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ahead"

	"golang.org/x/sys/unix"
)

// hostTree makes a directory like a certificate store: files, links within and out of it, a subdirectory.
func hostTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	real := filepath.Join(dir, "store")
	must(os.MkdirAll(filepath.Join(real, "java"), 0o755))
	must(os.WriteFile(filepath.Join(real, "bundle"), []byte("host bundle"), 0o644))
	must(os.WriteFile(filepath.Join(real, "java", "cacerts"), []byte("host cacerts"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "outside.pem"), []byte("outside"), 0o644))
	must(os.WriteFile(filepath.Join(real, "plain.pem"), []byte(strings.Repeat("plain ", 50_000)), 0o644))
	must(os.Symlink("../outside.pem", filepath.Join(real, "one.pem")))
	must(os.Symlink("one.pem", filepath.Join(real, "0123abcd.0")))
	must(os.Symlink("store", filepath.Join(dir, "linked")))
	must(os.Symlink(filepath.Join(dir, "nothing", "here"), filepath.Join(dir, "dangling")))
	must(os.WriteFile(filepath.Join(dir, "hosts"), []byte("host hosts"), 0o644))
	must(os.Mkdir(filepath.Join(dir, "state"), 0o700))
	return dir
}

func TestCovers(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		for _, place := range []string{"state", ""} {
			t.Run("over "+place, func(t *testing.T) { testCovers(t, kind, place, false) })
			t.Run("copy over "+place, func(t *testing.T) { testCovers(t, kind, place, true) })
		}
	})
}

// testCovers covers files and a tree, which is copied where something of it is to be left out.
func testCovers(t *testing.T, kind DeviceKind, place string, omit bool) {
	dir := hostTree(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("unix", in("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := config("sh", "-c", `cd "$1"
		cat linked/bundle linked/java/cacerts linked/0123abcd.0 linked/ours.0 dangling hosts bound outside.pem
		wc -c <linked/plain.pem; test -e linked/omitted && echo omitted is there
		test -c socket && echo masked; cat state/extra.pem 2>/dev/null`, "sh", dir)
	c.Device = kind
	if place != "" {
		c.Covers.Dir = in(place)
		c.Covers.Files = append(c.Covers.Files, File{Name: "extra.pem", Data: []byte("extra\n")})
	}
	for _, name := range []string{"store/omitted", "bound"} {
		if err := os.WriteFile(in(name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.Covers.Trees = []Tree{{Target: in("linked"), Add: map[string][]byte{"bundle": []byte("our bundle\n"), "ours.pem": []byte("ours\n")},
		Link: map[string]string{"ours.0": "ours.pem"}, Required: true}}
	if omit {
		c.Covers.Trees[0].Omit = []string{"omitted"}
	}
	c.Covers.Files = append(c.Covers.Files,
		File{Target: in("store/java/cacerts"), Data: []byte("our cacerts\n"), Required: true},
		File{Target: in("dangling"), Data: []byte("our resolv.conf\n"), Required: true},
		File{Target: in("hosts"), Data: []byte("our hosts\n"), Required: true},
		File{Target: in("nowhere"), Data: []byte("lost")})
	c.Covers.Binds = []Bind{{Source: in("outside.pem"), Target: in("bound"), Required: true}}
	c.Covers.Masks = []string{in("socket"), in("no such socket")}
	r, w := pipe(t)
	c.Stdout, c.Stderr = w, w
	ns := start(t, c)
	if err := ns.Go(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	got := readAll(r)
	want := "our bundle\nour cacerts\noutsideours\nour resolv.conf\nour hosts\noutsideoutside300000\nmasked\n"
	if !omit {
		want = strings.Replace(want, "masked", "omitted is there\nmasked", 1)
	}
	if place != "" {
		want += "extra\n"
	}
	if got != want {
		t.Errorf("inside:\n%swant\n%s", got, want)
	}
	if notes := ns.Notes(); len(notes) != 1 || notes[0].Object != in("nowhere") || !errors.Is(notes[0].Err, unix.ENOENT) {
		t.Errorf("notes %v", notes)
	}
	ns.Wait()
	hostUnchanged(t, in)
}

// hostUnchanged reads in this process what the child saw covered.
func hostUnchanged(t *testing.T, in func(string) string) {
	t.Helper()
	for name, want := range map[string]string{"store/bundle": "host bundle", "store/java/cacerts": "host cacerts", "hosts": "host hosts"} {
		if p, err := os.ReadFile(in(name)); string(p) != want {
			t.Errorf("%s on the host: %q, %v", name, p, err)
		}
	}
	for _, name := range []string{"store/ours.pem", "state/extra.pem", "nowhere", "nothing"} {
		if _, err := os.Lstat(in(name)); err == nil {
			t.Errorf("%s is on the host", name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || contains(string(mounts), in("")) {
		t.Errorf("a mount reached the host: %v", err)
	}
}

// TestCoverModes looks whether the child may write where it could not before, and where it could.
func TestCoverModes(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		dir := hostTree(t)
		mine, theirs := filepath.Join(dir, "store"), "/usr/share/zoneinfo"
		if _, err := os.Stat(theirs); err != nil {
			theirs = "/usr/bin"
		}
		c := config("sh", "-c", fmt.Sprintf("echo >%s/new && echo mine; echo 2>/dev/null >%s/new && echo theirs; echo 2>/dev/null >>/etc/hosts && echo hosts",
			mine, "/etc/init.d"))
		c.Device = kind
		c.Covers.Trees = []Tree{{Target: mine, Required: true}, {Target: "/etc/init.d"}}
		c.Covers.Files = []File{{Target: "/etc/hosts", Data: []byte("x")}}
		out, _ := run(t, c)
		want := "mine\n"
		if os.Geteuid() == 0 {
			want = "mine\ntheirs\nhosts\n"
		}
		if out != want {
			t.Errorf("written: %q, want %q", out, want)
		}
		if _, err := os.Stat(filepath.Join(mine, "new")); err == nil {
			t.Error("the child wrote on the host")
		}
	})
}

func TestRequiredCover(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		noMore := watchChildren(t)
		c := config("true")
		c.Device = kind
		c.Covers.Files = []File{{Target: "/no/such/file", Required: true}}
		_, err := Start(t.Context(), c)
		var e *StepError
		if !errors.As(err, &e) || e.Step != "mounts" || !errors.Is(err, unix.ENOENT) {
			t.Errorf("%v", err)
		}
		noMore()
	})
}

// TestBorrowed takes the way of kernels before 6.15, where nothing can be bound out of a detached tmpfs.
func TestBorrowed(t *testing.T) {
	if CurrentRights() != Root {
		skip(t, "only root can make the mount namespace that this test has to have")
	}
	dir := hostTree(t)
	cmd := exec.Command(ahead.SelfExe)
	cmd.Env = append(os.Environ(), roleVar+"=borrow "+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); string(out) != "our hosts" || err != nil {
		t.Errorf("%s, %v", out, err)
	}
	hostUnchanged(t, func(name string) string { return filepath.Join(dir, name) })
}

// borrowCovers covers files in dir by way of a borrowed directory and prints what it finds then.
func borrowCovers(dir string) int {
	covers := ahead.Covers{
		Trees: []ahead.Tree{{Target: filepath.Join(dir, "store")}},
		Files: []ahead.File{{Target: filepath.Join(dir, "hosts"), Data: ahead.Blob{Off: 0, Len: 9}}}}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		fmt.Println(err)
		return 1
	}
	before, _ := os.ReadDir("/sys")
	borrowed, err := ahead.Borrowed(covers, []byte("our hosts"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if after, _ := os.ReadDir("/sys"); borrowed != "/sys" || len(after) != len(before) {
		fmt.Println(borrowed, "is still covered")
	}
	if p, err := os.ReadFile(filepath.Join(dir, "store", "plain.pem")); len(p) != 300_000 {
		fmt.Println(len(p), err)
	}
	p, _ := os.ReadFile(filepath.Join(dir, "hosts"))
	fmt.Printf("%s", p)
	return 0
}
