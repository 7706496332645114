package main

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"trace/flow"
	"trace/llm"
)

// A callView is what `flows show` prints of a call to a language model.
type callView struct {
	detail *flow.Detail
	calls  []*llm.Call
	only   int         // the number of the one call to print; 0: all
	before *earlier    // the turn before the first call; nil: there is none, or it is unknown
	thread *callThread // where the first call stands; nil: that is unknown
	full   bool        // nothing is left out
}

// earlier is a turn of the same conversation that came before.
type earlier struct {
	name   string // its flow, or FLOW#2
	call   *llm.Call
	shared int // messages that the later one begins with as this one
}

// write prints the view for reading.
func (v *callView) write(w *terminal) error {
	out := bufio.NewWriter(w.Writer)
	buffered := *w
	buffered.Writer = out
	p := &callPrinter{printer: printer{w: &buffered}, full: v.full, names: map[string]string{}}
	p.exchange(v.detail)
	for i, c := range v.calls {
		before, thread := v.before, v.thread
		if i > 0 {
			before, thread = nil, nil
		}
		if v.only > 0 && v.only != i+1 {
			continue
		}
		if len(v.calls) > 1 {
			p.line("")
			p.line("%s", p.w.paint(bold, fmt.Sprintf("Call %d of %d", i+1, len(v.calls))))
		}
		p.call(&v.detail.Exchange, c, before, thread)
	}
	p.line("")
	p.line("%s", p.w.paint(faint, fmt.Sprintf("heads, bodies and events: trace flows show %s/%d --http", v.detail.Session, v.detail.ID)))
	return cmp.Or(p.err, out.Flush())
}

// A callPrinter prints calls.
type callPrinter struct {
	printer
	full  bool
	names map[string]string // of tools, by the ids of their calls
}

// exchange prints what there is to say of the exchange itself.
func (p *callPrinter) exchange(d *flow.Detail) {
	x := &d.Exchange
	h := x.Request.Head
	f := factsOf(x)
	p.line("%s", p.w.paint(bold, w1(p.w, f.method+" "+h.Scheme+"://"+f.host+f.path)))
	p.origin(x, &f)
	p.faults(x)
}

// call prints one call.
func (p *callPrinter) call(x *flow.Exchange, c *llm.Call, before *earlier, thread *callThread) {
	model := fmt.Sprintf("%s (%s)", cmp.Or(c.Model, "not said"), strings.Trim(c.Provider+" "+c.API, " "))
	if c.Served != "" && c.Served != c.Model {
		model += ", served by " + c.Served
	}
	p.fact("model", model)
	p.fact("params", p.params(c.Params))
	p.fact("session", c.Session)
	p.fact("continues", c.Previous)
	p.standing(thread)
	p.system(c)
	p.tools(c, before)
	p.messages(c, before)
	p.answer(x, c)
	p.usage(x, c)
}

