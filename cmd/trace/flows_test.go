package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestParseFlowRef(t *testing.T) {
	for _, c := range []struct {
		arg, session string
		want         flowRef
		code         int // 0: fine
	}{
		{"12", "", flowRef{"", 12}, 0},
		{"12", "demo", flowRef{"demo", 12}, 0},
		{"last", "", flowRef{"", 0}, 0},
		{"-1", "", flowRef{"", 0}, 0},
		{"01KD/12", "", flowRef{"01KD", 12}, 0},
		{"01KD/last", "", flowRef{"01KD", 0}, 0},
		{"./a/b.trace/3", "", flowRef{"./a/b.trace", 3}, 0},
		{"01KD/12", "01KD", flowRef{"01KD", 12}, 0},
		{"01KD/12", "other", flowRef{}, 2},
		{"0", "", flowRef{}, 1},
		{"-2", "", flowRef{}, 1},
		{"x\x1b", "", flowRef{}, 1},
		{"01KD/", "", flowRef{}, 1},
		{"99999999999999999999", "", flowRef{}, 1},
	} {
		got, err := parseFlowRef(c.arg, c.session)
		if code := codeOf(err); code != c.code {
			t.Errorf("%q: exit %d (%v), want %d", c.arg, code, err, c.code)
		} else if err == nil && got != c.want {
			t.Errorf("%q: %+v, want %+v", c.arg, got, c.want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q: %q is not one plain line", c.arg, err)
		}
	}
}

// codeOf returns the exit code that stands for err.
func codeOf(err error) int {
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return 2
	case errors.As(err, &exit):
		return exit.Code
	}
	return 1
}

func TestLastFlag(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
		code int
	}{
		{"show -1", "last", 0}, {"show -1 --json", "last", 0}, {"show --json -1", "last", 0}, {"show -- -1", "-1", 0},
		{"show 7", "7", 0}, {"show -1 7", "", 2}, {"show 7 8", "", 2}, {"show", "", 0},
	} {
		var got string
		cmd := &cobra.Command{Use: "show", SilenceErrors: true, SilenceUsage: true}
		cmd.Flags().Bool("json", false, "")
		id := lastFlag(cmd)
		cmd.RunE = func(_ *cobra.Command, args []string) (err error) { got, err = id(args); return err }
		cmd.SetArgs(strings.Fields(c.args)[1:])
		if err := cmd.Execute(); codeOf(err) != c.code || got != c.want {
			t.Errorf("%s: %q, %v, want %q, exit %d", c.args, got, err, c.want, c.code)
		}
	}
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, zone)
	for in, want := range map[string]time.Time{
		"":                          {},
		"10m":                       now.Add(-10 * time.Minute),
		"-10m":                      now.Add(-10 * time.Minute),
		"2026-01-01T00:00:00Z":      time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		"2026-01-01T00:00:00.5Z":    time.Date(2026, 1, 1, 0, 0, 0, 5e8, time.UTC),
		"2026-01-01":                time.Date(2026, 1, 1, 0, 0, 0, 0, zone),
		"2026-01-01 12:30":          time.Date(2026, 1, 1, 12, 30, 0, 0, zone),
		"2026-01-01T12:30:01":       time.Date(2026, 1, 1, 12, 30, 1, 0, zone),
		"12:30":                     time.Date(2026, 1, 2, 12, 30, 0, 0, zone),
		"12:30:07":                  time.Date(2026, 1, 2, 12, 30, 7, 0, zone),
		"2026-01-01T00:00:00+02:00": time.Date(2025, 12, 31, 22, 0, 0, 0, time.UTC),
	} {
		if got := parseMoment(in, now); !got.at.Equal(want) {
			t.Errorf("%q: %+v, want %v", in, got, want)
		}
	}
	if got := parseMoment("never", now); !got.at.IsZero() || got.base != "" {
		t.Errorf("never was understood: %+v", got)
	}
}

// run executes a command line of ours and returns what it printed and its
// exit code. Errors are added to stderr as main would print them.
func runCLI(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	root := &cobra.Command{Use: "trace", SilenceErrors: true, SilenceUsage: true}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newFlowsCommand(), newImportCommand(), newSessionsCommand(), newMarkCommand(), newConfigCommand(), newServeStatusCommand(), newAttachCommand(), newMCPCommand(), newTopCommand())
	configured(root)
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(args)
	err := root.Execute()
	if err != nil && err.Error() != "" {
		errs.WriteString("trace: " + err.Error() + "\n")
	}
	return out.String(), errs.String(), codeOf(err)
}

func TestUsage(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for _, c := range []struct{ args, want string }{
		{"flows nonsense", "nonsense"},
		{"sessions nonsense", "nonsense"},
		{"flows list extra", "extra"},
		{"flows list --nonsense", "nonsense"},
		{"flows list --status 4x", "4x"},
		{"flows list --status 999", "999"},
		{"flows list --kind smtp", "smtp"},
		{"flows list --limit -3", "-3"},
		{"flows list --all --session x", "exclude"},
		{"flows list --jq map(", "--jq map("},
		{"flows show", "which flow"},
		{"flows show 1 2", "one ID"},
		{"flows show 1 --json --request-body", "exclude"},
		{"flows show 1 --request-body --response-body", "exclude"},
		{"flows tail 1 2", "one ID"},
		{"sessions rm", "arg"},
		{"sessions list x", "x"},
	} {
		stdout, stderr, code := runCLI(t, strings.Fields(c.args)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q, want exit 2 and one line with %q", c.args, code, stdout, stderr, c.want)
		}
	}
}

func TestNothingRecorded(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for _, args := range []string{"flows list", "flows list --json", "flows show last", "flows show -1", "flows tail", "flows show 01KD/3", "flows list --session nosuch", "sessions rm nosuch"} {
		stdout, stderr, code := runCLI(t, strings.Fields(args)...)
		if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "trace: ") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q, want exit 1 and one line", args, code, stdout, stderr)
		}
	}
	if stdout, stderr, code := runCLI(t, "sessions", "list"); code != 0 || stdout != "" || !strings.Contains(stderr, "trace run") {
		t.Errorf("sessions list: exit %d, %q, %q", code, stdout, stderr)
	}
	if stdout, _, code := runCLI(t, "sessions", "list", "--json"); code != 0 || stdout != "[]\n" {
		t.Errorf("sessions list --json: exit %d, %q", code, stdout)
	}
	if stdout, _, code := runCLI(t, "flows", "list", "--all", "--json"); code != 0 || stdout != "[]\n" {
		t.Errorf("flows list --all --json: exit %d, %q", code, stdout)
	}
}
