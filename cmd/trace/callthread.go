package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// A callThread says where a call stands among the others of its session, as it
// stands in JSON and in the session file. Calls are named by their flows; of
// several on one WebSocket, those after the first as FLOW#2, FLOW#3, ….
type callThread struct {
	First      string `json:"first"` // call of the conversation
	Turn       int    `json:"turn"`
	Previous   string `json:"previous,omitempty"`
	Shared     int    `json:"shared_messages,omitempty"` // with previous and its answer
	RetryOf    string `json:"retry_of,omitempty"`
	Parent     string `json:"parent,omitempty"` // whose answer started this one as a sub-agent's
	ParentTool string `json:"parent_tool,omitempty"`
	ParentName string `json:"parent_tool_name,omitempty"`
	Compacted  bool   `json:"compacted,omitempty"` // the history was replaced by a summary
	Edited     bool   `json:"edited,omitempty"`    // what both share was changed
}

func threadOf(l llm.Link) *callThread {
	return &callThread{First: refText(l.Conversation), Turn: l.Turn, Previous: refText(l.Previous), Shared: l.Shared, RetryOf: refText(l.Retry),
		Parent: refText(l.Parent), ParentTool: l.ParentTool, ParentName: l.ParentName, Compacted: l.Compacted, Edited: l.Edited}
}

// refText names a call; "" for none.
func refText(r llm.Ref) string {
	switch {
	case r.IsZero():
		return ""
	case r.Call == 0:
		return fmt.Sprint(r.Flow)
	}
	return fmt.Sprintf("%d#%d", r.Flow, r.Call+1)
}

// parseRef reads what refText wrote; zero for anything else.
func parseRef(s string) llm.Ref {
	id, n, several := strings.Cut(s, "#")
	r := llm.Ref{}
	var err error
	if r.Flow, err = strconv.ParseInt(id, 10, 64); err != nil {
		return llm.Ref{}
	}
	if several {
		if r.Call, err = strconv.Atoi(n); err != nil || r.Call < 1 {
			return llm.Ref{}
		}
		r.Call--
	}
	return r
}

// cutCall splits an ID as refText writes it into that of the flow and the number
// of the call, from 1; 0 where it names none.
func cutCall(arg string) (id string, call int, err error) {
	at := strings.LastIndexByte(arg, '#')
	if at <= strings.LastIndexByte(arg, '/') {
		return arg, 0, nil
	}
	call, err = strconv.Atoi(arg[at+1:])
	if err != nil || call < 1 {
		return "", 0, exitError{1, fmt.Errorf("no flow %q: what stands behind # is the number of a call on a WebSocket, from 1", printable(arg))}
	}
	return arg[:at], call, nil
}

// chooseCall returns the index of the call that cutCall has found in an ID, of
// those of flow id; the last one for 0.
func chooseCall(calls []*llm.Call, call int, id int64) (int, error) {
	switch {
	case call == 0:
		return len(calls) - 1, nil
	case len(calls) == 0:
		return 0, exitError{1, fmt.Errorf("flow %d is no call to a language model: see 'trace flows list --llm'", id)}
	case call > len(calls):
		return 0, exitError{1, fmt.Errorf("no call %d#%d: flow %[1]d has %[3]s to language models", id, call, count(int64(len(calls)), "call"))}
	}
	return call - 1, nil
}

// thread adds the calls of one flow to threads.
func thread(t *llm.Threads, x *flow.Exchange, calls []*llm.Call) []llm.Link {
	links := make([]llm.Link, len(calls))
	for i, c := range calls {
		turn := llm.Turn{Ref: llm.Ref{Flow: x.ID, Call: i}, Started: x.Started, Ended: x.Ended, Process: processText(x.Conn.Process), Call: c}
		links[i] = t.Add(turn)
	}
	return links
}

// withThreads notes in a summary where its calls stand.
func (s *callSummary) withThreads(links []llm.Link) {
	if s == nil || len(links) == 0 {
		return
	}
	s.Thread = threadOf(links[len(links)-1])
	for i := range s.Calls {
		s.Calls[i].Thread = threadOf(links[i])
	}
}

// attachThreads is attachCalls with where the calls stand: as it is in the file
// or, where it is missing of one that has ended, by reading all calls of the
// session once.
func attachThreads(r *store.Reader, xs []*flow.Exchange) error {
	missing := attachStored(r, xs)
	missing = slices.DeleteFunc(missing, func(x *flow.Exchange) bool {
		if !ended(x) { // what it goes on from is told when it has ended
			attachRead(r, x)
		}
		return !ended(x)
	})
	if len(missing) == 0 {
		return nil
	}
	_, err := joined(context.Background(), r, xs)
	return err
}

