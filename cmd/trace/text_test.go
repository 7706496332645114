package main

import (
	"strings"
	"testing"
	"time"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                 "plain",
		"\x1b[2Jx":              `\x1b[2Jx`,
		"a\nb\tc\r":             `a\nb\tc\r`,
		"\u202eevil\u2066":      `\u202eevil\u2066`,
		"\x9b31m":               `\x9b31m`,
		"\u009b31m":             `\x9b31m`,
		"\xff\xfe":              `\xff\xfe`,
		"zero\u200bwidth\ufeff": `zero\u200bwidth\ufeff`,
		"\U000e0041":            `\U000e0041`,
		"日本 é ok":               "日本 é ok",
		"e\u0301":               "e\u0301",
		"\u2028":                `\u2028`,
		"\x7f\x00":              `\x7f\x00`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	if got, want := printableText("a\r\n\tb\x1b\rc\n"), "a\n\tb\\x1b\\rc\n"; got != want {
		t.Errorf("printableText = %q, want %q", got, want)
	}
}

func TestColumns(t *testing.T) {
	for in, want := range map[string]int{"": 0, "abc": 3, "日本": 4, "é": 1, "e\u0301": 1, "😀": 2, "ｱ": 1, "Ａ": 2, "…": 1} {
		if got := columns(in); got != want {
			t.Errorf("columns(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"abcdef", 6, "abcdef"}, {"abcdef", 5, "abcd…"}, {"abcdef", 1, "…"}, {"abcdef", 0, ""},
		{"日本語", 6, "日本語"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"}, {"日本語", 2, "…"},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…"},
	} {
		got := shorten(c.in, c.n)
		if got != c.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", c.in, c.n, got, c.want)
		}
		if columns(got) > c.n {
			t.Errorf("shorten(%q, %d) takes %d columns", c.in, c.n, columns(got))
		}
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1.0K", 48211: "47K", 1 << 20: "1.0M", 1<<20 - 1: "1.0M", 15 << 30: "15G", 1<<63 - 1: "8.0E"} {
		if got := sizeText(n); got != want {
			t.Errorf("sizeText(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0.0ms", 400 * time.Microsecond: "0.4ms", 489900 * time.Microsecond: "490ms", 999999 * time.Microsecond: "999ms", 1234 * time.Millisecond: "1.23s",
		123 * time.Second: "2m03s", 62 * time.Minute: "1h02m",
	} {
		if got := tookText(d); got != want {
			t.Errorf("tookText(%v) = %s, want %s", d, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[31m\u202e日\xff", 7)
	f.Fuzz(func(t *testing.T, s string, n int) {
		p := printable(s)
		if strings.ContainsFunc(p, func(r rune) bool { return !visible(r) }) {
			t.Errorf("%q holds what a terminal may obey", p)
		}
		if n >= 0 && n < 1000 && columns(shorten(p, n)) > n {
			t.Errorf("shorten(%q, %d) is too wide", p, n)
		}
	})
}
