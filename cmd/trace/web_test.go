package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"trace/flow"
	"trace/web"
)

// A pageUser asks a page as the browser does.
type pageUser struct {
	t     *testing.T
	base  string
	token string
}

// servePage serves source until the test is over.
func servePage(t *testing.T, source *webSource) *pageUser {
	t.Helper()
	l, err := web.Listen("")
	if err != nil {
		t.Fatal(err)
	}
	p := serveWeb(l, source, t.Logf)
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return visitor(t, p.url)
}

func visitor(t *testing.T, address string) *pageUser {
	t.Helper()
	base, token, ok := strings.Cut(address, "/#token=")
	if !ok || len(token) < 43 {
		t.Fatalf("no URL with a token: %q", address)
	}
	return &pageUser{t, base, token}
}

func (u *pageUser) do(method, path, body string) *http.Response {
	u.t.Helper()
	req, err := http.NewRequest(method, u.base+path, strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+u.token)
	if method == "POST" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// text returns an answer with its status.
func (u *pageUser) text(method, path, body string) (string, int) {
	u.t.Helper()
	resp := u.do(method, path, body)
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		u.t.Fatalf("%s: %v", path, err)
	}
	return string(text), resp.StatusCode
}

// get reads JSON into v.
func (u *pageUser) get(path string, v any) {
	u.t.Helper()
	text, status := u.text("GET", path, "")
	if err := json.Unmarshal([]byte(text), v); status != 200 || err != nil {
		u.t.Fatalf("%s: %d %v %.300s", path, status, err, text)
	}
}

// TestWebOfARun asks for everything about a run of an agent; the commands say the
// same.
func TestWebOfARun(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := agentRun(t)
	r.finish()
	u := servePage(t, &webSource{})
	var session struct {
		ID, State string
		Live      bool
		Flows     int
		Exit      int
		Sessions  []struct{ ID, Name string }
	}
	u.get("/api/session", &session)
	if session.ID != r.id || session.State != "ended" || session.Live || session.Flows != 6 || session.Exit != 3 || len(session.Sessions) != 1 || session.Sessions[0].Name != "agents" {
		t.Errorf("%+v", session)
	}
	same := func(path string, args ...string) {
		t.Helper()
		want, _, code := runCLI(t, append([]string{"flows"}, args...)...)
		got, status := u.text("GET", path, "")
		if strings.HasPrefix(path, "/api/diff") { // one element
			want = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(want), "["), "]")
		}
		if code != 0 || status != 200 || plainText(t, got) != plainText(t, want) {
			t.Errorf("%s: %d\n%s\nflows %s: %d\n%s", path, status, got, strings.Join(args, " "), code, want)
		}
	}
	same("/api/stats?session="+r.id, "stats", "--json")
	same("/api/tools", "tools", "--json")
	same("/api/diff?a=4&b=5", "diff", "4", "5", "--json")
	same("/api/diff?a="+r.id+"/4&b=5", "diff", "4", "5", "--json")
	same("/api/compare?a="+r.id+"&b="+r.id, "diff", "--session", r.id, "--against", r.id, "--json")
	same("/api/flows/4/curl", "dump", "--format", "curl", "4")
	same("/api/export?format=har", "dump")
	same("/api/export?format=jsonl&flows=2,4", "dump", "--format", "jsonl", "2", "4")
	checkRows(t, u)
	checkCall(t, u)
	checkConversations(t, u)
	checkPageExport(t, u)
	for path, want := range map[string]int{"/api/flows/99": 404, "/api/flows/99/call": 404, "/api/flows/6/call": 404, "/api/flows/99/curl": 404, "/api/flows/1%239/call": 409,
		"/api/diff?a=4&b=99": 404, "/api/diff?a=4": 400, "/api/diff?a=x&b=4": 404, "/api/export?format=exe": 400, "/api/export?format=request-json": 400, "/api/export?format=har&flows=x": 400,
		"/api/export?format=html&flows=6": 409, "/api/compare?a=" + r.id: 400, "/api/flows?q=jq:" + url.QueryEscape("map("): 400} {
		if text, status := u.text("GET", path, ""); status != want || !strings.HasPrefix(text, `{"error":"`) {
			t.Errorf("%s: %d %s, want %d", path, status, text, want)
		}
	}
}

