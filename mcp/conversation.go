package mcp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"trace/flow"
)

// maxCall bounds the bodies of what is read as a call, in bytes: all of it has to be
// in memory, several times.
const maxCall = 64 << 20

type conversationIn struct {
	inSession
	Flow    ref    `json:"flow,omitempty" jsonschema:"id of a call to a language model: 12, SESSION/12, 12#2 or last; without it the conversations of the session are listed"`
	Part    string `json:"part,omitempty" jsonschema:"messages (what is new in this turn, and the answer; or from where from says), system, tools, or answer"`
	From    *int   `json:"from,omitempty" jsonschema:"number of the message, block or tool to begin with; 0 is the first of the whole conversation"`
	Block   number `json:"block,omitempty" jsonschema:"the block to begin with in the first message"`
	Limit   number `json:"limit,omitempty" jsonschema:"how many"`
	MaxText number `json:"max_text,omitempty" jsonschema:"how much of each text, in bytes: 600 if left out, at most 16000"`
	Offset  number `json:"offset,omitempty" jsonschema:"where to begin in each text, in bytes: with limit 1, to read a long one on"`
	Cursor  string `json:"cursor,omitempty" jsonschema:"next_cursor of the list of conversations"`
}

// A block is a part of a message.
type block struct {
	Kind    string          `json:"kind"`
	Text    string          `json:"text,omitempty"`
	ID      string          `json:"id,omitempty"`
	Name    string          `json:"name,omitempty"`
	Input   json.RawMessage `json:"input,omitempty"`
	Content []block         `json:"content,omitempty"`
	IsError bool            `json:"is_error,omitempty"`
	Media   string          `json:"media_type,omitempty"`
	Size    int64           `json:"size,omitempty"`
}

type turn struct {
	Role   string  `json:"role"`
	Blocks []block `json:"blocks"`
	Stop   string  `json:"stop_reason"`
}

// A call is what a view tells of a call to a language model (docs/cli.md).
type call struct {
	State    string  `json:"state"`
	Provider string  `json:"provider"`
	API      string  `json:"api"`
	Model    string  `json:"model"`
	Served   string  `json:"served_model"`
	Previous string  `json:"previous"`
	Turn     int     `json:"turn"`
	NewFrom  int     `json:"new_from"`
	Stop     *string `json:"stop_reason"`
	Partial  bool    `json:"partial"`
	System   []block `json:"system"`
	Tools    []struct {
		Name        string          `json:"name"`
		Type        string          `json:"type"`
		Description string          `json:"description"`
		Schema      json.RawMessage `json:"input_schema"`
	} `json:"tools"`
	Messages []turn          `json:"messages"`
	Answer   []turn          `json:"answer"`
	Usage    *usage          `json:"usage"`
	Error    *callError      `json:"error"`
	Thread   json.RawMessage `json:"thread"`
	Cache    *cacheVerdict   `json:"cache"`
}

type usage struct {
	Input      int64 `json:"input"`
	CacheRead  int64 `json:"cache_read"`
	CacheWrite int64 `json:"cache_write"`
	Output     int64 `json:"output"`
	Reasoning  int64 `json:"reasoning"`
}

type callError struct {
	Status  int    `json:"status,omitempty"`
	Type    string `json:"type,omitempty"`
	Message string `json:"message,omitempty"`
}

type cacheVerdict struct {
	Result string `json:"result"`
	Why    string `json:"why,omitempty"`
}

// A said is a block as it is answered with: of one message of the conversation, of
// the system prompt, or a tool.
type said struct {
	N     int    `json:"n"` // of the message, block or tool
	Role  string `json:"role,omitempty"`
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"` // of a tool
	ID    string `json:"id,omitempty"`   // of a tool call, or of that which this answers
	Error bool   `json:"is_error,omitempty"`
	Bytes int    `json:"bytes"` // of all of the text
	Text  string `json:"text"`
}

