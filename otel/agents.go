package otel

import (
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
	if g.session == "" {
		g.session = strings.Clone(c.Session)
	}
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
		j.agent = &agent{first: ref, id: t.id("agent", ref.Flow, int64(ref.Call)), parent: t.root, provider: strings.Clone(provider(c)), model: strings.Clone(model(c))}
		if p := x.Conn.Process; p != nil {
			j.agent.name = p.Name()
		}
		if j.agent.name == "" && len(t.s.Argv) > 0 {
			j.agent.name = baseName(t.s.Argv[0])
		}
		if !l.Parent.IsZero() {
			j.agent.name, j.agent.parent = strings.Clone(l.ParentName), t.callID(l.Parent)
			if u := t.tools.by(l.Parent, l.ParentTool, l.ParentName); u != nil {
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
