package llm

import (
	"encoding/json"
	"strings"
)

// responsesAnswer reads an answer of Responses over HTTP.
func (c *Call) responsesAnswer(in *input) {
	if c.Error = in.failure(); c.Error != nil {
		return
	}
	if in.streamed() {
		s := newResponsesStream(c, in.request, in.status)
		for _, e := range in.events {
			s.event(e)
		}
		if c.Error == nil && !s.ended {
			c.Error = in.stray()
		}
		s.end()
		return
	}
	o := members(in.answer)
	if o == nil {
		c.Error = in.stray()
		c.Partial = c.Error == nil
		return
	}
	if o.text("object") == "" && o.get("output") == nil {
		if e := chatError(o, in.status); e != nil {
			c.Error = e
			return
		}
	}
	c.response(o, o.list("output"), in.request, in.status)
	c.Partial = c.Partial || !in.whole
}

// response reads the response object with the items of its output.
func (c *Call) response(o object, output []json.RawMessage, request object, status int) {
	if c.said(items(output)); o.text("object") == "response.compaction" {
		c.Answer = items(output) // a conversation
	}
	c.responseHead(o, request, status)
}

// said makes one answer of the messages that items are.
func (c *Call) said(messages []Message) {
	for i, m := range messages {
		if i == 0 {
			m.Role = "assistant"
			c.Answer = []Message{m}
			continue
		}
		c.Answer[0].Blocks = append(c.Answer[0].Blocks, m.Blocks...)
		c.Answer[0].Extra = append(c.Answer[0].Extra, m.Extra...)
	}
}

// responseHead reads what the response object says beside its output. It
// repeats the request: what is the same there is not told again.
func (c *Call) responseHead(o, request object, status int) {
	if s := o.text("model"); s != "" {
		c.Served = s
	}
	if s := o.text("id"); s != "" {
		c.ID = s
	}
	if u := openaiUsage(o.get("usage")); u != nil {
		c.Usage = u
	}
	if c.Previous == "" {
		c.Previous = o.text("previous_response_id")
	}
	if c.Session == "" {
		c.Session = o.object("conversation").text("id")
	}
	if e := o.object("error"); e != nil {
		c.Error = &Error{Status: status}
		c.Error.read(object{{"error", o.get("error")}})
		c.Error.Type = e.text("code")
		if c.Error.Type == "" {
			c.Error.Type = e.text("type")
		}
		c.Error.Raw = o.get("error")
	}
	switch s := o.text("status"); s {
	case "completed", "incomplete", "":
		c.Stop = o.object("incomplete_details").text("reason")
		if c.Stop == "" && s == "incomplete" {
			c.Stop = s
		}
		if c.Stop == "" && o.text("object") != "response.compaction" {
			c.Stop = c.derivedStop()
		}
	case "in_progress", "queued":
		c.Partial = true
	default:
		c.Stop = s
	}
	read := []string{"id", "model", "output", "usage", "error", "previous_response_id", "conversation"}
	if request.has("tools") {
		read = append(read, "tools")
	}
	if request.has("instructions") {
		read = append(read, "instructions")
	}
	asked := map[string]json.RawMessage{}
	for _, m := range request {
		asked[m.Name] = m.Value
	}
	for _, p := range merged(nil, o, read...) {
		if string(p.Value) != string(asked[p.Name]) {
			c.Extra = append(c.Extra, p)
		}
	}
}

// derivedStop says why an answer ended whose API does not: "tool_call" where a
// tool of the client has to run before it goes on, else "stop".
func (c *Call) derivedStop() string {
	for _, m := range c.Answer {
		for _, b := range m.Blocks {
			if b.Kind == ToolCall && !b.Server && !m.answered(b.ID) {
				return "tool_call"
			}
		}
	}
	return "stop"
}

// answered reports whether the result of a call stands in the same message.
func (m *Message) answered(id string) bool {
	for _, b := range m.Blocks {
		if b.Kind == ToolResult && b.ID == id && id != "" {
			return true
		}
	}
	return false
}

