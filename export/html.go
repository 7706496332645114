package export

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"trace/flow"
	"trace/llm"
	"trace/redact"
)

// An HTML writes the conversations with language models as one page, which
// needs nothing but itself and runs nothing: no script of ours, and none that was
// captured. Each turn is shown once, tool calls stand with their results. What a
// session recorded without redaction is redacted here.
type HTML struct {
	W io.Writer
	// Only names flows: the conversations that they belong to are written, with
	// those of sub-agents. Empty: all are.
	Only []int64

	source  Source
	session flow.Session
	gate    *redact.Redactor // nil: it is redacted already
	threads llm.Threads
	order   []*conversation
	by      map[llm.Ref]*conversation
}

// ErrNoCalls is returned by End where there is nothing to show.
var ErrNoCalls = errors.New("none of these flows is a call to a language model")

// A conversation is what the page shows of one.
type conversation struct {
	Session  string
	Anchor   string
	Title    string
	Parent   string // anchor of the conversation that started this one
	Via      string // the tool that did
	Calls    int
	Models   []string
	Usage    llm.Usage
	Counted  bool // a usage was told
	Started  time.Time
	Ended    time.Time
	Entries  []entry
	parent   llm.Ref
	flows    map[int64]bool
	calls    map[string]*block // of tools, by id, that have no result yet
	system   string
	toolList string
}

// An entry is a part of a conversation: a note, a call's facts, a message, the
// system prompt or the tools.
type entry struct {
	Note   string
	Call   *callFacts
	Role   string
	Blocks []*block
	Tools  []listedTool
	Title  string // of what is folded: system prompt, tools
}

type callFacts struct {
	ID, Model, At, Took, First, Stop, Error string
	Usage                                   *llm.Usage
	Failed                                  bool
}

type listedTool struct{ Name, Description, Schema string }

// A block is a part of a message as the page shows it.
type block struct {
	Kind    string
	Label   string
	Text    string
	Image   string // data URI of an image
	Error   bool
	Cache   bool
	Inner   []*block // of results and documents
	Results []*block // of a tool call
}

// From says of which session the next flows are.
func (h *HTML) From(s flow.Session, src Source) error {
	h.source, h.session, h.gate = src, s, nil
	h.threads, h.by = llm.Threads{}, map[llm.Ref]*conversation{}
	if s.Secrets {
		var key [32]byte
		rand.Read(key[:]) // never fails
		h.gate = redact.New(key)
	}
	return nil
}

// Flow takes the calls that a flow holds.
func (h *HTML) Flow(x *flow.Exchange) error {
	if x.Request == nil || x.Request.Head == nil {
		return ErrNoPlace
	}
	if provider, api := llm.Recognize(x.Request.Head); provider == "" && api == "" {
		return ErrNoPlace
	}
	d, err := detailOf(x, h.source)
	if err != nil {
		return &BodyError{x.ID, err}
	}
	if h.gate != nil {
		h.redact(d)
	}
	calls := llm.Read(d)
	if len(calls) == 0 {
		return ErrNoPlace
	}
	process := ""
	if x.Conn.Process != nil {
		process = x.Conn.Process.Name()
	}
	for i, c := range calls {
		ref := llm.Ref{Flow: x.ID, Call: i}
		link := h.threads.Add(llm.Turn{Ref: ref, Started: x.Started, Ended: x.Ended, Process: process, Call: c})
		h.turn(x, c, link)
	}
	return nil
}

// detailOf reads all that there is of a flow; with an error what came before it.
func detailOf(x *flow.Exchange, src Source) (*flow.Detail, error) {
	d := &flow.Detail{Exchange: *x}
	for side, to := range []*[]byte{&d.RequestBody, &d.ResponseBody} {
		var b bytes.Buffer
		if _, err := src.WriteBody(&b, x.ID, flow.Side(side)); err != nil {
			return d, err
		}
		*to = b.Bytes()
	}
	err := src.Pieces(x.ID, func(p flow.Piece) error {
		p.Data = bytes.Clone(p.Data)
		if x.IsWebSocket() {
			d.Messages = append(d.Messages, p)
		} else {
			d.Events = append(d.Events, p)
		}
		return nil
	})
	return d, err
}

