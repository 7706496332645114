package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"trace/flow"
	"trace/llm"
)

// said is a message with one block.
func said(role, kind, id, name, text string) llm.Message {
	b := llm.Block{Kind: kind, ID: id, Name: name, Text: text}
	if kind == llm.ToolCall {
		b.Text, b.Input = "", json.RawMessage(text)
	}
	return llm.Message{Role: role, Blocks: []llm.Block{b}}
}

// TestToolLog: calls are joined with their results, by id, without, and where
// all have the same.
func TestToolLog(t *testing.T) {
	for _, ids := range []string{"%s", "%.0s", "call_1%.0s"} {
		id := func(s string) string { return fmt.Sprintf(ids, s) }
		poll := func(n int) llm.Message { return said("assistant", llm.ToolCall, id(fmt.Sprint("p", n)), "poll", `{}`) }
		result := func(n int) llm.Message {
			return said("tool", llm.ToolResult, id(fmt.Sprint("p", n)), "poll", fmt.Sprint("result ", n))
		}
		l := newToolLog()
		at := func(i int) *flow.Exchange {
			x := &flow.Exchange{ID: int64(i), Session: "S", Started: later(float64(1000 * i))}
			x.Ended = x.Started.Add(200 * time.Millisecond)
			return x
		}
		history := []llm.Message{said("user", llm.Text, "", "", "go")}
		for n := 1; n <= 3; n++ { // the same call thrice: each has its own result
			l.add(at(n), &llm.Call{Messages: history, Answer: []llm.Message{poll(n)}, Last: at(n).Started.Add(100 * time.Millisecond)})
			history = append(history[:len(history):len(history)], poll(n), result(n))
		}
		failed := result(3)
		failed.Blocks[0].IsError = true
		history[len(history)-1] = failed
		l.add(at(4), &llm.Call{Messages: history})
		if len(l.uses) != 3 {
			t.Fatalf("ids %q: %d uses", ids, len(l.uses))
		}
		for i, u := range l.uses {
			took, ok := u.took()
			if u.flow != int64(i+1) || u.returned != int64(i+2) || u.result.text != fmt.Sprint("result ", i+1) || !ok || took != 900*time.Millisecond || u.result.isError != (i == 2) {
				t.Errorf("ids %q, use %d: %+v, %q, %v", ids, i, u, u.result.text, took)
			}
		}
	}
}

// TestToolLogBegunLate: what was called before the record began, what never
// came back, and what the provider ran.
func TestToolLogBegunLate(t *testing.T) {
	same := newToolLog() // one id for all, of which three came before the record
	history := []llm.Message{}
	for n := range 4 {
		history = append(history, said("assistant", llm.ToolCall, "call_1", "poll", `{}`), said("tool", llm.ToolResult, "call_1", "", fmt.Sprint("result ", n)))
	}
	same.add(&flow.Exchange{ID: 1}, &llm.Call{Messages: history[:6], Answer: history[6:7]})
	same.add(&flow.Exchange{ID: 2}, &llm.Call{Messages: history})
	for i, u := range same.uses {
		if i > 3 || u.result == nil || u.result.text != fmt.Sprint("result ", i) || (u.flow == 1) != (i == 3) {
			t.Errorf("use %d: %+v", i, u)
		}
	}
	l := newToolLog()
	x := &flow.Exchange{ID: 5, Session: "S", Started: epoch, Ended: later(100)}
	search := llm.Block{Kind: llm.ToolCall, ID: "s1", Name: "web_search", Server: true, Input: json.RawMessage(`{"query":"x"}`)}
	found := llm.Block{Kind: llm.ToolResult, ID: "s1", Content: []llm.Block{{Kind: llm.Text, Text: "found"}, {Kind: llm.Image, Media: "image/png", Size: 2048}}}
	l.add(x, &llm.Call{
		Messages: []llm.Message{said("assistant", llm.ToolCall, "old", "Read", `{"path":"a"}`), said("user", llm.ToolResult, "old", "", "text"), said("user", llm.ToolResult, "lost", "", "orphan")},
		Answer:   []llm.Message{{Role: "assistant", Blocks: []llm.Block{search, found}}, said("assistant", llm.ToolCall, "open", "Bash", `{"command":"sleep"}`)},
	})
	inUTC(t)
	w, out := screen(80, false)
	if err := writeToolTable(w, l.uses, false); err != nil {
		t.Fatal(err)
	}
	golden(t, "tools-80", out.String())
	w, out = screen(0, false)
	if err := writeTools(w, l.uses); err != nil {
		t.Fatal(err)
	}
	golden(t, "tools-json", out.String())
}

