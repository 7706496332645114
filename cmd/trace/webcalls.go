package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"trace/flow"
	"trace/llm"
	"trace/store"
	"trace/web"
)

// problem makes of the error of a command what the page can show.
func problem(err error) error {
	var known *web.Problem
	var usage usageError
	var exit exitError
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, store.ErrNoFlow):
		return &web.Problem{Status: http.StatusNotFound, Message: err.Error()}
	case errors.As(err, &usage):
		return &web.Problem{Status: http.StatusBadRequest, Message: err.Error()}
	case errors.As(err, &exit):
		return &web.Problem{Status: http.StatusConflict, Message: err.Error(), Hint: hintFor(err)}
	}
	return err
}

// calls are what was worked out of the calls of a session and does not change.
type webCalls struct {
	mu     sync.Mutex
	known  map[int64]*callSummary // of those that have ended, with their threads
	rows   map[int64]*callSummary // the same without
	links  map[int64][]llm.Link   // of those that go on: their requests tell
	titles map[string]string      // of conversations, by their first calls
	bodies []requestBody          // of those that were asked for last
}

// read keeps what was read of a call for a row. It is called with the lock held.
func (c *webCalls) read(id int64, s *callSummary) {
	if c.rows == nil {
		c.rows = map[int64]*callSummary{}
	}
	c.rows[id] = s
}

// A requestBody is the whole body of a request that has ended.
type requestBody struct {
	id   int64
	text []byte
}

// keptBodies is how many bodies of requests are kept, and how long they may be:
// whoever watches an answer come asks for the same one several times a second.
const (
	keptBodies  = 2
	maxKeptBody = 16 << 20
)

// detail is Reader.Detail, quicker for a flow that was asked for before.
func (r *webRecord) detail(id int64) (*flow.Detail, error) {
	x, err := r.Flow(id)
	if err != nil {
		return nil, err
	}
	if n := sizeOf(x); n > maxCallBytes {
		return nil, &web.Problem{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("flow %d: its bodies of %s are too long to be read as a call", id, bytesText(n))}
	}
	if x.Request == nil || x.RequestEnded.IsZero() {
		return r.Detail(id)
	}
	d := &flow.Detail{Exchange: *x}
	r.calls.mu.Lock()
	i := slices.IndexFunc(r.calls.bodies, func(b requestBody) bool { return b.id == id })
	if i >= 0 {
		d.RequestBody = r.calls.bodies[i].text
	}
	r.calls.mu.Unlock()
	if i < 0 {
		if d.RequestBody, err = r.Body(id, flow.Client); err != nil {
			return nil, err
		}
		r.calls.keep(requestBody{id, d.RequestBody})
	}
	if d.ResponseBody, err = r.Body(id, flow.Server); err != nil {
		return nil, err
	}
	if d.Events, err = r.Events(id); err != nil {
		return nil, err
	}
	d.Messages, err = r.Messages(id)
	return d, err
}

// keep keeps a body in place of the one that was kept first.
func (c *webCalls) keep(b requestBody) {
	if len(b.text) > maxKeptBody {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bodies) == keptBodies {
		c.bodies = slices.Delete(c.bodies, 0, 1)
	}
	c.bodies = append(c.bodies, b)
}

// summary says what there is to say of a flow's calls, with where they stand.
func (r *webRecord) summary(x *flow.Exchange, calls []*llm.Call) *callSummary {
	if doc, err := r.Annotation(x.ID); err == nil {
		if s, ok := decodeSummary(doc); ok && s != nil {
			return s
		}
	}
	r.calls.mu.Lock()
	s, links := r.calls.known[x.ID], r.calls.links[x.ID]
	r.calls.mu.Unlock()
	if s != nil {
		return s
	}
	if len(links) != len(calls) {
		links = searchLinks(r.Reader, x, calls)
	}
	s = summarize(x, calls)
	s.withThreads(links)
	r.calls.mu.Lock()
	defer r.calls.mu.Unlock()
	if ended(x) {
		if r.calls.known == nil {
			r.calls.known = map[int64]*callSummary{}
		}
		r.calls.known[x.ID] = s
		delete(r.calls.links, x.ID)
	} else {
		if r.calls.links == nil {
			r.calls.links = map[int64][]llm.Link{}
		}
		r.calls.links[x.ID] = links
	}
	return s
}

// A viewedCall is a call as the page shows it.
type viewedCall struct {
	State    string       `json:"state"` // of the flow
	Duration *float64     `json:"duration_ms"`
	Number   int          `json:"number,omitempty"` // of several calls on a WebSocket
	Of       int          `json:"of,omitempty"`
	Thread   *callThread  `json:"thread"`
	Turn     int          `json:"turn,omitempty"`
	Previous string       `json:"previous,omitempty"`
	NewFrom  int          `json:"new_from"` // the first message that the turn before had not
	Context  *composition `json:"context_bytes"`
	Rate     *float64     `json:"tokens_per_second,omitempty"`
	Cost     *viewedCost  `json:"cost"`
	Cache    any          `json:"cache"`
	Changes  []llm.Change `json:"changes,omitempty"` // what was changed since the turn before
	Shown    []viewedTurn `json:"messages,omitempty"`
}

