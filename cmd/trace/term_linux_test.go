package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// pty opens a pseudo terminal of that many columns and returns its far side.
func pty(t *testing.T, cols uint16) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: cols}); err != nil {
		t.Fatal(err)
	}
	return slave
}

func TestTerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	env := func(kv ...string) func(string) string {
		return func(k string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == k {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	tty := pty(t, 132)
	for _, c := range []struct {
		name string
		got  *terminal
		want terminal
	}{
		{"buffer", newTerminal(new(bytes.Buffer), env("COLUMNS", "40")), terminal{}},
		{"file", newTerminal(file, env("COLUMNS", "40")), terminal{}},
		{"terminal", newTerminal(tty, env("TERM", "xterm")), terminal{tty: true, width: 132, color: true}},
		{"NO_COLOR", newTerminal(tty, env("NO_COLOR", "1")), terminal{tty: true, width: 132}},
		{"dumb", newTerminal(tty, env("TERM", "dumb")), terminal{tty: true, width: 132}},
		{"COLUMNS", newTerminal(tty, env("COLUMNS", "40")), terminal{tty: true, width: 40, color: true}},
		{"odd COLUMNS", newTerminal(tty, env("COLUMNS", "-3")), terminal{tty: true, width: 132, color: true}},
		{"no size", newTerminal(pty(t, 0), env()), terminal{tty: true, width: 80, color: true}},
	} {
		if c.got.tty != c.want.tty || c.got.width != c.want.width || c.got.color != c.want.color {
			t.Errorf("%s: tty %t, width %d, color %t, want %t, %d, %t", c.name, c.got.tty, c.got.width, c.got.color, c.want.tty, c.want.width, c.want.color)
		}
	}
}
