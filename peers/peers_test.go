package peers

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestBook(t *testing.T) {
	b := &Book{Dir: filepath.Join(t.TempDir(), "state", "wireguard")}
	if _, err := b.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing was made yet: %v", err)
	}
	if _, err := b.Remove("phone"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	phone, made, err := b.Add("phone")
	if err != nil || !made {
		t.Fatal(made, err)
	}
	again, made, err := b.Add("phone")
	if err != nil || made || again != phone {
		t.Errorf("%+v, %v, %v; it was %+v", again, made, err, phone)
	}
	vm, _, err := b.Add("vm.1")
	if err != nil || vm.Addr4 == phone.Addr4 || vm.Addr6 == phone.Addr6 {
		t.Fatalf("%+v, %v", vm, err)
	}
	l, err := b.Open()
	if err != nil || len(l.Peers) != 2 || l.Own()[0].Next() != phone.Addr4 {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, err := b.Remove("phone"); err != nil {
		t.Fatal(err)
	}
	if next, _, err := b.Add("tablet"); err != nil || next.Addr4 != phone.Addr4 || next.PublicKey == phone.PublicKey {
		t.Errorf("%+v, %v: want the address of phone, and another key", next, err)
	}
	for name, want := range map[string]fs.FileMode{"": 0o700, fileName: 0o600, lockName: 0o600} {
		if fi, err := os.Stat(filepath.Join(b.Dir, name)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, fi.Mode(), err)
		}
	}
	if after, err := b.Open(); err != nil || after.Key != l.Key || after.Net4 != l.Net4 {
		t.Errorf("the endpoint's key was made twice: %v", err)
	}
}

func TestNames(t *testing.T) {
	b := &Book{Dir: t.TempDir()}
	for _, bad := range []string{"", ".", "-x", "a b", "a/b", "é", "x\n", strings.Repeat("x", 64)} {
		if _, _, err := b.Add(bad); err == nil {
			t.Errorf("%q is no name", bad)
		}
	}
	if left, _ := os.ReadDir(b.Dir); len(left) != 0 {
		t.Errorf("something was made: %v", left)
	}
}

// TestTogether has many commands change the list at once.
func TestTogether(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			b := &Book{Dir: dir}
			if _, _, err := b.Add(fmt.Sprint("peer", i)); err != nil {
				t.Error(err)
			}
			if i%3 == 0 {
				if _, err := b.Remove(fmt.Sprint("peer", i)); err != nil {
					t.Error(err)
				}
			}
			if _, err := b.Open(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if l, err := (&Book{Dir: dir}).Read(); err != nil || len(l.Peers) != 16 {
		t.Errorf("%d peers, %v", len(l.Peers), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFull fills all addresses.
func TestFull(t *testing.T) {
	l := &List{Net4: netip.MustParsePrefix("10.7.8.0/22"), Net6: netip.MustParsePrefix("fd00::/64")}
	n := 0
	var err error
	for err == nil && n < 2000 {
		_, err = l.newPeer(fmt.Sprint(n))
		n++
	}
	if n != 1022 || l.Peers[1020].Addr4.String() != "10.7.11.254" {
		t.Errorf("%d: %v", n, err)
	}
}

func TestAvoid(t *testing.T) {
	free := netip.MustParsePrefix("10.64.0.0/10")
	b := &Book{Dir: t.TempDir(), Avoid: func() []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.0.0.0/10"), netip.MustParsePrefix("10.128.0.0/9")}
	}}
	if l, err := b.Open(); err != nil || !free.Contains(l.Net4.Addr()) {
		t.Errorf("%v, %v", l, err)
	}
}

// TestBroken refuses what it cannot rely on, and leaves it as it is.
func TestBroken(t *testing.T) {
	b := &Book{Dir: t.TempDir()}
	if _, _, err := b.Add("phone"); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(b.Dir, fileName)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	try := func(text string, mode fs.FileMode, want string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(name, []byte(text), mode), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
		_, _, err := b.Add("other")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q: %v", want, err)
		}
		if now, _ := os.ReadFile(name); string(now) != text {
			t.Errorf("%q: it was changed to %q", text, now)
		}
	}
	try("", 0o600, "EOF")
	try("{", 0o600, "EOF")
	try("{}", 0o600, "missing")
	try(strings.Replace(string(good), `"phone"`, `"../x"`, 1), 0o600, "name")
	try(strings.Replace(string(good), `"public_key": "`, `"public_key": "A`, 1), 0o600, "base64")
	try(strings.Replace(string(good), `"addr4": "10.`, `"addr4": "11.`, 1), 0o600, "addresses")
	try(string(good), 0o644, "chmod 600")
	if err := os.Chmod(b.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	try(string(good), 0o600, "chmod 700")
}
