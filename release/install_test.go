package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestInstalled: packages are installed, used and removed by the package managers
// themselves, on top of this machine, in namespaces that leave it as it was.
func TestInstalled(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("answered " + r.URL.Path + "\n"))
	}))
	defer server.Close()
	for _, kind := range []string{"deb", "rpm"} {
		t.Run(kind, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("an ordinary user cannot change the files of root, not even a copy of them")
			}
			needs(t, "unshare", "dpkg", "rpm", "curl", "man")
			m := made1(t)
			cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "testdata/"+kind+".sh")
			cmd.Env = append(os.Environ(), "T="+t.TempDir(), "PACKAGE="+m.file(t, "."+kind), "URL="+server.URL+"/"+kind, "LC_ALL=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
			cmd.Env = without(cmd.Env, "DEBIAN_FRONTEND", "TRACE_SESSION")
			text, err := cmd.CombinedOutput()
			out := string(text)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			host, port, _ := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
			for _, want := range []string{"trace v1.2.3-rc1 (commit abab", "answered /" + kind + "\n", port, "/man1/trace-run.1.gz"} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing (server at %s) in\n%s", want, host, out)
				}
			}
			if !strings.HasSuffix(out, "left: \n") {
				t.Errorf("something is left:\n%s", out)
			}
			checkProfile(t, out, kind)
		})
	}
}

// checkProfile: the profile was loaded as often as the script has packages installed
// where AppArmor is; where a person has one, that is said and nothing is done.
func checkProfile(t *testing.T, out, kind string) {
	loaded, kept := 2, 1 // triggered, then upgraded
	if kind == "rpm" {
		loaded, kept = 1, 0
	}
	if n := strings.Count(out, "parser: --replace /etc/apparmor.d/trace\n"); n != loaded {
		t.Errorf("loaded %d times, want %d, in\n%s", n, loaded, out)
	}
	if n := strings.Count(out, "trace: /etc/apparmor.d/trace is not of the package "); n != kept {
		t.Errorf("kept %d times, want %d, in\n%s", n, kept, out)
	}
}

func without(env []string, names ...string) (kept []string) {
	for _, e := range env {
		drop := false
		for _, n := range names {
			drop = drop || strings.HasPrefix(e, n+"=")
		}
		if !drop {
			kept = append(kept, e)
		}
	}
	return kept
}

// TestDeb: what dpkg and its kin say of the package.
func TestDeb(t *testing.T) {
	needs(t, "dpkg-deb")
	m := made1(t)
	fields, err := exec.Command("dpkg-deb", "--field", m.file(t, ".deb"), "Package", "Version", "Architecture", "Maintainer").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "Package: trace\nVersion: 1.2.3~rc1\nArchitecture: " + m.o.targets[0].arch + "\nMaintainer: Jo <jo@example.com>\n"
	if string(fields) != want {
		t.Errorf("%q, want %q", fields, want)
	}
	out, err := exec.Command("dpkg-deb", "--contents", m.file(t, ".deb")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/trace", "share/man/man1/trace-run.1.gz", "share/bash-completion/completions/trace", "share/zsh/vendor-completions/_trace",
		"share/fish/vendor_completions.d/trace.fish", "share/trace/apparmor/trace", "share/doc/trace/LICENSE", "share/doc/trace/changelog.gz",
		"share/doc/trace/copyright", "share/doc/trace/" + noticesFile, "share/doc/trace/trace.spdx.json", "share/doc/trace/docs/cli.md"} {
		if !strings.Contains(string(out), " ./usr/"+name+"\n") {
			t.Errorf("%s is missing", name)
		}
	}
}

// TestRPM: what rpm says of the package, and that its payload is what cpio reads.
func TestRPM(t *testing.T) {
	needs(t, "rpm", "rpm2cpio", "cpio")
	name := made1(t).file(t, ".rpm")
	query := func(args ...string) string {
		out, err := exec.Command("rpm", append(args, name)...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	if got := query("-qp", "--qf", "%{NAME} %{VERSION} %{RELEASE} %{LICENSE} %{BUILDTIME}"); got != "trace 1.2.3~rc1 1 Apache-2.0 1772600767" {
		t.Error(got)
	}
	if got := query("-K"); !strings.Contains(got, "digests OK") {
		t.Error(got)
	}
	if got := query("-qp", "--licensefiles"); !strings.Contains(got, "/usr/share/doc/trace/LICENSE\n") {
		t.Error(got)
	}
	list, err := exec.Command("sh", "-c", `rpm2cpio "$1" | cpio -t --quiet`, "sh", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/usr/bin/trace\n", "/usr/share/man/man1/trace.1.gz\n", "/usr/share/zsh/site-functions/_trace\n"} {
		if !strings.Contains(string(list), want) {
			t.Errorf("%q is missing in\n%s", want, list)
		}
	}
}
