package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"trace/flow"
	"trace/llm"
)

// A toolUse is a tool call with its result, as far as both passed.
type toolUse struct {
	session  string
	flow     int64 // whose answer called the tool; 0: that was before the record
	returned int64 // whose request brought the result; 0: none did
	id       string
	name     string
	input    string // JSON, or what was sent instead
	server   bool   // the provider ran it
	called   time.Time
	came     time.Time // zero: no result, or the same answer had it
	result   *toolResult
}

// A toolResult is what came back. It shares no memory with the call that it was
// read from: those are large.
type toolResult struct {
	text    string
	size    int64 // with images as they are
	isError bool
}

func newToolResult(b *llm.Block) *toolResult {
	var media int64
	size := blockSize(b, &media)
	return &toolResult{strings.Clone(strings.Join(appendText(nil, b), "\n")), size + media, b.IsError}
}

// A toolLog joins the tool calls of a session with their results: by their ids,
// and where a provider has none by what was called, in order. Some servers give
// the same id (call_1) in every answer: a call in an answer is always a new one.
type toolLog struct {
	uses []*toolUse
	byID map[string][]*toolUse // as they came
	same map[string][]*toolUse // without ids, by conversation, name and input
}

func newToolLog() *toolLog {
	return &toolLog{byID: map[string][]*toolUse{}, same: map[string][]*toolUse{}}
}

// add takes in a call to a language model. Calls are added as they began.
func (l *toolLog) add(x *flow.Exchange, c *llm.Call) {
	l.request(x, c)
	called := c.Last
	if called.IsZero() {
		called = x.Ended
	}
	for i := range c.Answer {
		for j := range c.Answer[i].Blocks {
			switch b := &c.Answer[i].Blocks[j]; b.Kind {
			case llm.ToolCall:
				u := l.open(x, c, b)
				u.flow, u.called = x.ID, called
			case llm.ToolResult: // of a tool that the provider runs
				if u := l.newest(b.ID); u != nil && u.result == nil {
					u.result, u.returned = newToolResult(b), x.ID
				}
			}
		}
	}
}

// request takes in the calls and results that a request repeats, or brings.
func (l *toolLog) request(x *flow.Exchange, c *llm.Call) {
	seen := map[string]int{} // calls without an id, so far
	var waiting []*toolUse   // those among them whose results follow
	left, opened := l.repeated(c), map[string]int{}
	named := map[string]*toolUse{} // those with an id, the last of each
	for i := range c.Messages {
		for j := range c.Messages[i].Blocks {
			b := &c.Messages[i].Blocks[j]
			switch b.Kind {
			case llm.ToolCall:
				if b.ID != "" {
					u := l.named(b, left[b.ID], opened[b.ID])
					if left[b.ID]--; u == nil {
						u = l.open(x, c, b)
						l.earlier(u, opened[b.ID])
						opened[b.ID]++
					}
					named[b.ID] = u
					continue
				}
				key := sameKey(c, b)
				list := l.same[key]
				if seen[key] == len(list) {
					list = append(list, l.open(x, c, b))
				}
				waiting = append(waiting, list[seen[key]])
				seen[key]++
			case llm.ToolResult:
				u := cmp.Or(named[b.ID], l.newest(b.ID))
				if b.ID == "" {
					u, waiting = takeUse(waiting, b.Name)
				}
				if u == nil {
					u = l.open(x, c, b)
					u.input = ""
				}
				if u.result == nil {
					u.result, u.returned = newToolResult(b), x.ID
					if !u.called.IsZero() {
						u.came = x.Started
					}
				}
			}
		}
	}
}

// repeated counts the calls of each id that a request repeats.
func (l *toolLog) repeated(c *llm.Call) map[string]int {
	n := map[string]int{}
	for i := range c.Messages {
		for j := range c.Messages[i].Blocks {
			if b := &c.Messages[i].Blocks[j]; b.Kind == llm.ToolCall && b.ID != "" {
				n[b.ID]++
			}
		}
	}
	return n
}