// plainText is JSON without its spaces; other text as it is.
func plainText(t *testing.T, s string) string {
	t.Helper()
	if !json.Valid([]byte(s)) {
		return strings.TrimSpace(s)
	}
	return string(plainJSON([]byte(s)))
}

func checkRows(t *testing.T, u *pageUser) {
	t.Helper()
	ids := func(q string) string {
		var page struct {
			Flows []struct{ ID string }
			Total int
		}
		u.get("/api/flows?q="+url.QueryEscape(q), &page)
		var list []string
		for _, f := range page.Flows {
			list = append(list, f.ID)
		}
		return strings.Join(list, " ")
	}
	for q, want := range map[string]string{"": "1 2 3 4 5 6", "model:claude": "1 2 3 4 5", "kind:llm": "1 2 3 4 5", "tokens:>100": "2 4 5", "status:529": "1", "body:Welcome": "5", "body:SEVEN": "3 4 5",
		`-body:"whole repository"`: "3 6", `jq:.response.status == 529`: "1", "host:api -jq:.llm": "1 2 3 4 5 6", "jq:select(.id | tonumber > 4)": "5 6", "jq:.nothing.at.all": "", `jq:error("x")`: ""} {
		if got := ids(q); got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
	var page struct {
		Flows []struct {
			Seq     int64
			Process struct {
				PID  int
				Name string
			}
			Model, Protocol, Path string
			Tokens                *struct{ Input, Output int64 }
			Duration              float64 `json:"duration_ms"`
			Timings               struct{ Wait *float64 }
			Size                  int64 `json:"resp_size"`
		}
	}
	u.get("/api/flows", &page)
	if f := page.Flows[1]; f.Process.Name != "curl" || f.Process.PID != 42 || f.Model != "claude-x" || f.Tokens == nil || f.Tokens.Output != 5 || f.Protocol != "HTTP/1.1" ||
		f.Path != "/v1/messages" || f.Duration <= 0 || f.Timings.Wait == nil || f.Size == 0 || f.Seq == 0 {
		t.Errorf("%+v", f)
	}
}

func checkCall(t *testing.T, u *pageUser) {
	t.Helper()
	var call struct {
		Provider, Model string
		State           string
		Thread          struct{ First, Previous string }
		Turn            int
		NewFrom         int `json:"new_from"`
		Cost            *struct{}
		Context         map[string]int64 `json:"context_bytes"`
		Cache           *struct {
			Result, Why string
		}
		Changes  []struct{ Area string }
		System   []struct{ Text string }
		Messages []struct {
			Role   string
			New    bool
			Blocks []struct{ Kind, Text string }
		}
		Answer []struct {
			Blocks []struct{ Kind, Text string }
		}
	}
	u.get("/api/flows/5/call", &call)
	if call.Provider != "anthropic" || call.State != "complete" || call.Thread.First != "1" || call.Thread.Previous != "4" || call.Turn != 3 || call.NewFrom != 4 || len(call.Messages) != 5 ||
		call.Messages[3].New || !call.Messages[4].New || call.Answer[0].Blocks[0].Text != "Welcome." || call.Context["system"] == 0 {
		t.Errorf("%+v", call)
	}
	if call.Cache == nil || call.Cache.Result != "miss" || !strings.Contains(call.Cache.Why, "system") || len(call.Changes) == 0 || call.Changes[0].Area != "system" {
		t.Errorf("%+v, %+v", call.Cache, call.Changes)
	}
	var part map[string]json.RawMessage
	u.get("/api/flows/5/call?part=answer", &part)
	for _, name := range []string{"params", "system", "tools", "messages", "cache"} {
		if part[name] != nil {
			t.Errorf("an answer has %s", name)
		}
	}
	if part["answer"] == nil || part["usage"] == nil || part["thread"] == nil {
		t.Errorf("%s", part)
	}
	shown, _, _ := runCLI(t, "flows", "show", "4", "--json")
	var want, got map[string]any
	if err := json.Unmarshal([]byte(shown), &want); err != nil {
		t.Fatal(err)
	}
	u.get("/api/flows/4", &got)
	for _, name := range []string{"request", "response", "conn", "timings", "llm", "id", "process"} {
		if fmt.Sprint(want[name]) != fmt.Sprint(got[name]) {
			t.Errorf("%s: %v, want %v", name, got[name], want[name])
		}
	}
}

func checkConversations(t *testing.T, u *pageUser) {
	t.Helper()
	var all struct {
		Threads []struct {
			ID, Title, Agent string
			Parent           *struct {
				Thread, Flow string
				Name         string `json:"tool_name"`
			}
			Calls  []string
			Tokens struct{ Output int }
			Turns  []struct {
				ID    string
				Turn  int
				Retry string `json:"retry_of"`
				Cache *struct{ Result string }
			}
		}
	}
	for range 2 { // the second time much of it is known
		u.get("/api/conversations", &all)
		if len(all.Threads) != 2 {
			t.Fatalf("%+v", all)
		}
		main, sub := all.Threads[0], all.Threads[1]
		if main.ID != "1" || main.Title != "Look at the whole repository, please." || strings.Join(main.Calls, " ") != "1 2 4 5" || main.Parent != nil || main.Tokens.Output != 15 ||
			main.Turns[1].Retry != "1" || main.Turns[2].Cache.Result != "hit" || main.Turns[3].Cache.Result != "miss" {
			t.Errorf("%+v", main)
		}
		if sub.ID != "3" || sub.Parent == nil || sub.Parent.Thread != "1" || sub.Parent.Flow != "2" || sub.Parent.Name != "Task" || !strings.HasPrefix(sub.Title, "Count all") {
			t.Errorf("%+v %+v", sub, sub.Parent)
		}
	}
}

func checkPageExport(t *testing.T, u *pageUser) {
	t.Helper()
	resp := u.do("GET", "/api/export?format=html&thread=3", "")
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/octet-stream" ||
		!strings.HasSuffix(resp.Header.Get("Content-Disposition"), `-conversation-3.html"`) || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("%d %v %v", resp.StatusCode, resp.Header, err)
	}
	if s := string(text); !strings.Contains(s, "Count all the files") || strings.Contains(s, "Welcome.") {
		t.Errorf("%.500s", s)
	}
	lines, _ := u.text("GET", "/api/export?format=jsonl&thread=1", "")
	if n := strings.Count(lines, `"type":"request"`); n != 4 {
		t.Errorf("%d requests of the conversation:\n%s", n, lines)
	}
}

