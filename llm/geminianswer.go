package llm

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// A geminiStream puts a GenerateContentResponse together from those that a
// stream is made of: each has what is new.
type geminiStream struct {
	c          *Call
	candidates []*candidate
	byIndex    map[int]*candidate
	usage      json.RawMessage
	extra      gatherer
	blocked    string
}

// A candidate is one of the answers, as far as it came.
type candidate struct {
	index      int
	role, stop string
	parts      []*geminiPiece
	extra      gatherer
}

// geminiAnswer reads an answer of generateContent, as one object, an array of
// them, or events.
func (c *Call) geminiAnswer(in *input) {
	if c.Error = in.failure(); c.Error != nil {
		return
	}
	s := &geminiStream{c: c, byIndex: map[int]*candidate{}}
	if in.streamed() {
		for _, e := range in.events {
			c.Last = e.at
			s.chunk(e.data, e.at, in.status)
			if e.data == nil && strings.TrimSpace(e.text) != "[DONE]" {
				s.extra.add("event", keptText(e), replaces)
			}
		}
		if c.Error == nil {
			c.Error = in.stray()
		}
	} else {
		for _, raw := range several(in.answer) {
			s.chunk(members(raw), time.Time{}, in.status)
		}
		if in.answer == nil {
			c.Error = in.stray()
		}
	}
	slices.SortStableFunc(s.candidates, func(a, b *candidate) int { return a.index - b.index })
	finished := len(s.candidates) > 0
	for _, k := range s.candidates {
		m := k.message()
		finished = finished && m.Stop != ""
		c.Answer = append(c.Answer, m)
	}
	c.stops()
	if c.Stop == "" {
		c.Stop = s.blocked
	}
	c.Usage, c.Extra = geminiUsage(s.usage), s.extra.params()
	switch {
	case in.status == 0:
	case finished || s.blocked != "":
	case c.Error != nil:
		c.Partial = c.Answer != nil
	default:
		c.Partial = c.Stream || !in.whole || len(s.candidates) == 0
	}
}

// stray finds an error that a server wrote bare into its event stream.
func (in *input) stray() *Error {
	body := in.body
	for len(body) > 0 {
		if body[0] == '{' || body[0] == '[' {
			raw, _ := parseJSON(body)
			if list := elements(raw); len(list) > 0 {
				raw = list[0]
			}
			if o := members(raw); !absent(o.get("error")) {
				e := &Error{Status: in.status}
				e.read(o)
				return e
			}
			return nil
		}
		i := bytes.IndexByte(body, '\n')
		if i < 0 {
			return nil
		}
		body = body[i+1:]
	}
	return nil
}

// chunk reads one response; that of Code Assist stands in a wrapper.
func (s *geminiStream) chunk(o object, at time.Time, status int) {
	c := s.c
	if !absent(o.get("error")) {
		c.Error = &Error{Status: status}
		c.Error.read(o)
	}
	if inner := o.object("response"); inner != nil {
		s.extra.addAll(o, replaces, "response")
		if id := o.text("traceId"); id != "" && c.ID == "" {
			c.ID = id // where there is none inside
		}
		o = inner
	}
	set := func(to *string, s string) {
		if s != "" {
			*to = s
		}
	}
	if id := o.bothText("responseId"); id != "" {
		c.ID = id
	}
	set(&c.Served, o.bothText("modelVersion"))
	if u := members(o.both("usageMetadata")); u != nil && (s.usage == nil || u.both("promptTokenCount") != nil) {
		s.usage = o.both("usageMetadata")
	}
	if f := members(o.both("promptFeedback")); f != nil {
		set(&s.blocked, f.bothText("blockReason"))
	}
	s.extra.addAll(o, replaces, append(spelled("responseId", "modelVersion", "usageMetadata"), "candidates", "error")...)
	taken := map[int]bool{}
	for i, raw := range several(o.get("candidates")) {
		k := members(raw)
		if k == nil {
			continue
		}
		index := k.nth("index", 0)
		if taken[index] { // nobody numbers them
			index = i
		}
		taken[index] = true
		s.candidate(k, index, at)
	}
}

