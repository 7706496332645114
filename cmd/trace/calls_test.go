package main

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"trace/flow"
	"trace/llm"
)

// sampleCall is a call of the Messages API: the request's body, and the events
// of the answer, one after the other at 400, 410, … ms.
func sampleCall(id int64, request string, events ...string) *flow.Detail {
	d := &flow.Detail{Exchange: *sampleFlow(id, "POST", "api.anthropic.com", "/v1/messages?beta=true", 200), RequestBody: []byte(request)}
	d.Request.Body.Size = int64(len(request))
	d.Response.ContentType = "text/event-stream"
	d.Response.Head.Fields = []flow.Field{{Name: "Content-Type", Value: "text/event-stream"}}
	d.Response.Head.Streaming, d.Response.Head.Framing = true, flow.FramingSSE
	for i, e := range events {
		var typed struct{ Type string }
		if err := json.Unmarshal([]byte(e), &typed); err != nil {
			panic(err)
		}
		at := later(400 + 10*float64(i))
		if i == 0 {
			d.FirstEvent = at
		}
		d.Events = append(d.Events, flow.Piece{Index: i, At: at, Side: flow.Server, Data: []byte("event: " + typed.Type + "\ndata: " + e + "\n\n")})
	}
	d.Response.Body.Events = int64(len(events))
	return d
}

const callStart = `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x-20260101","content":[],"usage":{"input_tokens":12,"cache_creation_input_tokens":512,"cache_read_input_tokens":48000,"output_tokens":1}}}`

// longText has so many lines that a terminal shows the first.
var longText = strings.Repeat(`line\n`, 100)

// conversation is a request with one of everything.
var conversation = `{"model":"claude-x","max_tokens":1024,"stream":true,"metadata":{"user_id":"user_a_account_b_session_0c5ba52f-3b13-4d38-a1c5-8cb8b9b9b001"},
"system":[{"type":"text","text":"You are an agent.\nBe good."},{"type":"text","text":"More.","cache_control":{"type":"ephemeral"}}],
"tools":[{"name":"Bash","description":"Runs a command.\nCarefully.","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web_search"}],
"messages":[
{"role":"user","content":[{"type":"text","text":"<system-reminder>\nToday is Monday.\n` + longText + `</system-reminder>"},{"type":"text","text":"What is in this picture?\u001b[2J\u202egnp"},
 {"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + strings.Repeat("QUJD", 4000) + `"}}]},
{"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"c2ln"},{"type":"text","text":"Let me look."},{"type":"tool_use","id":"toolu_1","name":"Bash","input":{"command":"ls -l","description":"List\nfiles","timeout":5}}]},
{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","is_error":true,"content":[{"type":"text","text":"` + longText + `"}]},
 {"type":"text","text":"<command-message>go</command-message>\n<command-name>/go</command-name>\n<command-args>on &amp; on</command-args>","cache_control":{"type":"ephemeral","ttl":"1h"}}]}]}`

func wholeCall() *flow.Detail {
	return sampleCall(1, conversation, callStart,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Well."}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"A cat.\n"}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"\u001b[31mred"}}`,
		`{"type":"content_block_stop","index":1}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_2","name":"Bash","input":{}}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"command\":\"true\"}"}}`,
		`{"type":"content_block_stop","index":2}`,
		`{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":210}}`,
		`{"type":"message_stop"}`)
}

func failedCall() *flow.Detail {
	return sampleCall(2, `{"model":"claude-x","max_tokens":1,"messages":[{"role":"user","content":"Hi"}]}`, callStart,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}`,
		`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)
}

func TestShowCall(t *testing.T) {
	inUTC(t)
	first := llm.Read(wholeCall())
	if len(first) != 1 {
		t.Fatalf("%d calls", len(first))
	}
	for _, c := range []struct {
		name  string
		d     *flow.Detail
		width int
		color bool
		full  bool
		early *earlier
	}{
		{"call-tty", wholeCall(), 80, false, false, nil},
		{"call-color", wholeCall(), 100, true, false, nil},
		{"call-piped", wholeCall(), 0, false, false, nil},
		{"call-full", wholeCall(), 80, false, true, nil},
		{"call-follows", wholeCall(), 80, false, false, &earlier{name: "7", call: first[0], shared: 2}},
		{"call-repeats", wholeCall(), 80, false, false, &earlier{name: "7", call: first[0], shared: 3}},
		{"call-failed", failedCall(), 80, false, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, out := screen(c.width, c.color)
			v := &callView{detail: c.d, calls: llm.Read(c.d), before: c.early, full: c.full}
			if c.early != nil {
				v.thread = &callThread{First: "1", Turn: 3, Previous: "7"}
			}
			if err := v.write(w); err != nil {
				t.Fatal(err)
			}
			golden(t, "show-"+c.name, out.String())
			if c.width > 0 && (strings.ContainsAny(out.String(), "\u202e\r") || strings.Contains(out.String(), "\x1b[2J")) {
				t.Error("captured text reached the terminal unescaped")
			}
		})
	}
}

