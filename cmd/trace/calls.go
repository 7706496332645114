package main

import (
	"math"
	"runtime"
	"strings"
	"sync"
	"time"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// A callSummary is what lists and counts want to know of a flow that is a call
// to a language model, or several on one WebSocket. It is kept beside the flow
// in the session file (see summariser), and stands as llm in the JSON of a
// flow: it holds nothing but what the record, which is redacted, tells.
type callSummary struct {
	Provider string     `json:"provider"`
	API      string     `json:"api"`
	Model    string     `json:"model"`
	Served   string     `json:"served_model,omitempty"`
	ID       string     `json:"response_id,omitempty"`
	Stream   bool       `json:"stream"`
	Stop     *string    `json:"stop_reason"`
	Usage    *callUsage `json:"usage"`
	Session  string     `json:"conversation,omitempty"`
	Previous string     `json:"previous_response_id,omitempty"`
	Error    *callError `json:"error,omitempty"`
	Partial  bool       `json:"partial,omitempty"`

	Thread *callThread `json:"thread,omitempty"`

	Messages  int `json:"messages"`             // of the request
	Tools     int `json:"tools,omitempty"`      // offered
	ToolCalls int `json:"tool_calls,omitempty"` // in the answer

	FirstToken *float64     `json:"first_token_ms,omitempty"`
	Rate       *float64     `json:"tokens_per_second,omitempty"`
	Context    *composition `json:"context_bytes,omitempty"`

	// Calls are all calls of a WebSocket with several. The fields above are
	// those of the last one then, usage and tool_calls the sums.
	Calls []callSummary `json:"calls,omitempty"`
}

// callUsage is llm.Usage as it stands in JSON.
type callUsage struct {
	Input      int64 `json:"input"`
	CacheRead  int64 `json:"cache_read"`
	CacheWrite int64 `json:"cache_write"`
	Output     int64 `json:"output"`
	Reasoning  int64 `json:"reasoning"`
}

// prompt is the whole of the request in tokens.
func (u *callUsage) prompt() int64 { return u.Input + u.CacheRead + u.CacheWrite }

func (u *callUsage) add(v *callUsage) {
	if v == nil {
		return
	}
	u.Input += v.Input
	u.CacheRead += v.CacheRead
	u.CacheWrite += v.CacheWrite
	u.Output += v.Output
	u.Reasoning += v.Reasoning
}

type callError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Status  int    `json:"status,omitempty"`
}

// recognised reports whether x is a call to a language model, as far as its
// head tells.
func recognised(x *flow.Exchange) bool {
	if x.Request == nil || x.Request.Head == nil || x.Kind != flow.KindWebSocket && x.Request.Head.Method != "POST" {
		return false
	}
	_, api := llm.Recognize(x.Request.Head)
	return api != ""
}

// isCall reports whether x is a call to a language model: by what was found
// out about it, else by its head.
func isCall(x *flow.Exchange) bool { return x.LLM != nil || recognised(x) }

// callOf returns what was found out about x, nil if it is no call or nobody
// has looked.
func callOf(x *flow.Exchange) *callSummary {
	s, _ := x.LLM.(*callSummary)
	return s
}

// summarize makes the summary of what llm.Read found; nil of nothing.
func summarize(x *flow.Exchange, calls []*llm.Call) *callSummary {
	if len(calls) == 0 {
		return nil
	}
	all := make([]callSummary, len(calls))
	for i, c := range calls {
		all[i] = summarizeOne(x, c)
	}
	if len(all) == 1 {
		return &all[0]
	}
	s := all[len(all)-1]
	s.Usage, s.ToolCalls, s.Rate, s.Calls = nil, 0, nil, all
	for i := range all {
		if all[i].Usage != nil {
			if s.Usage == nil {
				s.Usage = &callUsage{}
			}
			s.Usage.add(all[i].Usage)
		}
		s.ToolCalls += all[i].ToolCalls
	}
	return &s
}

