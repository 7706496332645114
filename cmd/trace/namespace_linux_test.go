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

// TestProfiled: a profile is for this program, or for the one that is named by a
// path that can be one.
func TestProfiled(t *testing.T) {
	for binary, want := range map[string]string{"/usr/bin/trace": "/usr/bin/trace", "/usr//bin/../bin/trace": "/usr/bin/trace",
		"bin/trace": "", "/usr/bin/trace\nx": ""} {
		if got, err := profiled(binary); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", binary, got, err)
		}
	}
	if got, err := profiled(""); err != nil || !strings.HasPrefix(got, "/") {
		t.Errorf("%q, %v", got, err)
	}
}
