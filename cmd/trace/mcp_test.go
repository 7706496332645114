package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"trace/flow"
	"trace/store"
)

// An agent asks over MCP, as an agent does.
type mcpAgent struct {
	t       *testing.T
	c       *sdk.ClientSession
	schemas map[string]*jsonschema.Resolved // of what tools answer
	all     strings.Builder                 // that was answered
}

// startMCP runs `trace mcp` with these options on a pair of pipes.
func startMCP(t *testing.T, o mcpOptions) *mcpAgent {
	t.Helper()
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- o.run(context.Background(), in, out)
		out.Close()
	}()
	c, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), &sdk.IOTransport{Reader: fromServer, Writer: toServer}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("trace mcp: %v", err)
		}
	})
	a := &mcpAgent{t: t, c: c, schemas: map[string]*jsonschema.Resolved{}}
	for tool, err := range c.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(tool.OutputSchema)
		if err != nil {
			t.Fatal(err)
		}
		var s jsonschema.Schema
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		if a.schemas[tool.Name], err = s.Resolve(nil); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// small is how long an answer may be, in bytes.
const small = 6500

// ask calls a tool and returns its text. The structured answer has to fit what the
// tool says of itself.
func (a *mcpAgent) ask(tool string, args map[string]any) string {
	a.t.Helper()
	text, isError := a.try(tool, args)
	if isError {
		a.t.Errorf("%s %v: %s", tool, args, text)
	}
	return text
}

func (a *mcpAgent) try(tool string, args map[string]any) (string, bool) {
	a.t.Helper()
	res, err := a.c.CallTool(a.t.Context(), &sdk.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		a.t.Fatalf("%s %v: %v", tool, args, err)
	}
	text := res.Content[0].(*sdk.TextContent).Text
	a.all.WriteString(text)
	if res.IsError {
		return text, true
	}
	structured, _ := json.Marshal(res.StructuredContent)
	a.all.Write(structured)
	var v any
	if err := json.Unmarshal(structured, &v); err != nil {
		a.t.Fatal(err)
	}
	if err := a.schemas[tool].Validate(v); err != nil {
		a.t.Errorf("%s %v: %v in %s", tool, args, err, structured)
	}
	if n := max(len(text), len(structured)); n > small && args["limit"] == nil && args["max_text"] == nil && args["length"] == nil {
		a.t.Errorf("%s %v: %d bytes", tool, args, n)
	}
	return text, false
}

// shows asks and wants texts in the answer.
func (a *mcpAgent) shows(tool string, args map[string]any, texts ...string) {
	a.t.Helper()
	got := a.ask(tool, args)
	for _, text := range texts {
		if !strings.Contains(got, text) {
			a.t.Errorf("%s %v: no %q in\n%s", tool, args, text, got)
		}
	}
}

// refused asks what cannot be answered.
func (a *mcpAgent) refused(tool string, args map[string]any, why string) {
	a.t.Helper()
	if text, isError := a.try(tool, args); !isError || !strings.Contains(text, why) {
		a.t.Errorf("%s %v: error %v, %q; want %q", tool, args, isError, text, why)
	}
}

type args = map[string]any

