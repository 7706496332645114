package anchor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"trace/mitm"
)

func init() { workFactor = 4 }

func newDir(t *testing.T) Dir { return Dir(filepath.Join(t.TempDir(), "state", "ca")) }

// made returns a directory with an authority.
func made(t *testing.T, passphrase string) Dir {
	t.Helper()
	d := newDir(t)
	if ok, err := d.Create(passphrase, time.Now()); err != nil || !ok {
		t.Fatal(ok, err)
	}
	return d
}

func word(s string) func() (string, error) { return func() (string, error) { return s, nil } }

// nobody is for keys that need no passphrase.
func nobody() (string, error) { return "", errors.New("asked for a passphrase") }

func mustLoad(t *testing.T, d Dir, passphrase func() (string, error)) *CA {
	t.Helper()
	ca, err := d.Load(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mitm.AuthorityFrom(ca.Certificate, ca.Key, time.Now()); err != nil {
		t.Fatal(err)
	}
	return ca
}

func modeOf(t *testing.T, name string) fs.FileMode {
	t.Helper()
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode().Perm()
}

func TestCreate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0)) // the modes do not hang on it
	d := newDir(t)
	for _, err := range []error{second(d.Info()), second(d.Load(nobody))} {
		if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), string(d)) {
			t.Errorf("without an authority: %v", err)
		}
	}
	if _, err := os.Stat(string(d)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("to look made something")
	}
	now := time.Now()
	if ok, err := d.Create("", now); err != nil || !ok {
		t.Fatal(ok, err)
	}
	for name, want := range map[string]fs.FileMode{"": 0o700, keyFile: 0o600, certFile: 0o644} {
		if got := modeOf(t, d.path(name)); got != want {
			t.Errorf("%q has mode %o, want %o", name, got, want)
		}
	}
	ca := mustLoad(t, d, nobody)
	if ok, err := d.Create("other", now); ok || err != nil {
		t.Errorf("made a second one: %v", err)
	}
	again := mustLoad(t, d, nobody)
	if !again.Certificate.Equal(ca.Certificate) || !again.Key.Public().(*ecdsa.PublicKey).Equal(ca.Key.Public()) {
		t.Error("loaded another one")
	}
	c := ca.Certificate
	if c.Subject.CommonName != "trace CA "+ID(c) || !c.IsCA || c.NotAfter.Sub(now) < 4*365*24*time.Hour {
		t.Errorf("%q, CA %v, until %s", c.Subject, c.IsCA, c.NotAfter)
	}
	if data, _ := os.ReadFile(d.File(c)); string(data) != string(PEM(c)) || strings.Contains(string(data), "KEY") {
		t.Errorf("ca.pem:\n%s", data)
	}
	for _, e := range entriesOf(t, d) {
		if strings.HasPrefix(e, tempPrefix) {
			t.Errorf("left %s", e)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func entriesOf(t *testing.T, d Dir) []string {
	t.Helper()
	list, err := os.ReadDir(string(d))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// TestCreateAtOnce: of many that try at once one makes the authority, and all
// load the same.
func TestCreateAtOnce(t *testing.T) {
	d := newDir(t)
	const n = 16
	var wg sync.WaitGroup
	makers, certs := make(chan int, n), make(chan string, n)
	for i := range n {
		wg.Go(func() {
			ok, err := d.Create("", time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			if ok {
				makers <- i
			}
			ca, err := d.Load(nobody)
			if err != nil {
				t.Error(err)
				return
			}
			certs <- Fingerprint(ca.Certificate)
		})
	}
	wg.Wait()
	close(certs)
	seen := map[string]bool{}
	for c := range certs {
		seen[c] = true
	}
	if len(makers) != 1 || len(seen) != 1 {
		t.Errorf("%d made one, %d are in use", len(makers), len(seen))
	}
}

// TestRotateAtOnce: rotations beside readers never show half of one.
func TestRotateAtOnce(t *testing.T) {
	d := made(t, "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if _, err := d.Rotate("", time.Now()); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 40 {
				if _, err := d.Load(nobody); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	old, err := d.Old()
	if err != nil || len(old) != 20 {
		t.Errorf("%d old ones, %v", len(old), err)
	}
	ca := mustLoad(t, d, nobody)
	if data, _ := os.ReadFile(d.path(certFile)); string(data) != string(PEM(ca.Certificate)) {
		t.Error("ca.pem is of another one")
	}
}

// TestRefused: a key that others may have read, or that is another's, is not
// used, and the error has the command that mends it.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		spoil      func(d Dir) error
	}{
		{"key for the group", "chmod 600 ", func(d Dir) error { return os.Chmod(d.path(keyFile), 0o640) }},
		{"key for all", "chmod 600 ", func(d Dir) error { return os.Chmod(d.path(keyFile), 0o604) }},
		{"directory for all", "chmod 700 ", func(d Dir) error { return os.Chmod(string(d), 0o755) }},
		{"key of another", "chown ", func(d Dir) error { return os.Chown(d.path(keyFile), 12345, -1) }},
		{"directory of another", "chown ", func(d Dir) error { return os.Chown(string(d), 12345, -1) }},
		{"link", "symbolic link", func(d Dir) error {
			if err := os.Rename(d.path(keyFile), d.path("elsewhere")); err != nil {
				return err
			}
			return os.Symlink("elsewhere", d.path(keyFile))
		}},
		{"pipe", "no regular file", func(d Dir) error {
			if err := os.Remove(d.path(keyFile)); err != nil {
				return err
			}
			return syscall.Mkfifo(d.path(keyFile), 0o600)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := made(t, "")
			before, err := d.Info()
			if err != nil {
				t.Fatal(err)
			}
			err = c.spoil(d)
			if errors.Is(err, fs.ErrPermission) && os.Getuid() != 0 {
				t.Skip("only root gives files away")
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Load(nobody); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Load: %v, want %q", err, c.want)
			}
			if ok, err := d.Create("", time.Now()); ok || err == nil {
				t.Errorf("Create made another one: %v", err)
			}
			info, err := d.Info()
			if err != nil || info.Problem == nil || !info.Certificate.Equal(before.Certificate) {
				t.Errorf("Info: %+v, %v", info, err)
			}
		})
	}
}

// TestMended: what the refusal says mends it.
func TestMended(t *testing.T) {
	d := made(t, "")
	if err := os.Chmod(d.path(keyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := d.Load(nobody)
	_, command, ok := strings.Cut(fmt.Sprint(err), ": chmod ")
	mode, _, _ := strings.Cut(command, " (")
	if want := "600 " + d.path(keyFile); !ok || mode != want {
		t.Fatalf("%v: %q, want %q", err, mode, want)
	}
	if err := os.Chmod(d.path(keyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, d, nobody)
}

// TestDamaged: a damaged file is an error that names it, and is left as it is.
func TestDamaged(t *testing.T) {
	other, _, err := mitm.NewRoot("other", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, passphrase := range []string{"", "secret"} {
		whole, err := os.ReadFile(made(t, passphrase).path(keyFile))
		if err != nil {
			t.Fatal(err)
		}
		cert, key, _ := strings.Cut(string(whole), "-----END CERTIFICATE-----\n")
		cert += "-----END CERTIFICATE-----\n"
		flipped := []byte(key)
		flipped[83] ^= 3 // in the scalar, or in age's head
		for name, data := range map[string]string{
			"empty": "", "no key": cert, "no certificate": key, "cut": string(whole[:len(whole)-40]), "cut in the middle": string(whole[:len(whole)/2]),
			"zeroes": strings.Repeat("\x00", len(whole)), "two keys": string(whole) + key, "two certificates": cert + string(whole),
			"key of another": string(PEM(other)) + key, "more": string(whole) + "something", "flipped": cert + string(flipped),
			"rubbish": cert + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
			"age":     cert + "-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n-----END AGE ENCRYPTED FILE-----\n",
		} {
			d := made(t, "")
			if err := os.WriteFile(d.path(keyFile), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Load(word("secret")); err == nil || !strings.Contains(err.Error(), d.path(keyFile)) || errors.Is(err, ErrNone) {
				t.Errorf("%s (%q): %v", name, passphrase, err)
			}
			if ok, err := d.Create("", time.Now()); ok {
				t.Errorf("%s: Create took its place: %v", name, err)
			}
			if got, _ := os.ReadFile(d.path(keyFile)); string(got) != data {
				t.Errorf("%s: it was changed", name)
			}
			if _, err := d.Rotate("", time.Now()); err != nil {
				t.Errorf("%s: Rotate does not help: %v", name, err)
			}
			mustLoad(t, d, nobody)
		}
	}
}

// TestCertificateMended: ca.pem is a copy, and comes back.
func TestCertificateMended(t *testing.T) {
	d := made(t, "")
	info, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func() error{
		func() error { return os.Remove(d.path(certFile)) },
		func() error { return os.WriteFile(d.path(certFile), []byte("x"), 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		mustLoad(t, d, nobody)
		if data, err := os.ReadFile(d.path(certFile)); err != nil || string(data) != string(PEM(info.Certificate)) || modeOf(t, d.path(certFile)) != 0o644 {
			t.Errorf("%q %v", data, err)
		}
	}
}

// TestKilled: what somebody who was killed left is tidied up, and hinders
// nobody.
func TestKilled(t *testing.T) {
	d := made(t, "")
	for _, name := range []string{keyFile, certFile} {
		if err := os.WriteFile(d.path(tempPrefix+name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Rotate("", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range entriesOf(t, d) {
		if strings.HasPrefix(name, tempPrefix) {
			t.Errorf("%s is still there", name)
		}
	}
}

// TestNoRoom: where nothing can be written the old authority stays.
func TestNoRoom(t *testing.T) {
	d := made(t, "")
	before := mustLoad(t, d, nobody)
	if err := os.Mkdir(d.path(tempPrefix+keyFile), 0o700); err != nil { // which is not removed, as it is not empty
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path(tempPrefix+keyFile)+"/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Rotate("", time.Now()); err == nil {
		t.Fatal("rotated")
	}
	if after := mustLoad(t, d, nobody); !after.Certificate.Equal(before.Certificate) {
		t.Error("it is another one")
	}
	if old, err := d.Old(); err != nil || len(old) != 0 {
		t.Errorf("%d old ones, %v", len(old), err)
	}
}

func TestForeignKeyKinds(t *testing.T) {
	d := newDir(t)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine, _, err := mitm.NewRoot("mine", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	mine.PublicKey = nil // it is to be another
	der, err := x509.CreateCertificate(rand.Reader, mine, mine, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	data, err := encode(cert, key, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path(keyFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, d, nobody) // an authority that somebody brought along
}
