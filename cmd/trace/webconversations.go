package main

import (
	"cmp"
	"context"
	"slices"

	"trace/flow"
	"trace/llm"
	"trace/store"
	"trace/web"
)

// A webThread is a conversation with a model, or a call that stands by itself.
type webThread struct {
	ID     string      `json:"id"` // its first call
	Title  string      `json:"title"`
	Agent  string      `json:"agent,omitempty"`
	Parent *webParent  `json:"parent,omitempty"`
	Calls  []string    `json:"calls"`
	Turns  []webTurn   `json:"turns"`
	Usage  *callUsage  `json:"tokens"`
	Cost   *viewedCost `json:"cost"`
	Models []string    `json:"models"`
	Open   bool        `json:"open"` // a call of it goes on
}

// A webParent is the call whose answer started a sub-agent.
type webParent struct {
	Thread string `json:"thread"`
	Flow   string `json:"flow"`
	Tool   string `json:"tool,omitempty"`
	Name   string `json:"tool_name,omitempty"`
}

// A webTurn is a call in its conversation.
type webTurn struct {
	ID        string       `json:"id"`
	Turn      int          `json:"turn"`
	State     string       `json:"state"`
	Started   string       `json:"started"`
	Duration  *float64     `json:"duration_ms"`
	Model     string       `json:"model"`
	API       string       `json:"api"`
	Messages  int          `json:"messages"`
	Shared    int          `json:"shared_messages"`
	Tools     int          `json:"tool_calls"`
	Usage     *callUsage   `json:"usage"`
	Context   *composition `json:"context_bytes"`
	Cache     *webCache    `json:"cache"`
	Cost      *viewedCost  `json:"cost"`
	Retry     string       `json:"retry_of,omitempty"`
	Previous  string       `json:"previous,omitempty"`
	Compacted bool         `json:"compacted,omitempty"`
	Edited    bool         `json:"edited,omitempty"`
	Stop      *string      `json:"stop_reason"`
	Error     *callError   `json:"error"`
	Partial   bool         `json:"partial,omitempty"`
}

// A webCache is what the numbers of tokens tell of the prompt cache. Why it was
// missed the call itself says.
type webCache struct {
	Result   string `json:"result"`
	Expected bool   `json:"expected"`
	Stored   int64  `json:"stored_tokens"`
	Read     int64  `json:"read_tokens"`
	Prompt   int64  `json:"prompt_tokens"`
}

// The most that is read for one answer.
const (
	maxJoined = 8   // calls of which nothing is known yet, before all are joined at once
	maxTitles = 100 // first calls, for their titles
)

// viewConversations joins the calls of a session to conversations.
func viewConversations(ctx context.Context, rec web.Record) (any, error) {
	r := rec.(*webRecord)
	xs, err := r.Pick(store.Query{}, isCall)
	if err != nil {
		return nil, err
	}
	if err := r.summaries(ctx, xs); err != nil {
		return nil, problem(err)
	}
	var threads []*webThread
	by := map[string]*webThread{}
	home := map[string]string{} // conversations by their calls
	names := namesOfAgents(xs)
	for _, x := range xs {
		list := callsIn(callOf(x))
		for n, s := range list {
			id := refText(llm.Ref{Flow: x.ID, Call: n})
			first := id
			if s.Thread != nil && s.Thread.First != "" {
				first = s.Thread.First
			}
			home[id] = first
			t := by[first]
			if t == nil {
				t = &webThread{ID: first, Agent: names[first], Calls: []string{}, Models: []string{}}
				by[first] = t
				threads = append(threads, t)
			}
			t.add(r, x, s, id)
		}
	}
	for _, t := range threads {
		if t.Parent != nil {
			t.Parent.Thread = cmp.Or(home[t.Parent.Flow], t.Parent.Flow)
		}
		t.caches()
	}
	r.entitle(threads)
	return map[string]any{"threads": append([]*webThread{}, threads...)}, nil
}

// summaries attaches to xs, calls of this session, what there is to say of them.
func (r *webRecord) summaries(ctx context.Context, xs []*flow.Exchange) error {
	missing := attachStored(r.Reader, xs)
	r.calls.mu.Lock()
	missing = slices.DeleteFunc(missing, func(x *flow.Exchange) bool {
		s := r.calls.known[x.ID]
		if s != nil {
			x.LLM = s
		}
		return s != nil
	})
	r.calls.mu.Unlock()
	over := slices.DeleteFunc(slices.Clone(missing), func(x *flow.Exchange) bool { return !ended(x) })
	if len(over) > maxJoined {
		if _, err := joined(ctx, r.Reader, over); err != nil {
			return err
		}
		r.calls.mu.Lock()
		for _, x := range over {
			if s := callOf(x); s != nil {
				if r.calls.known == nil {
					r.calls.known = map[int64]*callSummary{}
				}
				r.calls.known[x.ID] = s
			}
		}
		r.calls.mu.Unlock()
		missing = slices.DeleteFunc(missing, ended)
	}
	for _, x := range missing {
		if err := ctx.Err(); err != nil {
			return err
		}
		read := readOne(r.Reader, x.ID)
		if read.err == nil && len(read.calls) > 0 {
			x.LLM = r.summary(read.x, read.calls)
		}
	}
	return nil
}

