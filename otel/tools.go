package otel

import (
	"cmp"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"trace/flow"
	"trace/llm"
)

// A tool is a tool call that the program has to run.
type tool struct {
	id     []byte
	parent []byte
	by     llm.Ref
	callID string
	key    string // among those without a result
	name   string
	input  string // content
	called time.Time
	began  bool // a sub-agent
	done   bool
}

// What is remembered of tool calls at most: so many, with so many bytes of content.
const (
	maxTools      = 10_000
	maxToolsInput = 32 << 20
)

// tools are the tool calls of a session that are remembered: the last ones.
type tools struct {
	called map[llm.Ref][]*tool // by the call whose answer called them
	open   map[string]*tool    // those without a result, see toolKey
	order  []llm.Ref           // of called
	count  int
	bytes  int // of input
}

// add remembers the tool calls of an answer.
func (k *tools) add(conversation llm.Ref, us []*tool) {
	if len(us) == 0 {
		return
	}
	if k.called == nil {
		k.called, k.open = map[llm.Ref][]*tool{}, map[string]*tool{}
	}
	k.called[us[0].by] = us
	k.order = append(k.order, us[0].by)
	for _, u := range us {
		k.count++
		k.bytes += len(u.input)
		if u.callID != "" {
			u.key = toolKey(conversation, u.callID)
			k.open[u.key] = u
		}
	}
	for len(k.order) > 1 && (k.count > maxTools || k.bytes > maxToolsInput) {
		for _, u := range k.called[k.order[0]] {
			k.count--
			k.end(u)
		}
		delete(k.called, k.order[0])
		k.order = k.order[1:]
	}
}

// end notes that there is no more to say of a tool call.
func (k *tools) end(u *tool) {
	u.done = true
	k.bytes -= len(u.input)
	u.input = ""
	if k.open[u.key] == u {
		delete(k.open, u.key)
	}
}

// by finds the tool call of an answer by its id; where it has none, the first of
// its name that has no result yet.
func (k *tools) by(r llm.Ref, id, name string) *tool {
	for _, u := range k.called[r] {
		if id != "" && u.callID == id || id == "" && u.name == name && !u.done {
			return u
		}
	}
	return nil
}

// toolKey is what joins a call and its result. The same id may be given in
// several conversations.
func toolKey(conversation llm.Ref, id string) string {
	return itoa(conversation.Flow) + "#" + itoa(int64(conversation.Call)) + "\x00" + id
}

// calls takes note of the tool calls in an answer.
func (t *Teller) calls(x *flow.Exchange, c *llm.Call, j joined) {
	_, called := callTimes(x, c)
	if !c.Last.IsZero() {
		called = c.Last
	}
	parent := t.root
	if j.agent != nil {
		parent = j.agent.id
	}
	var us []*tool
	for i := range c.Answer {
		for k := range c.Answer[i].Blocks {
			b := &c.Answer[i].Blocks[k]
			if b.Kind != llm.ToolCall || b.Server {
				continue
			}
			u := &tool{id: t.id("tool", j.link.Flow, int64(j.link.Call), int64(len(us))), parent: parent, by: j.link.Ref, callID: strings.Clone(b.ID),
				name: strings.Clone(cmp.Or(b.Name, b.Type)), called: called}
			if t.o.Content {
				u.input = strings.Clone(cutContent(cmp.Or(string(b.Input), b.Text)))
			}
			us = append(us, u)
		}
	}
	t.tools.add(j.link.Conversation, us)
}

// results makes the spans of the tools whose results a request brings. Only what
// the request has beyond the one before it is looked at: ids may come again.
func (t *Teller) results(x *flow.Exchange, c *llm.Call, l llm.Link) []*tracepb.Span {
	from, _ := callTimes(x, c)
	var spans []*tracepb.Span
	for _, m := range c.Messages[min(l.Shared, len(c.Messages)):] {
		for i := range m.Blocks {
			b := &m.Blocks[i]
			if b.Kind != llm.ToolResult {
				continue
			}
			u := t.tools.open[toolKey(l.Conversation, b.ID)]
			if b.ID == "" {
				u = t.tools.by(l.Previous, "", b.Name)
			}
			if u != nil && !u.done {
				spans = append(spans, t.toolSpan(u, from, b))
				t.tools.end(u)
			}
		}
	}
	return spans
}

// toolSpan makes the span of a tool that ended then. b is its result, nil if none
// was seen.
func (t *Teller) toolSpan(u *tool, to time.Time, b *llm.Block) *tracepb.Span {
	s := t.span(u.id, u.parent, "execute_tool "+u.name, tracepb.Span_SPAN_KIND_INTERNAL, u.called, to)
	s.Links = []*tracepb.Span_Link{{TraceId: t.trace, SpanId: t.callID(u.by)}}
	a := t.attributes()
	a.str("gen_ai.operation.name", "execute_tool")
	a.str("gen_ai.tool.name", u.name)
	a.str("gen_ai.tool.call.id", u.callID)
	a.str("gen_ai.tool.type", "function")
	a.int("trace.flow.id", u.by.Flow)
	if t.o.Content {
		a.long("gen_ai.tool.call.arguments", u.input)
		if b != nil {
			a.long("gen_ai.tool.call.result", cutContent(resultText(b)))
		}
	}
	switch {
	case b == nil:
		a.yes("trace.tool.unfinished", true)
	case b.IsError:
		fail(s, a, "tool_error", "")
	}
	s.Attributes = a.list
	return s
}

// unfinished tells the tools that began sub-agents and gave no result.
func (t *Teller) unfinished(end time.Time) []*tracepb.Span {
	var spans []*tracepb.Span
	for _, ref := range sortedRefs(t.tools.called) {
		for _, u := range t.tools.called[ref] {
			if u.began && !u.done {
				spans = append(spans, t.toolSpan(u, end, nil))
				t.tools.end(u)
			}
		}
	}
	return spans
}
