package e2e

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// jdks returns the homes of all that is installed of Java, each once.
func jdks(t *testing.T) []string {
	t.Helper()
	javas, err := filepath.Glob("/usr/lib/jvm/*/bin/java")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := exec.LookPath("java"); err == nil {
		javas = append(javas, p)
	}
	var homes []string
	for _, java := range javas {
		if real, err := filepath.EvalSymlinks(java); err == nil {
			homes = append(homes, filepath.Dir(filepath.Dir(real)))
		}
	}
	slices.Sort(homes)
	return slices.Compact(homes)
}

// compileJava compiles testdata/java for the oldest of them.
func compileJava(t *testing.T) (classes string) {
	t.Helper()
	need(t, "javac")
	dir, err := os.MkdirTemp(workDir, "java-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("javac", "--release", "11", "-d", dir, "testdata/java/Fetch.java", "testdata/java/Modern.java").CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	return dir
}

// fetchJava runs Fetch inside, as wrap wants it, and checks the record.
func fetchJava(t *testing.T, j *job, o *origin, root string, wrap []string, java ...string) {
	t.Helper()
	argv := slices.Concat([]string{traceBin, "run", "--inspect", "--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + o.port, "--"},
		java, []string{"Fetch", "https://" + host + "/text"})
	tr := trouble{wrap: wrap}
	before := len(o.entries())
	r := j.must(j.finish(tr.argv(j.w, argv...)), 0)
	if r.stdout != strings.Repeat("200 hello from /text\n", 2) {
		t.Errorf("%q", r.stdout)
	}
	rows, log := j.flows("--kind", "http"), o.entries()[before:]
	if len(rows) != 2 || len(log) != 2 {
		t.Fatalf("%d rows, %d requests", len(rows), len(log))
	}
	for i, r := range rows {
		if !r.Conn.Decrypted || r.Response.SHA256 != log[i].respHash || r.Response.Size != log[i].respSize || r.Request.Size != log[i].reqSize {
			t.Errorf("recorded %+v, served %+v", r, log[i])
		}
	}
}

// TestJava: every JDK that is here accepts the run's authority by its own
// keystore, with no option and no word on stderr.
func TestJava(t *testing.T) {
	classes := compileJava(t)
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	for _, home := range jdks(t) {
		for _, w := range both() {
			t.Run(filepath.Base(home)+"/"+w.String(), func(t *testing.T) {
				j := newJob(t, w)
				fetchJava(t, j, o, j.file("root.pem", ca.pem()), nil, home+"/bin/java", "-cp", classes)
			})
		}
	}
}

// TestJavaPKCS12: a keystore without a password, as newer JDKs have it, is
// covered too; and one in a JDK's own directory beside the system's.
func TestJavaPKCS12(t *testing.T) {
	needRoot(t)
	need(t, "keytool", "unshare")
	classes := compileJava(t)
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	homes := jdks(t)
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			root := j.file("root.pem", newAuthority(t, "some root").pem())
			store := filepath.Join(j.home, "cacerts")
			out, err := exec.Command("keytool", "-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE", "-J-Dkeystore.pkcs12.macAlgorithm=NONE",
				"-importcert", "-noprompt", "-storetype", "PKCS12", "-storepass", "changeit", "-keystore", store, "-file", root, "-alias", "some").CombinedOutput()
			if err != nil {
				t.Fatalf("keytool: %v\n%s", err, out)
			}
			if err := os.Chmod(store, 0o644); err != nil {
				t.Fatal(err)
			}
			upstream := j.file("upstream.pem", ca.pem())
			for _, home := range homes {
				// A directory of its own in place of the link to the system's store.
				security := home + "/lib/security"
				wrap := script(ownMounts, `d=$(mktemp -d); mount -t tmpfs -o mode=755 none $d; cp -aL "$1/." $d; cp "$2" $d/cacerts
mount --move $d "$1"; rmdir $d; shift 2`, security, store)
				fetchJava(t, j, o, upstream, wrap, home+"/bin/java", "-cp", classes)
			}
		})
	}
}