// TestMCPOfARun asks about a run with calls to language models, also while it goes
// on; it holds its secrets, so all is read redacted.
func TestMCPOfARun(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := agentRun(t)
	a := startMCP(t, mcpOptions{})
	for _, state := range []string{"running", "ended"} {
		if state == "ended" {
			r.finish()
		}
		a.shows("list_sessions", nil, r.id, "agents", state, "6 flows")
		a.shows("list_flows", nil, "session "+r.id+" ("+state+"): 6 flows", "api.anthropic.com 6", "#6", "#1", "529", "claude-x", "130 tokens in, 5 out")
		a.shows("list_flows", args{"llm": true, "limit": 2}, "#6", "#5", `cursor="5"`)
		a.shows("list_flows", args{"cursor": "5", "limit": 2}, "#4", "#3")
		a.shows("list_flows", args{"oldest_first": true, "limit": 2}, "#1", "#2", `cursor="2"`)
		a.shows("list_flows", args{"status": "5xx"}, "1 flows", "#1")
		a.shows("list_flows", args{"failed": true}, "1 flows", "#1")
		a.shows("list_flows", args{"host": "*.example.org"}, "no flow fits")
		a.shows("list_flows", args{"process": "CUR", "path": "MESSAGES", "method": "post", "kind": "http", "from": "start"}, "6 flows")
		a.shows("show_flow", args{"flow": 5}, "POST", "https://api.anthropic.com/v1/messages", "messages  array", "model  string", "conversation with flow=")
		a.shows("show_flow", args{"flow": "last", "body": "request"}, `{"n":1}`)
		a.shows("show_flow", args{"flow": "5", "body": "request", "path": "messages[-1].content"}, "Thanks.")
		a.shows("show_flow", args{"flow": r.id + "/5", "body": "request", "path": "messages[*].role"}, "5 values", `"assistant"`)
		a.shows("conversation", nil, "#1  4 turns, last #5", "Look at the whole repository, please.", "#3  1 turns", "started by #2")
		a.shows("conversation", args{"flow": "4"}, "goes on from 2", "messages 0 to 1 are as in the turn before", "tool_result: There are seven files", "answer: Seven of them.", "130 in (100 from cache, 20 to cache), 5 out", "prompt cache: hit")
		a.shows("conversation", args{"flow": "4", "from": 0}, "[0] user: Look at the whole repository", "[1] assistant tool_call Task: {\"prompt\"")
		a.shows("conversation", args{"flow": "4", "part": "system"}, "[0] system: Be good.")
		a.shows("conversation", args{"flow": "4", "part": "tools"}, "[1] tool Bash")
		a.shows("conversation", args{"flow": "4", "part": "answer"}, "answer: Seven of them.")
		a.shows("conversation", args{"flow": "1"}, "error: 529 overloaded_error: Overloaded")
		a.refused("conversation", args{"flow": "6"}, "no call to a language model")
		a.refused("conversation", args{"flow": "4#7"}, "call")
		a.shows("diff", args{"b": "5"}, "/4 → ", "~ system 0 changed", "Be good.", "Be bad.", "3 messages as before", "+ [4] user: Thanks.", "prompt cache: miss")
		a.shows("diff", args{"a": "4", "b": "4"}, "the requests are the same")
		a.shows("diff", args{"a": "6", "b": "2"}, "~ ")
		a.refused("diff", args{"b": "2"}, "first of its conversation")
		a.shows("search", args{"text": "seven files"}, "#5  request.body", "#3  answer", "«seven files»")
		a.shows("search", args{"text": "SEVEN F[a-z]+S", "regexp": true, "ignore_case": true, "limit": 1}, "#5", "older flows may have more", "cursor")
		a.shows("search", args{"text": "nowhere to be found"}, "nothing found")
		a.refused("search", args{"text": "(", "regexp": true}, "missing closing")
		a.refused("list_flows", args{"status": "banana"}, "want a status")
		a.refused("list_flows", args{"from": "no such mark"}, "mark")
		a.shows("stats", nil, `"calls":5`, `"claude-x"`)
	}
	a = startMCP(t, mcpOptions{session: "agents"})
	scripted(t, "newer")
	a.shows("list_flows", nil, "6 flows")
	a.shows("list_flows", args{"session": "newer"}, "no flow fits")
	a.refused("list_flows", args{"session": "../../etc/passwd"}, "there is none")
	a.refused("list_flows", args{"session": "absent"}, "there is none")
	if _, err := a.c.CallTool(t.Context(), &sdk.CallToolParams{Name: "replay", Arguments: args{"flow": "2"}}); err == nil {
		t.Error("requests are sent though nobody allowed it")
	}
}

// TestMCPKinds looks at flows of each sort.
func TestMCPKinds(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	sampleSession(t)
	a := startMCP(t, mcpOptions{})
	a.shows("show_flow", args{"flow": 1}, "404", "a.example/one?x=1", "response\" and offset")
	a.shows("show_flow", args{"flow": 1, "body": "response"}, "base64")
	a.shows("show_flow", args{"flow": 2}, "flow_events lists them")
	a.refused("show_flow", args{"flow": 2, "body": "response", "path": "text"}, "flow_events")
	a.shows("show_flow", args{"flow": 2, "body": "request", "path": "n"}, "12345678901234567890")
	a.shows("flow_events", args{"flow": 2}, `{"text":"Hel"}`, "[DONE]")
	a.shows("flow_events", args{"flow": 2, "after": 1}, "[DONE]")
	a.shows("show_flow", args{"flow": 3}, "not decrypted", "flow_events")
	a.shows("flow_events", args{"flow": 3}, "bytes")
	a.shows("show_flow", args{"flow": 4}, "a.example", "NOERROR")
	for _, id := range []string{"1", "2", "3", "4"} {
		a.ask("show_flow", args{"flow": id})
		if _, err := a.c.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "trace://newest/" + id}); err != nil {
			t.Error(err)
		}
	}
	a.refused("diff", args{"a": "3", "b": "4"}, "no HTTP exchange")
}

