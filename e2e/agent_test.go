package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

const modelHost = "api.anthropic.com"

// modelTurns are what the server streams at each turn of the agent: the blocks
// of the answer, why it stops, and what was read from and written to the cache.
var modelTurns = []struct {
	events, stop string
	read, wrote  int
}{
	{`content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"I need the tool."}}
content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}
content_block_stop {"type":"content_block_stop","index":0}
content_block_start {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}
content_block_delta {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Let me "}}
content_block_delta {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"check."}}
content_block_stop {"type":"content_block_stop","index":1}
content_block_start {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_01","name":"get_time","input":{}}}
content_block_delta {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"ci"}}
content_block_delta {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"ty\": \"Oslo\"}"}}
content_block_stop {"type":"content_block_stop","index":2}`, "tool_use", 0, 400},
	{`content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"It is noon\nin Oslo."}}
content_block_stop {"type":"content_block_stop","index":0}`, "end_turn", 400, 60},
	{`content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"It is noon "}}
content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"there too."}}
content_block_stop {"type":"content_block_stop","index":0}`, "end_turn", 0, 500},
}

// model answers as the Messages API does. The turn is told by the number of
// messages.
func model(w http.ResponseWriter, r *http.Request) {
	var body struct{ Messages []json.RawMessage }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n := len(body.Messages) / 2
	if r.URL.Path != "/v1/messages" || n >= len(modelTurns) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	turn := modelTurns[n]
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	say := func(event, data string) {
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
		w.(http.Flusher).Flush()
	}
	say("message_start", fmt.Sprintf(`{"type":"message_start","message":{"id":"msg_%d","type":"message","role":"assistant","model":"claude-test-1-20260101","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,"output_tokens":1}}}`, n, turn.wrote, turn.read))
	for line := range strings.SplitSeq(turn.events, "\n") {
		event, data, _ := strings.Cut(line, " ")
		say(event, data)
	}
	say("message_delta", fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":%q,"stop_sequence":null},"usage":{"output_tokens":%d}}`, turn.stop, 20+n))
	say("message_stop", `{"type":"message_stop"}`)
}

// call is what `flows list --json` says of a call to a language model.
type call struct {
	ID  string
	LLM *struct {
		Provider, API, Model string
		Stop                 string `json:"stop_reason"`
		Usage                struct {
			Input, Output, Reasoning int64
			CacheRead                int64 `json:"cache_read"`
			CacheWrite               int64 `json:"cache_write"`
		}
	}
}

// recordAgent records an agent of three turns as session "agent". flags lead
// to the server.
func recordAgent(t *testing.T) (j *job, flags []string) {
	t.Helper()
	need(t, "python3")
	script, err := os.ReadFile("testdata/agent/agent.py")
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t, "models")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{modelHost}, nil)}}, model)
	j = newJob(t, both()[0])
	flags = []string{"--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", modelHost + ":443:127.0.0.1:" + o.port}
	r := j.must(j.inspect(append(flags, "--session", "agent", "--max-body", "64"),
		"python3", j.file("agent.py", string(script)), "https://"+modelHost), 0)
	if strings.TrimSpace(r.stdout) != "It is noon there too." {
		t.Fatalf("the agent says %q", r.stdout)
	}
	return j, flags
}

// TestAgent records an agent of three turns and asks the record the questions
// that people have.
func TestAgent(t *testing.T) {
	j, _ := recordAgent(t)
	checkCalls(t, j)
	ask := func(want string, args ...string) {
		t.Helper()
		if got := j.must(j.trace(append([]string{"flows"}, args...)...), 0).stdout; got != want {
			t.Errorf("flows %s:\n%s\nwant:\n%s", strings.Join(args, " "), got, want)
		}
	}
	ids := callIDs(t, j)
	ask("Let me check.", "show", ids[0], "--answer")
	ask("It is noon\nin Oslo.", "show", ids[1], "--answer")
	ask("[system-reminder]\nBe brief.\n[/system-reminder]\nWhat time is it in Oslo?\n", "show", ids[1], "--prompt")
	ask("[slash-command] /again Bergen\nAnd in Bergen?\n", "show", ids[2], "--prompt")
	shows := func(text string, args ...string) {
		t.Helper()
		if got := j.must(j.trace(append([]string{"flows"}, args...)...), 0).stdout; !strings.Contains(got, text) {
			t.Errorf("flows %s: no %q in\n%s", strings.Join(args, " "), text, got)
		}
	}
	shows("→ get_time toolu_01\n        city: Oslo", "show", ids[0])
	shows("12:00 in Oslo", "show", ids[1])
	shows("claude-test-1", "list")
	shows("… 4 messages as in "+ids[1]+"\n  user\n    [slash-command] /again Bergen\n    And in Bergen?", "show", ids[2])
	shows("You are an agent that tells the time. You are", "show", ids[2], "--full")
	shows("3 calls to language models\n1396 tokens in (36 new, 400 from cache: 29%, 960 to cache), 63 out", "stats")
	shows("conversation "+ids[0], "stats")
	checkTools(t, j, ids)
	checkCache(t, j, ids)
	shows("the requests are the same", "diff", "--session", "agent", "--against", "agent")
}

