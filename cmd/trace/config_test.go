package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tests read no configuration but their own.
func init() { os.Setenv("TRACE_CONFIG", "") }

// configure writes the configuration file of this test and returns its name.
func configure(t *testing.T, text string) string {
	t.Helper()
	base := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", base)
	t.Setenv("TRACE_CONFIG", "")
	os.Unsetenv("TRACE_CONFIG") // until the end of the test
	file := filepath.Join(base, "trace", "config.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfigFilters(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	first := sampleSession(t)
	first.finish()
	second := sampleSession(t)
	file := configure(t, `{
 "filters": {"kind": "http",
             "jq": ["map(select(.response))"]},
 "flags": {"flows list": {"limit": 1, "json": true},
           "flows search": {"ignore-case": true, "session": "`+first.id+`"},
           "flows compare": {"all": true}}
}`)
	for _, c := range []struct{ args, want string }{
		{"flows list", `"id":"2"`},
		{"flows list --limit 0 --jq length", "2\n"},
		{"flows list --kind tcp --limit 0 --jq length", "1\n"},
		{"flows list --kind dns --jq .[0].dns.rcode", "\"NOERROR\"\n"},
		{"flows search HEL --jq .[0].session", "\"" + first.id + "\"\n"},
		{"flows search HEL --session sample --jq .[0].session", "\"" + second.id + "\"\n"},
		{"flows search HEL --ignore-case=false --json --jq .", "[]\n"},
		{"flows compare 1 --json", `"id":"1"`},
		{"flows compare --session sample", "a.example"},
		{"flows show 4 --json", `"kind":"dns"`},
		{"flows clear --every --session " + first.id + " --dry-run", first.id + "/4"},
	} {
		stdout, stderr, code := runCLI(t, strings.Fields(c.args)...)
		if code != 0 || !strings.Contains(stdout, c.want) || strings.HasSuffix(c.want, "\n") && stdout != c.want {
			t.Errorf("%s: exit %d, %q, %q, want %q", c.args, code, stdout, stderr, c.want)
		}
	}
	text, _, code := runCLI(t, "config")
	for _, want := range []string{file + " (by XDG_CONFIG_HOME)", "filters.jq", "line 3", "flags.flows list.limit", "default"} {
		if !strings.Contains(text, want) || code != 0 {
			t.Errorf("config: exit %d, no %q in\n%s", code, want, text)
		}
	}
	text, _, _ = runCLI(t, "config", "--json")
	var c struct {
		File     string
		Exists   bool
		Settings []settingJSON
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil || c.File != file || !c.Exists || len(c.Settings) != 9 || c.Settings[1].Key != "filters.jq" || *c.Settings[1].Line != 3 || c.Settings[8].From != "default" {
		t.Errorf("config --json: %v, %s", err, text)
	}
	t.Setenv("TRACE_CONFIG", "")
	if got := ids(t); got != "1 2 3 4" {
		t.Errorf("without a configuration: %s", got)
	}
	if text, _, _ := runCLI(t, "config"); !strings.HasPrefix(text, "none (by TRACE_CONFIG)") {
		t.Error(text)
	}
}

// TestBadConfig wants one line that names the file and the line, and exit 2;
// help and others that need no configuration go on.
func TestBadConfig(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	for _, c := range []struct{ text, want string }{
		{``, ":1: it ends within a value"},
		{"{\n\"filters\": {", ":2: it ends"},
		{"{\n\"bypass\": [}\n}", ":2: "},
		{"[]", ":1: want a JSON object"},
		{"{}\n{}", ":2: something follows"},
		{"{\n\n\"filter\": {}}", `:3: unknown key "filter"`},
		{"{\"filters\": {\n\"hots\": \"x\"}}", `:2: unknown key "hots" in filters`},
		{"{\"filters\": {\"session\": \"x\"}}", `:1: unknown key "session" in filters`},
		{"{\"filters\": {\n\"llm\": \"yes\"}}", ":2: filters.llm: want true or false"},
		{"{\"filters\": {\"limit\": 1.5}}", "filters.limit: want a whole number"},
		{"{\"filters\": {\"limit\": 99999999999999999999}}", "filters.limit"},
		{"{\"filters\": {\"jq\": [1]}}", "filters.jq: want an array of strings"},
		{"{\"filters\": []}", "filters: want an object"},
		{"{\"filters\": {},\n\"filters\": {}}", `:2: "filters" stands here again`},
		{"{\"filters\":{\n\"status\": \"4x\"}}", ":2: filters.status: --status \"4x\""},
		{"{\"filters\":{\"from\": \"never\"}}", ":1: filters.from: --from"},
		{"{\"filters\":{\"jq\": \"map(\"}}", ":1: filters.jq: --jq map("},
		{"{\"bypass\":\n [\"[\"]}", ":2: bypass"},
		{"{\"bypass\": 3}", "bypass: want"},
		{"{\"prices\": []}", "prices: want the name of a file"},
		{"{\"flags\": 1}", "flags: want an object"},
		{"{\"flags\": {\"flows\": {}}}", `no command "flows"`},
		{"{\"flags\": {\n\"flows lst\": {}}}", `:2: flags: no command "flows lst"`},
		{"{\"flags\": {\"config\": {}}}", `no command "config"`},
		{"{\"flags\": {\"flows list\": {\n\"help\": true}}}", `:2: unknown key "help" in flags.flows list`},
		{"{\"flags\": {\"flows show\": {\"last\": true}}}", `unknown key "last"`},
		{"{\"x\x1b\": 1}", ":1: "},
	} {
		file := configure(t, c.text)
		for _, args := range []string{"flows list", "config"} {
			stdout, stderr, code := runCLI(t, strings.Fields(args)...)
			if args == "config" && (strings.Contains(c.want, "--") || strings.Contains(c.want, "limit") && code == 0) {
				continue // its form is good
			}
			if code != 2 || stdout != "" || !strings.HasPrefix(stderr, "trace: "+file) || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "\x1b") {
				t.Errorf("%s with %q: exit %d, %q, %q, want %q", args, c.text, code, stdout, stderr, c.want)
			}
		}
		for _, args := range []string{"flows list --help", "config --help", "help flows list"} {
			if stdout, stderr, code := runCLI(t, strings.Fields(args)...); code != 0 || stderr != "" || !strings.Contains(stdout, "Usage:") {
				t.Errorf("%s with %q: exit %d, %q", args, c.text, code, stderr)
			}
		}
	}
	t.Setenv("TRACE_CONFIG", "/nonexistent/config.json")
	if _, stderr, code := runCLI(t, "flows", "list"); code != 2 || !strings.Contains(stderr, "/nonexistent/config.json: no such file") {
		t.Errorf("a file that is not there: exit %d, %s", code, stderr)
	}
	other := filepath.Join(t.TempDir(), "other.json")
	if err := os.WriteFile(other, []byte(`{"filters":{"limit":3}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TRACE_CONFIG", other)
	if got := ids(t, "--session", r.id); got != "2 3 4" {
		t.Errorf("by TRACE_CONFIG: %s", got)
	}
}

// TestConfigRun takes bypass and flags of trace run, without running anything.
func TestConfigRun(t *testing.T) {
	file := configure(t, `{"bypass": ["*.corp"], "prices": "p.json", "flags": {"run": {"link": "direct", "keep-secrets": true, "only": ["a", "b"], "upstream-ca": "x.pem", "max-body": 7}}}`)
	root := newRootCommand()
	cmd, _, err := root.Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags([]string{"--bypass", "mine", "--link", "wireguard"}); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(root)
	if err == nil {
		err = c.apply(cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{"bypass": "[mine,*.corp]", "link": "wireguard", "keep-secrets": "true", "only": "[a,b]", "upstream-ca": "[x.pem]", "max-body": "7"} {
		if got := cmd.Flags().Lookup(flag).Value.String(); got != want {
			t.Errorf("--%s: %s, want %s", flag, got, want)
		}
	}
	stats, _, _ := root.Find([]string{"flows", "stats"})
	if err := c.apply(stats); err != nil || stats.Flags().Lookup("prices").Value.String() != filepath.Join(filepath.Dir(file), "p.json") {
		t.Errorf("%v, %s", err, stats.Flags().Lookup("prices").Value)
	}
}