// TestNSS: `trace ca nss` adds the run's authority to a database that Chromium
// and Firefox read, leaves what else is in there, and works inside a run only.
func TestNSS(t *testing.T) {
	need(t, "certutil")
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			dir := filepath.Join(j.home, ".pki/nssdb")
			r := j.must(j.trace("ca", "nss", dir), 1)
			if _, err := os.Stat(dir); err == nil || !strings.Contains(r.stderr, "not inside of a run") || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("outside: %q", r.stderr)
			}
			j.must(j.trace("ca", "nss"), 2)
			j.must(j.trace("ca", "nss", ""), 2)

			other := j.file("other.pem", newAuthority(t, "somebody else").pem())
			const fill = `mkdir -p "$1"; certutil -N -d "sql:$1" --empty-password; certutil -A -d "sql:$1" -n other -t CT,C,C -a -i "$2"`
			j.must(j.run("sh", "-ec", fill, "sh", dir, other), 0)
			var names []string
			for range 2 { // a second run is a second authority
				const add = `"$1" ca nss "$2"; openssl x509 -in "$SSL_CERT_FILE" -noout; certutil -V -u L -d "sql:$2" -n "$("$1" ca nss "sql:$2" | cut -d'"' -f2)"`
				r := j.must(j.inspect(nil, "sh", "-ec", add, "sh", traceBin, dir), 0)
				_, name, _ := strings.Cut(r.stdout, `"`)
				name, _, _ = strings.Cut(name, `"`)
				names = append(names, name)
				if !strings.Contains(r.stdout, "certificate is valid") {
					t.Errorf("NSS says %q", r.stdout)
				}
			}
			list := j.must(j.run("certutil", "-L", "-d", "sql:"+dir), 0).stdout
			for _, want := range append(names, "other") {
				if strings.Count(list, want) != 1 {
					t.Errorf("%q is not there once:\n%s", want, list)
				}
			}
			if names[0] == names[1] || strings.Count(list, ",,") != 2 || strings.Count(list, "CT,C,C") != 1 {
				t.Errorf("%q\n%s", names, list)
			}

			fresh := filepath.Join(j.home, "profile")
			j.must(j.inspect(nil, traceBin, "ca", "nss", fresh), 0)
			if list := j.must(j.run("certutil", "-L", "-d", "sql:"+fresh), 0).stdout; strings.Count(list, "C,,") != 1 {
				t.Errorf("a new database:\n%s", list)
			}
			r = j.must(j.inspect([]string{"--quiet"}, "env", "PATH=/nowhere", traceBin, "ca", "nss", fresh), 1)
			if !strings.Contains(r.stderr, "libnss3-tools") {
				t.Errorf("without certutil: %q", r.stderr)
			}
		})
	}
}

// TestNSSClient: a client whose TLS is NSS's, as Firefox's is, accepts the
// run's authority by its database alone.
func TestNSSClient(t *testing.T) {
	need(t, "certutil", "tstclnt")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			ask := j.file("request", "GET /text HTTP/1.0\r\nHost: "+host+"\r\n\r\n")
			flags := []string{"--quiet", "--upstream-ca", j.file("root.pem", ca.pem()), "--connect-to", host + ":443:127.0.0.1:" + o.port}
			const without = `certutil -N -d "sql:$2" --empty-password; tstclnt -d "sql:$2" -h "$3" -p 443 -A "$4"`
			r := j.inspect(flags, "sh", "-c", without, "sh", traceBin, j.home, host, ask)
			if r.code == 0 || strings.Contains(r.stdout, "hello") {
				t.Errorf("accepted by an empty database: %q", r.stdout)
			}
			const with = `"$1" ca nss "$2"; tstclnt -d "sql:$2" -h "$3" -p 443 -A "$4"`
			r = j.must(j.inspect(flags, "sh", "-ec", with, "sh", traceBin, j.home, host, ask), 0)
			if !strings.Contains(r.stdout, "hello from /text\n") {
				t.Errorf("%q %q", r.stdout, r.stderr)
			}
			if rows := j.flows("--kind", "http"); len(rows) != 1 || !rows[0].Conn.Decrypted || rows[0].Response == nil || rows[0].Response.Status != 200 {
				t.Errorf("%+v", rows)
			}
		})
	}
}

// TestNSSInSandbox: a sandbox inside the run, and a run inside the run, add
// the authority that signs what they see.
func TestNSSInSandbox(t *testing.T) {
	need(t, "certutil", "bwrap", "openssl")
	for _, w := range both() {
		j := newJob(t, w)
		dir := filepath.Join(j.home, "db")
		name := func(r result) string {
			_, s, _ := strings.Cut(r.stdout, `"`)
			s, _, _ = strings.Cut(s, `"`)
			return s
		}
		r := j.must(j.inspect([]string{"--quiet"}, "bwrap", "--dev-bind", "/", "/", "--unshare-all", traceBin, "ca", "nss", dir), 0)
		if name(r) == "" {
			t.Errorf("%s: in a sandbox: %q", w, r.stdout)
		}
		const both = `"$1" ca nss "$2"; exec "$1" run --inspect --quiet -- "$1" ca nss "$2"`
		r = j.must(j.inspect([]string{"--quiet"}, "sh", "-ec", both, "sh", traceBin, dir), 0)
		if lines := strings.Split(r.stdout, "\n"); len(lines) != 3 || lines[0] == lines[1] {
			t.Errorf("%s: a run in a run: %q", w, r.stdout)
		}
	}
}

// TestAppArmorProfile: the profile is for this binary only, and AppArmor's own
// parser takes it where it knows of user namespaces (4.0 and later).
func TestAppArmorProfile(t *testing.T) {
	j := newJob(t, both()[0])
	r := j.must(j.trace("namespace", "apparmor-profile"), 0)
	for _, want := range []string{"abi <abi/4.0>,\n", "profile trace \"" + traceBin + "\" flags=(unconfined) {\n", "\n  userns,\n"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	if strings.Contains(r.stdout, "sysctl") || r.stderr != "" {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		return // what it prints was checked
	}
	profile := r.stdout
	if _, err := os.Stat("/etc/apparmor.d/abi/4.0"); err != nil {
		// An older parser: all but the rule that is new.
		profile = strings.NewReplacer("abi <abi/4.0>,\n", "", "  userns,\n", "").Replace(profile)
	}
	c := exec.Command(parser, "-Q", "-K")
	c.Stdin = strings.NewReader(profile)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("apparmor_parser: %v\n%s\n%s", err, out, profile)
	}
}
