package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// questions are the commands of the README's section of that name, with a word
// of what each prints or writes into the file that it names.
var questions = []struct{ command, says string }{
	{"trace flows list", "python3"},
	{"trace flows list --llm", "tool_use"},
	{"trace flows show last --full", "Today is Tuesday."},
	{"trace flows show last --prompt", "And in Bergen?"},
	{"trace flows show last --answer", "It is noon there too."},
	{"trace flows diff", "here the cache was lost"},
	{"trace flows diff --session agent --against agent", "the requests are the same"},
	{"trace flows tools", "get_time"},
	{"trace flows stats", "tool results"},
	{"trace flows stats --prices docs/prices.example.json", "no price"},
	{"trace flows search Oslo", "«Oslo»"},
	{"trace flows list --json --jq 'map({id, path: .request.path, by: .process.argv})'", `"/v1/messages?beta=true"`},
	{"trace flows list --status 4xx", ""},
	{"trace flows list --kind tcp", ""},
	{"trace flows compare last", "the same bytes on both sides"},
	{"trace flows dump > session.har", `"version":"1.2"`},
	{"trace flows dump --format curl last", "$ANTHROPIC_API_KEY"},
	{"trace flows dump --format html > conversation.html", "It is noon there too."},
	{"trace flows dump --format otlp > spans.json", "gen_ai.usage.input_tokens"},
	{"trace flows replay last", "the answers say the same"},
	{"trace flows replay last --set model=claude-test-2", "answer"},
	{"trace run --inspect --play agent -- python3 agent.py https://api.anthropic.com", "It is noon there too."},
}

// TestQuestions runs the commands of the README's section as they stand there.
func TestQuestions(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "## Questions it answers\n")
	_, section, _ = strings.Cut(section, "\n```\n")
	section, _, _ = strings.Cut(section, "\n```\n")
	var commands []string
	for line := range strings.Lines(section) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "trace ") {
			commands = append(commands, line)
		}
	}
	if len(commands) != len(questions) {
		t.Fatalf("the README has %d commands, the test %d", len(commands), len(questions))
	}
	j, flags := recordAgent(t)
	j.env = append(j.env, "ANTHROPIC_API_KEY=sk-ant-api03-"+strings.Repeat("k", 40))
	if err := os.MkdirAll(filepath.Join(j.home, "docs"), 0o755); err != nil {
		t.Fatal(err)
	}
	prices, err := os.ReadFile("../docs/prices.example.json")
	if err != nil {
		t.Fatal(err)
	}
	j.file("docs/prices.example.json", string(prices))
	for i, q := range questions {
		if commands[i] != q.command {
			t.Fatalf("the README has %s, the test %s", commands[i], q.command)
		}
		command := strings.Replace(q.command, "trace ", traceBin+" ", 1)
		if strings.Contains(command, " replay ") { // the server is not where its name says
			command += " " + strings.Join(flags, " ")
		}
		r := j.must(j.run("sh", "-c", "cd "+j.home+" && "+command), 0)
		out := r.stdout + r.stderr
		if _, file, ok := strings.Cut(q.command, "> "); ok {
			text, err := os.ReadFile(filepath.Join(j.home, file))
			if err != nil {
				t.Fatal(err)
			}
			out = string(text)
		}
		if !strings.Contains(out, q.says) {
			t.Errorf("%s: no %q in\n%s", q.command, q.says, out)
		}
	}
}