// standing prints where a call stands among the others.
func (p *callPrinter) standing(t *callThread) {
	if t == nil {
		return
	}
	follows := t.Previous
	switch {
	case follows == "":
	case t.Compacted:
		follows += ", whose history was replaced by a summary"
	case t.Edited:
		follows += ", but what both share was changed (see trace flows diff)"
	}
	p.fact("follows", follows)
	p.fact("repeats", t.RetryOf)
	if t.Parent != "" {
		p.fact("started by", strings.TrimSpace(fmt.Sprintf("%s %s", t.Parent, inBrackets(strings.TrimSpace(t.ParentName+" "+t.ParentTool)))))
	}
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

// params writes parameters out, long ones begun.
func (p *callPrinter) params(list []llm.Param) string {
	var words []string
	for _, q := range list {
		value := compact(q.Value)
		if !p.full && columns(value) > 60 {
			value = shorten(printable(value), 60)
		}
		words = append(words, q.Name+" "+value)
	}
	return strings.Join(words, ", ")
}

func (p *callPrinter) title(text, more string) {
	p.line("")
	if more != "" {
		more = p.w.paint(faint, " "+more)
	}
	p.line("%s%s", p.w.paint(bold, text), more)
}

// system prints the system prompt as a line, with its size.
func (p *callPrinter) system(c *llm.Call) {
	if len(c.System) == 0 {
		return
	}
	var size, media int64
	for i := range c.System {
		size += blockSize(&c.System[i], &media)
	}
	first := ""
	if !p.full {
		first = printable(firstLine(c.System[0].Text))
	}
	facts := fmt.Sprintf("(%s, %s) %s", count(int64(len(c.System)), "block"), bytesText(size), shorten(first, 100))
	p.title("System", p.w.fit(strings.TrimRight(facts, " ")))
	if p.full {
		p.blocks(c.System, "system")
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(line)
}

// tools prints the tools that are offered, a line each.
func (p *callPrinter) tools(c *llm.Call, before *earlier) {
	if len(c.Tools) == 0 {
		return
	}
	var size int64
	for i := range c.Tools {
		size += toolSize(&c.Tools[i])
	}
	facts := fmt.Sprintf("(%d, %s)", len(c.Tools), bytesText(size))
	if before != nil && !p.full && slices.EqualFunc(c.Tools, before.call.Tools, sameTool) {
		p.title("Tools", fmt.Sprintf("%s as in %s", facts, before.name))
		return
	}
	p.title("Tools", facts)
	width := 0
	for i := range c.Tools {
		width = min(30, max(width, columns(printable(c.Tools[i].Name))))
	}
	for i := range c.Tools {
		t := &c.Tools[i]
		if p.full {
			p.line("  %s", p.w.paint(cyan, printable(t.Name)))
			p.indented(t.Description, "    ", faint, 0)
			p.indented(pretty(t.Schema), "    ", plain, 0)
			continue
		}
		line := fmt.Sprintf("  %s  %6s", pad(printable(t.Name), width, false), sizeText(toolSize(t)))
		what := shorten(printable(cmp.Or(firstLine(t.Description), t.Type)), 72)
		p.line("%s", p.w.fit(strings.TrimRight(line+"  "+what, " ")))
	}
}

func sameTool(a, b llm.Tool) bool {
	return a.Name == b.Name && string(a.Raw) == string(b.Raw) && a.Description == b.Description && string(a.Schema) == string(b.Schema)
}

// messages prints the messages of the request, those that the turn before had
// too as a number.
func (p *callPrinter) messages(c *llm.Call, before *earlier) {
	if len(c.Messages) == 0 {
		return
	}
	p.title("Messages", fmt.Sprintf("(%d)", len(c.Messages)))
	from := 0
	if before != nil && !p.full {
		from = min(before.shared, len(c.Messages))
	}
	for i := range c.Messages {
		p.learn(c.Messages[i].Blocks)
		if i < from {
			continue
		}
		if i == from && from > 0 {
			p.line("  %s", p.w.paint(faint, fmt.Sprintf("… %s as in %s", count(int64(from), "message"), before.name)))
		}
		m := &c.Messages[i]
		p.line("  %s", p.w.paint(roleStyle(m.Role), w1(p.w, cmp.Or(m.Role, "?"))))
		p.blocks(m.Blocks, m.Role)
	}
	if from == len(c.Messages) {
		p.line("  %s", p.w.paint(faint, fmt.Sprintf("… %s as in %s", count(int64(from), "message"), before.name)))
	}
}

// learn remembers the names of tools that are called.
func (p *callPrinter) learn(blocks []llm.Block) {
	for i := range blocks {
		if b := &blocks[i]; b.Kind == llm.ToolCall && b.ID != "" {
			p.names[b.ID] = b.Name
		}
	}
}

func roleStyle(role string) style {
	switch role {
	case "user":
		return green
	case "assistant":
		return cyan
	}
	return yellow
}

// answer prints what the model said.
func (p *callPrinter) answer(x *flow.Exchange, c *llm.Call) {
	if len(c.Answer) == 0 {
		switch {
		case c.Error != nil:
		case x.State == flow.StateOpen:
			p.title("No answer yet", "")
		case c.API == llm.CountTokens || c.API == llm.Embeddings:
			p.title("Answer", "")
			for _, e := range c.Extra {
				p.line("  %s %s", w1(p.w, e.Name), p.w.fit(w1(p.w, shorten(compact(e.Value), 200))))
			}
		default:
			p.title("No answer", "")
		}
	}
	for i := range c.Answer {
		m := &c.Answer[i]
		name := "Answer"
		if len(c.Answer) > 1 {
			name = fmt.Sprintf("Answer %d", i+1)
		}
		p.title(name, inBrackets(printable(cmp.Or(m.Stop, c.Stop))))
		p.learn(m.Blocks)
		p.blocks(m.Blocks, m.Role)
	}
	if c.Partial && len(c.Answer) > 0 && x.State != flow.StateOpen {
		p.line("  %s", p.w.paint(yellow, "… cut off: the answer has no proper end"))
	}
	if e := c.Error; e != nil {
		p.title("Error", "")
		p.line("  %s", p.w.paint(red, w1(p.w, errorLine(e))))
	}
}

// errorLine says what the provider answered instead of an answer.
func errorLine(e *llm.Error) string {
	words := []string{}
	if e.Status != 0 && e.Status != 200 {
		words = append(words, fmt.Sprint(e.Status))
	}
	if e.Type != "" {
		words = append(words, e.Type)
	}
	if e.Message == "" {
		return strings.Join(words, " ")
	}
	return strings.TrimPrefix(strings.Join(words, " ")+": "+e.Message, ": ")
}

// usage prints what the call consumed, and how fast it was.
func (p *callPrinter) usage(x *flow.Exchange, c *llm.Call) {
	var facts []string
	if u := c.Usage; u != nil {
		facts = append(facts, usageText(u))
	}
	s := summarizeOne(x, c)
	if first := firstText(x, &s); first != "" {
		facts = append(facts, "first event after "+first)
	}
	if s.Rate != nil {
		facts = append(facts, rateText(*s.Rate)+" tokens/s")
	}
	if len(facts) > 0 {
		p.title("Usage", "")
		p.line("  %s", strings.Join(facts, "; "))
	}
}

// usageText writes tokens out: 48524 in (12 new, 48000 from cache, 512 to it), 210 out.
func usageText(u *llm.Usage) string {
	s := fmt.Sprintf("%d in", u.Input+u.CacheRead+u.CacheWrite)
	if u.CacheRead+u.CacheWrite > 0 {
		s += fmt.Sprintf(" (%d new, %d from cache, %d to cache)", u.Input, u.CacheRead, u.CacheWrite)
	}
	s += fmt.Sprintf(", %d out", u.Output)
	if u.Reasoning > 0 {
		s += fmt.Sprintf(" (%d reasoning)", u.Reasoning)
	}
	return s
}