// redact passes a flow that was recorded with its secrets through the gate.
func (h *HTML) redact(d *flow.Detail) {
	for side, part := range []*flow.Part{d.Request, d.Response} {
		if part == nil || part.Head == nil {
			continue
		}
		redacted := *part
		redacted.Head, _ = h.gate.Head(part.Head, side == int(flow.Server))
		if side == int(flow.Client) {
			d.Request = &redacted
		} else {
			d.Response = &redacted
		}
	}
	d.RequestBody, _ = h.gate.Body(d.Request.ContentType, d.RequestBody)
	if d.Response != nil {
		d.ResponseBody, _ = h.gate.Body(d.Response.ContentType, d.ResponseBody)
		d.Events = h.pieces(d.Events, func(s flow.Side) *redact.Events { return h.gate.EventsOf(d.Framing(s), d.Response.ContentType) })
	}
	d.Messages = h.pieces(d.Messages, func(flow.Side) *redact.Events { return h.gate.Messages() })
}

func (h *HTML) pieces(ps []flow.Piece, gate func(flow.Side) *redact.Events) []flow.Piece {
	var gates [2]*redact.Events
	var at [2][]int // where the pieces of a side stand in ps
	apply := func(side flow.Side, outs []redact.Out) {
		for _, o := range outs {
			ps[at[side][o.Index]].Data = bytes.Clone(o.Raw)
		}
	}
	for i := range ps {
		side := ps[i].Side
		if gates[side] == nil {
			gates[side] = gate(side)
		}
		at[side] = append(at[side], i)
		apply(side, gates[side].Event(ps[i].Data))
	}
	for side, g := range gates {
		if g != nil {
			apply(flow.Side(side), g.Close())
		}
	}
	return ps
}

// turn adds a call to its conversation.
func (h *HTML) turn(x *flow.Exchange, c *llm.Call, link llm.Link) {
	v := h.by[link.Conversation]
	if v == nil {
		v = &conversation{Session: h.session.ID, Started: x.Started, flows: map[int64]bool{}, calls: map[string]*block{}, parent: link.Parent, Via: link.ParentName}
		v.Anchor = fmt.Sprintf("c%d-%d", len(h.order)+1, link.Conversation.Flow)
		h.by[link.Conversation] = v
		h.order = append(h.order, v)
	}
	v.flows[x.ID] = true
	v.Calls++
	v.Ended = x.Ended
	if model := cmp.Or(c.Model, c.Served); model != "" && !slices.Contains(v.Models, model) {
		v.Models = append(v.Models, model)
	}
	if parent, ok := h.threads.Link(link.Parent); ok && h.by[parent.Conversation] != nil && v.Parent == "" {
		v.Parent = h.by[parent.Conversation].Anchor
	}
	v.surroundings(c)
	switch {
	case !link.Retry.IsZero():
		v.note(fmt.Sprintf("repeats call %d", link.Retry.Flow))
	case link.Compacted:
		v.note("the history before was replaced by a summary")
	case link.Edited:
		v.note(fmt.Sprintf("goes on from call %d, of which something was changed", link.Previous.Flow))
	}
	messages := c.Messages
	if link.Retry.IsZero() {
		messages = messages[min(link.Shared, len(messages)):]
	} else {
		messages = nil
	}
	for i := range messages {
		v.message(&messages[i])
	}
	v.facts(x, c)
	for i := range c.Answer {
		v.message(&c.Answer[i])
	}
	if v.Title == "" {
		v.Title = titleOf(c.Messages)
	}
	if u := c.Usage; u != nil {
		v.Counted = true
		v.Usage.Input += u.Input
		v.Usage.CacheRead += u.CacheRead
		v.Usage.CacheWrite += u.CacheWrite
		v.Usage.Output += u.Output
		v.Usage.Reasoning += u.Reasoning
	}
}