type viewedTurn struct {
	jsonTurn
	New bool `json:"new"`
}

// A viewedCost is what a call cost.
type viewedCost struct {
	Amount   float64 `json:"amount"`
	Currency string  `json:"currency"`
}

func (r *webRecord) cost(s *callSummary) *viewedCost {
	if r.prices == nil || s == nil {
		return nil
	}
	amount, ok := r.prices.cost(s)
	if !ok {
		return nil
	}
	return &viewedCost{round(amount, 8), r.prices.Currency}
}

// requestMembers are those of a call that its request tells.
var requestMembers = []string{"params", "system", "tools", "messages"}

// viewCall is a call as far as it has come.
func viewCall(_ context.Context, rec web.Record, ref string, answer bool) (any, error) {
	r := rec.(*webRecord)
	arg, call, err := cutCall(ref)
	if err != nil {
		return nil, problem(err)
	}
	flowRef, err := parseFlowRef(arg, "")
	if err != nil {
		return nil, problem(err)
	}
	d, err := r.detail(flowRef.id)
	if err != nil {
		return nil, problem(err)
	}
	calls := llm.Read(d)
	if len(calls) == 0 {
		return nil, &web.Problem{Status: http.StatusNotFound, Message: fmt.Sprintf("flow %d: it is no call to a language model", d.ID)}
	}
	n, err := chooseCall(calls, call, d.ID)
	if err != nil {
		return nil, problem(err)
	}
	c, x := calls[n], &d.Exchange
	s := r.summary(x, calls)
	v := &viewedCall{State: x.State}
	if !x.Ended.IsZero() {
		v.Duration = flow.MS(x.Duration())
	}
	if len(calls) > 1 {
		v.Number, v.Of = n+1, len(calls)
	}
	if list := callsIn(s); n < len(list) {
		v.stand(r, list[n])
	}
	shown := *c
	if answer {
		shown.Params, shown.System, shown.Tools, shown.Messages = nil, nil, nil, nil
	} else if before := findBefore(r.Reader, d, calls, v.Thread); before != nil {
		v.compare(before, c)
	}
	v.mark(&shown)
	return v.join(toJSONCall(x, &shown), answer)
}

// stand says where the call stands.
func (v *viewedCall) stand(r *webRecord, s *callSummary) {
	v.Context, v.Rate, v.Cost = s.Context, s.Rate, r.cost(s)
	if v.Thread = s.Thread; v.Thread != nil {
		v.Turn, v.Previous = v.Thread.Turn, v.Thread.Previous
		v.NewFrom = v.Thread.Shared
	}
}

// findBefore returns the call before the one that stands at t; nil if there is
// none.
func findBefore(r *store.Reader, d *flow.Detail, calls []*llm.Call, t *callThread) *llm.Call {
	if t == nil {
		return nil
	}
	ref := parseRef(t.Previous)
	switch {
	case ref.IsZero():
	case ref.Flow == d.ID && ref.Call < len(calls):
		return calls[ref.Call]
	default:
		if e := findEarlier(r, &d.Exchange, t); e != nil {
			return e.call
		}
	}
	return nil
}

// compare says what became of the prompt cache, and why.
func (v *viewedCall) compare(before, c *llm.Call) {
	diff := llm.Compare(before, c)
	if diff.Cache.Result != "" {
		v.Cache = diff.Cache
	}
	for _, change := range diff.Changes {
		if change.What != llm.WasMarked {
			v.Changes = append(v.Changes, change)
		}
	}
}

// mark takes the messages over, those marked that are new in this turn.
func (v *viewedCall) mark(c *llm.Call) {
	v.NewFrom = min(v.NewFrom, len(c.Messages))
	for i, turn := range toJSONTurns(c.Messages) {
		v.Shown = append(v.Shown, viewedTurn{turn, i >= v.NewFrom})
	}
	c.Messages = nil
}

// join puts what is told here to the call as `flows show --json` prints it.
func (v *viewedCall) join(j *jsonCall, answer bool) (any, error) {
	text, err := flow.MarshalJSON(j)
	if err != nil {
		return nil, err
	}
	own, err := flow.MarshalJSON(v)
	if err != nil {
		return nil, err
	}
	members, _ := orderedMembers(text)
	more, _ := orderedMembers(own)
	members = slices.DeleteFunc(members, func(p llm.Param) bool {
		return p.Name == "messages" || answer && slices.Contains(requestMembers, p.Name)
	})
	if !answer && v.Shown == nil {
		more = append(more, llm.Param{Name: "messages", Value: json.RawMessage("[]")})
	}
	if answer { // of a part of the call nothing can be said that its request tells
		more = slices.DeleteFunc(more, func(p llm.Param) bool { return slices.Contains([]string{"new_from", "cache"}, p.Name) })
	}
	joined, err := jsonParams(append(members, more...)).MarshalJSON()
	return json.RawMessage(joined), err
}
