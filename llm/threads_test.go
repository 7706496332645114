package llm

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"trace/flow"
)

// A talk is a conversation of a client with the Messages API that grows.
type talk struct {
	session  string
	system   []any
	tools    []any
	messages []any
	model    string
}

type fields = map[string]any

func newTalk(session, prompt string) *talk {
	return &talk{session: session, model: "claude-x",
		system:   []any{fields{"type": "text", "text": "You are an agent that edits code and runs commands."}},
		tools:    []any{fields{"name": "Bash", "input_schema": fields{"type": "object"}}, fields{"name": "Task", "input_schema": fields{"type": "object"}}},
		messages: []any{fields{"role": "user", "content": prompt}}}
}

var talkIDs int

// ask makes the call that the client would make now, with the answer's blocks;
// none means that it failed.
func (k *talk) ask(answer ...fields) *Call {
	talkIDs++
	body := fields{"model": k.model, "max_tokens": 99, "system": k.system, "messages": k.messages, "metadata": fields{"user_id": "user_a_account_b_session_" + k.session}}
	if k.session == "" {
		delete(body, "metadata")
	}
	if k.tools != nil {
		body["tools"] = k.tools
	}
	request, _ := json.Marshal(body)
	d := &flow.Detail{Exchange: flow.Exchange{State: flow.StateComplete, Started: began}, RequestBody: request}
	d.Request = &flow.Part{Head: &flow.Head{Method: "POST", Host: "api.anthropic.com", Path: "/v1/messages"}}
	d.Response = &flow.Part{Head: &flow.Head{Status: 200}}
	if len(answer) == 0 {
		d.Response.Head.Status = 529
		d.ResponseBody = []byte(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)
	} else {
		d.ResponseBody, _ = json.Marshal(fields{"id": fmt.Sprint("msg_", talkIDs), "type": "message", "role": "assistant", "model": k.model, "content": answer, "stop_reason": "end_turn",
			"usage": fields{"input_tokens": 10, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 5}})
	}
	return Read(d)[0]
}

// turn asks, and goes on with the answer and what the user says then.
func (k *talk) turn(user any, answer ...fields) *Call {
	c := k.ask(answer...)
	k.messages = append(k.messages[:len(k.messages):len(k.messages)], fields{"role": "assistant", "content": answer}, fields{"role": "user", "content": user})
	return c
}

func said(s string) fields { return fields{"type": "text", "text": s} }
func thought(s string) fields {
	return fields{"type": "thinking", "thinking": s, "signature": "c2ln"}
}
func use(id, name string, input fields) fields {
	return fields{"type": "tool_use", "id": id, "name": name, "input": input}
}
func result(id, s string) []fields {
	return []fields{{"type": "tool_result", "tool_use_id": id, "content": s}}
}

// A tester adds calls and names them by the order.
type tester struct {
	Threads
	n int64
}

func (t *tester) add(c *Call) Link {
	t.n++
	at := began.Add(time.Duration(t.n) * time.Second)
	return t.Add(Turn{Ref: Ref{Flow: t.n}, Started: at, Ended: at.Add(time.Second / 2), Process: "p", Call: c})
}

func want(t *testing.T, l Link, conversation int64, turn int, previous int64, shared int) {
	t.Helper()
	if l.Conversation.Flow != conversation || l.Turn != turn || l.Previous.Flow != previous || l.Shared != shared {
		t.Errorf("call %d: conversation %d turn %d previous %d shared %d, want %d %d %d %d", l.Flow,
			l.Conversation.Flow, l.Turn, l.Previous.Flow, l.Shared, conversation, turn, previous, shared)
	}
}

