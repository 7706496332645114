package main

import (
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// The child owns the terminal. While it runs, trace prints nothing: our lines
// go to stderr before it starts and after it has ended, prefixed "trace:". What
// this file knows is used by the commands that read a record afterwards.

// A terminal is where the output of a command goes, which may be no terminal.
type terminal struct {
	io.Writer
	tty   bool
	width int  // columns; 0: as wide as the text
	color bool // escape sequences are welcome
}

// defaultWidth is that of a terminal that does not know its own.
const defaultWidth = 80

// newTerminal finds out what w is. getenv is os.Getenv but in tests.
func newTerminal(w io.Writer, getenv func(string) string) *terminal {
	t := &terminal{Writer: w}
	f, ok := w.(*os.File)
	if !ok {
		return t
	}
	fd := int(f.Fd())
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return t
	}
	t.tty, t.width = true, defaultWidth
	if size.Col > 0 {
		t.width = int(size.Col)
	}
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
		t.width = n
	}
	t.color = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	return t
}

// A style is an SGR parameter (ECMA-48 section 8.3.117), "" for none.
type style string

// The styles in use.
const (
	plain  style = ""
	bold   style = "1"
	faint  style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	cyan   style = "36"
)

// paint returns s in style st where colour is welcome.
func (t *terminal) paint(st style, s string) string {
	if !t.color || st == plain || s == "" {
		return s
	}
	return "\x1b[" + string(st) + "m" + s + "\x1b[0m"
}

// text returns captured text as it may be printed outside of tables: escaped
// on a terminal, which must not obey it, and as it is elsewhere.
func (t *terminal) text(s string) string {
	if t.tty {
		return printableText(s)
	}
	return s
}

// fit cuts one line to the width.
func (t *terminal) fit(s string) string {
	if t.width == 0 {
		return s
	}
	return shorten(s, t.width)
}
