package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestManual: each command has a page that names each of its flags, and mandoc
// finds nothing wrong with any.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	root := newRootCommand()
	root.InitDefaultCompletionCmd()
	b := build{Version: "v1.2.3", Date: "2026-01-02T03:04:05Z"}
	if err := writeManual(dir, root, b); err != nil {
		t.Fatal(err)
	}
	pages := 0
	eachCommand(root, func(cmd *cobra.Command) {
		pages++
		text, err := os.ReadFile(filepath.Join(dir, pageName(cmd)+".1"))
		if err != nil {
			t.Error(err)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if want := `\fB\-\-` + roff(f.Name) + `\fR`; !f.Hidden && !strings.Contains(string(text), want) {
				t.Errorf("%s: --%s is missing", pageName(cmd), f.Name)
			}
		})
		if head := `"2026-01-02" "trace v1.2.3"`; !strings.Contains(string(text), head) {
			t.Errorf("%s begins %.80q", pageName(cmd), text)
		}
	})
	files, _ := filepath.Glob(filepath.Join(dir, "*.1"))
	if pages < 40 || len(files) != pages {
		t.Errorf("%d commands, %d pages", pages, len(files))
	}
	if _, err := exec.LookPath("mandoc"); err != nil {
		if os.Getenv("TRACE_NO_SKIP") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if out, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

func eachCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		if inManual(sub) {
			eachCommand(sub, do)
		}
	}
}

// TestRoff: text comes out as it was, whatever is in it.
func TestRoff(t *testing.T) {
	for text, want := range map[string]string{
		".SH not a request": `\&.SH not a request` + "\n",
		`'C:\new' "x" -y`:   `\&'C:\enew' \(dqx\(dq \-y` + "\n",
	} {
		if got := roffLine(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