type conversationOut struct {
	Session  string        `json:"session"`
	ID       string        `json:"id,omitempty"`
	State    string        `json:"state,omitempty"`
	Model    string        `json:"model,omitempty"`
	API      string        `json:"api,omitempty"`
	Turn     int           `json:"turn,omitempty"`
	Previous string        `json:"previous,omitempty"` // the turn before
	Usage    *usage        `json:"usage,omitempty"`
	Stop     string        `json:"stop_reason,omitempty"`
	Cache    *cacheVerdict `json:"cache,omitempty"`
	Error    *callError    `json:"error,omitempty"`
	System   int           `json:"system_bytes,omitempty"`
	Tools    int           `json:"tools,omitempty"`
	Messages int           `json:"messages,omitempty"`
	Said     []said        `json:"said,omitempty"`
	Answer   []said        `json:"answer,omitempty"`
	Threads  []thread      `json:"conversations,omitempty"`
	page
}

func (o *conversationOut) text() string {
	if o.Threads != nil {
		return o.threadsText()
	}
	list := []string{fmt.Sprintf("call %s/%s  %s (%s)  %s", o.Session, o.ID, o.Model, o.API, o.State)}
	if o.Previous != "" {
		list = append(list, fmt.Sprintf("turn %d, goes on from %s", o.Turn, o.Previous))
	}
	list = append(list, fmt.Sprintf("system prompt %s, %d tools, %d messages", bytesText(int64(o.System)), o.Tools, o.Messages))
	if u := o.Usage; u != nil {
		list = append(list, fmt.Sprintf("tokens: %d in (%d from cache, %d to cache), %d out", u.Input+u.CacheRead+u.CacheWrite, u.CacheRead, u.CacheWrite, u.Output))
	}
	if c := o.Cache; c != nil {
		list = append(list, fmt.Sprintf("prompt cache: %s. %s", c.Result, c.Why))
	}
	if e := o.Error; e != nil {
		list = append(list, fmt.Sprintf("error: %d %s: %s", e.Status, e.Type, e.Message))
	}
	for i := range o.Said {
		list = append(list, o.Said[i].line(""))
	}
	for i := range o.Answer {
		list = append(list, o.Answer[i].line("answer"))
	}
	return lines(append(list, named("stopped", o.Stop), o.page.text())...)
}