// summarizeOne makes the summary of one call. It shares no memory with it: calls
// are large, and lists are long.
func summarizeOne(x *flow.Exchange, c *llm.Call) callSummary {
	s := callSummary{
		Provider: c.Provider, API: c.API, Model: strings.Clone(c.Model), Served: strings.Clone(c.Served), ID: strings.Clone(c.ID), Stream: c.Stream,
		Session: strings.Clone(c.Session), Previous: strings.Clone(c.Previous), Partial: c.Partial, Messages: len(c.Messages), Tools: len(c.Tools),
		Context: compose(c),
	}
	if s.Served == s.Model {
		s.Served = ""
	}
	if c.Stop != "" {
		s.Stop = new(strings.Clone(c.Stop))
	}
	if u := c.Usage; u != nil {
		s.Usage = &callUsage{u.Input, u.CacheRead, u.CacheWrite, u.Output, u.Reasoning}
	}
	if e := c.Error; e != nil {
		s.Error = &callError{strings.Clone(e.Type), strings.Clone(e.Message), e.Status}
	}
	for _, m := range c.Answer {
		for i := range m.Blocks {
			if m.Blocks[i].Kind == llm.ToolCall {
				s.ToolCalls++
			}
		}
	}
	if !c.FirstToken.IsZero() {
		s.FirstToken = flow.MS(max(0, c.FirstToken.Sub(askedAt(x, c))))
	}
	s.Rate = rateOf(x, c)
	return s
}

// askedAt returns when a call began: on a WebSocket not with its exchange.
func askedAt(x *flow.Exchange, c *llm.Call) time.Time {
	if c.Asked.IsZero() {
		return x.Started
	}
	return c.Asked
}

// leastRate is the shortest time over which tokens a second mean something.
const leastRate = time.Millisecond

// rateOf returns the tokens of the answer by the time in which they came: from
// the first to the last event, or of the whole exchange where it was no
// stream. nil if that is not known.
func rateOf(x *flow.Exchange, c *llm.Call) *float64 {
	if c.Usage == nil || c.Usage.Output < 2 || c.Partial || c.Error != nil {
		return nil
	}
	took := x.Duration()
	if !c.FirstToken.IsZero() {
		took = c.Last.Sub(c.FirstToken)
	}
	if took < leastRate {
		return nil
	}
	rate := math.Round(float64(c.Usage.Output)/took.Seconds()*10) / 10
	return &rate
}

// attachCalls finds out what there is to say about those of xs, all of the
// session of r, that are calls to language models: as it stands in the file,
// or by reading them where nobody has done so yet. What cannot be read is left
// without.
func attachCalls(r *store.Reader, xs []*flow.Exchange) {
	inParallel(attachStored(r, xs), func(x *flow.Exchange) { attachRead(r, x) })
}

// attachStored attaches what stands in the file, and returns the calls of which
// nothing does.
func attachStored(r *store.Reader, xs []*flow.Exchange) (missing []*flow.Exchange) {
	var ask []*flow.Exchange
	first, last := int64(math.MaxInt64), int64(0)
	for _, x := range xs {
		if recognised(x) {
			ask = append(ask, x)
			first, last = min(first, x.ID), max(last, x.ID)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	docs, _ := r.Annotations(first, last) // without them it takes longer
	for _, x := range ask {
		s, ok := decodeSummary(docs[x.ID])
		switch {
		case !ok:
			missing = append(missing, x)
		case s != nil:
			x.LLM = s
		}
	}
	return missing
}

func attachRead(r *store.Reader, x *flow.Exchange) {
	if s, err := readSummary(r, x.ID); err == nil && s != nil {
		x.LLM = s
	}
}

// readSummary makes the summary of a flow of all that was recorded of it; nil
// if it is no call after all.
func readSummary(r *store.Reader, id int64) (*callSummary, error) {
	read := readOne(r, id)
	if read.err != nil {
		return nil, read.err
	}
	return summarize(read.x, read.calls), nil
}

// inParallel calls fn for every x, on as many processors as there are.
func inParallel[T any](xs []T, fn func(T)) {
	n := min(runtime.GOMAXPROCS(0), len(xs))
	if n < 2 {
		for _, x := range xs {
			fn(x)
		}
		return
	}
	next := make(chan T)
	var working sync.WaitGroup
	for range n {
		working.Go(func() {
			for x := range next {
				fn(x)
			}
		})
	}
	for _, x := range xs {
		next <- x
	}
	close(next)
	working.Wait()
}
