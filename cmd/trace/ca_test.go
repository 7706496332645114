package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"software.sslmate.com/src/go-pkcs12"

	"trace/anchor"
)

// runCA runs `trace ca ARGS` with nobody to ask.
func runCA(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	root := &cobra.Command{Use: "trace", SilenceErrors: true, SilenceUsage: true}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newCACommand())
	var out, errs bytes.Buffer
	root.SetIn(strings.NewReader("y\n")) // which is no terminal
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{"ca"}, args...))
	err := root.ExecuteContext(t.Context())
	if err != nil && err.Error() != "" {
		errs.WriteString("trace: " + err.Error() + "\n")
	}
	return out.String(), errs.String(), codeOf(err)
}

// inState gives the test a state directory of its own and returns where its
// authority will be.
func inState(t *testing.T) anchor.Dir {
	t.Helper()
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	t.Setenv("HOME", state)
	t.Setenv(passphraseVar, "")
	return anchor.Dir(filepath.Join(state, "trace", "ca"))
}

func showCA(t *testing.T) caView {
	t.Helper()
	stdout, stderr, code := runCA(t, "show", "--json")
	var v caView
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	return v
}

func TestCAUsage(t *testing.T) {
	inState(t)
	for args, want := range map[string]string{
		"show x": "", "export --format jks": "jks", "install now": "no argument", "install --nss db": "equals sign", "uninstall now": "", "rotate --encrypt --no-passphrase": "exclude",
		"passphrase --remove --new-passphrase-file x": "exclude", "install --nonsense": "nonsense",
	} {
		stdout, stderr, code := runCA(t, strings.Fields(args)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q %q", args, code, stdout, stderr)
		}
	}
}

// TestCANone: without an authority show, export and passphrase say how one is
// made, and make nothing; uninstall has nothing to do.
func TestCANone(t *testing.T) {
	dir := inState(t)
	for _, args := range []string{"show", "show --json", "export", "passphrase --remove"} {
		stdout, stderr, code := runCA(t, strings.Fields(args)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, "trace ca rotate") || !strings.Contains(stderr, string(dir)) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q %q", args, code, stdout, stderr)
		}
	}
	if stdout, stderr, code := runCA(t, "uninstall", "--yes"); code != 0 || stdout != "nothing is installed\n" {
		t.Errorf("exit %d, %q %q", code, stdout, stderr)
	}
	if _, err := os.Stat(string(dir)); err == nil {
		t.Error("something was made")
	}
}

