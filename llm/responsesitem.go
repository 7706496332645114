package llm

import (
	"encoding/json"
	"strings"
)

// A responsesItem is an item of the output while it is streamed. Most of it
// comes twice, in pieces and as a whole, and the whole counts; the pieces are
// for streams that were cut.
type responsesItem struct {
	index int
	o     object // as it was added
	whole json.RawMessage
	done  bool

	content, summary       list
	arguments, input, code piece
	commands, shellOut     list
}

// A piece is text that goes on until it is told as a whole.
type piece struct {
	text strings.Builder
	set  bool
}

func (p *piece) delta(s string) {
	p.text.WriteString(s)
	p.set = true
}

func (p *piece) done(s string) {
	p.text.Reset()
	p.delta(s)
}

// A list is an array of which elements come one after the other.
type list []*element

// An element is an object with a text in it that goes on.
type element struct {
	o     object
	field string
	text  piece
	notes []json.RawMessage // annotations
}

// maxElements bounds how far behind the last an element may be named: it is a
// number that the server sends.
const maxElements = 64

// at returns an element, nil if the index is out of all reason.
func (l *list) at(index int, kind, field string) *element {
	if index > len(*l)+maxElements {
		return nil
	}
	for len(*l) <= index {
		*l = append(*l, nil)
	}
	if (*l)[index] == nil {
		e := &element{field: field}
		if kind != "" {
			e.o = object{{"type", quote(kind)}}
		}
		(*l)[index] = e
	}
	return (*l)[index]
}

// raw returns the elements as JSON.
func (l list) raw() json.RawMessage {
	b := []byte{'['}
	for _, e := range l {
		if e == nil {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		o := append(object(nil), e.o...)
		if e.text.set {
			o = o.set(e.field, quote(e.text.text.String()))
		}
		if e.notes != nil {
			o = o.set("annotations", array(e.notes))
		}
		b = append(b, o.raw()...)
	}
	return append(b, ']')
}

// set takes the item as an event tells it.
func (it *responsesItem) set(raw json.RawMessage, done bool) {
	o := members(raw)
	if o == nil {
		return
	}
	if it.o = append(object(nil), o...); done {
		it.whole, it.done = raw, true
	}
}

// raw returns the item: the whole, or what its pieces make.
func (it *responsesItem) raw() json.RawMessage {
	if it.done {
		return it.whole
	}
	o := append(object(nil), it.o...)
	if !o.has("type") { // the stream begins in the middle
		o = o.set("type", quote(it.kind()))
		if it.kind() == "message" {
			o = o.set("role", quote("assistant"))
		}
	}
	for i, l := range []list{it.content, it.summary, it.shellOut} {
		if l != nil {
			o = o.set([]string{"content", "summary", "output"}[i], l.raw())
		}
	}
	for i, p := range []*piece{&it.arguments, &it.input, &it.code} {
		if p.set {
			o = o.set([]string{"arguments", "input", "code"}[i], quote(p.text.String()))
		}
	}
	if it.commands != nil {
		var all []json.RawMessage
		for _, e := range it.commands {
			if e != nil {
				all = append(all, quote(e.text.text.String()))
			}
		}
		o = o.set("action", object{{"commands", array(all)}}.raw())
	}
	return o.raw()
}

// kind guesses the type of an item from the pieces that came.
func (it *responsesItem) kind() string {
	switch {
	case it.arguments.set:
		return "function_call"
	case it.input.set:
		return "custom_tool_call"
	case it.code.set:
		return "code_interpreter_call"
	case it.commands != nil:
		return "shell_call"
	case it.shellOut != nil:
		return "shell_call_output"
	case it.summary != nil:
		return "reasoning"
	}
	for _, e := range it.content {
		if e != nil && e.field == "text" && e.o.text("type") == "reasoning_text" {
			return "reasoning"
		}
	}
	return "message"
}

// delta takes an event that is a piece of an item, and reports whether it is
// one.
func (s *responsesStream) delta(t string, o object) bool {
	name, known := strings.CutPrefix(t, "response.")
	if !known {
		return false
	}
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return false
	}
	what, step := name[:i], name[i+1:]
	switch what {
	case "content_part", "reasoning_summary_part":
		s.part(what, step, o)
	case "output_text", "text":
		s.text(&s.item(o).content, o, "content_index", "output_text", "text", step)
	case "output_text.annotation":
		if e := s.item(o).content.at(o.nth("content_index", 0), "output_text", "text"); e != nil && o.has("annotation") {
			e.notes = append(e.notes, o.get("annotation"))
		}
	case "refusal":
		s.text(&s.item(o).content, o, "content_index", "refusal", "refusal", step)
	case "reasoning_text":
		s.text(&s.item(o).content, o, "content_index", "reasoning_text", "text", step)
	case "reasoning_summary_text":
		s.text(&s.item(o).summary, o, "summary_index", "summary_text", "text", step)
	case "output_audio_transcript", "audio_transcript": // of Realtime
		s.text(&s.item(o).content, o, "content_index", "output_audio", "transcript", step)
	case "output_audio", "audio":
		s.item(o).content.at(o.nth("content_index", 0), "output_audio", "transcript")
	case "function_call_arguments", "mcp_call_arguments", "mcp_call.arguments":
		s.item(o).arguments.step(step, o, "arguments")
	case "custom_tool_call_input":
		s.item(o).input.step(step, o, "input")
	case "code_interpreter_call_code", "code_interpreter_call.code":
		s.item(o).code.step(step, o, "code")
	case "shell_call_command":
		if e := s.item(o).commands.at(o.nth("command_index", 0), "", ""); e != nil {
			e.text.step(step, o, "command")
		}
	case "shell_call_output_content":
		s.shellOutput(step, o)
	default:
		return false
	}
	return true
}