// line is a block for reading.
func (b *said) line(where string) string {
	words := []string{cmp.Or(where, fmt.Sprintf("[%d]", b.N)), b.Role}
	if b.Kind != "text" {
		words = append(words, b.Kind)
	}
	words = append(words, b.Name)
	if b.Error {
		words = append(words, "(error)")
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ") + ": " + b.Text
}

// flat makes what is said of a block, its text as a window of it.
func (in *conversationIn) flat(n int, role string, b *block) said {
	s := said{N: n, Role: role, Kind: b.Kind, Name: clip(b.Name, 100), ID: clip(b.ID, 80), Error: b.IsError}
	text := b.Text
	if len(b.Input) > 0 {
		text = strings.TrimSpace(text + " " + string(b.Input))
	}
	for i := range b.Content {
		inner := &b.Content[i]
		text = strings.TrimSpace(text + "\n" + cmp.Or(inner.Text, mediaText(inner)))
	}
	if text == "" && (b.Media != "" || b.Size > 0) {
		text = mediaText(b)
	}
	s.Bytes = len(text)
	return in.window(s, text)
}

func mediaText(b *block) string {
	return strings.TrimSpace(fmt.Sprintf("[%s %s %s]", b.Kind, b.Media, bytesText(b.Size)))
}

// window puts what of the text is wanted into s.
func (in *conversationIn) window(s said, text string) said {
	from := cut(text, int(min(int64(in.Offset), int64(len(text)))))
	s.Bytes, s.Text = len(text), clip(text[from:], in.MaxText.within(600, 16000))
	return s
}

// conversation reads a call as a chat, or lists the conversations of a session.
func (s *Server) conversation(ctx context.Context, in *conversationIn) (*conversationOut, error) {
	if in.Flow == "" {
		return s.conversations(ctx, in)
	}
	t, err := s.target(in.Session, in.Flow)
	if err != nil {
		return nil, err
	}
	defer t.Release()
	c, err := s.read(ctx, t, in.Part == "answer")
	if err != nil {
		return nil, err
	}
	out := &conversationOut{Session: t.id, ID: t.call, State: c.State, Model: clip(cmp.Or(c.Model, c.Served), 100), API: strings.TrimSpace(c.Provider + " " + c.API),
		Turn: c.Turn, Previous: c.Previous, Usage: c.Usage, Cache: c.Cache, Tools: len(c.Tools), Messages: len(c.Messages)}
	if c.Stop != nil {
		out.Stop = clip(*c.Stop, 100)
	}
	if c.Cache != nil {
		c.Cache.Why = clip(c.Cache.Why, 300)
	}
	if e := c.Error; e != nil {
		out.Error = &callError{e.Status, clip(e.Type, 100), clip(e.Message, 600)}
	}
	for i := range c.System {
		out.System += len(c.System[i].Text)
	}
	if c.Partial && c.State != flow.StateOpen {
		out.Notes = append(out.Notes, "the answer is cut off: it has no proper end")
	}
	in.room(out)
	return out, in.part(out, c)
}

// room is what is left in the budget for texts.
func (in *conversationIn) room(out *conversationOut) int {
	room := budget
	if in.Limit > 0 || in.MaxText > 600 {
		room = largeBudget
	}
	return room - sizeOf(out) - 400
}

// read reads a call.
func (s *Server) read(ctx context.Context, t *target, answer bool) (*call, error) {
	if err := t.small(); err != nil {
		return nil, err
	}
	text, err := s.Views.Call(ctx, t.Record, t.call, answer)
	if err != nil {
		return nil, err
	}
	c := &call{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("flow %s: call: %w", t.call, err)
	}
	return c, nil
}

// small reports a flow that is too large to be in memory.
func (t *target) small() error {
	n := t.x.Tally[flow.Client].Bytes + t.x.Tally[flow.Server].Bytes
	for _, p := range []*flow.Part{t.x.Request, t.x.Response} {
		if p != nil && p.Body != nil {
			n += max(p.Body.Size, p.Body.Kept, p.Body.Decoded)
		}
	}
	if n > maxCall {
		return &Problem{fmt.Sprintf("flow %d: its bodies of %s are too long to be read as a call, %s at most", t.x.ID, bytesText(n), bytesText(maxCall)),
			"show_flow with body and path, or offset and length, reads a part of it; flow_events its events"}
	}
	return nil
}

// part adds what is wanted of a call.
func (in *conversationIn) part(out *conversationOut, c *call) error {
	from, all := 0, []said{}
	if in.From != nil {
		from = max(0, *in.From)
	}
	switch in.Part {
	case "", "messages":
		if in.From == nil {
			if from = min(c.NewFrom, len(c.Messages)); from > 0 {
				out.Notes = append(out.Notes, fmt.Sprintf("messages 0 to %d are as in the turn before (%s): from=0 shows them", from-1, cmp.Or(c.Previous, "?")))
			}
		}
		for n := from; n < len(c.Messages); n++ {
			for i := range c.Messages[n].Blocks {
				if n == from && i < int(in.Block) {
					continue
				}
				all = append(all, in.flat(n, c.Messages[n].Role, &c.Messages[n].Blocks[i]))
			}
		}
	case "system":
		for n := from; n < len(c.System); n++ {
			all = append(all, in.flat(n, "system", &c.System[n]))
		}
	case "tools":
		for n := from; n < len(c.Tools); n++ {
			tool := &c.Tools[n]
			all = append(all, in.window(said{N: n, Kind: "tool", Name: clip(cmp.Or(tool.Name, tool.Type), 100)}, strings.TrimSpace(tool.Description+"\n"+string(tool.Schema))))
		}
	case "answer":
	default:
		return fmt.Errorf("part %q: want messages, system, tools or answer", clip(in.Part, 40))
	}
	var answer []said
	for n := range c.Answer {
		for i := range c.Answer[n].Blocks {
			answer = append(answer, in.flat(n, "", &c.Answer[n].Blocks[i]))
		}
	}
	if in.Part == "system" || in.Part == "tools" {
		answer = nil
	}
	in.fill(out, all, answer)
	return nil
}

// fill takes what there is room for: of the answer half of it is kept.
func (in *conversationIn) fill(out *conversationOut, all, answer []said) {
	room := in.room(out)
	for i, b := range answer {
		size := sizeOf(b) + 1
		if room -= size; room < 0 && i > 0 {
			out.Notes = append(out.Notes, fmt.Sprintf("%d more blocks of the answer: part=\"answer\" with a larger max_text or limit", len(answer)-i))
			room += size
			break
		}
		out.Answer = append(out.Answer, b)
	}
	limit := in.Limit.within(maxRows, 10*maxRows)
	for i, b := range all {
		if room -= sizeOf(b) + 1; i > 0 && (room < 0 || b.N-all[0].N >= limit) {
			part := cmp.Or(in.Part, "messages")
			if n := b.N; n == all[0].N { // blocks of one message
				out.Notes = append(out.Notes, fmt.Sprintf("%s from %d on, but for %d blocks: from=%d, block=%d", part, n, i, n, int(in.Block)+i))
			} else {
				out.Notes = append(out.Notes, fmt.Sprintf("%s from %d on: from=%d", part, n, n))
			}
			break
		}
		out.Said = append(out.Said, b)
	}
	for _, b := range append(out.Said, out.Answer...) {
		if int(in.Offset)+len(b.Text) < b.Bytes {
			out.Notes = append(out.Notes, "long texts are begun: max_text shows up to 16000 bytes of each; from, limit=1 and offset read one on")
			return
		}
	}
}

// A thread is a conversation in a list.
type thread struct {
	ID     string   `json:"id"` // its first call
	Title  string   `json:"title"`
	Agent  string   `json:"agent,omitempty"`
	Parent string   `json:"started_by,omitempty"` // the call that started a sub-agent
	Turns  int      `json:"turns"`
	Last   string   `json:"last"` // its newest call
	Models []string `json:"models"`
	Usage  *usage   `json:"tokens,omitempty"`
	Open   bool     `json:"open,omitempty"`
}

func (o *conversationOut) threadsText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "session %s, conversations, the newest first:\n", o.Session)
	for _, t := range o.Threads {
		fmt.Fprintf(&b, "#%s  %d turns, last #%s  %s  %s", t.ID, t.Turns, t.Last, strings.Join(t.Models, ", "), t.Title)
		if t.Parent != "" {
			fmt.Fprintf(&b, "  (started by #%s)", t.Parent)
		}
		b.WriteByte('\n')
	}
	if len(o.Threads) == 0 {
		b.WriteString("no calls to language models\n")
	}
	return lines(b.String(), o.page.text())
}

