package main

import (
	"strings"
	"testing"
)

// TestAppArmorPath: a path is itself in a profile, whatever is in it.
func TestAppArmorPath(t *testing.T) {
	for path, want := range map[string]string{
		"/usr/bin/trace":     `"/usr/bin/trace"`,
		"/opt/my tools/t":    `"/opt/my tools/t"`,
		"/a*b/?[c]{d,e}/^":   `"/a\*b/\?\[c\]\{d,e\}/\^"`,
		`/q"uote/back\slash`: `"/q\"uote/back\\slash"`,
		"/@{HOME}/trace":     `"/\@\{HOME\}/trace"`,
	} {
		if got := apparmorPath(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
		if p := apparmorProfile(path); strings.Count(p, want) != 1 || strings.Count(p, "{\n") != 1 {
			t.Errorf("%s:\n%s", path, p)
		}
	}
}