func TestCAShowAndExport(t *testing.T) {
	dir := inState(t)
	if stdout, stderr, code := runCA(t, "rotate"); code != 0 || !strings.Contains(stdout, "trace ca install") {
		t.Fatalf("exit %d, %q %q", code, stdout, stderr)
	}
	v := showCA(t)
	if v.File != filepath.Join(string(dir), "ca.pem") || v.KeyFile != dir.KeyFile() || *v.Encrypted || len(v.Installed) != 0 || len(*v.Old) != 0 {
		t.Errorf("%+v", v)
	}
	text, _, _ := runCA(t, "show")
	for _, want := range []string{v.Subject, v.Fingerprint, v.File, v.KeyFile, "nowhere"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	file, err := os.ReadFile(v.File)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(file)
	for format, decode := range map[string]func([]byte) ([]byte, error){
		"pem": func(b []byte) ([]byte, error) { p, _ := pem.Decode(b); return p.Bytes, nil },
		"der": func(b []byte) ([]byte, error) { return b, nil },
		"p12": func(b []byte) ([]byte, error) {
			certs, err := pkcs12.DecodeTrustStore(b, "")
			if err != nil {
				return nil, err
			}
			return certs[0].Raw, nil
		},
		"mobileconfig": func(b []byte) ([]byte, error) {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil || string(anchor.Profile(cert)) != string(b) {
				return nil, err
			}
			return cert.Raw, nil
		},
	} {
		stdout, stderr, code := runCA(t, "export", "--format", format)
		der, err := decode([]byte(stdout))
		if code != 0 || stderr != "" || err != nil || !bytes.Equal(der, block.Bytes) || strings.Contains(stdout, "PRIVATE") {
			t.Errorf("%s: exit %d, %v, %q", format, code, err, stderr)
		}
	}
	if stdout, _, _ := runCA(t, "export"); stdout != string(file) {
		t.Errorf("%q", stdout)
	}

	if err := os.Chmod(v.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if v := showCA(t); !strings.Contains(v.Problem, "chmod 600 "+v.KeyFile) || v.Encrypted != nil {
		t.Errorf("%+v", v)
	}
	if text, _, code := runCA(t, "show"); code != 0 || !strings.Contains(text, "chmod 600") {
		t.Errorf("exit %d\n%s", code, text)
	}
	if _, stderr, code := runCA(t, "install"); code != 1 || !strings.Contains(stderr, "chmod 600") {
		t.Errorf("install: exit %d %q", code, stderr)
	}
	if stdout, _, code := runCA(t, "export"); code != 0 || stdout != string(file) {
		t.Errorf("export: exit %d", code)
	}
}

// TestCAPassphrase: from nothing to a passphrase, to another, and back; by file,
// by variable, and with nobody to ask.
func TestCAPassphrase(t *testing.T) {
	dir := inState(t)
	one, two, empty := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two"), filepath.Join(t.TempDir(), "empty")
	for name, text := range map[string]string{one: "first one\r\nrest\n", two: "second", empty: "\nx"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made := func() *lastingCA {
		t.Helper()
		var k caKey
		ca, err := k.lasting(func(string, ...any) {})
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	first := made()
	if string(first.dir) != string(dir) || !bytes.Equal(first.authority.Certificate(), first.Certificate.Raw) {
		t.Errorf("%+v", first)
	}
	must := func(code int, want string, args ...string) {
		t.Helper()
		stdout, stderr, got := runCA(t, args...)
		if got != code || !strings.Contains(stdout+stderr, want) || strings.Contains(stdout+stderr, "second") {
			t.Errorf("%q: exit %d, want %d and %q: %q %q", args, got, code, want, stdout, stderr)
		}
	}
	must(1, "no such file", "passphrase", "--passphrase-file", "/nowhere/at/all")
	must(1, "empty", "passphrase", "--passphrase-file", empty)
	must(0, "new passphrase", "passphrase", "--passphrase-file", one)
	if !*showCA(t).Encrypted {
		t.Error("not encrypted")
	}
	must(1, "wrong passphrase", "passphrase", "--passphrase-file", two, "--remove")
	must(0, "new passphrase", "passphrase", "--passphrase-file", one, "--new-passphrase-file", two)
	t.Setenv(passphraseVar, "second")
	if ca := made(); !ca.Certificate.Equal(first.Certificate) {
		t.Error("it is another authority")
	}
	var wrong caKey
	wrong.file = one // goes before the variable
	if _, err := wrong.lasting(t.Logf); err == nil || !strings.Contains(err.Error(), "wrong passphrase") || !strings.Contains(err.Error(), dir.KeyFile()) {
		t.Error(err)
	}
	must(0, "takes the place", "rotate") // stays under one
	if v := showCA(t); !*v.Encrypted || len(*v.Old) != 1 {
		t.Errorf("%+v", v)
	}
	must(0, "takes the place", "rotate", "--no-passphrase")
	if v := showCA(t); *v.Encrypted || len(*v.Old) != 2 {
		t.Errorf("%+v", v)
	}
}

// TestCAEnded: an authority that has ended is said, with what helps.
func TestCAEnded(t *testing.T) {
	dir := inState(t)
	if _, err := dir.Create("", time.Now().Add(-5*365*24*time.Hour+10*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	var k caKey
	var said []string
	if _, err := k.lasting(func(format string, _ ...any) { said = append(said, format) }); err != nil || len(said) != 1 || !strings.Contains(said[0], "rotate") {
		t.Errorf("%v, %q", err, said)
	}
	if _, err := dir.Rotate("", time.Now().Add(-6*365*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.lasting(t.Logf); err == nil || !strings.Contains(err.Error(), "expired") || !strings.Contains(err.Error(), "trace ca rotate") {
		t.Error(err)
	}
	if text, _, _ := runCA(t, "show"); !strings.Contains(text, "it has ended") {
		t.Error(text)
	}
	if _, stderr, code := runCA(t, "install", "--no-system"); code != 1 || !strings.Contains(stderr, "trace ca rotate") {
		t.Errorf("exit %d %q", code, stderr)
	}
}
