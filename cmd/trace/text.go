package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// printable returns captured text such that it stays on its line and cannot
// make a terminal do anything: control, bidi and other invisible characters
// and bytes that are no UTF-8 are written as Go escapes.
func printable(s string) string { return escape(s, "") }

// printableText is printable for text of many lines: line ends and tabs stay.
func printableText(s string) string {
	return escape(strings.ReplaceAll(s, "\r\n", "\n"), "\n\t")
}

func escape(s, keep string) string {
	if harmless(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case visible(r) || strings.ContainsRune(keep, r):
			b.WriteRune(r)
		default:
			b.WriteString(escaped(r))
		}
		i += n
	}
	return b.String()
}

func escaped(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	switch {
	case r < 0x100:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// harmless is the quick answer for printable ASCII.
func harmless(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// visible reports whether r may be printed. Cf holds the bidi controls,
// among others that cannot be seen.
func visible(r rune) bool { return unicode.IsPrint(r) }

// columns returns how many columns of a terminal s takes. s is printable.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// shorten cuts s to n columns; where something is missing it ends in "…".
func shorten(s string, n int) string {
	if len(s) <= n || columns(s) <= n {
		return s
	}
	used := 0
	for i, r := range s {
		w := runeColumns(r)
		if used+w > n-1 {
			if n < 1 {
				return ""
			}
			return s[:i] + "…"
		}
		used += w
	}
	return s
}

// pad fills s with spaces up to n columns, on the left where right is set.
func pad(s string, n int, right bool) string {
	fill := strings.Repeat(" ", max(0, n-columns(s)))
	if right {
		return fill + s
	}
	return s + fill
}

// sizeText writes a number of bytes short: 712, 2.1K, 48K, 1.4M.
func sizeText(n int64) string {
	if n < 1024 {
		return fmt.Sprint(n)
	}
	f, units := float64(n)/1024, "KMGTPE"
	for f >= 1023.5 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f%c", f, units[0])
	}
	return fmt.Sprintf("%.0f%c", f, units[0])
}

// bytesText is sizeText for a sentence.
func bytesText(n int64) string {
	if n < 1024 {
		return count(n, "byte")
	}
	return sizeText(n)
}

// tookText writes a duration short: 0.4ms, 490ms, 1.23s, 2m03s, 1h02m.
func tookText(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0fms", min(999, float64(d.Microseconds())/1e3))
	case d < time.Minute:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
