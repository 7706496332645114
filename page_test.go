package trace_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What captured text could come alive by, and what would reach somebody else. The
// page makes text nodes of all that is captured.
var (
	lively  = regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|setHTMLUnsafe|\beval\(|new Function|importScripts|javascript:|[^.\w]open\(["'` + "`" + `]|sendBeacon|WebSocket\(|EventSource\(|document\.cookie|localStorage`)
	foreign = regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
)

// TestPageSources: the page has no way to run what it shows, nor to fetch from
// anybody but trace, and its files keep the budget of the others.
func TestPageSources(t *testing.T) {
	n := 0
	err := filepath.WalkDir("web/ui/src", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		n++
		if lines := bytes.Count(text, []byte("\n")); lines > maxFileLines {
			t.Errorf("%s: %d lines, the budget is %d", p, lines, maxFileLines)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := lively.FindString(line); m != "" {
				t.Errorf("%s:%d: %s", p, i+1, m)
			}
			if m := foreign.FindString(line); m != "" && !strings.HasSuffix(m, "www.w3.org") {
				t.Errorf("%s:%d: names another server: %s", p, i+1, m)
			}
		}
		return nil
	})
	if err != nil || n < 20 {
		t.Errorf("%d files: %v", n, err)
	}
}