func TestStats(t *testing.T) {
	inUTC(t)
	prices := &priceList{}
	if err := prices.parse([]byte(`{"source":"a test","date":"2026-01-02","models":{"claude-*":{"input":3,"cache_read":0.3,"cache_write":3.75,"output":15},"*":{"input":1}}}`)); err != nil {
		t.Fatal(err)
	}
	s := newStatistics(prices)
	var calls []*flow.Exchange
	for i := range int64(6) {
		d := wholeCall()
		if i == 1 {
			d = failedCall()
		}
		d.ID = i + 1
		c := summarize(&d.Exchange, llm.Read(d))
		c.Usage.CacheRead = 10000 * i
		c.Thread = &callThread{First: "1", Turn: int(i) + 1}
		if i == 1 {
			c.Thread = &callThread{First: "2", Turn: 1, Parent: "1", ParentName: "Task"}
		}
		d.LLM = c
		calls = append(calls, &d.Exchange)
		d.Ended = d.Ended.Add(time.Duration(i) * 100 * time.Millisecond)
	}
	s.names = namesOfAgents(calls)
	for _, x := range calls {
		s.add(x)
	}
	other := sampleFlows()
	for _, x := range other[1:] {
		s.add(x)
	}
	for name, width := range map[string]int{"stats-100": 100, "stats-60": 60, "stats-piped": 0} {
		w, out := screen(width, false)
		if err := writeStats(w, s); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
		if width > 0 {
			fits(t, out.String(), 100)
		}
	}
	w, out := screen(0, false)
	if err := writeStatsJSON(w, s); err != nil {
		t.Fatal(err)
	}
	golden(t, "stats-json", out.String())
}

func TestPercentile(t *testing.T) {
	var ds []time.Duration
	for i := range 10 {
		ds = append(ds, time.Duration(10-i))
	}
	for p, want := range map[int]time.Duration{0: 1, 1: 1, 10: 1, 11: 2, 50: 5, 90: 9, 99: 10, 100: 10} {
		if got := percentile(ds, p); got != want {
			t.Errorf("p%d: %d, want %d", p, got, want)
		}
	}
	if percentile(nil, 50) != -1 {
		t.Error("a percentile of nothing")
	}
}

func TestPrices(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                                  "unexpected EOF",
		`{"source":"s","date":"2026-01-02"}`: "no models",
		`{"date":"2026-01-02","models":{"a":{}}}`:                                  "no source",
		`{"source":"s","models":{"a":{}}}`:                                         "no date",
		`{"source":"s","date":"today","models":{"a":{}}}`:                          `date "today"`,
		`{"source":"s","date":"2026-01-02","models":{"a":{"input":-1}}}`:           "below zero",
		`{"source":"s","date":"2026-01-02","models":{"[":{}}}`:                     "syntax error",
		`{"source":"s","date":"2026-01-02","models":{"a":{"inputs":1}}}`:           `unknown field "inputs"`,
		`{"source":"s","date":"2026-01-02","models":{"a":{"input":1}}} {"more":1}`: "more than one",
	} {
		if err := new(priceList).parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	l := &priceList{}
	if err := l.parse([]byte(`{"source":"s","date":"2026-01-02","per":1000,"models":{"claude-*":{"input":1,"output":2},"claude-big*":{"input":10,"output":20,"cache_read":1},"openrouter/*":{"input":5,"output":5}}}`)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s    callSummary
		want float64
		ok   bool
	}{
		{callSummary{Model: "claude-x", Usage: &callUsage{Input: 1000, Output: 500}}, 2, true},
		{callSummary{Model: "claude-big-1", Usage: &callUsage{Input: 1000, CacheRead: 2000}}, 12, true},
		{callSummary{Model: "alias", Served: "claude-big-1", Usage: &callUsage{Output: 100}}, 2, true},
		{callSummary{Model: "claude-x", Usage: &callUsage{Input: 1000, CacheRead: 1}}, 0, false}, // no price for it
		{callSummary{Model: "a/b", Provider: "openrouter", Usage: &callUsage{Input: 100}}, 0.5, true},
		{callSummary{Model: "gpt", Usage: &callUsage{Input: 100}}, 0, false},
		{callSummary{Model: "claude-x"}, 0, false},
	} {
		if got, ok := l.cost(&c.s); ok != c.ok || got != c.want {
			t.Errorf("%+v: %v %v", c.s, got, ok)
		}
	}
}

// TestExampleOfPrices: the file that the documentation begins with is one, and
// says that it is no price list.
func TestExampleOfPrices(t *testing.T) {
	l, err := loadPrices("../../docs/prices.example.json")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(l.Source, "PLACEHOLDER") || len(l.Models) == 0 {
		t.Errorf("%+v", l)
	}
	if _, err := loadPrices("no/such/file"); err == nil {
		t.Error("no error for a file that is not there")
	}
}
