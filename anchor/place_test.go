package anchor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"trace/mitm"
)

func newCert(t *testing.T) *x509.Certificate {
	t.Helper()
	cert, _, err := mitm.NewRoot(commonName, lifetime, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// fakeHost is a system that has these files and programs.
func fakeHost(t *testing.T, release string, files, tools []string) *Host {
	t.Helper()
	h := &Host{Root: t.TempDir(), OS: "linux", Home: "/home/u", UID: 1000}
	h.Look = func(name string) string {
		if slices.Contains(tools, name) {
			return "/usr/bin/" + name
		}
		return ""
	}
	for _, f := range append(files, "/etc/os-release") {
		if err := os.MkdirAll(filepath.Dir(h.Root+f), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f, "/") {
			if err := os.MkdirAll(h.Root+f, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text := ""
		if f == "/etc/os-release" {
			text = release
		}
		if err := os.WriteFile(h.Root+f, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func shown(list []Command) string {
	var b strings.Builder
	for _, c := range list {
		if c.Root {
			b.WriteString("# ")
		}
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}

// TestSystems: the steps of each family of systems.
func TestSystems(t *testing.T) {
	cert, old := newCert(t), newCert(t)
	file := func(c *x509.Certificate) string {
		if c == cert {
			return "/s t/ca.pem"
		}
		return "/s t/old.pem"
	}
	debian := []string{"/etc/ca-certificates.conf", "/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates/"}
	for _, c := range []struct {
		name, release string
		files, tools  []string
		path          string
		add, remove   string
	}{
		{"Debian", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n", debian, []string{"update-ca-certificates", "trust"},
			"/etc/ssl/certs/ca-certificates.crt",
			"# install -m 0644 '/s t/ca.pem' /usr/local/share/ca-certificates/trace-ca-NEW.crt\n# update-ca-certificates\n",
			"# rm -f /usr/local/share/ca-certificates/trace-ca-NEW.crt /usr/local/share/ca-certificates/trace-ca-OLD.crt\n# update-ca-certificates --fresh\n"},
		{"Debian with Java", "ID=debian\n", append([]string{debianJava}, debian...), []string{"update-ca-certificates"},
			"/etc/ssl/certs/ca-certificates.crt",
			"# install -m 0644 '/s t/ca.pem' /usr/local/share/ca-certificates/trace-ca-NEW.crt\n# update-ca-certificates\n",
			"# rm -f /usr/local/share/ca-certificates/trace-ca-NEW.crt /usr/local/share/ca-certificates/trace-ca-OLD.crt\n# update-ca-certificates --fresh\n" +
				`# sh -c 'printf "%s\n" -/etc/ssl/certs/trace-ca-NEW.pem -/etc/ssl/certs/trace-ca-OLD.pem | /etc/ca-certificates/update.d/jks-keystore'` + "\n"},
		{"Ubuntu without the directory", "ID=ubuntu\nID_LIKE=debian\n", debian[:2], []string{"update-ca-certificates"},
			"/etc/ssl/certs/ca-certificates.crt",
			"# mkdir -p /usr/local/share/ca-certificates\n# install -m 0644 '/s t/ca.pem' /usr/local/share/ca-certificates/trace-ca-NEW.crt\n# update-ca-certificates\n",
			"# rm -f /usr/local/share/ca-certificates/trace-ca-NEW.crt /usr/local/share/ca-certificates/trace-ca-OLD.crt\n# update-ca-certificates --fresh\n"},
		{"Alpine", "ID=alpine\n", append([]string{alpineMark}, debian...), []string{"update-ca-certificates"},
			"/etc/ssl/certs/ca-certificates.crt",
			"# install -m 0644 '/s t/ca.pem' /usr/local/share/ca-certificates/trace-ca-NEW.crt\n# update-ca-certificates\n",
			"# rm -f /usr/local/share/ca-certificates/trace-ca-NEW.crt /usr/local/share/ca-certificates/trace-ca-OLD.crt\n# update-ca-certificates\n"},
		{"Fedora", "ID=fedora\n", []string{"/etc/pki/ca-trust/source/anchors/", "/etc/pki/tls/certs/ca-bundle.crt"}, []string{"update-ca-trust", "trust"},
			"/etc/pki/tls/certs/ca-bundle.crt",
			"# install -m 0644 '/s t/ca.pem' /etc/pki/ca-trust/source/anchors/trace-ca-NEW.crt\n# update-ca-trust extract\n",
			"# rm -f /etc/pki/ca-trust/source/anchors/trace-ca-NEW.crt /etc/pki/ca-trust/source/anchors/trace-ca-OLD.crt\n# update-ca-trust extract\n"},
		{"openSUSE", "ID=opensuse-tumbleweed\n", []string{"/etc/pki/trust/anchors/", "/etc/ssl/ca-bundle.pem"}, []string{"update-ca-certificates", "trust"},
			"/etc/ssl/ca-bundle.pem",
			"# install -m 0644 '/s t/ca.pem' /etc/pki/trust/anchors/trace-ca-NEW.crt\n# update-ca-certificates\n",
			"# rm -f /etc/pki/trust/anchors/trace-ca-NEW.crt /etc/pki/trust/anchors/trace-ca-OLD.crt\n# update-ca-certificates\n"},
		{"Arch", "ID=arch\n", []string{"/etc/ca-certificates/trust-source/anchors/", "/etc/ssl/certs/ca-certificates.crt"}, []string{"trust", "update-ca-trust"},
			"/etc/ssl/certs/ca-certificates.crt",
			"# trust anchor --store '/s t/ca.pem'\n",
			"# trust anchor --remove '/s t/ca.pem'\n# trust anchor --remove '/s t/old.pem'\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := fakeHost(t, c.release, c.files, c.tools)
			p, err := h.System()
			if err != nil {
				t.Fatal(err)
			}
			names := strings.NewReplacer("NEW", ID(cert), "OLD", ID(old))
			if p.Kind != KindSystem || p.Path != c.path || p.Title == "" {
				t.Errorf("%+v", p)
			}
			if got := shown(p.Add(cert, file(cert))); got != names.Replace(c.add) {
				t.Errorf("add:\n%s", got)
			}
			if got := shown(p.Remove([]*x509.Certificate{cert, old}, file)); got != names.Replace(c.remove) {
				t.Errorf("remove:\n%s", got)
			}
			if there, err := p.Has(t.Context(), cert); there || err != nil {
				t.Error(there, err)
			}
			if err := os.WriteFile(h.Root+c.path, append([]byte("# a comment\n"), append(PEM(old), PEM(cert)...)...), 0o644); err != nil {
				t.Fatal(err)
			}
			if there, err := p.Has(t.Context(), cert); !there || err != nil {
				t.Error(there, err)
			}
		})
	}
}

// TestStrays: what was installed by whoever deleted the directory first is
// found.
func TestStrays(t *testing.T) {
	mine, other := newCert(t), newCert(t)
	const dir = "/usr/local/share/ca-certificates/"
	h := fakeHost(t, "ID=debian\n", []string{"/etc/ca-certificates.conf", dir + "company.crt", dir + "trace-ca-" + ID(mine) + ".crt", dir + "trace-ca-" + ID(other) + ".crt"},
		[]string{"update-ca-certificates"})
	files, commands := h.Strays([]*x509.Certificate{mine})
	if want := dir + "trace-ca-" + ID(other) + ".crt"; len(files) != 1 || files[0] != want || shown(commands) != "# rm "+want+"\n# update-ca-certificates --fresh\n" {
		t.Errorf("%q\n%s", files, shown(commands))
	}
	if files, commands := h.Strays([]*x509.Certificate{mine, other}); files != nil || commands != nil {
		t.Errorf("%q\n%s", files, shown(commands))
	}
}

func TestMacOS(t *testing.T) {
	h := &Host{OS: "darwin", Look: func(string) string { return "" }}
	p, err := h.System()
	if err != nil {
		t.Fatal(err)
	}
	cert := newCert(t)
	if got, want := shown(p.Add(cert, "/f")), "# security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain /f\n"; got != want {
		t.Errorf("%s", got)
	}
	got := shown(p.Remove([]*x509.Certificate{cert}, func(*x509.Certificate) string { return "/f" }))
	if !strings.Contains(got, "# security remove-trusted-cert -d /f\n# security delete-certificate -Z ") {
		t.Errorf("%s", got)
	}
	if _, err := p.Has(t.Context(), cert); err == nil {
		t.Error("no program, no error")
	}
}

// TestUnknownSystem: the error says what helps.
func TestUnknownSystem(t *testing.T) {
	for release, want := range map[string]string{
		"ID=nixos\n": "security.pki.certificateFiles", "ID=debian\n": "apt install ca-certificates", "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n": "apt install",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n": "dnf install", "ID=alpine\n": "apk add", "ID=solus\n": "SSL_CERT_FILE", "": "SSL_CERT_FILE",
	} {
		h := fakeHost(t, release, nil, nil)
		if _, err := h.System(); !errors.Is(err, ErrUnknownSystem) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", release, err)
		}
	}
}

// TestQuote: what is shown is what a shell runs.
func TestQuote(t *testing.T) {
	for _, word := range []string{"", "a", "a b", "it's", `"$HOME"`, "`x`", "\n", "é", "~", "*", "a=b", "-/x", `\`} {
		out, err := exec.Command("sh", "-c", Command{Args: []string{"printf", "%s", word}}.String()).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q became %q (%v)", word, out, err)
		}
	}
}

// TestNSSPlaces: databases of browsers are found wherever packages put them,
// and one twice reachable once.
func TestNSSPlaces(t *testing.T) {
	h := fakeHost(t, "", []string{"/home/u/.pki/nssdb/cert9.db", "/home/u/.mozilla/firefox/abc.default/cert9.db", "/home/u/.mozilla/firefox/empty/x",
		"/home/u/snap/firefox/common/.mozilla/firefox/def/cert9.db", "/home/u/.var/app/org.mozilla.firefox/.mozilla/firefox/ghi/cert9.db",
		"/home/u/snap/chromium/12/.pki/nssdb/cert9.db"}, []string{"chromium"})
	if err := os.Symlink("12", h.Root+"/home/u/snap/chromium/current"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("abc.default", h.Root+"/home/u/.mozilla/firefox/link"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range h.NSS() {
		got = append(got, strings.TrimPrefix(p.Path, "/home/u/"))
	}
	want := []string{".pki/nssdb", "snap/chromium/current/.pki/nssdb", ".mozilla/firefox/abc.default",
		"snap/firefox/common/.mozilla/firefox/def", ".var/app/org.mozilla.firefox/.mozilla/firefox/ghi"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	h = fakeHost(t, "", nil, []string{"google-chrome"})
	if list := h.NSS(); len(list) != 1 || list[0].Path != "/home/u/.pki/nssdb" || !list[0].New() {
		t.Errorf("a Chromium without a database: %+v", list)
	}
	if list := fakeHost(t, "", nil, nil).NSS(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// runAll does what a user would type.
func runAll(t *testing.T, list []Command) {
	t.Helper()
	for _, c := range list {
		if out, err := exec.Command("sh", "-c", c.String()).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
}

// needTool is a requirement that only an incapable machine does not meet.
func needTool(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil && os.Getenv("TRACE_NO_SKIP") == "" {
		t.Skipf("needs %s", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// installed is a place that really has a certificate, noted in d.
func installed(t *testing.T, d Dir, p Place) *x509.Certificate {
	t.Helper()
	info, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	cert := info.Certificate
	if err := d.Note(Entry{Kind: p.Kind, Path: p.Path, Certificate: string(PEM(cert)), Made: p.New()}); err != nil {
		t.Fatal(err)
	}
	runAll(t, p.Add(cert, d.File(cert)))
	if there, err := p.Has(t.Context(), cert); !there || err != nil {
		t.Fatalf("%s: %v %v", p.Path, there, err)
	}
	return cert
}

// undo undoes all of what is noted.
func undo(t *testing.T, d Dir, h *Host, want int) {
	t.Helper()
	list, err := d.Undo(context.Background(), h, func(*x509.Certificate) bool { return true })
	if err != nil || len(list) != want {
		t.Fatalf("%+v %v", list, err)
	}
	for _, u := range list {
		if u.Problem != nil {
			t.Fatal(u.Problem)
		}
		if len(u.Certs) > 0 {
			runAll(t, u.Place.Remove(u.Certs, d.File))
		}
		if err := d.Done(context.Background(), u); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := d.Installed(); err != nil || len(list) != 0 {
		t.Errorf("still noted: %+v %v", list, err)
	}
}

// TestNSSDatabase: in and out of a real database, also of an authority that was
// rotated away, and nothing else is touched.
func TestNSSDatabase(t *testing.T) {
	needTool(t, "certutil")
	d, h := made(t, ""), &Host{Root: "", OS: "linux", Home: t.TempDir(), Look: onPath}
	dir := filepath.Join(t.TempDir(), "a b", "nssdb")
	p := h.Database(dir)
	first := installed(t, d, p)
	other := newCert(t)
	file := filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(file, PEM(other), 0o644); err != nil {
		t.Fatal(err)
	}
	runAll(t, h.Database(dir).Add(other, file))
	if _, err := d.Rotate("", time.Now()); err != nil {
		t.Fatal(err)
	}
	installed(t, d, p)
	undo(t, d, h, 1)
	if there, err := p.Has(t.Context(), first); there || err != nil {
		t.Error(there, err)
	}
	if there, err := p.Has(t.Context(), other); !there || err != nil {
		t.Errorf("what is not ours is gone: %v %v", there, err)
	}

	// Made by us, and empty again: gone. Somebody took it out himself: fine.
	fresh := h.Database(filepath.Join(t.TempDir(), "fresh"))
	installed(t, d, fresh)
	undo(t, d, h, 1)
	if _, err := os.Stat(fresh.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty database is still there: %v", err)
	}
	cert := installed(t, d, fresh)
	runAll(t, fresh.Remove([]*x509.Certificate{cert}, d.File))
	undo(t, d, h, 1)
}

// onPath finds programs, but for those by which a test would change the
// machine.
func onPath(name string) string {
	if strings.HasPrefix(name, "update-ca-") {
		return ""
	}
	p, _ := exec.LookPath(name)
	return p
}

// TestUndoWithoutTool: what cannot be looked into is said, and stays noted.
func TestUndoWithoutTool(t *testing.T) {
	needTool(t, "certutil")
	d, h := made(t, ""), &Host{OS: "linux", Home: t.TempDir(), Look: onPath}
	installed(t, d, h.Database(filepath.Join(t.TempDir(), "db")))
	h.Look = func(string) string { return "" }
	list, err := d.Undo(t.Context(), h, func(*x509.Certificate) bool { return true })
	if err != nil || len(list) != 1 || len(list[0].Certs) != 0 || list[0].Problem == nil || !strings.Contains(list[0].Problem.Error(), "libnss3-tools") {
		t.Errorf("%+v %v", list, err)
	}
	if list, _ := d.Installed(); len(list) != 1 {
		t.Errorf("%+v", list)
	}
}

// TestKeystore: in and out of a JDK's own store, which has no password and must
// go on having none: a JDK could not read it.
func TestKeystore(t *testing.T) {
	needTool(t, "keytool")
	t.Parallel()
	d, other := made(t, ""), newCert(t)
	store := filepath.Join(t.TempDir(), "cacerts")
	data, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{other}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store, data, 0o644); err != nil {
		t.Fatal(err)
	}
	h := &Host{OS: "linux", Home: t.TempDir(), Look: onPath, Keystores: []string{store}}
	own, following := h.Java()
	if len(own) != 1 || len(following) != 0 || own[0].Path != store || own[0].Add(other, "f")[0].Root {
		t.Fatalf("%+v %q", own, following)
	}
	inStore := func() []*x509.Certificate {
		data, err := os.ReadFile(store)
		if err != nil {
			t.Fatal(err)
		}
		certs, err := pkcs12.DecodeTrustStore(data, "")
		if err != nil {
			t.Fatal(err)
		}
		return certs
	}
	cert := installed(t, d, own[0])
	if list := inStore(); len(list) != 2 || !slices.ContainsFunc(list, cert.Equal) {
		t.Errorf("%d certificates", len(list))
	}
	undo(t, d, h, 1)
	if list := inStore(); len(list) != 1 || !list[0].Equal(other) {
		t.Errorf("%d certificates are left", len(list))
	}
}

// TestJavaFollows: a store that the distribution makes is left to it.
func TestJavaFollows(t *testing.T) {
	files := []string{"/etc/ca-certificates.conf", "/usr/local/share/ca-certificates/"}
	for _, hook := range []bool{false, true} {
		if hook {
			files = append(files, debianJava)
		}
		h := fakeHost(t, "ID=debian\n", files, []string{"update-ca-certificates"})
		h.Keystores = []string{"/etc/ssl/certs/java/cacerts", "/opt/jdk/lib/security/cacerts"}
		own, following := h.Java()
		if want := map[bool]string{false: "2 0", true: "1 1"}[hook]; fmt.Sprint(len(own), len(following)) != want {
			t.Errorf("hook %v: %+v %q", hook, own, following)
		}
	}
}

// TestRecord: entries are noted once, at once by many, and a damaged record is
// said.
func TestRecord(t *testing.T) {
	d := made(t, "")
	a, b := Entry{Kind: KindNSS, Path: "/a", Certificate: "x"}, Entry{Kind: KindNSS, Path: "/b", Certificate: "x"}
	done := make(chan error)
	for range 8 {
		go func() { done <- errors.Join(d.Note(a), d.Note(b)) }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if list, err := d.Installed(); err != nil || len(list) != 2 {
		t.Errorf("%+v %v", list, err)
	}
	if err := d.Strike(a); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Undo(t.Context(), &Host{OS: "linux", Look: onPath}, func(*x509.Certificate) bool { return true }); err == nil || !strings.Contains(err.Error(), "/b") {
		t.Error(err)
	}
	if err := os.WriteFile(d.path(recordFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Installed(); err == nil || !strings.Contains(err.Error(), recordFile) {
		t.Error(err)
	}
	if err := d.Note(a); err == nil {
		t.Error("a damaged record was overwritten")
	}
}
