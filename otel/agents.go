package otel

import (
	"cmp"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"trace/flow"
	"trace/llm"
)

// An agent is a conversation whose first call offers tools, or that a tool call
// began.
type agent struct {
	first    llm.Ref
	id       []byte
	parent   []byte
	name     string
	provider string
	model    string
	session  string
	from, to time.Time
	calls    int64 // that were told
}

// saw takes note of a call of the agent that is told.
func (g *agent) saw(x *flow.Exchange, c *llm.Call) {
	from, to := callTimes(x, c)
	if g.calls == 0 || from.Before(g.from) {
		g.from = from
	}
	if to.After(g.to) {
		g.to = to
	}
	g.calls++
	g.session = cmp.Or(g.session, c.Session)
}

// joined is where a call stands: in whose conversation, and which tools have
// given their results to it.
type joined struct {
	link  llm.Link
	agent *agent // nil: none
	tools []*tracepb.Span
}

// join finds out where a call stands. It is called once for each.
func (t *Teller) join(x *flow.Exchange, c *llm.Call, ref llm.Ref) joined {
	j := joined{link: t.threads.Add(llm.Turn{Ref: ref, Started: x.Started, Ended: x.Ended, Process: processOf(x.Conn.Process), Call: c})}
	l := j.link
	j.agent = t.agents[l.Conversation]
	if j.agent == nil && l.Conversation == ref && (len(c.Tools) > 0 || !l.Parent.IsZero()) {
		j.agent = &agent{first: ref, id: t.id("agent", ref.Flow, int64(ref.Call)), parent: t.root, provider: provider(c), model: model(c)}
		if p := x.Conn.Process; p != nil {
			j.agent.name = p.Name()
		}
		if j.agent.name == "" && len(t.s.Argv) > 0 {
			j.agent.name = baseName(t.s.Argv[0])
		}
		if !l.Parent.IsZero() {
			j.agent.name, j.agent.parent = l.ParentName, t.callID(l.Parent)
			if u := t.calledBy(l.Parent, l.ParentTool, l.ParentName); u != nil {
				j.agent.parent, u.began = u.id, true
			}
		}
		t.agents[ref] = j.agent
	}
	if l.Retry.IsZero() { // what it brings was brought already
		j.tools = t.results(x, c, l)
	}
	t.calls(x, c, j)
	return j
}

// processOf names a process such that two are not confounded.
func processOf(p *flow.Process) string {
	if p == nil {
		return ""
	}
	return p.Name() + "[" + itoa(int64(p.PID)) + "]"
}

// agentSpans are those of all agents of which a call was told.
func (t *Teller) agentSpans() []*tracepb.Span {
	var spans []*tracepb.Span
	for _, ref := range sortedRefs(t.agents) {
		g := t.agents[ref]
		if g.calls == 0 {
			continue
		}
		s := t.span(g.id, g.parent, strings.TrimSpace("invoke_agent "+g.name), tracepb.Span_SPAN_KIND_INTERNAL, g.from, g.to)
		a := t.attributes()
		a.str("gen_ai.operation.name", "invoke_agent")
		a.str("gen_ai.provider.name", g.provider)
		a.str("gen_ai.system", g.provider)
		a.str("gen_ai.agent.name", g.name)
		a.str("gen_ai.request.model", g.model)
		a.str("gen_ai.conversation.id", g.session)
		a.int("trace.conversation.first_flow", g.first.Flow)
		a.int("trace.calls", g.calls)
		s.Attributes = a.list
		spans = append(spans, s)
		g.calls = 0 // told
	}
	return spans
}

// A tool is a tool call that the program has to run.
type tool struct {
	id     []byte
	parent []byte
	by     llm.Ref
	callID string
	name   string
	input  string // content
	called time.Time
	began  bool // a sub-agent
	done   bool
}

// The most tool calls without a result that are remembered.
const maxOpenTools = 10_000

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
	n := int64(0)
	for i := range c.Answer {
		for k := range c.Answer[i].Blocks {
			b := &c.Answer[i].Blocks[k]
			if b.Kind != llm.ToolCall || b.Server || len(t.open) >= maxOpenTools {
				continue
			}
			u := &tool{id: t.id("tool", j.link.Flow, int64(j.link.Call), n), parent: parent, by: j.link.Ref, callID: strings.Clone(b.ID),
				name: strings.Clone(cmp.Or(b.Name, b.Type)), called: called}
			n++
			if b.ID != "" {
				t.open[toolKey(j.link.Conversation, b.ID)] = u
			}
			if t.o.Content {
				u.input = strings.Clone(cutContent(cmp.Or(string(b.Input), b.Text)))
			}
			t.called[u.by] = append(t.called[u.by], u)
		}
	}
}

// calledBy finds the tool call of an answer by its id; where it has none, the
// first of its name that has no result yet.
func (t *Teller) calledBy(r llm.Ref, id, name string) *tool {
	for _, u := range t.called[r] {
		if id != "" && u.callID == id || id == "" && u.name == name && !u.done {
			return u
		}
	}
	return nil
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
			key := toolKey(l.Conversation, b.ID)
			u := t.open[key]
			if b.ID == "" {
				u = t.calledBy(l.Previous, "", b.Name)
			}
			if u == nil || u.done {
				continue
			}
			delete(t.open, key)
			u.done = true
			spans = append(spans, t.toolSpan(u, from, b))
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
	for _, ref := range sortedRefs(t.called) {
		for _, u := range t.called[ref] {
			if u.began && !u.done {
				u.done = true
				spans = append(spans, t.toolSpan(u, end, nil))
			}
		}
	}
	return spans
}