// titleOf is the beginning of what was asked first.
func titleOf(ms []llm.Message) string {
	for i := range ms {
		if ms[i].Role != "user" {
			continue
		}
		for _, b := range ms[i].Blocks {
			text := strings.TrimSpace(b.Text)
			if b.Kind != llm.Text || text == "" || strings.HasPrefix(text, "<") {
				continue
			}
			line, _, _ := strings.Cut(text, "\n")
			if rs := []rune(line); len(rs) > 100 {
				line = string(rs[:100]) + "…"
			}
			return harmless(line)
		}
	}
	return ""
}

func (v *conversation) note(s string) { v.Entries = append(v.Entries, entry{Note: s}) }

// surroundings adds system prompt and tools, where they are new.
func (v *conversation) surroundings(c *llm.Call) {
	if text := fingerprint(c.System); text != v.system && len(c.System) > 0 {
		e := entry{Title: "System prompt"}
		if v.system != "" {
			e.Title = "System prompt, changed"
		}
		for i := range c.System {
			e.Blocks = append(e.Blocks, v.block(&c.System[i]))
		}
		v.Entries, v.system = append(v.Entries, e), text
	}
	if text := fingerprint(c.Tools); text != v.toolList && len(c.Tools) > 0 {
		e := entry{Title: fmt.Sprintf("%d tools", len(c.Tools))}
		if len(c.Tools) == 1 {
			e.Title = "1 tool"
		}
		if v.toolList != "" {
			e.Title += ", changed"
		}
		for _, t := range c.Tools {
			e.Tools = append(e.Tools, listedTool{harmless(t.Name), harmless(t.Description), indented(t.Schema)})
		}
		v.Entries, v.toolList = append(v.Entries, e), text
	}
}

// fingerprint tells whether system prompts or tools are the same.
func fingerprint(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// message adds a message. Results of tools go to their calls.
func (v *conversation) message(m *llm.Message) {
	e := entry{Role: harmless(m.Role)}
	for i := range m.Blocks {
		b := v.block(&m.Blocks[i])
		if m.Blocks[i].Kind == llm.ToolResult {
			if call := v.calls[m.Blocks[i].ID]; call != nil {
				call.Results = append(call.Results, b)
				continue
			}
		}
		e.Blocks = append(e.Blocks, b)
	}
	if len(e.Blocks) > 0 {
		v.Entries = append(v.Entries, e)
	}
}

func (v *conversation) facts(x *flow.Exchange, c *llm.Call) {
	at := c.Asked
	if at.IsZero() {
		at = x.Started
	}
	f := &callFacts{ID: fmt.Sprint(x.ID), Model: harmless(cmp.Or(c.Served, c.Model)), At: at.UTC().Format("2006-01-02 15:04:05Z"), Stop: harmless(c.Stop), Usage: c.Usage}
	if !x.Ended.IsZero() {
		f.Took = x.Ended.Sub(x.Started).Round(time.Millisecond).String()
	}
	if !c.FirstToken.IsZero() {
		f.First = c.FirstToken.Sub(at).Round(time.Millisecond).String()
	}
	switch {
	case c.Error != nil:
		f.Error, f.Failed = harmless(strings.TrimSpace(c.Error.Type+": "+c.Error.Message)), true
	case x.Error != nil:
		f.Error, f.Failed = harmless(x.Error.Message), true
	case c.Partial && x.State == flow.StateOpen:
		f.Error = "still going on"
	case c.Partial:
		f.Error, f.Failed = "the answer has no proper end", true
	}
	v.Entries = append(v.Entries, entry{Call: f})
}

// End writes the page.
func (h *HTML) End() error {
	var shown []*conversation
	wanted := map[string]bool{}
	for _, v := range h.order {
		belongs := len(h.Only) == 0 || wanted[v.Parent]
		for _, id := range h.Only {
			belongs = belongs || v.flows[id]
		}
		if belongs {
			wanted[v.Anchor] = true
			shown = append(shown, v)
		}
	}
	if len(shown) == 0 {
		return ErrNoCalls
	}
	return writePage(h.W, shown)
}
