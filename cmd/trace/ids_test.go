package main

import (
	"strings"
	"testing"
)

// TestIDs gives every command that takes an ID each form of one.
func TestIDs(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	r := scripted(t, "named")
	for range 2 {
		r.talk("hello", "he", "llo")
	}
	forms := map[string]string{"2": "2", "last": "2", "-1": "2", "named/1": "1", r.id + "/1": "1", strings.ToLower(r.id) + "/last": "2", r.path + "/2": "2", r.id + "/-1": "2"}
	for form, id := range forms {
		for _, c := range []struct{ args, want string }{
			{"flows show ID --json", `"id":"` + id + `"`},
			{"flows tail ID", "> POST api.anthropic.com"},
			{"flows compare ID --json", `"id":"` + id + `"`},
			{"flows dump --format jsonl ID", "/" + id + `"`},
			{"flows dump --format curl ID", "api.anthropic.com"},
			{"flows diff 1 ID --json", `"id":"` + id + `"`},
			{"flows diff ID 1 --json", `"id":"` + id + `"`},
			{"flows save tried ID --force", ""},
		} {
			args := strings.Fields(strings.ReplaceAll(c.args, "ID", form))
			stdout, stderr, code := runCLI(t, args...)
			if code != 0 || !strings.Contains(stdout, c.want) {
				t.Errorf("%s: exit %d, %.300s %s", strings.Join(args, " "), code, stdout, stderr)
			}
		}
	}
	for _, form := range []string{"3", "0", "named/9", "nosuch/1", "1x", "named/", "/1", "2.5"} {
		for _, c := range []string{"flows show ID", "flows tail ID", "flows compare ID", "flows dump ID", "flows diff 1 ID", "flows replay ID", "flows save tried ID --force"} {
			args := strings.Fields(strings.ReplaceAll(c, "ID", form))
			_, stderr, code := runCLI(t, args...)
			if code != 1 || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s: exit %d, %q, want exit 1 and one line", strings.Join(args, " "), code, stderr)
			}
		}
	}
}