func TestThreadsFollowAConversation(t *testing.T) {
	for _, session := range []string{"s1", ""} {
		var th tester
		k := newTalk(session, "Fix the bug in parse.go please")
		want(t, th.add(k.turn(result("t1", "package parse"), thought("Hm"), said("I look."), use("t1", "Bash", fields{"command": "cat parse.go", "n": 1}))), 1, 1, 0, 0)
		// A side question with the same text, without tools.
		title := newTalk(session, "Fix the bug in parse.go please")
		title.system, title.tools = []any{said("Write a title for this conversation.")}, nil
		want(t, th.add(title.ask(said("Fixing parse.go"))), 2, 1, 0, 0)
		// The mark moves to the newest message.
		k.messages[0] = fields{"role": "user", "content": []fields{{"type": "text", "text": "Fix the bug in parse.go please"}}}
		k.messages[2].(fields)["content"].([]fields)[0]["cache_control"] = fields{"type": "ephemeral"}
		l := th.add(k.turn("Thanks, now the tests.", said("The bug is in line 7; I fixed it.")))
		want(t, l, 1, 2, 1, 2)
		if l.Edited {
			t.Error("a moved mark is no edit")
		}
		delete(k.messages[2].(fields)["content"].([]fields)[0], "cache_control")
		// The thinking of earlier turns is dropped.
		k.messages[1] = fields{"role": "assistant", "content": k.messages[1].(fields)["content"].([]fields)[1:]}
		l = th.add(k.turn("Bye", said("All tests pass now, they ran twice.")))
		want(t, l, 1, 3, 3, 4)
		if l.Edited {
			t.Error("dropped thinking is no edit")
		}
		// An old result is cleared.
		k.messages[2] = fields{"role": "user", "content": result("t1", "[cleared]")}
		l = th.add(k.turn("", said("Goodbye then, and good luck.")))
		want(t, l, 1, 4, 4, 2)
		if !l.Edited {
			t.Error("a changed result is an edit")
		}
	}
}

func TestThreadsLinkRetries(t *testing.T) {
	var th tester
	k := newTalk("s", "One question only")
	want(t, th.add(k.ask()), 1, 1, 0, 0)
	l := th.add(k.ask())
	want(t, l, 1, 1, 0, 0)
	if l.Retry.Flow != 1 {
		t.Error("retry of", l.Retry)
	}
	l = th.add(k.turn("More", said("An answer at last.")))
	want(t, l, 1, 1, 0, 0)
	if l.Retry.Flow != 2 {
		t.Error("retry of", l.Retry)
	}
	want(t, th.add(k.ask()), 1, 2, 3, 2)
	l = th.add(k.turn("And more", said("Here is more of it.")))
	want(t, l, 1, 2, 3, 2)
	if l.Retry.Flow != 4 {
		t.Error("retry of", l.Retry)
	}
	want(t, th.add(k.ask(said("Done"))), 1, 3, 5, 4)
	// The same question once more, after an answer, is another conversation.
	l = th.add(newTalk("s", "One question only").ask(said("An answer at last.")))
	if want(t, l, 7, 1, 0, 0); !l.Retry.IsZero() {
		t.Error("retry of", l.Retry)
	}
	// Another session may not be joined by chance.
	want(t, th.add(newTalk("other", "One question only").ask()), 8, 1, 0, 0)
}

func TestThreadsFollowRewindsAndForks(t *testing.T) {
	var th tester
	k := newTalk("s", "Start with this")
	th.add(k.turn("then that", said("First answer, long enough.")))
	back := *k
	th.add(k.turn("and so on", said("Second answer, long enough.")))
	th.add(k.turn("end", said("Third answer, long enough.")))
	back.messages = append(back.messages[:2:2], fields{"role": "user", "content": "No, something else"})
	l := th.add(back.turn("go", said("Other second answer.")))
	if want(t, l, 1, 4, 1, 2); l.Edited {
		t.Error("going back is no edit")
	}
	want(t, th.add(back.turn("go", said("Other third answer."))), 1, 5, 4, 4)
	want(t, th.add(k.turn("go", said("Fourth answer, long enough."))), 1, 6, 3, 6)
}

