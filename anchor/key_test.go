package anchor

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestPassphrase(t *testing.T) {
	const secret = "correct horse \x00 батарея\n"
	d := made(t, secret)
	data, err := os.ReadFile(d.path(keyFile))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "PRIVATE KEY") || !strings.Contains(string(data), "BEGIN AGE ENCRYPTED FILE") {
		t.Errorf("not encrypted:\n%s", data)
	}
	if info, err := d.Info(); err != nil || !info.Encrypted {
		t.Errorf("%+v %v", info, err)
	}
	ca := mustLoad(t, d, word(secret))
	for _, wrong := range []string{"", "correct", secret + " "} {
		if _, err := d.Load(word(wrong)); !errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), d.path(keyFile)) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	gone := errors.New("gone")
	if _, err := d.Load(func() (string, error) { return "", gone }); !errors.Is(err, gone) {
		t.Error(err)
	}

	// From one passphrase to another, to none, and back.
	if err := d.SetPassphrase(word("wrong"), "new"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("changed by %v", err)
	}
	mustLoad(t, d, word(secret))
	for _, step := range []struct{ from, to string }{{secret, "new"}, {"new", ""}, {"", "back"}} {
		if err := d.SetPassphrase(word(step.from), step.to); err != nil {
			t.Fatal(err)
		}
		if after := mustLoad(t, d, word(step.to)); !after.Certificate.Equal(ca.Certificate) {
			t.Error("it is another authority")
		}
		if info, _ := d.Info(); info.Encrypted != (step.to != "") || modeOf(t, d.path(keyFile)) != 0o600 {
			t.Errorf("%+v", info)
		}
	}
	if _, err := d.Load(word(secret)); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the first one still opens it: %v", err)
	}
}

// TestRotatedMeanwhile: a passphrase is set for the key that was asked for, and
// for no other.
func TestRotatedMeanwhile(t *testing.T) {
	d := made(t, "first")
	err := d.SetPassphrase(func() (string, error) {
		_, err := d.Rotate("second", time.Now())
		return "first", err
	}, "third")
	if err == nil || !strings.Contains(err.Error(), "replaced meanwhile") {
		t.Error(err)
	}
	mustLoad(t, d, word("second"))
}

// TestCostly: a file that asks for a gigabyte of memory is refused at once.
func TestCostly(t *testing.T) {
	defer func(n int) { workFactor = n }(workFactor)
	d := made(t, "x")
	data, err := os.ReadFile(d.path(keyFile))
	if err != nil {
		t.Fatal(err)
	}
	k, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	head := string(k.block.Bytes)
	k.block.Bytes = []byte(strings.Replace(head, " 4\n", " 30\n", 1))
	if string(k.block.Bytes) == head {
		t.Fatalf("no work factor in %.80q", head)
	}
	if _, err := k.open("key", word("x")); err == nil || errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
}

func TestRotate(t *testing.T) {
	d := newDir(t)
	if old, err := d.Rotate("", time.Now()); old != nil || err != nil {
		t.Fatal(old, err)
	}
	first := mustLoad(t, d, nobody)
	old, err := d.Rotate("secret", time.Now())
	if err != nil || !old.Equal(first.Certificate) {
		t.Fatal(old, err)
	}
	next := mustLoad(t, d, word("secret"))
	a, b := first.Certificate, next.Certificate
	if a.Subject.CommonName == b.Subject.CommonName || string(a.SubjectKeyId) == string(b.SubjectKeyId) || ID(a) == ID(b) {
		t.Errorf("%q, %q", a.Subject, b.Subject)
	}
	list, err := d.Old()
	if err != nil || len(list) != 1 || !list[0].Equal(a) {
		t.Fatal(list, err)
	}
	if got := d.File(a); got != d.path("ca-"+ID(a)+".pem") || modeOf(t, got) != 0o644 {
		t.Error(got)
	}
	if d.File(b) != d.path(certFile) {
		t.Error(d.File(b))
	}
	data, _ := os.ReadFile(d.File(a))
	if strings.Contains(string(data), "KEY") {
		t.Error("the old key is still there")
	}
	if err := d.Forget(list); err != nil {
		t.Fatal(err)
	}
	if list, err := d.Old(); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
}

// TestRotationBrokenOff: the old certificate is set aside first; if it ends
// there, nothing has changed.
func TestRotationBrokenOff(t *testing.T) {
	d := made(t, "")
	info, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path(oldName(info.Certificate)), PEM(info.Certificate), 0o644); err != nil {
		t.Fatal(err)
	}
	if old, err := d.Old(); err != nil || len(old) != 0 {
		t.Errorf("%d old ones, %v", len(old), err)
	}
}
