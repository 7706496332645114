package export

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/itchyny/gojq"
	"trace/flow"
)

// recipes are the filters that consumers of the vocabulary use, with the
// answers that they must go on getting.
var recipes = []struct {
	flags, filter, want string
}{
	{"-rj", `select(.type=="sse") | .data.delta.text? // empty`, "Hello!"},
	{"-r", `select(.type=="request") | "\(.method) \(.path) \(.body.model?)"`, "POST /v1/messages claude-sonnet-4-5\nGET /x?y=1 claude-sonnet-4-5\n"},
	{"-cs", `group_by(.flow_id) | map({id:.[0].flow_id, n:length})`, `[{"id":"","n":3},{"id":"01KDY/1","n":5},{"id":"01KDY/2","n":3}]` + "\n"},
	{"-r", `select(.type=="response_headers" and .status_code>=400) | .flow_id`, "01KDY/2\n"},
	{"-r", `select(.type=="request") | .headers["content-type"]`, "application/json\napplication/json\n"},
	{"-s", `[.[]|select(.type=="stream_end" or .type=="response")]|length`, "2\n"},
	{"-s", `(sort_by(.ts)|map(.ts)) == (sort_by(.t)|map(.ts))`, "true\n"},
	{"-r", `select(.type=="request") | .ts[0:19]+"Z" | fromdateiso8601`, "1767323045\n1767323045\n"},
	{"-r", `select(.type=="sse" and .data.type?=="content_block_delta").data.delta.text // empty`, "Hello\n!\n"},
}

func TestRecipes(t *testing.T) {
	var out bytes.Buffer
	l := &JSONL{W: &out, Body: bodies}
	l.Meta(flow.Session{ID: "01KDY", Version: "0.1.0", Started: t0})
	if err := example(l); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "log.jsonl")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range recipes {
		if got := library(t, out.Bytes(), r.flags, r.filter); got != r.want {
			t.Errorf("%s %s: %q, want %q", r.flags, r.filter, got, r.want)
		}
	}
	jq, err := exec.LookPath("jq")
	if err != nil {
		missing(t, "jq is not installed")
	}
	for _, r := range recipes {
		got, err := exec.Command(jq, r.flags, r.filter, file).CombinedOutput()
		if err != nil || string(got) != r.want {
			t.Errorf("jq %s %s: %q, %v, want %q", r.flags, r.filter, got, err, r.want)
		}
	}
}

// missing skips a test on a machine that cannot run it.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("TRACE_NO_SKIP") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// library runs a filter over JSON lines with the library that --jq uses.
func library(t *testing.T, lines []byte, flags, filter string) string {
	t.Helper()
	query, err := gojq.Parse(filter)
	if err != nil {
		t.Fatal(err)
	}
	var inputs []any
	for _, line := range bytes.Split(bytes.TrimSpace(lines), []byte("\n")) {
		var v any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, v)
	}
	if strings.Contains(flags, "s") {
		inputs = []any{inputs}
	}
	var out strings.Builder
	for _, in := range inputs {
		for it := query.Run(in); ; {
			v, ok := it.Next()
			if !ok {
				break
			}
			if err, bad := v.(error); bad {
				t.Fatalf("%s: %v", filter, err)
			}
			s, text := v.(string)
			if !text || !strings.Contains(flags, "r") {
				b, _ := gojq.Marshal(v)
				s = string(b)
			}
			out.WriteString(s)
			if !strings.Contains(flags, "j") {
				out.WriteByte('\n')
			}
		}
	}
	return out.String()
}