// A responsesStream puts a response together from its events.
type responsesStream struct {
	c        *Call
	request  object
	status   int // of HTTP
	items    []*responsesItem
	byIndex  map[int]*responsesItem
	byID     map[string]*responsesItem
	response object // as the last event that has one tells it
	ended    bool
	words    strings.Builder // spoken, outside of items
	sound    int64           // bytes of it
}

func newResponsesStream(c *Call, request object, status int) *responsesStream {
	return &responsesStream{c: c, request: request, status: status, byIndex: map[int]*responsesItem{}, byID: map[string]*responsesItem{}}
}

// item returns the item that an event is about, by its place in the output.
func (s *responsesStream) item(o object) *responsesItem {
	index := o.nth("output_index", len(s.items))
	id := o.text("item_id")
	if id == "" {
		id = o.object("item").text("id")
	}
	it := s.byIndex[index]
	if !o.has("output_index") && s.byID[id] != nil {
		it = s.byID[id]
	}
	if it == nil {
		it = &responsesItem{index: index}
		if id != "" {
			it.o = it.o.set("id", quote(id))
			s.byID[id] = it
		}
		s.byIndex[index] = it
		s.items = append(s.items, it)
	}
	return it
}

// event reads an event of SSE, or a message of the server on a WebSocket.
func (s *responsesStream) event(e event) {
	c, o := s.c, e.data
	if o == nil {
		if t := strings.TrimSpace(e.text); t != "" && t != "[DONE]" {
			c.Extra = append(c.Extra, Param{"event", keptText(e)})
		}
		return
	}
	t := o.text("type")
	if t == "" {
		t = e.name
	}
	if r := o.object("response"); r != nil {
		s.response = r
	}
	c.times(e.at, strings.HasSuffix(t, ".delta") || t == "response.output_item.done")
	switch t {
	case "response.created", "response.queued", "response.in_progress":
	case "response.completed", "response.incomplete", "response.failed", "response.done", "response.cancelled":
		s.ended = true
		c.times(e.at, len(s.response.list("output")) > 0) // one that sends no pieces
	case "error":
		c.Error = &Error{Status: s.status}
		c.Error.read(o)
		if code := o.text("code"); code != "" {
			c.Error.Type = code
		}
	case "response.output_item.added", "response.output_item.done":
		s.item(o).set(o.get("item"), strings.HasSuffix(t, "done"))
	case "response.audio.delta":
		s.sound += base64Length(o.text("delta"))
	case "response.audio.transcript.delta":
		s.words.WriteString(o.text("delta"))
	case "response.audio.done", "response.audio.transcript.done":
	default:
		if !s.delta(t, o) && !progress(t) {
			c.Extra = append(c.Extra, Param{t, e.raw})
		}
	}
}

// progress reports whether an event only says how far something is.
func progress(t string) bool {
	switch t {
	case "keepalive", "ping", "response.compaction.compacting", "response.heartbeat":
		return true
	}
	for _, tool := range []string{"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call", "mcp_list_tools"} {
		if rest, ok := strings.CutPrefix(t, "response."+tool+"."); ok {
			switch rest {
			case "in_progress", "searching", "interpreting", "generating", "partial_image", "completed", "failed":
				return true
			}
		}
	}
	return false
}

// end makes the answer of what came. The last list of items counts, unless it
// is empty: some servers leave it so.
func (s *responsesStream) end() {
	c := s.c
	output := s.response.list("output")
	if !s.ended || len(output) == 0 {
		var messages []Message
		for _, it := range s.items {
			messages = append(messages, item(it.raw()))
		}
		c.said(messages)
	} else {
		c.said(items(output))
	}
	if s.sound > 0 || s.words.Len() > 0 {
		c.add(Block{Kind: Audio, Type: "audio", Text: s.words.String(), Size: s.sound})
	}
	if s.response != nil {
		c.responseHead(s.response, s.request, s.status)
	}
	if !s.ended {
		c.Stop = ""
	}
	c.Partial = !s.ended && (c.Error == nil || c.Answer != nil)
}

// add adds a block to the answer.
func (c *Call) add(b Block) {
	if len(c.Answer) == 0 {
		c.Answer = []Message{{Role: "assistant"}}
	}
	c.Answer[0].Blocks = append(c.Answer[0].Blocks, b)
}