// step takes a piece of text, or the whole of it under its name.
func (p *piece) step(step string, o object, name string) {
	switch step {
	case "delta", "added":
		if raw := o.get("delta"); kind(raw) == '"' {
			p.delta(text(raw))
		} else if raw := o.get(name); kind(raw) == '"' {
			p.done(text(raw))
		}
	case "done":
		if raw := o.get(name); kind(raw) == '"' {
			p.done(text(raw))
		}
	}
}

// text takes a piece of the text of an element.
func (s *responsesStream) text(l *list, o object, index, kind, field, step string) {
	if e := l.at(o.nth(index, 0), kind, field); e != nil {
		e.text.step(step, o, field)
	}
}

// part takes an element of content or of a summary that begins or is whole.
func (s *responsesStream) part(what, step string, o object) {
	it := s.item(o)
	l, index := &it.content, o.nth("content_index", 0)
	if what == "reasoning_summary_part" {
		l, index = &it.summary, o.nth("summary_index", 0)
	}
	p := o.object("part")
	t := p.text("type")
	field := "text"
	if t == "refusal" {
		field = t
	} else if strings.Contains(t, "audio") {
		field = "transcript"
	}
	e := l.at(index, t, field)
	if e == nil || p == nil {
		return
	}
	e.o, e.field = append(object(nil), p...), field
	if step == "done" {
		e.text, e.notes = piece{}, nil
	}
}

// shellOutput takes what a shell of OpenAI's wrote.
func (s *responsesStream) shellOutput(step string, o object) {
	it := s.item(o)
	if list := o.list("output"); step == "done" && list != nil {
		it.shellOut = nil
		for _, raw := range list {
			it.shellOut = append(it.shellOut, &element{o: append(object(nil), members(raw)...)})
		}
		return
	}
	d := o.object("delta")
	if d == nil {
		return
	}
	e := it.shellOut.at(o.nth("command_index", 0), "", "stdout")
	if e == nil {
		return
	}
	e.text.delta(d.text("stdout") + d.text("stderr"))
}
