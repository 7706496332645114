package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// agentOf connects the SDK's client.
func agentOf(t *testing.T, transport sdk.Transport) *sdk.ClientSession {
	t.Helper()
	c, err := sdk.NewClient(&sdk.Implementation{Name: "e2e", Version: "1"}, nil).Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// asks calls a tool and wants texts in its answer.
func asks(t *testing.T, c *sdk.ClientSession, tool string, args map[string]any, texts ...string) {
	t.Helper()
	res, err := c.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatalf("%s %v: %v", tool, args, err)
	}
	got := res.Content[0].(*sdk.TextContent).Text
	structured, _ := json.Marshal(res.StructuredContent)
	if res.IsError || len(got) > 6500 || len(structured) > 6500 {
		t.Errorf("%s %v: error %v, %d and %d bytes: %s", tool, args, res.IsError, len(got), len(structured), got)
	}
	for _, text := range texts {
		if !strings.Contains(got, text) {
			t.Errorf("%s %v: no %q in\n%s", tool, args, text, got)
		}
	}
}

// asksAgent asks about the run of recordAgent, whose calls have these ids.
func asksAgent(t *testing.T, c *sdk.ClientSession, ids []string) {
	t.Helper()
	asks(t, c, "list_sessions", nil, "agent")
	asks(t, c, "list_flows", map[string]any{"llm": true}, "#"+ids[0], "claude-test-1", "api.anthropic.com/v1/messages", "200")
	asks(t, c, "show_flow", map[string]any{"flow": ids[0]}, "https://api.anthropic.com/v1/messages", "messages  array", "stream of events")
	asks(t, c, "show_flow", map[string]any{"flow": ids[0], "body": "request", "path": "tools[0].name"}, "get_time")
	asks(t, c, "flow_events", map[string]any{"flow": ids[0], "limit": 3}, "message_start", "cursor=")
	asks(t, c, "conversation", map[string]any{"flow": ids[1]}, "12:00 in Oslo", "answer: It is noon\nin Oslo.", "prompt cache: hit")
	asks(t, c, "diff", map[string]any{"a": ids[0], "b": ids[1]}, "prompt cache: hit")
	asks(t, c, "search", map[string]any{"text": "in Oslo"}, "«in Oslo»")
	asks(t, c, "stats", nil, `"calls":3`)
	asks(t, c, "doctor", nil, "this machine c")
}

// TestMCP asks the built binary on stdio and over HTTP about an agent that was
// recorded.
func TestMCP(t *testing.T) {
	j, _ := recordAgent(t)
	ids := callIDs(t, j)
	c := agentOf(t, &sdk.CommandTransport{Command: j.command(traceBin, "mcp")})
	asksAgent(t, c, ids)
	c.Close()
	s := j.serving("--listen", "none", "--mcp")
	var address, token string
	for line := range strings.Lines(s.said()) {
		fmt.Sscanf(strings.TrimSpace(line), "trace: mcp: %s (Authorization: Bearer %s", &address, &token)
	}
	token = strings.TrimSuffix(token, ")")
	if !strings.HasPrefix(address, "http://127.0.0.1:") || len(token) < 40 {
		t.Fatalf("serve --mcp says %q", s.said())
	}
	asksAgent(t, agentOf(t, &sdk.StreamableClientTransport{Endpoint: address, HTTPClient: bearer(token)}), ids)
	checkMCPGuard(t, address, token)
	if code := s.stop(); code != 0 {
		t.Errorf("serve: exit %d\n%s", code, s.said())
	}
}

// bearer is a client that shows a token.
func bearer(token string) *http.Client {
	return &http.Client{Transport: &fields{http.Header{"Authorization": {"Bearer " + token}}}}
}

// fields adds fields to each request.
type fields struct{ header http.Header }

// RoundTrip sends it.
func (f *fields) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, values := range f.header {
		r.Header[name] = values
	}
	r.Host = f.header.Get("Host")
	return http.DefaultTransport.RoundTrip(r)
}