// named returns the use with the id of b that is the nth from the last; of
// several the nearest one before which was called so. nil if there is none:
// opened are those that the same request has begun.
func (l *toolLog) named(b *llm.Block, n, opened int) *toolUse {
	list := l.byID[b.ID]
	if n > len(list)-opened {
		return nil
	}
	at, input := len(list)-n, inputText(b)
	for i := at; i >= 0; i-- {
		if list[i].name == b.Name && list[i].input == input {
			return list[i]
		}
	}
	return list[at]
}

// earlier puts the use begun last before the others with its id, behind the nth.
func (l *toolLog) earlier(u *toolUse, n int) {
	list := l.byID[u.id]
	copy(list[n+1:], list[n:len(list)-1])
	list[n] = u
}

// newest returns the last use with an id; nil if there is none.
func (l *toolLog) newest(id string) *toolUse {
	if list := l.byID[id]; len(list) > 0 {
		return list[len(list)-1]
	}
	return nil
}

// takeUse takes the first of waiting with that name, or the first, out.
func takeUse(waiting []*toolUse, name string) (*toolUse, []*toolUse) {
	at := 0
	for i, u := range waiting {
		if u.name == name {
			at = i
			break
		}
	}
	if len(waiting) == 0 {
		return nil, nil
	}
	u := waiting[at]
	return u, append(waiting[:at:at], waiting[at+1:]...)
}

func sameKey(c *llm.Call, b *llm.Block) string {
	return c.Session + "\x00" + b.Name + "\x00" + inputText(b)
}

// open begins a use that was not met before.
func (l *toolLog) open(x *flow.Exchange, c *llm.Call, b *llm.Block) *toolUse {
	u := &toolUse{session: x.Session, id: strings.Clone(b.ID), name: strings.Clone(cmp.Or(b.Name, b.Type)), input: strings.Clone(inputText(b)), server: b.Server}
	l.uses = append(l.uses, u)
	if b.ID != "" {
		l.byID[u.id] = append(l.byID[u.id], u)
	} else {
		key := sameKey(c, b)
		l.same[key] = append(l.same[key], u)
	}
	return u
}

func inputText(b *llm.Block) string {
	if len(b.Input) > 0 {
		return compact(b.Input)
	}
	return b.Text
}

// took is the time between the call and its result; ok is false if that is not
// known.
func (u *toolUse) took() (d time.Duration, ok bool) {
	if u.called.IsZero() || u.came.IsZero() {
		return 0, false
	}
	return max(0, u.came.Sub(u.called)), true
}

// appendText appends the text of a result; of what is none, what it is.
func appendText(words []string, b *llm.Block) []string {
	if b.Text != "" {
		words = append(words, b.Text)
	}
	for i := range b.Content {
		inner := &b.Content[i]
		switch inner.Kind {
		case llm.Image, llm.Audio, llm.Document:
			words = append(words, "["+mediaText(inner)+"]")
		case llm.Other:
			words = append(words, string(inner.Raw))
		}
		words = appendText(words, inner)
	}
	if len(words) == 0 && len(b.Input) > 0 {
		words = append(words, compact(b.Input))
	}
	return words
}

// jsonToolUse is one element of `flows tools --json`.
type jsonToolUse struct {
	ID       string          `json:"id"`
	Session  string          `json:"session"`
	Flow     string          `json:"flow,omitempty"`
	Returned string          `json:"result_flow,omitempty"`
	Name     string          `json:"name"`
	Input    json.RawMessage `json:"input"`
	Server   bool            `json:"server,omitempty"`
	Called   string          `json:"called,omitempty"`
	Took     *float64        `json:"duration_ms"`
	Size     *int64          `json:"result_size"`
	IsError  bool            `json:"is_error"`
	Result   *string         `json:"result"`
}

func (u *toolUse) json() jsonToolUse {
	j := jsonToolUse{ID: u.id, Session: u.session, Name: u.name, Input: valid(json.RawMessage(u.input)), Server: u.server}
	if u.flow != 0 {
		j.Flow = fmt.Sprint(u.flow)
	}
	if !u.called.IsZero() {
		j.Called = flow.Stamp(u.called)
	}
	if d, ok := u.took(); ok {
		j.Took = flow.MS(d)
	}
	if u.result != nil {
		j.Returned = fmt.Sprint(u.returned)
		j.Size, j.IsError, j.Result = &u.result.size, u.result.isError, &u.result.text
	}
	return j
}
