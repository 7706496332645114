package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// A comparison is what differs between two requests.
type comparison struct {
	a, b    *diffSide
	diff    *llm.Diff    // of two calls to language models
	request *requestDiff // of any two; of calls the heads only. nil: not asked for
}

// compareSides compares two requests: calls to language models by what they
// say, others by their heads and bodies. A template stands for a shape: what it
// says is compared as it was sent.
func compareSides(a, b *diffSide) *comparison {
	c := &comparison{a: a, b: b}
	marks := cmp.Or(a.marks, b.marks)
	r := diffRequests(a.d, b.d, marks)
	if a.call != nil && b.call != nil && marks == nil {
		c.diff = llm.Compare(a.call, b.call)
		r.Body = nil
	}
	c.request = &r
	return c
}

// same reports whether nothing differs.
func (c *comparison) same() bool {
	return (c.diff == nil || c.diff.Same()) && (c.request == nil || c.request.same())
}

// jsonComparison is one element of `flows diff --json`.
type jsonComparison struct {
	A    map[string]string `json:"a"`
	B    map[string]string `json:"b"`
	Same bool              `json:"same"`

	Thread *callThread `json:"thread,omitempty"` // where b stands
	*llm.Diff
	Cache    *llm.CacheVerdict `json:"cache,omitempty"` // that of Diff, but not of two runs
	Appended []jsonTurn        `json:"appended,omitempty"`

	Head    []difference `json:"head,omitempty"`
	Body    []difference `json:"body,omitempty"`
	Skipped []string     `json:"skipped,omitempty"`
}

func (c *comparison) json() jsonComparison {
	j := jsonComparison{Same: c.same()}
	if c.a != nil {
		j.A = c.a.ref()
	}
	if c.b != nil {
		j.B, j.Thread = c.b.ref(), c.b.thread
	}
	if c.diff != nil {
		j.Diff, j.Appended = c.diff, toJSONTurns(c.diff.Appended)
		if c.diff.Cache.Result != "" {
			j.Cache = &c.diff.Cache
		}
	}
	if c.request != nil {
		j.Head, j.Body, j.Skipped = c.request.Head, c.request.Body, c.request.Skipped
	}
	return j
}

// print prints the comparison for reading; on a terminal, at most limit lines
// of each text that changed.
func (c *comparison) print(p *printer, limit int) {
	switch {
	case c.a == nil:
		p.line("%s", p.w.paint(bold, w1(p.w, "only "+c.b.label(true)+c.b.standing())))
		return
	case c.b == nil:
		p.line("%s", p.w.paint(bold, w1(p.w, "only "+c.a.label(true)+c.a.standing())))
		return
	}
	sessions := c.a.d.Session != c.b.d.Session && c.a.template == "" && c.b.template == ""
	title := p.w.paint(bold, w1(p.w, c.a.label(sessions)+" → "+c.b.label(sessions)))
	p.line("%s%s", title, p.w.paint(faint, w1(p.w, c.b.standing())))
	if c.same() {
		p.line("  the requests are the same")
	}
	if c.diff != nil {
		p.callDiff(c, limit)
	}
	if c.request == nil {
		return
	}
	p.differences(c.request.Head)
	p.differences(c.request.Body)
	if n := len(c.request.Skipped); n > 0 && c.diff == nil {
		text := fmt.Sprintf("  not compared, as it changes from request to request: %s", shortList(c.request.Skipped))
		p.line("%s", p.w.paint(faint, p.w.fit(w1(p.w, text))))
	}
}

// standing says where a call stands in its conversation.
func (s *diffSide) standing() string {
	if s.thread == nil {
		return ""
	}
	words := fmt.Sprintf(" (conversation %s, turn %d", s.thread.First, s.thread.Turn)
	for _, f := range []struct {
		is   bool
		what string
	}{{s.thread.RetryOf != "", "a retry"}, {s.thread.Compacted, "after a compaction"}} {
		if f.is {
			words += ", " + f.what
		}
	}
	return words + ")"
}

// callDiff prints what differs between two calls.
func (p *printer) callDiff(c *comparison, limit int) {
	d := c.diff
	marks := 0
	for i := range d.Changes {
		change := &d.Changes[i]
		if change.What == llm.WasMarked {
			marks++
			continue
		}
		p.callChange(change, i == d.Cache.Break, limit)
	}
	if marks > 0 {
		p.line("  %s", p.w.paint(faint, count(int64(marks), "cache mark")+" set, moved or taken off"))
	}
	if d.Shared > 0 && !c.same() {
		p.line("  %s", p.w.paint(faint, "= "+count(int64(d.Shared), "message")+" as before"))
	}
	for i := range d.Appended {
		m := &d.Appended[i]
		text := outline(m)
		if i < d.Answered {
			text = "the answer of " + c.a.label(false)
		}
		p.line("  %s", p.w.fit(p.w.paint(green, "+ "+w1(p.w, m.Role))+" "+w1(p.w, shorten(printable(text), 300))))
	}
	p.verdict(&d.Cache)
}

