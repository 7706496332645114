package llm

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// chatAnswer reads an answer of Chat Completions or of the old completions,
// which differ in where a choice has its text.
func (c *Call) chatAnswer(in *input) {
	if c.Error = in.failure(); c.Error != nil {
		return
	}
	if in.streamed() {
		c.chatStream(in)
		return
	}
	o := members(in.answer)
	if o == nil {
		c.Error = in.stray()
		c.Partial = c.Error == nil
		return
	}
	if e := chatError(o, in.status); e != nil {
		c.Error = e
	}
	c.Served, c.ID, c.Usage = o.text("model"), o.text("id"), openaiUsage(o.get("usage"))
	list := o.list("choices")
	for _, raw := range list {
		choice := members(raw)
		var m Message
		if message := choice.mark("message"); message != nil {
			m = chatMessage(message)
		} else if s := choice.text("text"); s != "" {
			m.Blocks = []Block{{Kind: Text, Text: s}}
		}
		if m.Role == "" {
			m.Role = "assistant"
		}
		m.Stop = finish(choice)
		m.Extra = merged(m.Extra, choice, "index", "message", "text", "finish_reason")
		c.Answer = append(c.Answer, m)
	}
	c.stops()
	c.Extra = merged(nil, o, "model", "id", "usage", "choices", "error")
	c.Partial = !in.whole || len(list) == 0 && c.Error == nil
}

// finish returns why a choice ended: a word, or whatever stands there.
func finish(choice object) string {
	raw := choice.mark("finish_reason")
	if s := text(raw); s != "" || raw == nil || kind(raw) == '"' {
		return s
	}
	return string(raw)
}

// stops takes Stop from the first answer, which alone needs none of its own.
func (c *Call) stops() {
	if len(c.Answer) > 0 {
		c.Stop = c.Answer[0].Stop
	}
	if len(c.Answer) == 1 {
		c.Answer[0].Stop = ""
	}
}

// chatError finds the error in a body or in an event that has the status of a
// success: {"error": …}, or flat as older servers of vLLM have it.
func chatError(o object, status int) *Error {
	if absent(o.get("error")) && o.text("object") != "error" && o.text("type") != "error" {
		return nil
	}
	e := &Error{Status: status}
	e.read(o)
	return e
}

// A chatStream puts choices together from the pieces of a stream.
type chatStream struct {
	c       *Call
	choices []*chatChoice
	byIndex map[int]*chatChoice
	extra   gatherer
	usage   json.RawMessage
}

// A chatChoice is one of the choices, as far as it came.
type chatChoice struct {
	index                             int
	role, stop                        string
	thinking, content, refusal, words strings.Builder // words: of audio
	thinkingName                      string
	parts                             []Block // of other kinds
	details                           []*chatDetail
	audio                             int64 // bytes
	audioExtra, extra                 gatherer
	heard                             bool
	calls                             []*chatCall
	byIndex                           map[int]*chatCall
	function                          *chatCall // deprecated
}

// chatStream reads a streamed answer.
func (c *Call) chatStream(in *input) {
	s := &chatStream{c: c, byIndex: map[int]*chatChoice{}}
	done := false
	for _, e := range in.events {
		c.Last = e.at
		switch {
		case strings.TrimSpace(e.text) == "[DONE]":
			done = true
		case e.data == nil:
			s.extra.add("event", keptText(e), replaces)
		default:
			s.chunk(e, in.status)
		}
	}
	slices.SortStableFunc(s.choices, func(a, b *chatChoice) int { return a.index - b.index })
	finished := len(s.choices) > 0
	for _, ch := range s.choices {
		m := ch.message()
		finished = finished && m.Stop != ""
		c.Answer = append(c.Answer, m)
	}
	c.stops()
	c.Usage, c.Extra = openaiUsage(s.usage), s.extra.params()
	if c.Error == nil && !done && !finished {
		c.Error = in.stray()
	}
	c.Partial = c.Error == nil && !done && !finished || c.Error != nil && c.Answer != nil
}

// keptText returns the data of an event that is no JSON, nil if it is empty.
func keptText(e event) json.RawMessage {
	if e.raw != nil {
		return e.raw
	}
	if strings.TrimSpace(e.text) == "" {
		return nil
	}
	return quote(e.text)
}