func (s *geminiStream) candidate(o object, index int, at time.Time) {
	k := s.byIndex[index]
	if k == nil {
		k = &candidate{index: index}
		s.byIndex[index] = k
		s.candidates = append(s.candidates, k)
	}
	if reason := o.bothText("finishReason"); reason != "" {
		k.stop = reason
	}
	content := o.object("content")
	if role := content.text("role"); role != "" {
		k.role = geminiRole(role)
	}
	for _, raw := range several(content.get("parts")) {
		s.c.times(at, true)
		k.part(raw)
	}
	read := append(spelled("finishReason"), "index", "content")
	for _, m := range o.without(read...) {
		how := replaces
		if m.Name == "citationMetadata" || m.Name == "citation_metadata" || strings.HasPrefix(m.Name, "logprobs") {
			how = extends
		}
		k.extra.add(m.Name, m.Value, how)
	}
}

// A geminiPiece is a part, with the text of those that go on with it.
type geminiPiece struct {
	o       gatherer
	raw     json.RawMessage // of one that came whole
	text    strings.Builder
	merges  bool // more text may follow
	thought bool
	call    *partialCall
}

// part takes a part. Text goes on with text of the same kind, unless a
// signature closed it; a call goes on until it says that it does not.
func (k *candidate) part(raw json.RawMessage) {
	o := members(raw)
	n := len(k.parts) - 1
	if kind(o.get("text")) == '"' && !geminiPayload(o) {
		thought, signed := o.truth("thought"), !absent(o.both("thoughtSignature"))
		if n < 0 || !k.parts[n].merges || k.parts[n].thought != thought {
			k.parts = append(k.parts, &geminiPiece{thought: thought})
			n++
		}
		p := k.parts[n]
		p.text.WriteString(o.text("text"))
		p.o.addAll(o, replaces)
		p.merges = !signed
		return
	}
	f := members(o.both("functionCall"))
	if f != nil && n >= 0 && k.parts[n].call != nil && k.parts[n].call.open {
		k.parts[n].call.piece(f)
		k.parts[n].o.addAll(o, replaces, spelled("functionCall")...)
		return
	}
	p := &geminiPiece{raw: raw}
	if f.both("partialArgs") != nil || f.both("willContinue") != nil {
		p.call = &partialCall{}
		p.call.piece(f)
		p.o.addAll(o, replaces)
	}
	k.parts = append(k.parts, p)
}

// geminiPayload reports whether a part has something beside its text.
func geminiPayload(o object) bool {
	for _, m := range o {
		switch m.Name {
		case "functionCall", "function_call", "functionResponse", "function_response", "inlineData", "inline_data", "fileData", "file_data":
			return true
		}
	}
	return false
}

// block returns the part as if it had come at once.
func (p *geminiPiece) block() Block {
	switch {
	case p.call != nil:
		name := "functionCall"
		if p.o.byName[name] == nil {
			name = snake(name)
		}
		p.o.add(name, p.call.raw(), replaces)
	case p.raw != nil:
		return geminiPart(p.raw)
	default:
		p.o.add("text", quote(p.text.String()), replaces)
	}
	return geminiPart(object(p.o.params()).raw())
}

// message returns what came of the candidate. A call of a function ends with
// STOP as anything does: that one has to run is told instead.
func (k *candidate) message() Message {
	m := Message{Role: k.role, Stop: k.stop, Extra: k.extra.params()}
	if m.Role == "" || m.Role == "user" {
		m.Role = "assistant"
	}
	for _, p := range k.parts {
		b := p.block()
		if b.Kind == Text && b.Text == "" && len(p.o.fields) == 1 {
			continue // nothing was said, and nothing signed
		}
		m.Blocks = append(m.Blocks, b)
		if b.Kind == ToolCall && !b.Server && m.Stop == "STOP" {
			m.Stop = "tool_call"
		}
	}
	return m
}