// joined joins all calls of the session of r to conversations, and fills in
// where those of xs stand.
func joined(ctx context.Context, r *store.Reader, xs []*flow.Exchange) (*llm.Threads, error) {
	all, err := r.Pick(store.Query{}, isCall)
	if err != nil {
		return nil, err
	}
	by := map[int64]*flow.Exchange{}
	for _, x := range xs {
		by[x.ID] = x
	}
	var threads llm.Threads
	return &threads, eachCall(r, all, func(read readCall) error {
		if err := ctx.Err(); err != nil || read.err != nil {
			return err
		}
		links := thread(&threads, read.x, read.calls)
		if x := by[read.x.ID]; x != nil && len(read.calls) > 0 {
			s := summarize(read.x, read.calls)
			s.withThreads(links)
			x.LLM = s
		}
		return nil
	})
}

// findThread says where the first of calls, those of x, stands.
func findThread(r *store.Reader, x *flow.Exchange, calls []*llm.Call) *callThread {
	if t := storedThread(r, x.ID); t != nil {
		return t
	}
	return searchThread(r, x, calls)
}

// findEarlier returns the turn that came before the one at t, which is of the
// flow x; nil if there is none, or it was deleted.
func findEarlier(r *store.Reader, x *flow.Exchange, t *callThread) *earlier {
	ref := parseRef(t.Previous)
	if ref.IsZero() || ref.Flow == x.ID {
		return nil
	}
	d, err := r.Detail(ref.Flow)
	if err != nil {
		return nil
	}
	before := llm.Read(d)
	if ref.Call >= len(before) {
		return nil
	}
	return &earlier{name: refText(ref), call: before[ref.Call], shared: t.Shared}
}

// storedThread returns what the file says of the first call of a flow.
func storedThread(r *store.Reader, id int64) *callThread {
	doc, err := r.Annotation(id)
	if err != nil {
		return nil
	}
	s, ok := decodeSummary(doc)
	switch {
	case !ok || s == nil:
		return nil
	case len(s.Calls) > 0:
		return s.Calls[0].Thread
	}
	return s.Thread
}

// The most that searchThread reads.
const (
	earlierCalls = 200
	earlierBytes = 64 << 20
)

// searchThread works out where the first call of x stands among those shortly
// before it.
func searchThread(r *store.Reader, x *flow.Exchange, calls []*llm.Call) *callThread {
	links := searchLinks(r, x, calls)
	if len(links) == 0 {
		return &callThread{}
	}
	return threadOf(links[0])
}

// searchLinks works out where the calls of x stand among those shortly before it;
// nil if those cannot be read.
func searchLinks(r *store.Reader, x *flow.Exchange, calls []*llm.Call) []llm.Link {
	near, err := r.Pick(store.Query{To: x.Started.Add(1), Limit: earlierCalls}, isCall)
	if err != nil {
		return nil
	}
	size, from := int64(0), len(near)
	for from > 0 && size < earlierBytes {
		from--
		size += sizeOf(near[from])
	}
	var threads llm.Threads
	near = slices.DeleteFunc(near[from:], func(y *flow.Exchange) bool { return y.ID == x.ID })
	eachCall(r, near, func(read readCall) error {
		if read.err == nil {
			thread(&threads, read.x, read.calls)
		}
		return nil
	})
	return thread(&threads, x, calls)
}

// agentNames names the agents of a session: conversations by their first call,
// those of sub-agents with the tool that started them, and all calls that
// nothing followed as one.
type agentNames map[string]string

func namesOfAgents(xs []*flow.Exchange) agentNames {
	names, turns := agentNames{}, map[string]int{}
	for _, x := range xs {
		for _, s := range callsIn(callOf(x)) {
			t := s.Thread
			if t == nil {
				continue
			}
			turns[t.First] = max(turns[t.First], t.Turn)
			if t.Parent != "" {
				names[t.First] = strings.TrimSpace("sub-agent " + t.First + " " + inBrackets(t.ParentName))
			}
		}
	}
	for first, n := range turns {
		switch {
		case names[first] != "":
		case n > 1:
			names[first] = "conversation " + first
		default:
			names[first] = "single calls"
		}
	}
	return names
}

// of names who made a call; "" if that is not known.
func (a agentNames) of(s *callSummary) string {
	if s.Thread == nil {
		return ""
	}
	return a[s.Thread.First]
}

// callsIn returns the calls that a summary is of.
func callsIn(s *callSummary) []*callSummary {
	switch {
	case s == nil:
		return nil
	case len(s.Calls) == 0:
		return []*callSummary{s}
	}
	list := make([]*callSummary, len(s.Calls))
	for i := range s.Calls {
		list[i] = &s.Calls[i]
	}
	return list
}
