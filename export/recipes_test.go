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

// ofProtocols are filters over testdata/protocols.jsonl, those of the base
// vocabulary first: what they do not know must not disturb them.
var ofProtocols = []struct {
	flags, filter, want string
}{
	{"-rj", `select(.type=="sse") | .data.delta?.text? // empty`, ""},
	{"-r", `select(.type=="request") | "\(.method) \(.path) \(.body.model?)"`, "GET /chat claude-sonnet-4-5\nPOST /shop.Shop/Find claude-sonnet-4-5\nGET /x?y=1 claude-sonnet-4-5\n"},
	{"-cs", `group_by(.flow_id) | map({id:.[0].flow_id, n:length})`, `[{"id":"","n":4},{"id":"01KDY/1","n":12},{"id":"01KDY/2","n":4},{"id":"01KDY/3","n":5}]` + "\n"},
	{"-r", `select(.type=="response_headers" and .status_code>=400) | .flow_id`, "01KDY/2\n"},
	{"-r", `select(.type=="response_headers" and .streaming) | .status_code`, "101\n200\n"},
	{"-r", `select(.type=="request") | .headers["content-type"]`, "null\napplication/grpc\nnull\n"},
	{"-s", `[.[]|select(.type=="stream_end" or .type=="response")]|length`, "3\n"},
	{"-s", `(sort_by(.ts)|map(.ts)) == (sort_by(.t)|map(.ts))`, "true\n"},
	{"-s", `map(.seq // 0) == [range(length)]`, "true\n"},
	{"-r", `select(.type=="sse") | "\(.dir) \(.data["1"]?)"`, "c2s hi\ns2c there\n"},
	{"-r", `select(.type=="ws_message" and .kind=="text") | .data | if type=="object" then .type else . end`, "hello\nhi <there>\n"},
	{"-r", `select(.type=="ws_message" and .encoding=="base64" and .kind=="pong") | .data`, "cP8=\n"},
	{"-r", `select(.type=="ws_close") | "\(.code) \(.by)"`, "1000 server\n"},
	{"-r", `select((.grpc_status // 0) > 0) | .grpc_message`, "no such thing\n"},
	{"-r", `select(.type=="connection_open" and .tls.ja4) | .tls.ja4`, "t13d1516h2_8daaf6152771_b186095e22b6\nt13d1516h2_8daaf6152771_b186095e22b6\n"},
	{"-r", `select(.type=="error") | .detail`, "ENHANCE_YOUR_CALM\n"},
}

func TestRecipesOfProtocols(t *testing.T) {
	file := filepath.Join("testdata", "protocols.jsonl")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	jq, err := exec.LookPath("jq")
	if err != nil {
		missing(t, "jq is not installed")
	}
	for _, r := range ofProtocols {
		if got := library(t, text, r.flags, r.filter); got != r.want {
			t.Errorf("%s %s: %q, want %q", r.flags, r.filter, got, r.want)
		}
		got, err := exec.Command(jq, r.flags, r.filter, file).CombinedOutput()
		if err != nil || string(got) != r.want {
			t.Errorf("jq %s %s: %q, %v, want %q", r.flags, r.filter, got, err, r.want)
		}
	}
}

// TestDocumentedRecipes runs the examples of docs/jsonl.md as they stand there.
func TestDocumentedRecipes(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "jsonl.md"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("jq"); err != nil {
		missing(t, "jq is not installed")
	}
	n := 0
	for line := range strings.Lines(string(doc)) {
		if !strings.HasPrefix(line, "jq ") {
			continue
		}
		n++
		for _, name := range []string{"example.jsonl", "protocols.jsonl"} {
			command := strings.ReplaceAll(line, "log.jsonl", filepath.Join("testdata", name))
			if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", strings.TrimSpace(command), err, out)
			}
		}
	}
	if n < 5 {
		t.Errorf("%d examples found", n)
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