// leakRun records secrets wherever they may stand, and returns what they are.
func leakRun(t *testing.T) (r *script, secrets []string) {
	key, password, session := "sk-ant-"+"api03-"+strings.Repeat("Zq9", 30), "hunter2-"+strings.Repeat("p4ss", 4), strings.Repeat("c00k1e", 5)
	r = scripted(t, "leak")
	on := emit(r.open("api.anthropic.com", 443, func(c *flow.Conn) { c.Process.Argv = []string{"curl", "-H", "x-api-key: " + key} }))
	on(flow.Request, 1, func(e *flow.Event) {
		path := "/v1/messages?api_key=" + key
		e.Head = &flow.Head{Method: "POST", Target: path, Path: path, Scheme: "https", Host: "api.anthropic.com", Port: 443, Version: "1.1",
			Fields: []flow.Field{{Name: "X-Api-Key", Value: key}, {Name: "Cookie", Value: "session=" + session}, {Name: "Content-Type", Value: "application/json"}}}
	})
	on.body(1, flow.Client, fmt.Sprintf(`{"model":"claude-x","max_tokens":9,"password":%q,"system":"the key is %s","messages":[{"role":"user","content":"say %s and %s"}]}`, password, key, key, session))
	on.answer(1, 200, "text/event-stream", true)
	events := []string{`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`}
	for i := range key {
		events = append(events, fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%q}}`, key[i:i+1]))
	}
	events = append(events, `{"type":"content_block_stop","index":0}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}`, `{"type":"message_stop"}`)
	for _, e := range events {
		on.event(1, e)
	}
	on.streamEnd(1, events...)
	plain := emit(r.open("plain.example", 80, func(c *flow.Conn) { c.Decrypted = false }))
	plain.request(1, "POST", "plain.example", "/", strings.Repeat("words ", 3000)+key+strings.Repeat(" words", 100))
	plain.answer(1, 500, "text/plain", false)
	plain.body(1, flow.Server, "wrong key "+key+", cookie "+session)
	plain(flow.End, 1, func(e *flow.Event) {
		e.Error = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "reset after " + key}
	})
	plain(flow.ConnEnd, 0, nil)
	r.flush()
	return r, []string{key, key[20:60], password, session}
}

// TestMCPRedacts asks all that can be asked about a session that was recorded with
// its secrets: none comes out.
func TestMCPRedacts(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r, secrets := leakRun(t)
	s := newSummariser(r.s, t.Logf) // what it keeps is not redacted
	s.saw()
	s.close()
	r.finish()
	a := startMCP(t, mcpOptions{})
	a.shows("list_sessions", nil, "leak")
	a.shows("list_flows", nil, "[REDACTED", "claude-x")
	for _, id := range []string{"1", "2"} {
		a.shows("show_flow", args{"flow": id}, "#"+id)
		for _, side := range []string{"request", "response"} {
			a.shows("show_flow", args{"flow": id, "body": side, "length": 65536}, "[REDACTED")
			for offset := 0; offset < 20000; offset += 1111 { // within a secret too
				a.ask("show_flow", args{"flow": id, "body": side, "offset": offset, "length": 1200})
			}
			res, err := a.c.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: fmt.Sprintf("trace://leak/%s/%s-body", id, side)})
			if err != nil {
				t.Fatal(err)
			}
			a.all.WriteString(res.Contents[0].Text)
		}
		for after := 0; after < 130; after += 20 {
			a.ask("flow_events", args{"flow": id, "after": after})
		}
	}
	a.shows("show_flow", args{"flow": "1", "body": "request", "path": "system"}, "the key is [REDACTED")
	a.shows("conversation", args{"flow": "1"}, "answer: [REDACTED")
	a.shows("conversation", nil, "say [REDACTED")
	a.ask("conversation", args{"flow": "1", "part": "system"})
	a.ask("diff", args{"a": "1", "b": "2"})
	a.ask("stats", nil)
	a.shows("search", args{"text": "words ["}, "request.body")
	for _, secret := range secrets {
		if i := strings.Index(a.all.String(), secret); i >= 0 {
			t.Errorf("%q comes out: %q", secret, a.all.String()[max(0, i-200):i+20])
		}
		a.shows("search", args{"text": secret}, "nothing found")
	}
	for i := len(secrets[0]) - 24; i > 20; i -= 24 { // nor a part of it
		if part := secrets[0][i : i+24]; strings.Contains(a.all.String(), part) {
			t.Errorf("%q comes out", part)
		}
	}
}

// TestMCPReplay sends a request again where that is allowed: as it was recorded, and
// tells nothing of its secrets.
func TestMCPReplay(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("ANTHROPIC_API_KEY", replayingKey)
	k := newKeeper(t, (*httptest.Server).Start)
	r := recordCall(t)
	a := startMCP(t, mcpOptions{replay: true})
	a.shows("replay", args{"flow": "1", "url": k.URL + "/v1/messages"}, "sent again: "+r.id+"/3", "status 200", "show_flow")
	if seen, _ := k.last(); seen != "POST /v1/messages "+replayingKey+" "+replayedBody {
		t.Errorf("sent %q", seen)
	}
	a.shows("replay", args{"flow": "1", "url": k.URL + "/x", "method": "PUT", "headers": map[string]string{"X-Api-Key": "other-key-of-some-length-1234", "X-New": "1"}, "body": "new"}, "/4")
	if seen, _ := k.last(); seen != "PUT /x other-key-of-some-length-1234 new" {
		t.Errorf("sent %q", seen)
	}
	a.shows("show_flow", args{"flow": "4"}, "PUT", "replay of: "+r.id+"/1")
	a.refused("replay", args{"flow": "2"}, "signed")
	a.refused("replay", args{"flow": "1", "url": "ftp://x/"}, "url")
	if strings.Contains(a.all.String(), replayingKey) || strings.Contains(a.all.String(), "other-key-of") {
		t.Errorf("a key comes out: %s", a.all.String())
	}
}

// TestMCPConfig prints what agents want in their configuration.
func TestMCPConfig(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/state of mine")
	for _, name := range []string{"claude", "cursor"} {
		stdout, stderr, code := runCLI(t, "mcp", "--print-config", name, "--session", "a b", "--allow-replay")
		var v struct {
			Servers map[string]struct {
				Command string
				Args    []string
				Env     map[string]string
			} `json:"mcpServers"`
		}
		if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != 0 || !strings.Contains(stderr, ".mcp.json") && name == "claude" {
			t.Fatalf("%s: %d, %v, %s", stdout, code, err, stderr)
		}
		s := v.Servers["trace"]
		if self, _ := os.Executable(); s.Command != self || strings.Join(s.Args, "|") != "mcp|--session|a b|--allow-replay" || s.Env["XDG_STATE_HOME"] != "/state of mine" {
			t.Errorf("%+v", s)
		}
	}
	stdout, stderr, code := runCLI(t, "mcp", "--print-config", "codex", "--session", `a "b"`)
	if code != 0 || !strings.HasPrefix(stdout, "[mcp_servers.trace]\ncommand = \"/") || !strings.Contains(stdout, `args = ["mcp", "--session", "a \"b\""]`) ||
		!strings.Contains(stdout, "[mcp_servers.trace.env]\nXDG_STATE_HOME = \"/state of mine\"") || !strings.Contains(stderr, "codex mcp add trace") {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	if _, stderr, code := runCLI(t, "mcp", "--print-config", "emacs"); code != 2 || !strings.Contains(stderr, "want claude, codex or cursor") {
		t.Errorf("%d %s", code, stderr)
	}
	if _, stderr, code := runCLI(t, "mcp", "--session", "absent"); code != 1 || !strings.Contains(stderr, "absent") {
		t.Errorf("%d %s", code, stderr)
	}
}

// TestMCPWithoutSessions has nothing to tell, and says so.
func TestMCPWithoutSessions(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	a := startMCP(t, mcpOptions{})
	a.shows("list_sessions", nil, "0 sessions")
	a.refused("list_flows", nil, "trace run --inspect")
	dir, _ := store.Dir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(dir+"/01KDYHXM0Z0000000000000000.trace", []byte("no session"), 0o600)
	if text, isError := a.try("list_flows", nil); !isError {
		t.Error(text)
	}
}