// checkTools: the one tool call, with its result.
func checkTools(t *testing.T, j *job, ids []string) {
	t.Helper()
	var tools []struct {
		ID, Name, Flow string
		Returned       string `json:"result_flow"`
		Input          struct{ City string }
		Size           int64    `json:"result_size"`
		IsError        bool     `json:"is_error"`
		Took           *float64 `json:"duration_ms"`
		Result         string
	}
	if err := json.Unmarshal([]byte(j.must(j.trace("flows", "tools", "--json"), 0).stdout), &tools); err != nil {
		t.Fatal(err)
	}
	if len(tools) != 1 {
		t.Fatalf("%+v", tools)
	}
	u := tools[0]
	if u.ID != "toolu_01" || u.Name != "get_time" || u.Flow != ids[0] || u.Returned != ids[1] || u.Input.City != "Oslo" || u.Result != "12:00 in Oslo" || u.Size != 13 || u.IsError || u.Took == nil {
		t.Errorf("%+v", u)
	}
}

// checkCache: what changed from turn to turn, and what that did to the cache.
func checkCache(t *testing.T, j *job, ids []string) {
	t.Helper()
	var diffs []struct {
		A, B    struct{ ID string }
		Changes []struct{ Area, What, Old, New string }
		Cache   struct {
			Result string
			Break  int
		}
		Appended []struct{ Role string }
	}
	if err := json.Unmarshal([]byte(j.must(j.trace("flows", "diff", "--json"), 0).stdout), &diffs); err != nil {
		t.Fatal(err)
	}
	if len(diffs) != 2 || diffs[0].A.ID != ids[0] || diffs[0].B.ID != ids[1] || diffs[1].A.ID != ids[1] || diffs[1].B.ID != ids[2] {
		t.Fatalf("%+v", diffs)
	}
	if d := diffs[0]; d.Cache.Result != "hit" || d.Cache.Break != -1 || len(d.Appended) != 2 || d.Appended[0].Role != "assistant" {
		t.Errorf("%+v", d)
	}
	d := diffs[1]
	if d.Cache.Result != "miss" || d.Cache.Break < 0 || d.Cache.Break >= len(d.Changes) || len(d.Appended) != 2 {
		t.Fatalf("%+v", d)
	}
	if c := d.Changes[d.Cache.Break]; c.Area != "system" || c.What != "changed" || c.Old != "Today is Monday." || c.New != "Today is Tuesday." {
		t.Errorf("%+v", c)
	}
}

func callIDs(t *testing.T, j *job) (ids []string) {
	t.Helper()
	for _, row := range j.flows("--llm") {
		ids = append(ids, row.ID)
	}
	if len(ids) != len(modelTurns) {
		t.Fatalf("calls %v, want %d", ids, len(modelTurns))
	}
	return ids
}

// checkCalls compares the llm objects with what the server said.
func checkCalls(t *testing.T, j *job) {
	t.Helper()
	var calls []call
	out := j.must(j.trace("flows", "list", "--json"), 0).stdout
	if err := json.Unmarshal([]byte(out), &calls); err != nil {
		t.Fatal(err)
	}
	calls = slices.DeleteFunc(calls, func(c call) bool { return c.LLM == nil })
	if len(calls) != len(modelTurns) {
		t.Fatalf("%d calls in %s", len(calls), out)
	}
	for i, c := range calls {
		l, turn := c.LLM, modelTurns[i]
		if l.Provider != "anthropic" || l.API != "messages" || l.Model != "claude-test-1" || l.Stop != turn.stop || l.Usage.Input != 12 ||
			l.Usage.CacheRead != int64(turn.read) || l.Usage.CacheWrite != int64(turn.wrote) || l.Usage.Output != int64(20+i) {
			t.Errorf("turn %d: %+v", i+1, l)
		}
	}
}