// TestWebLive looks at a call while its answer comes.
func TestWebLive(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "live")
	sums := newSummariser(r.s, t.Logf)
	sums.saw()
	u := servePage(t, &webSource{id: r.id, open: r.s.Reader})
	lines := bufio.NewScanner(u.do("GET", "/api/stream?after=0", "").Body)
	until := func(name, text string) string {
		t.Helper()
		for event := ""; lines.Scan(); {
			if v, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = v
			}
			if v, ok := strings.CutPrefix(lines.Text(), "data: "); ok && event == name && strings.Contains(v, text) {
				return v
			}
		}
		t.Fatalf("the stream ended before %s %s: %v", name, text, lines.Err())
		return ""
	}
	on := emit(r.open("api.anthropic.com", 443, nil))
	on.request(1, "POST", "api.anthropic.com", "/v1/messages", `{"model":"claude-y","stream":true,"messages":[{"role":"user","content":"Say it."}]}`)
	until("flow", `"state":"open"`)
	until("flow", `"model":"claude-y"`) // as the request tells
	on.answer(1, 200, "text/event-stream", true)
	var data []string
	say := func(s string) {
		data = append(data, s)
		on.event(1, s)
	}
	say(`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-y","content":[],"usage":{"input_tokens":7,"output_tokens":1}}}`)
	say(`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
	say(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"As it "}}`)
	if e := until("event", "As it "); !strings.Contains(e, `"flow":"1"`) || !strings.Contains(e, `"type":"sse"`) {
		t.Errorf("%s", e)
	}
	var call struct {
		State  string
		Answer []struct{ Blocks []struct{ Text string } }
		Usage  struct{ Output int }
	}
	for _, path := range []string{"/api/flows/1/call", "/api/flows/1/call?part=answer"} {
		if u.get(path, &call); call.State != "open" || call.Answer[0].Blocks[0].Text != "As it " {
			t.Errorf("%s: %+v", path, call)
		}
	}
	say(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"comes."}}`)
	say(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}`)
	say(`{"type":"message_stop"}`)
	on.streamEnd(1, data...)
	until("flow", `"output":9`) // its summary
	if u.get("/api/flows/1/call?part=answer", &call); call.State != "complete" || call.Answer[0].Blocks[0].Text != "As it comes." || call.Usage.Output != 9 {
		t.Errorf("%+v", call)
	}
	sums.close()
	r.finish()
	until("session", `"state":"ended"`)
}