func TestPromptAndAnswer(t *testing.T) {
	show := func(o showOptions, d *flow.Detail, width int) (string, string, error) {
		w, out := screen(width, false)
		var said strings.Builder
		err := o.showPart(w, &said, nil, d)
		return out.String(), said.String(), err
	}
	d := wholeCall()
	if got, _, err := show(showOptions{prompt: true}, d, 0); err != nil || got != "[slash-command] /go on &amp; on\n" {
		t.Errorf("%q, %v", got, err)
	}
	if got, _, err := show(showOptions{answer: true}, d, 0); err != nil || got != "A cat.\n\x1b[31mred" {
		t.Errorf("%q, %v", got, err)
	}
	if got, _, err := show(showOptions{answer: true}, d, 80); err != nil || got != "A cat.\n\\x1b[31mred\n" {
		t.Errorf("on a terminal: %q, %v", got, err)
	}
	if got, said, err := show(showOptions{answer: true}, failedCall(), 0); err != nil || got != "Hel" || !strings.Contains(said, "cut off") {
		t.Errorf("%q, %q, %v", got, said, err)
	}
	if _, _, err := show(showOptions{answer: true}, sampleCall(1, `{"model":"m","max_tokens":1,"messages":[]}`), 0); err == nil || !strings.Contains(err.Error(), "has no answer") {
		t.Errorf("%v", err)
	}
	if _, _, err := show(showOptions{prompt: true}, sampleCall(1, `{"n":1}`), 0); err == nil || !strings.Contains(err.Error(), "no call to a language model") {
		t.Errorf("%v", err)
	}
	if _, _, err := show(showOptions{prompt: true}, sampleCall(1, `{"model":"m","max_tokens":1,"messages":[]}`), 0); err == nil || !strings.Contains(err.Error(), "no prompt") {
		t.Errorf("%v", err)
	}
}

func TestLastPrompt(t *testing.T) {
	user := func(blocks ...llm.Block) llm.Message { return llm.Message{Role: "user", Blocks: blocks} }
	text := func(s string) llm.Block { return llm.Block{Kind: llm.Text, Text: s} }
	result := llm.Block{Kind: llm.ToolResult, Content: []llm.Block{text("x")}}
	assistant := llm.Message{Role: "assistant", Blocks: []llm.Block{text("ok")}}
	const reminder = "<system-reminder>\nno\n</system-reminder>"
	for i, c := range []struct {
		ms   []llm.Message
		want int
	}{
		{nil, -1},
		{[]llm.Message{assistant}, -1},
		{[]llm.Message{user(text("a")), assistant, user(text("b"))}, 2},
		{[]llm.Message{user(text("a")), assistant, user(result)}, 0},
		{[]llm.Message{user(text("a")), assistant, user(result, text(reminder))}, 0},
		{[]llm.Message{user(text("a")), assistant, user(result, text(reminder+"\nand now?"))}, 2},
		{[]llm.Message{user(text("a"), text("<system-reminder> is a tag"))}, 0},
		{[]llm.Message{user(text(reminder)), user(text("a")), user(text(reminder))}, 1},
		{[]llm.Message{user(text(reminder)), assistant}, 0},
		{[]llm.Message{user(llm.Block{Kind: llm.Image}), assistant, user(result)}, 0},
		{[]llm.Message{user(text("<command-args>b</command-args><command-name>/a</command-name>"))}, 0},
	} {
		if got := lastPrompt(c.ms); got != c.want {
			t.Errorf("%d: %d, want %d", i, got, c.want)
		}
	}
}

func TestCallJSON(t *testing.T) {
	d := wholeCall()
	calls := llm.Read(d)
	d.LLM = summarize(&d.Exchange, calls)
	text, err := d.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if text, err = withMembers(text, "call", toJSONCall(&d.Exchange, calls[0])); err != nil {
		t.Fatal(err)
	}
	var v struct{ LLM, Call any }
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	pretty, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "call-json", string(pretty)+"\n")
}

// TestSummaryComesBack: what stands in a file is what was put there; what
// another version wrote is not taken.
func TestSummaryComesBack(t *testing.T) {
	d := wholeCall()
	s := summarize(&d.Exchange, llm.Read(d))
	doc, err := encodeSummary(s)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := decodeSummary(doc); !ok || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v, want %+v", got, s)
	}
	doc, err = encodeSummary(nil)
	if got, ok := decodeSummary(doc); err != nil || !ok || got != nil {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	for _, doc := range []string{"", "{", `{"v":2,"call":{"model":"x"}}`, "\x00\xff\x00", string(doc[:len(doc)-2]), string(deflated(t, `{"v":99,"call":{"model":"x"}}`))} {
		if _, ok := decodeSummary([]byte(doc)); ok {
			t.Errorf("%q was taken", doc)
		}
	}
}

func deflated(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := flate.NewWriterDict(&b, -1, summaryWords)
	if err != nil {
		t.Fatal(err)
	}
	z.Write([]byte(text))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestListOfCalls: calls to language models have columns of their own.
func TestListOfCalls(t *testing.T) {
	inUTC(t)
	var calls []*flow.Exchange
	for _, d := range []*flow.Detail{wholeCall(), failedCall()} {
		d.LLM = summarize(&d.Exchange, llm.Read(d))
		calls = append(calls, &d.Exchange)
	}
	mixed := append([]*flow.Exchange{sampleFlow(9, "GET", "example.org", "/", 200)}, calls...)
	for name, c := range map[string]struct {
		xs    []*flow.Exchange
		width int
	}{"list-calls-60": {calls, 60}, "list-calls-80": {calls, 80}, "list-calls-120": {calls, 120}, "list-calls-piped": {calls, 0}, "list-mixed-100": {mixed, 100}, "list-mixed-piped": {mixed, 0}} {
		w, out := screen(c.width, false)
		if err := writeFlows(w, &choice{flows: c.xs}, false); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
		if c.width > 0 {
			fits(t, out.String(), c.width)
		}
	}
}