func TestThreadsFindSubAgents(t *testing.T) {
	var th tester
	k := newTalk("s", "Research three things")
	long := "Search the web for the history of tea.\nReport the five most important dates you find."
	main := k.turn(append(result("a", "dates"), append(result("b", "x"), result("c", "y")...)...),
		use("a", "Task", fields{"description": "Tea", "prompt": long, "subagent_type": "general"}),
		use("b", "Task", fields{"prompt": "Go"}), use("c", "Task", fields{"prompt": "Go"}))
	th.add(main)
	sub := func(prompt string) *talk {
		s := newTalk("s", "")
		s.system = []any{said("You are a sub-agent.")}
		s.messages[0] = fields{"role": "user", "content": []fields{said("<system-reminder>\nToday is Friday.\n</system-reminder>"), said(prompt)}}
		return s
	}
	tea, b, c := sub("Task:\n"+long+"\n"), sub("Go"), sub("Go")
	l := th.add(tea.turn(result("t", "1610"), use("t", "Bash", fields{"command": "curl tea"})))
	if want(t, l, 2, 1, 0, 0); l.Parent.Flow != 1 || l.ParentTool != "a" || l.ParentName != "Task" {
		t.Errorf("parent %+v", l)
	}
	lb, lc := th.add(b.turn("x", said("b says this and that"))), th.add(c.turn("x", said("c says something else")))
	if lb.Parent.Flow != 1 || lb.ParentTool != "b" || lc.Parent.Flow != 1 || lc.ParentTool != "c" {
		t.Errorf("parents %+v %+v", lb, lc)
	}
	want(t, th.add(tea.ask(said("1610 and 1773"))), 2, 2, 2, 2)
	want(t, th.add(c.ask(said("ok"))), 4, 2, 4, 2)
	want(t, th.add(b.ask(said("ok"))), 3, 2, 3, 2)
	l = th.add(k.ask(said("All done")))
	if want(t, l, 1, 2, 1, 2); !l.Parent.IsZero() {
		t.Error("the main conversation has a parent")
	}
}

func TestThreadsFollowCompaction(t *testing.T) {
	summary := "1. The user wants the parser fixed and tested.\n2. parse.go line 7 had an off-by-one error, fixed.\n3. Next: run the benchmarks and report them."
	var th tester
	k := newTalk("s", "Fix the parser")
	th.add(k.turn("Summarise what happened.", said("Fixed the parser in line 7.")))
	want(t, th.add(k.turn("", said("<summary>\n"+summary+"\n</summary>"))), 1, 2, 1, 2)
	// Asking for a title of it is no compaction.
	title := newTalk("s", "Write a title for:\n"+summary)
	title.tools = nil
	want(t, th.add(title.ask(said("Parser"))), 3, 1, 0, 0)
	fresh := newTalk("s", "This session is continued from a previous one that ran out of context:\n"+summary+"\nGo on.")
	l := th.add(fresh.turn("ok", said("Running the benchmarks.")))
	if want(t, l, 1, 3, 2, 0); !l.Compacted {
		t.Error("not seen as compacted")
	}
	want(t, th.add(fresh.ask(said("They are fine."))), 1, 4, 4, 2)

	// The summary was asked for by a request of its own kind.
	k = newTalk("s2", "Write the documentation of everything")
	th.add(k.turn("go on", said("I have written the first chapter.")))
	side := newTalk("s2", "Summarise this transcript: user: Write … assistant: I have …")
	side.tools = nil
	th.add(side.ask(said(strings.ReplaceAll(summary, "parser", "manual"))))
	fresh = newTalk("s2", "Earlier:\n"+strings.ReplaceAll(summary, "parser", "manual"))
	l = th.add(fresh.ask(said("ok")))
	if want(t, l, 6, 2, 6, 0); !l.Compacted {
		t.Error("not seen as compacted")
	}
}