// chunk reads an event.
func (s *chatStream) chunk(e event, status int) {
	o, c := e.data, s.c
	if err := chatError(o, status); err != nil {
		c.Error = err
		if o.text("object") == "error" || o.text("type") == "error" {
			return
		}
	} else if e.name == "error" {
		c.Error = &Error{Status: status}
		c.Error.read(o)
		return
	}
	if c.ID == "" {
		c.ID = o.text("id")
	}
	if c.Served == "" {
		c.Served = o.text("model")
	}
	if u := o.mark("usage"); u != nil {
		s.usage = u
	} else if u := o.object("x_groq").mark("usage"); u != nil {
		s.usage = u
	}
	s.extra.addAll(o, replaces, "id", "model", "usage", "choices", "error", "obfuscation")
	for i, raw := range o.list("choices") {
		choice := members(raw)
		if choice == nil {
			continue
		}
		if u := choice.mark("usage"); u != nil && s.usage == nil { // of Moonshot
			s.usage = u
		}
		ch := s.choice(choice.nth("index", i))
		ch.piece(choice)
		if c.FirstToken.IsZero() && ch.begun() {
			c.FirstToken = e.at
		}
	}
}

func (s *chatStream) choice(index int) *chatChoice {
	ch := s.byIndex[index]
	if ch == nil {
		ch = &chatChoice{index: index, byIndex: map[int]*chatCall{}}
		s.byIndex[index] = ch
		s.choices = append(s.choices, ch)
	}
	return ch
}

// begun reports whether there is content.
func (ch *chatChoice) begun() bool {
	return ch.content.Len()+ch.thinking.Len()+ch.refusal.Len()+len(ch.details)+len(ch.calls) > 0 || ch.heard || ch.function != nil
}

// piece reads an element of choices.
func (ch *chatChoice) piece(choice object) {
	if s := finish(choice); s != "" {
		ch.stop = s
	}
	ch.content.WriteString(choice.text("text")) // old completions
	ch.extra.addAll(choice, extends, "index", "delta", "message", "text", "finish_reason", "usage")
	delta := choice.object("delta")
	if delta == nil { // a server that streams the whole at once
		delta = choice.object("message")
	}
	if ch.role == "" {
		ch.role = delta.text("role")
	}
	ch.reason(delta)
	ch.say(delta.get("content"))
	ch.refusal.WriteString(delta.text("refusal"))
	if a := delta.object("audio"); a != nil {
		ch.heard = true
		ch.audio += base64Length(a.text("data"))
		ch.words.WriteString(a.text("transcript"))
		ch.audioExtra.addAll(a, replaces, "data", "transcript")
	}
	for i, raw := range delta.list("tool_calls") {
		ch.call(members(raw), i)
	}
	if f := delta.object("function_call"); f != nil {
		if ch.function == nil {
			ch.function = &chatCall{kind: "function_call"}
		}
		ch.function.piece(object{{"function", delta.get("function_call")}})
	}
	ch.extra.addAll(delta, appends, append(reasoningNames(), "role", "content", "refusal", "audio", "tool_calls", "function_call")...)
}

// say reads the content of a delta: text, or parts of Mistral's.
func (ch *chatChoice) say(raw json.RawMessage) {
	for _, b := range content(raw) {
		switch b.Kind {
		case Text:
			ch.content.WriteString(b.Text)
		case Refusal:
			ch.refusal.WriteString(b.Text)
		case Thinking:
			ch.thinkingName = b.Type
			ch.thinking.WriteString(b.Text)
		default:
			ch.parts = append(ch.parts, b)
		}
	}
}

// reason reads what a delta tells of thinking: text that goes on, details that
// do, and details that are whole.
func (ch *chatChoice) reason(delta object) {
	told := false
	for _, raw := range delta.list("reasoning_details") {
		b := reasoningDetail(raw)
		told = told || b.Text != ""
		ch.detail(members(raw), b)
	}
	if told {
		return
	}
	for _, name := range []string{"reasoning_content", "reasoning"} {
		if s := delta.text(name); s != "" {
			ch.thinkingName = name
			ch.thinking.WriteString(s)
			return
		}
	}
}

// A chatDetail is one of OpenRouter's reasoning_details.
type chatDetail struct {
	index string // as sent
	field string // that has the text
	kind  string
	text  strings.Builder
	rest  gatherer
}

func (ch *chatChoice) detail(o object, b Block) {
	if n := len(ch.details) - 1; n >= 0 && b.Type != "reasoning.encrypted" {
		if last := ch.details[n]; last.kind == b.Type && last.index == string(o.get("index")) {
			last.piece(o, b)
			return
		}
	}
	d := &chatDetail{kind: b.Type, index: string(o.get("index"))}
	d.piece(o, b)
	ch.details = append(ch.details, d)
}

func (d *chatDetail) piece(o object, b Block) {
	for _, name := range []string{"text", "summary"} {
		if o.text(name) != "" {
			d.field = name
		}
	}
	d.rest.addAll(o, replaces)
	d.text.WriteString(b.Text)
}

