package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenKeyLog: secrets go into a file that only we can read, after what is
// there, and into no other.
func TestOpenKeyLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	for range 2 {
		k, err := openKeyLog(path)
		if err != nil {
			t.Fatal(err)
		}
		k.Write([]byte("CLIENT_RANDOM 00 11\n"))
		if err := k.close(); err != nil {
			t.Error(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if b, _ := os.ReadFile(path); string(b) != strings.Repeat("CLIENT_RANDOM 00 11\n", 2) {
		t.Errorf("file holds %q", b)
	}
	link, open := filepath.Join(dir, "link"), filepath.Join(dir, "open")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	for bad, hint := range map[string]string{
		link: "name the file itself", open: "chmod 600 " + open, os.DevNull: "only you can read", filepath.Join(dir, "none", "keys"): "", dir: "",
	} {
		k, err := openKeyLog(bad)
		if err == nil {
			t.Errorf("%s: opened", bad)
			k.close()
			continue
		}
		if !strings.HasPrefix(err.Error(), "--keylog: ") || !strings.Contains(hintFor(err), hint) {
			t.Errorf("%s: %v, hint %q", bad, err, hintFor(err))
		}
	}
}

// TestKeyLogNeverFails: a disk that is full costs secrets and no handshake.
func TestKeyLogNeverFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("needs /dev/full: %v", err)
	}
	k := &keyLog{file: full}
	if n, err := k.Write([]byte("line\n")); n != 5 || err != nil {
		t.Error(n, err)
	}
	if err := k.close(); err == nil || !strings.Contains(err.Error(), "secrets are missing") {
		t.Error(err)
	}
}

func TestAllOf(t *testing.T) {
	if allOf() != nil {
		t.Error("no writers are one")
	}
	var a, b bytes.Buffer
	io.WriteString(allOf(&a), "x")
	io.WriteString(allOf(&a, &b), "y")
	if a.String() != "xy" || b.String() != "y" {
		t.Errorf("%q %q", a.String(), b.String())
	}
}