func TestThreadsFollowPreviousIDs(t *testing.T) {
	var th tester
	text := func(role, s string) Message {
		return Message{Role: role, Blocks: []Block{{Kind: Text, Text: s}}}
	}
	for i := range int64(5) {
		c := &Call{API: Responses, ID: fmt.Sprint("resp_", i), Messages: []Message{text("user", fmt.Sprint("question ", i))},
			Answer: []Message{text("assistant", fmt.Sprint("answer ", i))}}
		if i > 0 {
			c.Previous = fmt.Sprint("resp_", i-1)
		}
		want(t, th.add(c), 1, int(i)+1, i, 0)
	}
	// The same without ids, all of it repeated.
	c := &Call{API: Responses}
	for i := range 5 {
		c.Messages = append(c.Messages, text("user", fmt.Sprint("question ", i)), text("assistant", fmt.Sprint("answer ", i)))
	}
	c.Messages = append(c.Messages, text("user", "last question"))
	if l := th.add(c); l.Previous.Flow != 5 || l.Turn != 6 {
		t.Errorf("%+v", l)
	}
	// An id that nobody knows.
	want(t, th.add(&Call{API: Responses, Previous: "resp_x", Messages: []Message{text("user", "q")}}), 7, 1, 0, 0)
}

func TestThreadsLearnLater(t *testing.T) {
	var th Threads
	k := newTalk("s", "A question that takes time")
	c := k.turn("next", said("Here is my late answer."))
	open := *c
	open.Answer, open.Partial = nil, true
	first := Turn{Ref: Ref{Flow: 1}, Started: began, Call: &open}
	th.Add(first)
	first.Call, first.Ended = c, began.Add(time.Second)
	th.Add(first)
	l := th.Add(Turn{Ref: Ref{Flow: 2}, Started: began.Add(2 * time.Second), Call: k.ask(said("x"))})
	want(t, l, 1, 2, 1, 2)
	if len(th.Links()) != 2 {
		t.Error("links", th.Links())
	}
	if l, ok := th.Link(Ref{Flow: 2}); !ok || l.Turn != 2 {
		t.Error(l, ok)
	}
}

func TestThreadsTakeAnything(t *testing.T) {
	var th tester
	for range 3 {
		th.add(&Call{})
		th.add(&Call{API: CountTokens, Messages: []Message{{}}})
		th.add(&Call{API: Messages, Messages: []Message{{}, {Blocks: []Block{{}}}}, Answer: []Message{{}}})
	}
	if l := th.Links(); len(l) != 9 {
		t.Error(l)
	}
}

// The work is to grow with what is added: hundreds of calls of hundreds of
// messages.
func TestThreadsAreQuick(t *testing.T) {
	var th Threads
	calls := longTalk(500, 300)
	began := processorTime(t)
	for i, c := range calls {
		l := th.Add(Turn{Ref: Ref{Flow: int64(i + 1)}, Call: c})
		if l.Turn != i+1 {
			t.Fatalf("call %d: %+v", i, l)
		}
	}
	took := processorTime(t) - began
	t.Log(took)
	if took > 2*time.Second {
		t.Error(took)
	}
}

// processorTime is steadier than the clock where others work too.
func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// longTalk makes calls of one conversation that has so many messages when they
// begin.
func longTalk(calls, messages int) []*Call {
	text := func(role string, i int) Message {
		return Message{Role: role, Blocks: []Block{{Kind: Text, Text: fmt.Sprint(role, i, strings.Repeat(" and so on", 200))}}}
	}
	var list []*Call
	history := []Message{}
	for i := range messages {
		history = append(history, text([]string{"user", "assistant"}[i%2], i))
	}
	for i := range calls {
		history = append(history[:len(history):len(history)], text("user", messages+i))
		c := &Call{API: Messages, Session: "s", Messages: history, Answer: []Message{text("assistant", messages+i)}}
		history = append(history, c.Answer[0])

		list = append(list, c)
	}
	return list
}

// What a conversation costs is not to grow with the square of its turns.
func TestThreadsKeepLittle(t *testing.T) {
	calls := longTalk(500, 300)
	var before, after runtime.MemStats
	var th Threads
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i, c := range calls {
		th.Add(Turn{Ref: Ref{Flow: int64(i + 1)}, Call: c})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 1<<20 {
		t.Errorf("%d bytes are kept of %d calls", kept, len(calls))
	} else {
		t.Log(kept)
	}
	runtime.KeepAlive(calls)
	runtime.KeepAlive(&th)
}