// block returns the detail as if it had come at once: who goes on with the
// conversation has to send signatures back.
func (d *chatDetail) block() Block {
	s := d.text.String()
	if d.field != "" {
		d.rest.add(d.field, quote(s), replaces)
	}
	return Block{Kind: Thinking, Type: d.kind, Text: s, Raw: object(d.rest.params()).raw()}
}

// message returns what came of the choice.
func (ch *chatChoice) message() Message {
	m := Message{Role: ch.role, Stop: ch.stop, Extra: ch.extra.params()}
	if m.Role == "" {
		m.Role = "assistant"
	}
	add := func(kind, name string, s *strings.Builder) {
		if s.Len() > 0 {
			m.Blocks = append(m.Blocks, Block{Kind: kind, Type: name, Text: s.String()})
		}
	}
	add(Thinking, ch.thinkingName, &ch.thinking)
	for _, d := range ch.details {
		m.Blocks = append(m.Blocks, d.block())
	}
	add(Text, "", &ch.content)
	add(Refusal, "refusal", &ch.refusal)
	m.Blocks = append(m.Blocks, ch.parts...)
	if ch.heard {
		b := Block{Kind: Audio, Type: "audio", Text: ch.words.String(), Size: ch.audio}
		b.Raw = object(ch.audioExtra.params()).raw()
		m.Blocks = append(m.Blocks, b)
	}
	slices.SortStableFunc(ch.calls, func(a, b *chatCall) int { return a.index - b.index })
	for _, call := range ch.calls {
		m.Blocks = append(m.Blocks, call.block())
	}
	if ch.function != nil {
		m.Blocks = append(m.Blocks, ch.function.block())
	}
	return m
}

// A chatCall is a call of a tool, as far as it came.
type chatCall struct {
	index          int
	kind, id, name string
	arguments      strings.Builder
	object         json.RawMessage // arguments that came as JSON
	extra          gatherer
}

// call finds the call that a fragment belongs to. An index tells it; without
// one, the place in the array. Some give all calls the same index, or none:
// a name with another id, or with arguments when there are whole ones, begins
// the next.
func (ch *chatChoice) call(o object, place int) {
	index := o.nth("index", place)
	call := ch.byIndex[index]
	f := o.object("function")
	if f == nil {
		f = o.object("custom")
	}
	id, name := o.text("id"), f.text("name")
	switch {
	case call == nil:
	case name != "" && id != "" && call.id != "" && id != call.id:
		call = nil
	case name != "" && !o.has("index") && id == "" && call.whole():
		call = nil
	}
	if call == nil {
		call = &chatCall{index: o.nth("index", len(ch.calls))}
		ch.byIndex[index] = call
		ch.calls = append(ch.calls, call)
	}
	call.piece(o)
}

// maxWhole bounds the arguments that are looked at while they grow.
const maxWhole = 1 << 16

// whole reports whether the arguments may be all that there are.
func (call *chatCall) whole() bool {
	s := call.arguments.String()
	return call.object != nil || len(s) < maxWhole && json.Valid([]byte(s))
}

// piece reads a fragment. What is repeated is told again, only arguments go on.
func (call *chatCall) piece(o object) {
	set := func(to *string, s string) {
		if s != "" {
			*to = s
		}
	}
	set(&call.id, o.text("id"))
	set(&call.kind, o.text("type"))
	f, custom := o.object("function"), o.object("custom")
	if f == nil {
		f = custom
	}
	set(&call.name, f.text("name"))
	if raw := f.get("arguments"); kind(raw) == '{' {
		call.object = raw
	} else {
		call.arguments.WriteString(text(raw))
	}
	if custom != nil {
		set(&call.kind, "custom")
		call.arguments.WriteString(custom.text("input"))
	}
	call.extra.addAll(o, extends, "index", "id", "type", "function", "custom")
}

// block returns the call. Raw is as it stands in a message, with what others
// add to it: signatures of Google, for one.
func (call *chatCall) block() Block {
	s := call.arguments.String()
	if call.kind == "function_call" {
		b := Block{Kind: ToolCall, Type: call.kind, Name: call.name}
		b.argumentText(s)
		return b
	}
	name, inner := "function", object{{"name", quote(call.name)}}
	switch {
	case call.kind == "custom":
		name, inner = "custom", inner.set("input", quote(s))
	case call.object != nil:
		inner = inner.set("arguments", call.object)
	default:
		inner = inner.set("arguments", quote(s))
	}
	var o object
	if call.id != "" {
		o = o.set("id", quote(call.id))
	}
	if call.kind != "" {
		o = o.set("type", quote(call.kind))
	}
	o = append(o.set(name, inner.raw()), call.extra.params()...)
	return chatToolCall(o.raw())
}

// times notes when the first content and the last event came.
func (c *Call) times(at time.Time, content bool) {
	c.Last = at
	if content && c.FirstToken.IsZero() {
		c.FirstToken = at
	}
}