// callChange prints one change.
func (p *printer) callChange(c *llm.Change, broke bool, limit int) {
	sign := map[string]string{llm.WasAdded: "+", llm.WasRemoved: "-"}[c.What]
	line := cmp.Or(sign, "~") + " " + w1(p.w, c.Place()) + " " + strings.ReplaceAll(c.What, "_", " ")
	if c.Count > 1 {
		line += fmt.Sprintf(", %d in all", c.Count)
	}
	line = p.w.paint(signStyle(cmp.Or(sign, "~")[0]), line)
	if broke {
		line += " " + p.w.paint(red, "← here the cache was lost")
	}
	p.line("  %s", line)
	if len(c.Spans) > 0 {
		p.spans(c.Spans, limit)
		return
	}
	p.signed('-', shorten(c.Old, 1000), "      ", c.Old == "")
	p.signed('+', shorten(c.New, 1000), "      ", c.New == "")
}

// spans prints a changed text: what was deleted as [-…-], what was added as
// {+…+}.
func (p *printer) spans(spans []llm.Span, limit int) {
	var b strings.Builder
	for _, s := range spans {
		text := p.w.text(s.Text)
		switch s.Op {
		case llm.Deleted:
			b.WriteString(paintLines(p.w, red, "[-"+text+"-]"))
		case llm.Added:
			b.WriteString(paintLines(p.w, green, "{+"+text+"+}"))
		case llm.Skipped:
			b.WriteString(p.w.paint(faint, fmt.Sprintf(" … %s %s … ", bytesText(int64(s.Size)), s.Of)))
		default:
			b.WriteString(text)
		}
	}
	lines := strings.Split(strings.Trim(b.String(), "\n"), "\n")
	for i, l := range lines {
		if p.w.tty && i == limit && len(lines) > limit+1 {
			p.line("      %s", p.w.paint(faint, fmt.Sprintf("… %s more", count(int64(len(lines)-i), "line"))))
			return
		}
		p.line("%s", strings.TrimRight("      "+l, " "))
	}
}

// paintLines paints text line by line, so that each may be indented.
func paintLines(w *terminal, st style, text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = w.paint(st, lines[i])
	}
	return strings.Join(lines, "\n")
}

// verdict prints what became of the prompt cache.
func (p *printer) verdict(v *llm.CacheVerdict) {
	if v.Why == "" && v.Result == "" {
		return
	}
	st := map[string]style{llm.CacheHit: green, llm.CachePartial: yellow, llm.CacheUnknown: faint}[v.Result]
	if v.Result == llm.CacheMiss {
		st = red
		if !v.Expected && v.Break < 0 {
			st = yellow
		}
	}
	facts := ""
	if v.Read >= 0 && v.Prompt > 0 {
		facts = fmt.Sprintf(" (%d of %d tokens of the prompt were read from the cache)", v.Read, v.Prompt)
	}
	p.line("  %s%s", p.w.paint(st, "cache "+v.Result), p.w.paint(faint, facts))
	if v.Why != "" {
		p.line("    %s", w1(p.w, v.Why))
	}
}

// outline says in a line what a message consists of.
func outline(m *llm.Message) string {
	var words []string
	for i := range m.Blocks {
		b := &m.Blocks[i]
		switch b.Kind {
		case llm.Text, llm.Refusal:
			for _, part := range promptParts(b.Text) {
				text := shorten(printable(firstLine(part.text)), 60)
				if part.tag != "" {
					text = "[" + part.tag + "] " + text
				}
				words = append(words, text)
			}
		case llm.Thinking:
			words = append(words, "[thinking]")
		case llm.ToolCall:
			words = append(words, "→ "+b.Name+" "+shorten(printable(inputText(b)), 60))
		case llm.ToolResult:
			var media int64
			size := blockSize(b, &media) + media
			words = append(words, strings.TrimSpace("← "+b.Name)+" "+bytesText(size)+map[bool]string{true: ", an error"}[b.IsError])
		default:
			words = append(words, "["+mediaText(b)+"]")
		}
	}
	return strings.Join(words, "; ")
}

// A callCache keeps the calls that were read last: the one before a call is
// mostly among them.
type callCache struct {
	r    *store.Reader
	kept []readCall
}

// callsKept bounds a callCache, in flows.
const callsKept = 24

func newCallCache(r *store.Reader) *callCache { return &callCache{r: r} }

func (k *callCache) keep(read readCall) {
	if len(k.kept) == callsKept {
		k.kept = slices.Delete(k.kept, 0, 1)
	}
	k.kept = append(k.kept, read)
}

// get returns a call, read again if it is not kept; nil if it is not there.
func (k *callCache) get(ref llm.Ref) *diffSide {
	if ref.IsZero() {
		return nil
	}
	i := slices.IndexFunc(k.kept, func(c readCall) bool { return c.x.ID == ref.Flow })
	var read readCall
	if i >= 0 {
		read = k.kept[i]
	} else {
		read = readOne(k.r, ref.Flow)
	}
	if read.err != nil || ref.Call >= len(read.calls) {
		return nil
	}
	return &diffSide{d: &flow.Detail{Exchange: *read.x}, call: read.calls[ref.Call], n: ref.Call}
}