// add takes in a call.
func (t *webThread) add(r *webRecord, x *flow.Exchange, s *callSummary, id string) {
	turn := webTurn{ID: id, Turn: len(t.Turns) + 1, State: x.State, Started: flow.Stamp(x.Started), Model: cmp.Or(s.Model, s.Served), API: s.API, Messages: s.Messages,
		Tools: s.ToolCalls, Usage: s.Usage, Context: s.Context, Cost: r.cost(s), Stop: s.Stop, Error: s.Error, Partial: s.Partial && ended(x)}
	if !x.Ended.IsZero() {
		turn.Duration = flow.MS(x.Duration())
	}
	if th := s.Thread; th != nil {
		turn.Turn, turn.Shared, turn.Retry, turn.Previous, turn.Compacted, turn.Edited = th.Turn, th.Shared, th.RetryOf, th.Previous, th.Compacted, th.Edited
		if th.Parent != "" && t.Parent == nil {
			t.Parent = &webParent{Flow: th.Parent, Tool: th.ParentTool, Name: th.ParentName}
		}
	}
	t.Calls, t.Turns = append(t.Calls, id), append(t.Turns, turn)
	t.Open = t.Open || !ended(x)
	if turn.Model != "" && !slices.Contains(t.Models, turn.Model) {
		t.Models = append(t.Models, turn.Model)
	}
	if s.Usage != nil {
		if t.Usage == nil {
			t.Usage = &callUsage{}
		}
		t.Usage.add(s.Usage)
	}
	if turn.Cost != nil {
		if t.Cost == nil {
			t.Cost = &viewedCost{Currency: turn.Cost.Currency}
		}
		t.Cost.Amount = round(t.Cost.Amount+turn.Cost.Amount, 8)
	}
}

// caches says of each turn what its cache did, by what the one before had stored.
func (t *webThread) caches() {
	by := map[string]*webTurn{}
	for i := range t.Turns {
		turn := &t.Turns[i]
		by[turn.ID] = turn
		before := by[turn.Previous]
		if turn.Usage == nil || before == nil || before.Usage == nil {
			continue
		}
		c := &webCache{Result: llm.CacheUnknown, Stored: before.Usage.CacheRead + before.Usage.CacheWrite, Read: turn.Usage.CacheRead, Prompt: turn.Usage.prompt()}
		switch c.Expected = c.Stored > 0; {
		case c.Read > 0 && c.Read >= c.Stored:
			c.Result = llm.CacheHit
		case c.Read > 0:
			c.Result = llm.CachePartial
		case c.Expected:
			c.Result = llm.CacheMiss
		}
		turn.Cache = c
	}
}

// entitle names conversations by what was asked first in them.
func (r *webRecord) entitle(threads []*webThread) {
	var read []*webThread
	r.calls.mu.Lock()
	for _, t := range threads {
		title, known := r.calls.titles[t.ID]
		if t.Title = title; !known && len(read) < maxTitles {
			read = append(read, t)
		}
	}
	r.calls.mu.Unlock()
	inParallel(read, func(t *webThread) { t.Title = titleOf(r.Reader, parseRef(t.ID)) })
	r.calls.mu.Lock()
	defer r.calls.mu.Unlock()
	for _, t := range read {
		if r.calls.titles == nil {
			r.calls.titles = map[string]string{}
		}
		if t.Title != "" || !t.Open { // else there may be more to read soon
			r.calls.titles[t.ID] = t.Title
		}
	}
}

// maxTitle bounds a title, in columns.
const maxTitle = 120

// titleOf is the beginning of what was asked first in a call.
func titleOf(r *store.Reader, ref llm.Ref) string {
	read := readOne(r, ref.Flow)
	if read.err != nil || ref.Call >= len(read.calls) {
		return ""
	}
	ms := read.calls[ref.Call].Messages
	for i := range ms {
		if ms[i].Role != "user" {
			continue
		}
		for j := range ms[i].Blocks {
			if b := &ms[i].Blocks[j]; b.Kind == llm.Text {
				for _, part := range promptParts(b.Text) {
					if text := firstLine(part.text); part.tag == "" && text != "" {
						return shorten(text, maxTitle)
					}
				}
			}
		}
	}
	return ""
}