// TestWebReplay sends a request again, as it was and edited.
func TestWebReplay(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("ANTHROPIC_API_KEY", replayingKey)
	k := newKeeper(t, (*httptest.Server).Start)
	r := recordCall(t)
	u := servePage(t, &webSource{id: r.id, open: r.s.Reader})
	target := strings.Replace(k.URL, "http://", "http://", 1)
	send := func(body string, want int) (sent struct {
		ID, State string
		Status    int
		ReplayOf  string `json:"replay_of"`
		Changes   []struct{ What string }
	}) {
		t.Helper()
		text, status := u.text("POST", "/api/flows/1/replay", body)
		if json.Unmarshal([]byte(text), &sent); status != want {
			t.Fatalf("%s: %d %s", body, status, text)
		}
		return sent
	}
	quote := func(s string) string {
		text, _ := json.Marshal(s)
		return string(text)
	}
	sent := send(`{"url":`+quote(target+"/v1/messages")+`}`, 200)
	if seen, _ := k.last(); sent.ID != "3" || sent.Status != 200 || sent.ReplayOf != r.id+"/1" || len(sent.Changes) == 0 || seen != "POST /v1/messages "+replayingKey+" "+replayedBody {
		t.Errorf("%+v, sent %q", sent, seen)
	}
	edited := `{"method":"PUT","url":` + quote(target+"/?q=a%20b") + `,"headers":[["Host","x"],["X-Api-Key",` + quote(replayingKey) + `],["Content-Length","1"]],"body":"new body"}`
	sent = send(edited, 200)
	if seen, _ := k.last(); sent.ID != "4" || seen != "PUT /?q=a%20b "+replayingKey+" new body" {
		t.Errorf("%+v, sent %q", sent, seen)
	}
	_, before := k.last()
	for body, want := range map[string]int{
		`{"url":"ftp://x/"}`: 400, `{"url":"http://u:p@x/"}`: 400, `{"url":"nonsense"}`: 400, `{"method":"A B"}`: 400, `{"headers":[["a b","c"]]}`: 400,
		`{"headers":[["a","b\r\nc: d"]]}`: 400, `{"headers":[["","x"]]}`: 400, `{"unknown":1}`: 400, `{} {}`: 400, `[]`: 400, ``: 400,
	} {
		send(body, want)
	}
	if text, status := u.text("POST", "/api/flows/2/replay", "{}"); status != 409 || !strings.Contains(text, "signed") {
		t.Errorf("a signed request: %d %s", status, text)
	}
	if _, n := k.last(); n != before {
		t.Errorf("%d requests were sent that should not be", n-before)
	}
	k.Close()
	if sent = send(`{"url":`+quote(target)+`}`, 200); sent.State != "failed" {
		t.Errorf("to nobody: %+v", sent)
	}
	req, _ := http.NewRequest("POST", u.base+"/api/flows/1/replay", strings.NewReader("{}"))
	req.Header.Set("Authorization", "Bearer "+u.token)
	req.Header.Set("Content-Type", "text/plain")
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 415 {
		t.Errorf("text: %v %v", resp, err)
	}
}