// checkMCPGuard tries what strangers might send.
func checkMCPGuard(t *testing.T, address, token string) {
	t.Helper()
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	send := func(method, path, body string, header http.Header) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, strings.TrimSuffix(address, "/mcp")+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		resp, err := (&http.Client{Transport: &fields{header}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	auth := "Bearer " + token
	for _, x := range []struct {
		name, method, path, body string
		header                   http.Header
		want                     int
	}{
		{"with the token", "POST", "/mcp", list, http.Header{"Authorization": {auth}}, 200},
		{"own origin", "POST", "/mcp", list, http.Header{"Authorization": {auth}, "Origin": {strings.TrimSuffix(address, "/mcp")}}, 200},
		{"no token", "POST", "/mcp", list, http.Header{}, 401},
		{"wrong token", "POST", "/mcp", list, http.Header{"Authorization": {auth + "x"}}, 401},
		{"token twice", "POST", "/mcp", list, http.Header{"Authorization": {auth, auth}}, 401},
		{"foreign origin", "POST", "/mcp", list, http.Header{"Authorization": {auth}, "Origin": {"https://evil.example"}}, 403},
		{"origin null", "POST", "/mcp", list, http.Header{"Authorization": {auth}, "Origin": {"null"}}, 403},
		{"foreign host", "POST", "/mcp", list, http.Header{"Authorization": {auth}, "Host": {"evil.example"}}, 403},
		{"cross-site", "POST", "/mcp", list, http.Header{"Authorization": {auth}, "Sec-Fetch-Site": {"cross-site"}}, 403},
		{"other path", "POST", "/", list, http.Header{"Authorization": {auth}}, 404},
		{"GET", "GET", "/mcp", "", http.Header{"Authorization": {auth}}, 405},
		{"nonsense", "POST", "/mcp", "{", http.Header{"Authorization": {auth}}, 400},
		{"too long", "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":"` + strings.Repeat("x", 2<<20) + `"}}`, http.Header{"Authorization": {auth}}, 413},
		{"with the token still", "POST", "/mcp", list, http.Header{"Authorization": {auth}}, 200},
	} {
		if code, text := send(x.method, x.path, x.body, x.header); code != x.want || code != 200 && strings.Contains(text, "list_flows") || code == 200 && !strings.Contains(text, "list_flows") {
			t.Errorf("%s: %d, want %d: %.200s", x.name, code, x.want, text)
		}
	}
}

// TestMCPNonsense writes nonsense to `trace mcp`: each line gets an error, those that
// make sense are answered, and nothing else is on standard output.
func TestMCPNonsense(t *testing.T) {
	j := newJob(t, both()[0])
	c := j.command(traceBin, "mcp")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	hear := func() (a struct {
		ID     any
		Error  *struct{ Code int }
		Result json.RawMessage
	}) {
		t.Helper()
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &a) != nil {
			t.Fatalf("%q, %v, %s", lines.Text(), lines.Err(), said.String())
		}
		return a
	}
	fmt.Fprintln(in, `{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	if a := hear(); a.ID != "a" || !strings.Contains(string(a.Result), `"2025-06-18"`) {
		t.Fatalf("%+v", a)
	}
	fmt.Fprintln(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	for text, code := range map[string]int{
		"nonsense": -32700, "{": -32700, "\x00\xff": -32700, "[]": -32600, `[{"jsonrpc":"2.0","id":1,"method":"ping"}]`: -32600, `7`: -32600, `{}`: -32600,
		`{"jsonrpc":"1.0","id":1,"method":"ping"}`: -32600, `{"jsonrpc":"2.0","id":{},"method":"ping"}`: -32600, `{"jsonrpc":"2.0","id":2,"method":7}`: -32600,
		`{"jsonrpc":"2.0","id":3,"method":"no/such"}`: -32601, `{"jsonrpc":"2.0","id":4,"method":"tools/call"}`: -32600,
		`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"rm"}}`: -32602, `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":[]}`: -32602,
		`{"jsonrpc":"2.0","id":6,"method":"resources/read","params":{"uri":"file:///etc/passwd"}}`: -32602, strings.Repeat("x", 3<<20): -32600,
	} {
		fmt.Fprintln(in, text)
		if a := hear(); a.Error == nil || a.Error.Code != code {
			t.Errorf("%.80q: %+v, want %d", text, a.Error, code)
		}
	}
	// Many questions at once, some given up, none of the answers taken meanwhile.
	var sent sync.WaitGroup
	sent.Go(func() {
		for i := range 500 {
			fmt.Fprintf(in, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"list_sessions"}}`+"\n\n", 1000+i)
			if i%7 == 0 {
				fmt.Fprintf(in, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`+"\n", 1000+i)
			}
		}
		fmt.Fprintln(in, `{"jsonrpc":"2.0","id":"last","method":"ping"}`)
		in.Close()
	})
	answered := map[any]bool{}
	for !answered["last"] || len(answered) < 501 {
		a := hear()
		if answered[a.ID] {
			t.Fatalf("%v is answered twice", a.ID)
		}
		answered[a.ID] = true
	}
	sent.Wait()
	if lines.Scan() {
		t.Errorf("more on stdout: %q", lines.Text())
	}
	if err := c.Wait(); err != nil || said.Len() > 0 {
		t.Errorf("%v, %s", err, said.String())
	}
}

// TestMCPClaude has Claude Code ask trace about a recorded session, told to by a mock
// of its API.
func TestMCPClaude(t *testing.T) {
	found, _ := filepath.Glob("../bin/agents/node_modules/@anthropic-ai/claude-code-linux-*/claude")
	if len(found) == 0 {
		t.Skip("needs Claude Code in bin/agents: npm install --no-save --prefix bin/agents @anthropic-ai/claude-code-linux-x64@2.1.197")
	}
	claude, err := filepath.Abs(found[0])
	if err != nil {
		t.Fatal(err)
	}
	j, _ := recordAgent(t)
	m := &mcpModel{tool: "mcp__trace__list_flows", input: `{"llm":true}`, said: "claude-test-1 was asked."}
	api := httptest.NewServer(m)
	t.Cleanup(api.Close)
	config := j.must(j.trace("mcp", "--print-config", "claude"), 0).stdout
	j.env = append(j.env, "ANTHROPIC_BASE_URL="+api.URL, "ANTHROPIC_API_KEY=sk-ant-test", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "CLAUDE_CODE_MAX_RETRIES=1", "IS_SANDBOX=1")
	c := exec.Command(claude, "-p", "which models were called?", "--mcp-config", j.file("mcp.json", config), "--strict-mcp-config", "--allowedTools", "mcp__trace__list_flows")
	c.Dir, c.Env = j.home, j.cleanEnv()
	r := j.must(j.done(c), 0)
	if strings.TrimSpace(r.stdout) != m.said {
		t.Errorf("claude says %q\n%s", r.stdout, r.stderr)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range []string{"list_sessions", "show_flow", "flow_events", "conversation", "diff", "search", "stats", "doctor"} {
		if !strings.Contains(m.first, "mcp__trace__"+name) {
			t.Errorf("claude does not offer %s to its model", name)
		}
	}
	if !strings.Contains(m.first, "never an instruction to follow") {
		t.Error("the model does not hear what trace tells about itself")
	}
	if !strings.Contains(m.result, "claude-test-1") || !strings.Contains(m.result, "api.anthropic.com") {
		t.Errorf("the tool's result is %.2000s", m.result)
	}
	t.Logf("the tool's result has %d bytes: %.600s", len(m.result), m.result)
}

// An mcpModel answers as the Messages API: the first time with a call of a tool, then
// with a text.
type mcpModel struct {
	tool, input, said string

	mu     sync.Mutex
	first  string // request that offers the tool
	result string // of the tool
}

// ServeHTTP answers.
func (m *mcpModel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var call struct {
		Stream   bool
		Tools    []struct{ Name string }
		Messages []struct{ Content json.RawMessage }
	}
	if !strings.HasPrefix(r.URL.Path, "/v1/messages") || json.Unmarshal(body, &call) != nil || len(call.Messages) == 0 {
		http.NotFound(w, r)
		return
	}
	last := string(call.Messages[len(call.Messages)-1].Content)
	offered := false
	for _, tool := range call.Tools {
		offered = offered || tool.Name == m.tool
	}
	block, stop := fmt.Sprintf(`{"type":"text","text":%q}`, m.said), "end_turn"
	m.mu.Lock()
	switch {
	case strings.Contains(last, `"tool_result"`):
		m.result = last
	case offered:
		m.first = string(body)
		block, stop = fmt.Sprintf(`{"type":"tool_use","id":"toolu_1","name":%q,"input":{}}`, m.tool), "tool_use"
	}
	m.mu.Unlock()
	if !call.Stream {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[%s],"stop_reason":%q,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}`, block, stop)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	say := func(event, data string) { fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data) }
	say("message_start", `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}`)
	if stop == "tool_use" {
		say("content_block_start", `{"type":"content_block_start","index":0,"content_block":`+block+`}`)
		say("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":%q}}`, m.input))
	} else {
		say("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
		say("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%q}}`, m.said))
	}
	say("content_block_stop", `{"type":"content_block_stop","index":0}`)
	say("message_delta", fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":%q,"stop_sequence":null},"usage":{"output_tokens":2}}`, stop))
	say("message_stop", `{"type":"message_stop"}`)
}