// conversations lists those of a session, the newest first.
func (s *Server) conversations(ctx context.Context, in *conversationIn) (*conversationOut, error) {
	rec, err := s.session(in.Session)
	if err != nil {
		return nil, err
	}
	defer rec.Release()
	text, err := s.Views.Conversations(ctx, rec.Record)
	if err != nil {
		return nil, err
	}
	var v struct {
		Threads []struct {
			ID     string   `json:"id"`
			Title  string   `json:"title"`
			Agent  string   `json:"agent"`
			Models []string `json:"models"`
			Usage  *usage   `json:"tokens"`
			Open   bool     `json:"open"`
			Calls  []string `json:"calls"`
			Parent *struct {
				Flow string `json:"flow"`
			} `json:"parent"`
		} `json:"threads"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("session %s: conversations: %w", rec.id, err)
	}
	out := &conversationOut{Session: rec.id, Threads: []thread{}}
	room, skip := roomFor(in.Limit)-200, in.Cursor != ""
	for i := len(v.Threads) - 1; i >= 0; i-- {
		l := &v.Threads[i]
		if skip {
			skip = l.ID != in.Cursor
			continue
		}
		t := thread{ID: l.ID, Title: clip(l.Title, 120), Agent: clip(l.Agent, 60), Turns: len(l.Calls), Last: l.ID, Usage: l.Usage, Open: l.Open,
			Models: append([]string{}, l.Models[:min(len(l.Models), 4)]...)}
		if t.Turns > 0 {
			t.Last = l.Calls[t.Turns-1]
		}
		if l.Parent != nil {
			t.Parent = l.Parent.Flow
		}
		if room -= sizeOf(t) + 1; len(out.Threads) > 0 && (room < 0 || len(out.Threads) == in.Limit.within(defaultRows, maxRows)) {
			out.more(out.Threads[len(out.Threads)-1].ID, "more conversations")
			break
		}
		out.Threads = append(out.Threads, t)
	}
	if len(out.Threads) > 0 {
		out.Notes = append(out.Notes, "conversation with flow=ID reads a call; the last one has all of the conversation")
	}
	return out, nil
}