// TestWebFlow: what is long is left out of a flow, what is not decrypted says why.
func TestWebFlow(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := sampleSession(t)
	on := emit(r.open("big.example", 443, nil))
	on.request(1, "POST", "big.example", "/", strings.Repeat("x", maxShown+1))
	on.answer(1, 200, "text/event-stream", true)
	var data []string
	for i := range maxShownPieces + 1 {
		data = append(data, fmt.Sprint(i))
		on.event(1, data[i])
	}
	on.streamEnd(1, data...)
	r.finish()
	u := servePage(t, &webSource{})
	var f struct {
		Request struct{ Body any }
		Events  []any
		More    bool `json:"pieces_more"`
		Why     *whyNot
	}
	u.get("/api/flows/5", &f)
	if fmt.Sprint(f.Request.Body) != fmt.Sprintf("map[size:%v truncated:true]", float64(maxShown+1)) || len(f.Events) != maxShownPieces || !f.More || f.Why != nil {
		t.Errorf("%v, %d events, %v, %+v", f.Request.Body, len(f.Events), f.More, f.Why)
	}
	u.get("/api/flows/3", &f)
	if f.Why == nil || f.Why.Text == "" {
		t.Errorf("%+v", f.Why)
	}
	resp := u.do("GET", "/api/flows/1/body/response", "")
	if p, _ := io.ReadAll(resp.Body); string(p) != binaryBody || resp.Header.Get("X-Trace-Type") != "text/plain" {
		t.Errorf("%q %v", p, resp.Header)
	}
	var events struct {
		Events []struct{ Data any }
		More   bool
		Next   int
	}
	u.get("/api/flows/5/events?after=495&limit=100", &events)
	if len(events.Events) != 6 || events.More || events.Next != maxShownPieces+1 || fmt.Sprint(events.Events[5].Data) != fmt.Sprint(maxShownPieces) {
		t.Errorf("%+v", events)
	}
}

// TestWebCommand: the command line.
func TestWebCommand(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	run := func(args ...string) (string, error) {
		cmd := newWebCommand()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetArgs(args)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		err := cmd.ExecuteContext(ctx)
		return out.String(), err
	}
	if out, err := run(); codeOf(err) != 1 || out != "" {
		t.Errorf("without a session: %q %v", out, err)
	}
	r := scripted(t, "one")
	r.finish()
	for _, args := range [][]string{{}, {"one"}, {r.id}, {r.path}, {"--addr", "[::1]:0"}, {"--addr", "localhost"}} {
		if out, err := run(args...); err != nil || !strings.Contains(out, "/#token=") {
			t.Errorf("%v: %q %v", args, out, err)
		}
	}
	for _, args := range [][]string{{"--addr", "0.0.0.0:0"}, {"--addr", "example.com"}, {"a", "b"}, {"--connect-to", "x"}, {"--prices", "/nowhere"}} {
		if out, err := run(args...); codeOf(err) != 2 || out != "" {
			t.Errorf("%v: %q, exit %d, %v", args, out, codeOf(err), err)
		}
	}
	if _, err := run("nobody"); codeOf(err) != 1 {
		t.Errorf("an unknown session: %v", err)
	}
	if _, err := os.Stat(r.path + "-wal"); err == nil {
		t.Error("a log is left beside the session")
	}
	_ = flow.Client
}
